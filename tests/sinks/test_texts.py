"""A text episode: its film is shown, and its text recording lies beside it where files are taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rollcam.publish.sink import Delivery
from rollcam.sinks.tensorboard import TensorBoardSink
from tests.sinks.deliveries import changed, record
from tests.sinks.wandb_scripts import logs_on_disk, make_films, run_script, videos_on_disk
from tests.sinks.wandb_server import WandbServer

TEXT = b'{"version": 2, "width": 80, "height": 24}\n[0.0, "o", "x"]\n'
QUICK = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1"}

PUBLISH = """
    from dataclasses import replace
    texts = [replace(film, text=Path(sys.argv[1]) / "text.cast") for film in films]
    sink = WandbSink(project="p", run_id="r")
    known = sorted(sink.stored(texts))
    for film in texts:
        if film.episode.episode_id not in known:
            sink.publish(film)
"""


def with_text(delivery: Delivery, folder: Path) -> Delivery:
    (folder / "text.cast").write_bytes(TEXT)
    return replace(delivery, text=folder / "text.cast")


def test_in_a_tensorboard_log_directory(tmp_path: Path) -> None:
    (film,) = record(tmp_path / "films", 1)
    sink = TensorBoardSink(tmp_path / "run", preview=False)
    place = Path(sink.publish(with_text(film, tmp_path)))
    assert place.with_suffix(".cast").read_bytes() == TEXT
    other = with_text(changed(film, tmp_path), tmp_path)
    sink.publish(other)
    assert len(list((tmp_path / "run" / "rollcam").glob("*.cast"))) == 1
    assert sink.stored([other])


def test_in_an_offline_wandb_run(tmp_path: Path) -> None:
    make_films(tmp_path, 2)
    (tmp_path / "text.cast").write_bytes(TEXT)
    run_script(PUBLISH + "    sink.close()\n", tmp_path)
    (log,) = logs_on_disk()
    saved = {
        file.path
        for record in logs_on_disk()[0].records()
        if record.WhichOneof("record_type") == "files"
        for file in record.files.files
    }
    casts = [str(video.fact("cast")) for video, _ in videos_on_disk()]
    assert len(set(casts)) == 2
    for name in casts:
        assert (log.files_dir / name).read_bytes() == TEXT
        assert name in saved, "`wandb sync` uploads what the log names"


@pytest.mark.parametrize("lost", ["", "casts/"])
def test_in_an_online_wandb_run(tmp_path: Path, lost: str) -> None:
    films = make_films(tmp_path, 1)
    (tmp_path / "text.cast").write_bytes(TEXT)
    confirm = "    all_stored(sink, texts)\n    sink.close()\n"
    with WandbServer() as server:
        settings = {**server.environment(), **QUICK}
        server.faults.unlisted = lost
        run_script(
            PUBLISH + ("    sink.close()\n" if lost else confirm), tmp_path, settings=settings
        )
        server.faults.unlisted = ""
        run = server.run("r")
        assert any(name.endswith(".cast") for name in run.files) is not bool(lost)
        run_script(PUBLISH + confirm, tmp_path, settings=settings)
        (cast,) = (name for name in run.files if name.endswith(".cast"))
        assert run.files[cast] == TEXT
        (row,) = run.history
        assert row["rollcam/cast"] == cast
        assert row["rollcam/episode_id"] == films[0].episode.episode_id

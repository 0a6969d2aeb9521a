"""What a dead process left is finished: its facts, its columns, and nothing of anybody else."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import rollcam
from rollcam.episode import Episode
from rollcam.recovery import recover
from rollcam.store.files import list_episodes
from tests import barcode
from tests.killing import check_folder, digests, frames_of, recovered
from tests.process.scripts import run

KILLED = -9
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")


def left(
    folder: Path,
    code: str = "",
    *,
    n: int = 20,
    draw: str = "barcode.draw(k, 64, 48)",
    **settings: Any,
) -> Path:
    """Film `n` frames in a process that is killed then; return where they grew."""
    settings.setdefault("fps", 25)
    script = f"""
        recorder = rollcam.Recorder(folder, **{settings!r})
        recorder.set_context(iteration=3)
        recorder.begin(seed=42)
        for k in range({n}):
            recorder.frame({draw}, reward=0.5, info={{"level": k}})
        {code}
        recorder.flush()
        die()
    """
    run(script, folder, status=KILLED)
    (growing,) = (folder / ".rollcam" / "partial").iterdir()
    return growing


def only(folder: Path) -> Episode:
    done = recovered(folder)
    (episode,) = done.recovered
    (listed,) = list_episodes(folder).episodes
    assert listed.episode_id == episode.episode_id
    return listed


def test_the_facts_as_they_stood(tmp_path: Path) -> None:
    left(
        tmp_path,
        "recorder.set_context(iteration=4); recorder.frame(barcode.draw(20, 64, 48), reward=0.5)",
        env_id="Test-v0", info_keys=("level",), metadata={"lr": 0.1}, worker="w3", mode="eval",
    )  # fmt: skip
    episode = only(tmp_path)
    assert frames_of(episode) == list(range(21))
    assert (episode.status, episode.name) == ("truncated_by_crash", "rl-video-episode-0")
    assert episode.reason == "the process died while it was filmed"
    assert (episode.n_frames, episode.n_dropped, episode.episode_length) == (21, 0, 21)
    assert (episode.episode_return, episode.seed, episode.mode) == (10.5, 42, "eval")
    assert (episode.env_id, episode.metadata) == ("Test-v0", {"lr": 0.1})
    assert (episode.context_at_start, episode.context_at_end) == (
        {"iteration": 3},
        {"iteration": 4},
    )
    assert episode.writer is not None
    assert episode.writer.worker == "w3"
    columns = episode.read_steps()
    assert columns["reward"] == [0.5] * 21
    assert columns["return"] == [0.5 * (k + 1) for k in range(21)]
    assert columns["info.level"] == [*range(20), None]


def test_an_episode_that_had_ended(tmp_path: Path) -> None:
    """At its end it was marked, but the film was not closed yet: the next reset would have done it."""
    left(
        tmp_path,
        "recorder.frame(barcode.draw(20, 64, 48), reward=2.0, info={'is_success': True}, terminated=True)",
    )
    episode = only(tmp_path)
    assert (episode.status, episode.terminated, episode.truncated) == (
        "truncated_by_crash",
        True,
        False,
    )
    assert episode.reason == "the process died after the episode had ended; nothing is missing"
    assert (episode.episode_return, episode.episode_length) == (12.0, 21)
    assert episode.final_info == {"is_success": True}
    assert episode.context_at_end == {"iteration": 3}
    assert episode.ended_at is not None


@pytest.mark.parametrize("output_fps", [5, 10, 25, 60])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 23])
def test_at_other_rates_the_columns_end_with_the_film(
    n: int, output_fps: float, tmp_path: Path
) -> None:
    left(tmp_path, n=n, output_fps=output_fps)
    episode = only(tmp_path)
    shown = [barcode.read(picture) for _, picture in barcode.decode(episode.media_path)]  # type: ignore[arg-type]
    assert shown == sorted(shown)
    assert shown[0] == 0
    # What was captured last may be shown by a picture that was not made yet.
    assert shown[-1] + 1 <= episode.n_frames <= n
    assert n - episode.n_frames < max(1, 25 / output_fps)
    assert {len(column) for column in episode.read_steps().values()} == {episode.n_frames}
    assert episode.episode_return == 0.5 * episode.n_frames
    assert episode.episode_length == episode.n_frames


def test_text(tmp_path: Path) -> None:
    left(tmp_path, draw="AnsiEnv.text(k)")
    episode = only(tmp_path)
    assert frames_of(episode) == list(range(20))
    assert (episode.status, episode.codec, episode.n_frames) == (
        "truncated_by_crash",
        "asciicast",
        20,
    )
    assert episode.duration_s == pytest.approx(20 / 25)


def test_dropped_frames_are_counted(tmp_path: Path) -> None:
    code = """
        from rollcam._film import Film
        go = threading.Event()
        add = Film.add
        Film.add = lambda *args: (go.wait(20), add(*args))
        frame = barcode.draw(0, 64, 48)
        recorder = rollcam.Recorder(folder, fps=25, on_full="drop", queue_bytes=3 * frame.nbytes)
        recorder.begin()
        taken = [recorder.frame(barcode.draw(k, 64, 48), reward=1.0) for k in range(10)]
        go.set()
        recorder.flush()
        recorder.frame(barcode.draw(10, 64, 48), reward=1.0)
        recorder.flush()
        print(taken.count(False), flush=True)
        die()
    """
    n_dropped = int(run(code, tmp_path, status=KILLED, python=("-W", "ignore")).stdout)
    assert n_dropped > 0
    episode = only(tmp_path)
    assert (episode.n_dropped, episode.n_frames) == (n_dropped, 11 - n_dropped)
    assert len(episode.read_steps()["reward"]) == 11
    assert frames_of(episode)[-1] == 10


def test_names_come_from_the_template_and_are_never_taken_twice(tmp_path: Path) -> None:
    (tmp_path / "it-3.mp4").write_text("mine")
    left(tmp_path, name="it-{iteration}")
    assert only(tmp_path).name == "it-3_2"
    assert (tmp_path / "it-3.mp4").read_text() == "mine"


def test_opening_a_folder_is_enough(tmp_path: Path) -> None:
    left(tmp_path)
    rollcam.Recorder(tmp_path).close()
    (episode,) = list_episodes(tmp_path).episodes
    assert episode.n_frames == 20


def test_nothing_to_save_is_removed_and_said(tmp_path: Path) -> None:
    growing = left(tmp_path)
    for path in growing.glob("*.mp4"):
        path.write_bytes(path.read_bytes()[:100])
    done = recover(tmp_path)
    assert (done.recovered, done.problems, len(done.removed)) == ([], [], 1)
    assert list_episodes(tmp_path).episodes == []
    assert not growing.exists()


def test_a_film_that_somebody_films_meanwhile_with_the_same_pictures(tmp_path: Path) -> None:
    """Equal to the last byte, and under the name that the dead one was about to take."""
    run(
        """
        from rollcam.store import layout
        from rollcam import _place
        _place.place_new = lambda *_: die()
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
        for k in range(20):
            recorder.frame(barcode.draw(k, 64, 48))
        recorder.end().result()
        """,
        tmp_path / "dead",
        status=KILLED,
    )
    with rollcam.Recorder(tmp_path / "alive", fps=25) as recorder:
        recorder.begin()
        for k in range(20):
            recorder.frame(barcode.draw(k, 64, 48))
        living = recorder.end().result(timeout=30)
    for path in (tmp_path / "alive").glob("rl-video*"):
        shutil.copy2(path, tmp_path / "dead")
    done = recovered(tmp_path / "dead")
    (mine,) = done.recovered
    assert mine.sha256 == living.sha256
    films = check_folder(tmp_path / "dead", n_flushed=0, n_done=1)
    assert {film.episode_id for film in films} == {mine.episode_id, living.episode_id}


def test_only_its_film_is_there_yet(tmp_path: Path) -> None:
    """The same, but the other has renamed its film, and not written its sidecar yet."""
    growing = left(tmp_path)
    (tmp_path / "rl-video-episode-0.mp4").write_bytes(next(growing.glob("*.mp4")).read_bytes())
    assert only(tmp_path).name == "rl-video-episode-0_2"


# --- what is left alone ---------------------------------------------------------------------------


def change_claim(folder: Path, **changes: Any) -> None:
    (path,) = (folder / ".rollcam" / "claims").glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_another_machines_films_are_left_alone_and_listed(tmp_path: Path) -> None:
    left(tmp_path)
    change_claim(tmp_path, host="node-7", boot_id="x", machine_id="x")
    done = recover(tmp_path)
    (line,) = done.left_alone
    assert "node-7" in line
    assert "--dead-host node-7" in line
    assert (done.recovered, done.removed, done.problems) == ([], [], [])
    done = recover(tmp_path, dead_hosts=["node-7"])
    assert [episode.n_frames for episode in done.recovered] == [20]


def test_claims_that_were_deleted_are_left_alone_until_somebody_says(tmp_path: Path) -> None:
    left(tmp_path)
    shutil.rmtree(tmp_path / ".rollcam" / "claims")
    (line,) = recover(tmp_path).left_alone
    host = line.partition("--dead-host ")[2]
    assert host == os.uname().nodename
    assert [e.n_frames for e in recover(tmp_path, dead_hosts=[host]).recovered] == [20]


def test_a_newer_journal_is_left_to_a_newer_rollcam(tmp_path: Path) -> None:
    growing = left(tmp_path)
    (path,) = growing.glob("*.journal")
    path.write_text(path.read_text().replace('"version":1', '"version":2', 1))
    before = {p.name: p.read_bytes() for p in growing.iterdir() if p.name != "reserve"}
    for _ in range(2):
        done = recover(tmp_path)
        ((_, error),) = done.problems
        assert "pip install -U rollcam" in str(error)
    assert {p.name: p.read_bytes() for p in growing.iterdir()} == before


@pytest.mark.parametrize("what", ["missing", "empty", "garbage", "zeros", "torn head", "no head"])
def test_a_film_is_worth_more_than_its_journal(what: str, tmp_path: Path) -> None:
    growing = left(tmp_path)
    (path,) = growing.glob("*.journal")
    whole = path.read_bytes()
    texts = {
        "empty": b"", "garbage": os.urandom(1000), "zeros": bytes(1000), "torn head": whole[:40],
        "no head": whole.partition(b"\n")[2],
    }  # fmt: skip
    path.unlink() if what == "missing" else path.write_bytes(texts[what])
    episode = only(tmp_path)
    assert frames_of(episode) == list(range(20))
    assert episode.status == "truncated_by_crash"
    assert episode.name == f"recovered-{episode.episode_id}"


def test_a_damaged_film_is_not_thrown_away(tmp_path: Path) -> None:
    growing = left(tmp_path)
    (path,) = growing.glob("*.mp4")
    data = bytes(1000) + path.read_bytes()[1000:]
    path.write_bytes(data)
    assert len(data) > 4096
    done = recover(tmp_path)
    assert (done.recovered, done.removed, len(done.problems)) == ([], [], 1)
    assert path.read_bytes() == data


HOSTILE_HEADS: dict[str, Any] = {
    "name outside": {"name": "../../outside"},
    "absolute name": {"name": "/tmp/rollcam-outside"},
    "name of nothing": {"name": ".."},
    "id outside": {"episode_id": "../../outside", "name": ".."},
    "fps of nothing": {"fps": 0},
    "fps of 1e-320": {"fps": 1e-320},
    "fps of infinity": {"fps": "inf"},
    "fps of NaN": {"fps": "nan"},
    "negative fps": {"fps": -5},
    "wrong types": {"seed": "x", "metadata": 3, "context_at_start": [1]},
    "long name": {"name": "x" * 100_000},
    "NUL": {"name": "a\0b"},
    "device": {"name": "CON/aux.x"},
    "media": {"media": "../../../etc/passwd", "steps": "x.steps.json"},
}


@pytest.mark.parametrize("what", HOSTILE_HEADS)
def test_hostile_heads(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    growing = left(folder)
    (path,) = growing.glob("*.journal")
    first, _, rest = path.read_text().partition("\n")
    head = json.loads(first)
    head["head"]["episode"].update(HOSTILE_HEADS[what])
    path.write_text(json.dumps(head) + "\n" + rest)
    done = recover(folder)
    assert done.problems == []
    (episode,) = list_episodes(folder).episodes
    assert barcode.indices(episode.media_path) == list(range(20))  # type: ignore[arg-type]
    assert episode.episode_id == path.stem
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


HOSTILE_LINES = [
    {
        "end": {
            "context_at_end": [1],
            "final_info": "x",
            "n_steps": "y",
            "return": {},
            "ended_at": 3,
        }
    },
    {"row": {"i": 10**400, "columns": [1]}},
    {"row": {"i": -1, "steps": None, "columns": "x"}},
    {"row": {"i": 3, "columns": {"x": {"deep": [[[]]]}}}},
    {"row": {"i": 3, "columns": json.loads("[" * 500 + "]" * 500)}},
    {"medium": {"codec": [], "pix_fmt": 3, "encoder_version": "x"}},
    {"context": {"a": {"b": []}}},
    {"commit": {"name": "../../outside", "media": None}},
    {"commit": "x"},
]


@pytest.mark.parametrize("line", HOSTILE_LINES, ids=lambda line: json.dumps(line)[:40])
def test_hostile_lines(line: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    growing = left(folder)
    (path,) = growing.glob("*.journal")
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    assert recover(folder).problems == []
    (episode,) = list_episodes(folder).episodes
    assert barcode.indices(episode.media_path) == list(range(20))  # type: ignore[arg-type]


def test_a_commit_that_points_elsewhere(tmp_path: Path) -> None:
    """Sidecars outside of the folder are neither written nor removed."""
    folder = tmp_path / "a" / "b"
    growing = left(folder)
    (path,) = growing.glob("*.journal")
    head = json.loads(path.read_text().partition("\n")[0])["head"]["episode"]
    outside = {**head, "name": "../../outside", "status": "failed", "media": None}
    (tmp_path / "outside.meta.json").write_text(json.dumps(outside))
    with open(path, "a") as file:
        file.write(json.dumps({"commit": outside}) + "\n")
    assert only(folder).n_frames == 20
    assert json.loads((tmp_path / "outside.meta.json").read_text()) == outside


def test_links_and_foreign_files_are_neither_read_nor_removed(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    growing = left(folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("mine")
    (mine / "01ABC.mp4").write_text("mine")
    partials = folder / ".rollcam" / "partial"
    (partials / "linked").symlink_to(mine)
    (partials / "loose.mp4").write_text("x")
    (growing / "01ABC.mp4").symlink_to(mine / "01ABC.mp4")
    (growing / "thesis.docx").write_text("mine")
    os.mkfifo(growing / "01DEF.cast")
    (growing / "01GHI.mp4").mkdir()
    before = digests(tmp_path)
    done = recover(folder)
    assert [episode.n_frames for episode in done.recovered] == [20]
    assert len(done.left_alone) == 6
    assert done.problems == []
    after = digests(tmp_path)
    assert {name: after.get(name) for name in before} == before
    assert sorted(p.name for p in growing.iterdir()) == [
        "01ABC.mp4", "01DEF.cast", "01GHI.mp4", "thesis.docx",
    ]  # fmt: skip

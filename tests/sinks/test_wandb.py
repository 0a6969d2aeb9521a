"""`WandbSink` offline and by itself: restarts, its own run, repair, refusals, `monitor_gym`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rollcam.errors import SettingError, SinkError, SinkRefused
from rollcam.publish.sink import Sink
from rollcam.sinks.wandb import WandbSink
from rollcam.sinks.wandb_row import TrainerLog, row_facts
from tests.films import wait_until
from tests.sinks.wandb_scripts import (
    ROOT,
    logs_on_disk,
    make_films,
    rows_on_disk,
    run_script,
    started,
    videos_on_disk,
)

QUICK = {"WANDB__TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
"""The log reaches the disk after 1 s instead of 15."""


def test_an_open_offline_run_is_asked_again_but_not_waited_for_at_the_end(tmp_path: Path) -> None:
    make_films(tmp_path, 1)
    answers = run_script(
        """
        run = wandb.init(project="p", settings=wandb.Settings(x_transaction_log_flush_interval=60))
        sink = WandbSink(run)
        sink.publish(films[0])
        run.log({"loss": 1.0})  # commits the row that the film rides in, if it does
        meanwhile = sink.stored(films)
        sink.hurry(True)
        closing = sink.stored(films)
        sink.hurry(False)
        run.finish()
        finished = sink.stored(films)
        told(meanwhile=sorted(meanwhile), closing=closing, finished=len(finished))
        """,
        tmp_path,
    )
    assert answers == {"meanwhile": [], "closing": None, "finished": 1}


def test_it_is_a_sink() -> None:
    assert isinstance(WandbSink(), Sink)
    assert WandbSink.name == "wandb"


@pytest.mark.parametrize("when", ["lost", "kept"])
def test_killed_offline_every_film_is_there_once_after_the_next_process(
    tmp_path: Path, when: str
) -> None:
    """wandb writes its log every 15 s: what was handed over before may be in it, or not."""
    films = make_films(tmp_path, 3)
    code = f"""
        sink = WandbSink(project="p", run_id="r")
        sink.publish(films[0])
        if "{when}" == "kept":
            all_stored(sink, films[:1])
        die()
    """
    with started(code, tmp_path, settings=QUICK if when == "kept" else None) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert len(videos_on_disk()) == (when == "kept")
    told = run_script(
        """
        sink = WandbSink(project="p", run_id="r")
        known = sorted(sink.stored(films))
        for film in films:
            sink.publish(film)
        sink.close()
        told(known=known, stored=len(sink.stored(films)), target=sink.target)
        """,
        tmp_path,
    )
    assert told["known"] == ([films[0].episode.episode_id] if when == "kept" else [])
    assert (told["stored"], told["target"]) == (3, "-/p/r")
    found = Counter(video.fact("episode_id") for video, _ in videos_on_disk())
    assert found == Counter(film.episode.episode_id for film in films)
    # A second log of the same id would, synced, overwrite the first.
    ids = [log.path.stem for log in logs_on_disk()]
    assert sorted(ids) == ["run-r", "run-r-2"]


def test_a_copy_that_is_gone_from_the_runs_folder_is_put_back(tmp_path: Path) -> None:
    films = make_films(tmp_path, 2)
    told = run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        sink.repair_after_s = 0
        for film in films:
            sink.publish(film)
            run.log({"loss": 1})
        run.finish()
        copies = sorted(Path(run.dir).rglob("*.mp4"))
        copies[0].unlink()
        copies[1].write_bytes(b"torn")
        told(stored=len(sink.stored(films)))
        """,
        tmp_path,
    )
    assert told["stored"] == 2
    contents = {copy.read_bytes() for _, copy in videos_on_disk()}
    assert contents == {film.media.read_bytes() for film in films}


def test_its_own_run_beside_the_trainers_and_one_of_a_finished_process(tmp_path: Path) -> None:
    make_films(tmp_path, 2)
    told = run_script(
        """
        run = wandb.init(project="p", id="r", group="g")
        sink = WandbSink(run, own_run=True)
        targets = [sink.target]
        for film in films:
            sink.publish(film)
        sink.close()
        sink.close()
        run.log({"loss": 1}, step=5)
        run.log({"lr": 1}, step=5)
        run.finish()
        told(targets=[*targets, sink.target], stored=len(sink.stored(films)))
        """,
        tmp_path,
    )
    assert told == {"targets": ["-/p/r-rollcam"] * 2, "stored": 2}
    by_run = {log.path.stem: list(log.rows()) for log in logs_on_disk()}
    assert [(row["_step"], row["loss"], row["lr"]) for row in by_run["run-r"]] == [(5, 1, 1)]
    assert len(by_run["run-r-rollcam"]) == 2
    groups = {
        record.run.run_id: record.run.run_group
        for log in logs_on_disk()
        for record in log.records()
        if record.WhichOneof("record_type") == "run"
    }
    assert groups == {"r": "g", "r-rollcam": "g"}


def test_without_a_run_it_starts_one_and_leaves_wandb_run_alone(tmp_path: Path) -> None:
    make_films(tmp_path, 1)
    told = run_script(
        """
        sink = WandbSink(project="p")
        targets = [sink.target]
        sink.publish(films[0])
        assert wandb.run is None
        sink.close()
        told(targets=[*targets, sink.target], stored=len(sink.stored(films)))
        """,
        tmp_path,
    )
    first, second = told["targets"]
    assert first == second
    assert told["stored"] == 1


def test_what_it_refuses_and_what_it_only_puts_off(tmp_path: Path) -> None:
    make_films(tmp_path, 1)
    told = run_script(
        """
        from dataclasses import replace
        said = []
        def attempt(sink, film):
            try:
                sink.publish(film)
            except SinkError as error:
                said.append([type(error).__name__, str(error)])
        off = wandb.init(project="p", mode="disabled")
        attempt(WandbSink(off), films[0])
        off.finish()
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        attempt(sink, replace(films[0], media=Path("gone.mp4")))
        text = Path("film.txt")
        text.write_text("no film")
        attempt(sink, replace(films[0], media=text))
        sink.publish(films[0])
        run.finish()
        attempt(sink, replace(films[0], sha256="0" * 64))
        attempt(sink, films[0])
        told(said=said)
        """,
        tmp_path,
    )
    kinds = [kind for kind, _ in told["said"]]
    texts = [text for _, text in told["said"]]
    assert kinds == ["SinkRefused", "SinkRefused", "SinkError", "SinkError"]
    assert "disabled" in texts[0]
    assert "there is no film gone.mp4" in texts[1]
    assert "accepts" in texts[2]
    assert "is finished" in texts[3]
    assert "--run-id r" in texts[3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "sideways"}, "mode must be"),
        ({"key": ""}, "key must be"),
        ({"key": "a b"}, "key must be"),
        ({"key": "*"}, "key must be"),
        ({"run": "r"}, "run must be what wandb.init"),
        ({"run": SimpleNamespace(define_metric=0), "project": "p"}, "own_run=True"),
    ],
)
def test_settings_that_cannot_work(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        WandbSink(**arguments)


def test_facts_from_outside_become_harmless_keys(tmp_path: Path) -> None:
    from dataclasses import replace

    (film,) = make_films(tmp_path, 1)
    episode = replace(
        film.episode, context_at_end={"a b/../*": 1, "n" * 200: None}, episode_return=None
    )
    facts = row_facts(replace(film, episode=episode))
    assert facts["context/a_b_..__"] == 1
    assert "return" not in facts
    assert not any("n" * 50 in name for name in facts)


def test_numbers_that_json_lacks_do_not_stop_a_film(tmp_path: Path) -> None:
    make_films(tmp_path, 1)
    run_script(
        """
        from dataclasses import replace
        odd = {"nan": float("nan"), "huge": 10**400, "inf": float("inf"), "text": "\\ud800\\x00"}
        episode = replace(films[0].episode, context_at_end=odd, episode_return=float("nan"))
        sink = WandbSink(project="p", run_id="r")
        sink.publish(replace(films[0], episode=episode))
        sink.close()
        told(stored=len(sink.stored(films)))
        """,
        tmp_path,
    )
    assert len(videos_on_disk()) == 1


def test_what_the_command_line_has_to_be_told_to_go_on() -> None:
    sink = WandbSink(project="my project", entity="team", run_id="r", mode="offline")
    said = "--to wandb --project 'my project' --entity team --run-id r --mode offline"
    assert sink.cli_options == said


def test_films_in_a_row_that_is_the_trainers_are_neither_there_nor_lost(tmp_path: Path) -> None:
    make_films(tmp_path, 2)
    told = run_script(
        """
        wandb_row.PATIENCE_S = wandb_row.LANE_WAIT_S = 0.2
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        run.log({"loss": 1}, step=1)
        sink.publish(films[0])
        said = [sink.stored(films[:1])]
        run.finish()
        said.append(sink.stored(films[:1]))
        told(said=[None if s is None else len(s) for s in said])
        """,
        tmp_path,
    )
    assert told["said"] == [None, 1]


def test_a_run_that_cannot_be_watched_is_never_committed_for() -> None:
    log = TrainerLog()
    log.watch(SimpleNamespace())
    assert log.has_spoken
    assert not log.steps_by_itself


def test_monitor_gym_neither_doubles_nor_raises(tmp_path: Path) -> None:
    """wandb then wraps `close` of Gymnasium's RecordVideo, which raises; ours is another class."""
    told = run_script(
        """
        import gymnasium as gym
        import rollcam
        run = wandb.init(project="p", id="r", monitor_gym=True)
        assert wandb.patched["gym"], "wandb has patched something"
        folder = Path(sys.argv[1]) / "videos"
        env = rollcam.RecordVideo(
            gym.make("CartPole-v1", render_mode="rgb_array"), folder, episode_trigger=lambda n: True
        )
        for episode in range(3):
            env.reset(seed=episode)
            done = False
            while not done:
                _, _, terminated, truncated, _ = env.step(0)
                done = terminated or truncated
            run.log({"episode": episode})
        env.close()
        env.close()
        sink = WandbSink(run)
        for film in deliveries(folder):
            sink.publish(film)
            run.log({"after": 1})
        del env
        run.finish()
        told(n=len(deliveries(folder)))
        """,
        tmp_path,
    )
    assert told["n"] == 3
    assert [video.key for video, _ in videos_on_disk()] == ["rollcam/video"] * 3
    assert not any("videos" in row for row in rows_on_disk())


def test_without_wandb_the_pip_command_is_named(tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise ImportError('shadowed')")
    code = """
        from rollcam.errors import MissingDependencyError
        from rollcam.sinks.wandb import WandbSink
        try:
            WandbSink()
        except MissingDependencyError as error:
            assert 'pip install "rollcam[wandb]"' in str(error), error
        else:
            raise SystemExit("it was not missed")
    """
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_log_is_read_while_it_grows_and_when_it_is_torn(tmp_path: Path) -> None:
    make_films(tmp_path, 2)
    run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        for number, film in enumerate(films):
            sink.publish(film)
            run.log({"long": "x" * 100_000, "number": number})  # over several blocks
        run.finish()
        """,
        tmp_path,
    )
    from rollcam.sinks.wandb_log import TransactionLog

    (log,) = logs_on_disk()
    whole = list(log.rows())
    assert [row["number"] for row in whole] == [0, 1]
    assert log.has_ended()
    content = log.path.read_bytes()
    growing = tmp_path / "run-r.wandb"
    reader, seen = TransactionLog(growing), []
    for end in [0, 3, 7, *range(8, len(content), 9_973), len(content)]:
        growing.write_bytes(content[:end])
        seen += list(reader.rows())
        assert reader.has_ended() == (end == len(content))
    assert seen == whole
    middle = len(content) // 2
    growing.write_bytes(content[:middle] + b"\0\0\0\0" + content[middle + 4 :])
    damaged = TransactionLog(growing)
    assert len(list(damaged.rows())) < 2
    assert damaged.is_broken
    growing.write_bytes(b"something else entirely")
    assert not list(TransactionLog(growing).rows())


def test_the_end_of_the_log_is_waited_for_when_the_run_is_over(tmp_path: Path) -> None:
    """`finish` returns before wandb-core has written the log out."""
    make_films(tmp_path, 2)
    answer = run_script(
        """
        sink = WandbSink(project="p", run_id="r")
        for film in films:
            sink.publish(film)
        sink.close()
        wait_until(lambda: len(sink.stored(films[:1])), "the log is there", 30, every_s=0.02)
        (log,) = Path(os.environ["WANDB_DIR"]).glob("wandb/*run-*/run-r.wandb")
        whole = log.read_bytes()
        log.write_bytes(whole[:7])
        again = WandbSink(sink._run)
        threading.Timer(0.5, log.write_bytes, [whole]).start()
        told(stored=len(again.stored(films)))
        """,
        tmp_path,
    )
    assert answer["stored"] == 2


def test_errors_of_a_call_and_calls_that_hang() -> None:
    import threading

    from rollcam.sinks.wandb_api import Bounded

    bounded = Bounded()
    with pytest.raises(SinkError, match="asking: down") as raised:
        bounded("asking", lambda: (_ for _ in ()).throw(ConnectionError("down")).send(None))
    assert not isinstance(raised.value, SinkRefused)
    released = threading.Event()
    with pytest.raises(SinkError, match=r"did not answer within 0\.1 s"):
        bounded("asking", lambda: released.wait(20), 0.1)
    with pytest.raises(SinkError, match="an earlier request"):
        bounded("asking", lambda: None)
    released.set()
    wait_until(lambda: not bounded.is_waiting, "the call is over", 30)
    assert bounded("asking", lambda: 7) == 7

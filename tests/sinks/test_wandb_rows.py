"""A film published from the side costs the trainer no row, and no film is lost, whatever its habits.

Real wandb-core, offline; what happened is read from its transaction log and its media folder.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rollcam.publish.sink import Delivery
from rollcam.sinks import wandb_row
from tests.sinks.wandb_scripts import (
    STEP_PER_EPISODE,
    logs_on_disk,
    make_films,
    rows_on_disk,
    run_script,
    videos_on_disk,
)


def check_films(films: list[Delivery]) -> None:
    """Each film is there once: its row with its facts at its own step, and its bytes in the folder."""
    found = {}
    for video, copy in videos_on_disk():
        assert video.fact("episode_id") not in found, "a film is there twice"
        found[video.fact("episode_id")] = (video, copy)
    assert set(found) == {film.episode.episode_id for film in films}
    for number, film in enumerate(films):
        video, copy = found[film.episode.episode_id]
        episode = film.episode
        content = film.media.read_bytes()
        assert copy.read_bytes() == content
        assert video.size_bytes == len(content)
        assert video.sha256 == hashlib.sha256(content).hexdigest() == film.sha256
        said = f"episode {number} · return {episode.episode_return:g} · {3 + number} steps"
        assert video.caption == f"Counting-v0 · {said} · seed {number} · terminated"
        facts = {
            "step": number * STEP_PER_EPISODE, "return": episode.episode_return,
            "length": 3 + number, "seed": number, "fps": 10, "sha256": film.sha256,
            "context/global_step": number * STEP_PER_EPISODE, "context/phase": "warm-up",
        }  # fmt: skip
        assert {name: video.fact(name) for name in facts} == facts


def trainer_rows(*keys: str) -> list[tuple[Any, ...]]:
    """What the trainer logged, row by row; rows that hold films alone are left out."""
    found = [tuple(row.get(key) for key in keys) for row in rows_on_disk()]
    return [row for row in found if any(value is not None for value in row)]


def test_a_trainer_that_names_its_steps_and_logs_twice_at_each(tmp_path: Path) -> None:
    films = make_films(tmp_path, 8)
    told = run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        side = Side(sink, films)
        for step in range(0, 2000, 10):
            run.log({"loss": step}, step=step)
            if step == 50:
                side.start()
            run.log({"lr": step}, step=step)
            time.sleep(0.01)  # a step of the trainer's takes its time
        side.finished()
        run.finish()
        told(target=sink.target, stored=sorted(sink.stored(films)))
        """,
        tmp_path,
    )
    assert trainer_rows("_step", "loss", "lr") == [(k, k, k) for k in range(0, 2000, 10)]
    check_films(films)
    assert told["stored"] == sorted(film.episode.episode_id for film in films)
    assert told["target"] == "-/p/r"


def test_a_row_of_its_own_for_each_film_between_two_rows_of_the_trainer(tmp_path: Path) -> None:
    films = make_films(tmp_path, 6)
    run_script(
        """
        run = wandb.init(project="p", id="r")
        run.log({"loss": 0})
        sink = WandbSink(run, commits=True)
        for film in films:  # and the trainer says nothing meanwhile
            sink.publish(film)
        run.log({"loss": 1})
        run.finish()
        """,
        tmp_path,
    )
    check_films(films)
    assert trainer_rows("loss") == [(0,), (1,)]
    assert [row.get("rollcam/episode_id") for row in rows_on_disk()] == [
        None,
        *(film.episode.episode_id for film in films),
        None,
    ]


def test_a_trainer_that_lets_wandb_count(tmp_path: Path) -> None:
    films = make_films(tmp_path, 5)
    run_script(
        """
        wandb.init(project="p", id="r")
        side = Side(WandbSink(), films)
        side.start()
        for k in range(150):
            wandb.log({"loss": k}, commit=False)
            wandb.log({"lr": k})
            time.sleep(0.01)  # a step of the trainer's takes its time
        side.finished()
        wandb.finish()
        """,
        tmp_path,
    )
    assert trainer_rows("_step", "loss", "lr") == [(k, k, k) for k in range(150)]
    check_films(films)


def test_the_step_is_asked_for_after_a_log_of_the_trainers_only(tmp_path: Path) -> None:
    # To ask takes turns of three threads, the training's among them.
    films = make_films(tmp_path, 1)
    told = run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        guard = wandb_row.guard_of(run)

        class Asked:
            n = 0

            def __getattr__(self, name):
                Asked.n += name == "step"
                return getattr(run, name)

        guard.run = Asked()
        run.log({"loss": 0}, commit=False)
        sink.publish(films[0])
        before = Asked.n
        for _ in range(200):
            guard.settle()
        silent = Asked.n - before
        run.log({"loss": 1}, commit=False)
        guard.settle()
        spoken = Asked.n - before
        riding = guard.has_riders
        run.log({"loss": 2})
        guard.settle()
        told(silent=silent, spoken=spoken, riding=riding, after=guard.has_riders)
        run.finish()
        """,
        tmp_path,
    )
    assert told["silent"] <= 1, "once in five seconds at most"
    assert told["spoken"] == told["silent"] + 1
    assert told["riding"]
    assert not told["after"]
    check_films(films)


def test_a_trainer_that_falls_silent_gives_way_to_rows_of_our_own(tmp_path: Path) -> None:
    films = make_films(tmp_path, 4)
    run_script(
        """
        wandb_row.PATIENCE_S = 0.5
        run = wandb.init(project="p", id="r")
        side = Side(WandbSink(run), films)
        side.start()
        wait_until(lambda: len(side.films) < 4, "a film rides in the first row", 30)
        run.log({"loss": 1})
        side.finished()
        run.finish()
        """,
        tmp_path,
    )
    assert trainer_rows("loss") == [(1,)]
    check_films(films)
    keys = Counter(video.key for video, _ in videos_on_disk())
    assert set(keys) <= {"rollcam/video", "rollcam-2/video"}  # at most the two before the first log


def test_the_last_films_do_not_wait_for_a_trainer_that_has_ended(tmp_path: Path) -> None:
    films = make_films(tmp_path, 5)
    answer = run_script(
        """
        from rollcam._publication import open_publisher
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        publication = open_publisher(sys.argv[1], [sink])
        sink.publish(films[0])
        run.log({"loss": 1})
        for film in films:
            publication.announce(film.episode)
        began = time.monotonic()
        all_in = publication.close(30)
        took_s = time.monotonic() - began
        run.log({"loss": 2})
        run.finish()
        told(took_s=took_s, all_in=all_in, is_hurried=wandb_row.guard_of(run).is_hurried)
        """,
        tmp_path,
        settings={"WANDB__TRANSACTION_LOG_FLUSH_INTERVAL": "1"},
    )
    assert trainer_rows("loss") == [(1,), (2,)]
    check_films(films)
    assert answer["took_s"] < wandb_row.PATIENCE_S
    assert answer["all_in"]
    assert not answer["is_hurried"], "the next recorder's films wait as ever"


@pytest.mark.parametrize("habit", ["open", "closed"])
def test_a_slow_trainer_that_names_its_steps_finds_none_of_them_taken(
    tmp_path: Path, habit: str
) -> None:
    """Committing for it would make wandb drop its next row, or the rest of the one it has open."""
    films = make_films(tmp_path, 4)
    run_script(
        f"""
        wandb_row.PATIENCE_S = wandb_row.LANE_WAIT_S = 0.2
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        for step in range(4):
            run.log({{"loss": step}}, step=step, commit={habit == "closed"})
            wait_until(lambda: wandb_row.guard_of(run)._trainer.silent_s() > 0.5, "it is silent", 30) \
                if step else None
            sink.publish(films[step])
            sink.stored(films)
            if step == 1:
                sink.publish(films[step + 1])
                sink.stored(films)
            if {habit == "open"}:
                run.log({{"eval": step}}, step=step)
            else:
                run.log({{"eval": step}}, step=step + 1)
        run.finish()
        """,
        tmp_path,
    )
    if habit == "open":
        assert trainer_rows("_step", "loss", "eval") == [(k, k, k) for k in range(4)]
    else:
        assert [row.get("eval") for row in rows_on_disk() if "eval" in row] == [0, 1, 2, 3]
        assert [row.get("loss") for row in rows_on_disk() if "loss" in row] == [0, 1, 2, 3]
    check_films(films)


def test_films_before_the_trainers_first_row_take_none_of_its_numbers(tmp_path: Path) -> None:
    films = make_films(tmp_path, 4)
    run_script(
        """
        wandb_row.PATIENCE_S = wandb_row.LANE_WAIT_S = 0.1
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        for film in films:
            sink.publish(film)
        for step in range(3):
            run.log({"loss": step}, step=step)
        run.finish()
        """,
        tmp_path,
    )
    assert trainer_rows("_step", "loss") == [(k, k) for k in range(3)]
    check_films(films)
    keys = [video.key for video, _ in videos_on_disk()]
    assert sorted(keys) == [f"rollcam{n}/video" for n in ("-2", "-3", "-4", "")]


def test_a_script_that_never_logs_loses_no_film(tmp_path: Path) -> None:
    films = make_films(tmp_path, 20)
    run_script(
        """
        wandb_row.PATIENCE_S, wandb_row.LANE_WAIT_S = 0.5, 0.02
        wandb.init(project="p", id="r")
        side = Side(WandbSink(), films)
        side.start()
        side.finished()
        wandb.finish()
        """,
        tmp_path,
    )
    check_films(films)


def test_tensorboards_rows_and_the_films_keep_out_of_each_others_way(tmp_path: Path) -> None:
    films = make_films(tmp_path, 6)
    run_script(
        """
        run = wandb.init(project="p", id="r", sync_tensorboard=True)
        from torch.utils.tensorboard import SummaryWriter
        writer = SummaryWriter("tb")
        side = Side(WandbSink(run), films)
        for k in range(100):
            writer.add_scalar("loss", k, k)
            writer.add_scalar("lr", k, k)
            if k == 10:
                side.start()
            time.sleep(0.01)  # a step of the trainer's takes its time
        side.finished()
        writer.close()
        run.finish()
        """,
        tmp_path,
    )
    rows = rows_on_disk()
    for key in ("loss", "lr"):
        assert [row[key] for row in rows if key in row] == list(range(100))
        assert [row["global_step"] for row in rows if key in row] == list(range(100))
    check_films(films)


def test_two_sinks_of_one_run_share_its_row(tmp_path: Path) -> None:
    films = make_films(tmp_path, 6)
    run_script(
        """
        run = wandb.init(project="p", id="r")
        sides = [Side(WandbSink(run), films[:3]), Side(WandbSink(run), films[3:])]
        for side in sides:
            side.start()
        step = 0
        while any(side.is_alive() for side in sides):
            run.log({"loss": step}, step=step)
            step += 1
            time.sleep(0.01)  # a step of the trainer's takes its time
        for side in sides:
            side.finished()
        run.finish()
        """,
        tmp_path,
    )
    rows = trainer_rows("_step", "loss")
    assert rows == [(k, k) for k in range(len(rows))]
    check_films(films)


def test_the_films_have_a_step_axis_of_their_own(tmp_path: Path) -> None:
    films = make_films(tmp_path, 2)
    run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run, key="eval/films")
        for step in range(100):
            run.log({"loss": step}, step=step)
        for film in reversed(films):  # long after the trainer has moved on, newest first
            sink.publish(film)
            step += 1
            run.log({"loss": step}, step=step)
        run.finish()
        """,
        tmp_path,
    )
    metrics = {}
    for record in (record for log in logs_on_disk() for record in log.records()):
        if record.WhichOneof("record_type") == "metric":
            name = record.metric.name or record.metric.glob_name
            metrics[name] = (record.metric.step_metric, record.metric.options.hidden)
    assert metrics["eval/films/*"] == ("eval/films/step", False)
    assert metrics["eval/films/step"][1]
    check_films(films)
    steps = [(video.step, video.fact("step")) for video, _ in videos_on_disk()]
    assert steps == [(99, STEP_PER_EPISODE), (100, 0)]

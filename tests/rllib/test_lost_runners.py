"""Env runners whose processes get a signal, between episodes and in the middle of one."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from rollcam.episode import Episode
from tests import barcode
from tests.rllib.rollouts import (
    MIDDLE,
    Patient,
    Training,
    check_film,
    config,
    films_of,
    finished,
    runner_pid,
)

pytestmark = pytest.mark.usefixtures("cluster")

LIMIT_S = 120.0
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


def test_runners_that_are_lost_leave_their_films_and_others_film_on(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    made = config(
        tmp_path, runners=2, make=functools.partial(Patient, str(hold)), name="film-{episode:06d}",
        sinks=[f"folder:{tmp_path / 'copies'}"],
    )  # fmt: skip
    made = made.env_runners(batch_mode="complete_episodes")
    run = Training(made.build_algo(), tmp_path / "films", tmp_path / "journal")
    run.train(1)

    idle = _pids(run)
    # Between two iterations no episode is open: all of them were complete.
    _wait_for(lambda: not _growing(run.films), "films stay open")
    for pid, number in zip(idle, SIGNALS, strict=True):
        os.kill(pid, number)
    _train_until_replaced(run, idle)

    _wait_for(lambda: not _growing(run.films), "films stay open")
    hold.touch()
    busy = _pids(run)
    killer = threading.Thread(target=_kill_when_all_wait, args=(run.films, hold, busy))
    killer.start()
    _train_until_replaced(run, busy)
    killer.join(LIMIT_S)
    run.algorithm.stop()

    films = films_of(run.films)
    assert len({film.name for film in films}) == len(films)
    by_id, lines = finished(films), run.events("end")
    assert {line["id"] for line in lines} == set(by_id)
    for line in lines:
        check_film(by_id[line["id"]], line)
    begun = [str(film.extra["rllib"]["episode_id"]) for film in films]
    assert sorted(begun) == sorted(line["id"] for line in run.events("start"))
    cut = [film for film in films if film.extra["rllib"]["outcome"] != "finished"]
    assert sorted(map(_pid, cut)) == sorted(busy)
    for film in cut:
        _check_cut(film)
    later = [film for film in films if _pid(film) not in (*idle, *busy)]
    assert {film.status for film in later} == {"complete"}
    assert {type(film.context_at_start["iteration"]) for film in later} == {int}
    assert len(list((tmp_path / "copies").rglob("*.mp4"))) == len(films)


def _check_cut(film: Episode) -> None:
    assert film.extra["rllib"]["outcome"] == "interrupted"
    assert film.status in ("complete", "truncated_by_crash")
    assert not film.terminated
    assert not film.truncated
    # Of a process that was killed, the last frame may be missing.
    assert film.n_frames in (MIDDLE + (film.status == "complete"), MIDDLE + 1)
    assert film.media_path is not None
    shown = barcode.indices(film.media_path)
    assert shown[: film.n_frames] == list(range(film.n_frames))
    assert set(shown[film.n_frames :]) <= {film.n_frames - 1}


def _kill_when_all_wait(films: Path, hold: Path, pids: Iterable[int]) -> None:
    sizes: list[tuple[float, list[int]]] = []

    def is_on_the_disk() -> bool:
        """Whether nothing has grown for a second: the encoders have had all pictures."""
        now = sorted(path.stat().st_size for path in _growing(films))
        if not sizes or sizes[-1][1] != now:
            sizes.append((time.monotonic(), now))
        return len(now) == len(SIGNALS) and time.monotonic() - sizes[-1][0] > 1.0

    try:
        _wait_for(lambda: all(Path(f"{hold}-{pid}").exists() for pid in pids), "nobody waits")
        _wait_for(is_on_the_disk, "films grow while nobody steps")
        for pid, number in zip(pids, SIGNALS, strict=True):
            os.kill(pid, number)
    finally:
        hold.unlink()


def _train_until_replaced(run: Training, old: Iterable[int]) -> None:
    """Train until as many other processes finished episodes."""
    known = {line["pid"] for line in run.events("end")} | set(old)

    def is_replaced() -> bool:
        run.algorithm.train()
        return len({line["pid"] for line in run.events("end")} - known) >= 2

    _wait_for(is_replaced, "no runner comes back")


def _wait_for(is_there: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_there():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def _pids(run: Training) -> list[int]:
    group: Any = run.algorithm.env_runner_group
    return list(group.foreach_env_runner(runner_pid, local_env_runner=False))


def _growing(films: Path) -> list[Path]:
    return [path for path in films.glob(".rollcam/partial/*/*") if path.suffix == ".mp4"]


def _pid(film: Episode) -> int:
    assert film.writer is not None
    return film.writer.pid

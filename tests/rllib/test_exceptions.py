"""The user's environment raises in `step`: the films are whole, and the exception is the user's own."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import pytest

from rollcam.episode import Episode
from tests import barcode
from tests.rllib.rollouts import (
    Explosive,
    Training,
    Twins,
    check_film,
    config,
    films_of,
    finished,
)

pytestmark = pytest.mark.usefixtures("cluster")

LIMIT_S = 60.0
RESTARTS_ENV = {"restart_failed_sub_environments": True}


def exploding_twins(fuse: str) -> Twins:
    return Twins(Explosive(fuse))


def test_exception_in_the_local_runner_is_the_users(tmp_path: Path) -> None:
    run = _training(tmp_path)
    run.train(1)
    _light(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        run.train(1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    run.algorithm.stop()
    _check(run)


def test_exception_in_a_runner_that_is_not_restarted_is_the_users(tmp_path: Path) -> None:
    run = _training(tmp_path, {"restart_failed_env_runners": False}, runners=1)
    run.train(1)
    _light(tmp_path)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        _train_on(run)
    print("XXX", repr(caught.value))
    run.algorithm.stop()
    _check(run)


@pytest.mark.parametrize(
    ("setup", "fault"),
    [
        ({"runners": 1}, {}),
        ({"envs": 2}, RESTARTS_ENV),
        ({"runners": 1, "envs": 2, "mode": "async"}, RESTARTS_ENV),
        ({"multi_agent": True, "envs": 2}, RESTARTS_ENV),
    ],
    ids=["runner", "environment", "async", "multi-agent"],
)
def test_what_rllib_restarts_is_filmed_on(
    setup: dict[str, Any], fault: dict[str, Any], tmp_path: Path
) -> None:
    run = _training(tmp_path, fault, **setup)
    run.train(1)
    _light(tmp_path)
    _train_on(run)
    run.algorithm.stop()
    films = _check(run)
    [raised] = [film for film in films if _is_cut(film) and film.n_frames == 3]
    assert [film for film in films if (film.started_at or "") > (raised.ended_at or "")]


def _training(folder: Path, fault: dict[str, Any] | None = None, **setup: Any) -> Training:
    make = exploding_twins if setup.get("multi_agent") else Explosive
    made = config(folder, make=functools.partial(make, str(folder / "fuse")), **setup)
    algorithm = made.fault_tolerance(**(fault or {})).build_algo()
    return Training(algorithm, folder / "films", folder / "journal")


def _light(folder: Path) -> None:
    (folder / "fuse").touch()


def _train_on(run: Training) -> None:
    """Train until ten episodes ended after it raised."""
    fuse, deadline = run.films.parent / "fuse", time.monotonic() + LIMIT_S
    n_wanted = None
    while time.monotonic() < deadline:
        run.algorithm.train()
        n = len(run.events("end"))
        if n_wanted is None and not fuse.exists():
            n_wanted = n + 10
        if n_wanted is not None and n >= n_wanted:
            return
    pytest.fail("nobody trains on")


def _check(run: Training) -> list[Episode]:
    """Every episode that began has one film; each tells the truth."""
    assert not (run.films.parent / "fuse").exists()
    films = films_of(run.films)
    by_id, ended = finished(films), run.events("end")
    assert {line["id"] for line in ended} == set(by_id)
    for line in ended:
        check_film(by_id[line["id"]], line)
    begun = [str(film.extra["rllib"]["episode_id"]) for film in films]
    assert sorted(begun) == sorted(line["id"] for line in run.events("start"))
    for film in films:
        if film.extra["rllib"]["outcome"] != "finished":
            print("CUT", film.name, film.status, film.reason, film.extra, film.n_frames, film.terminated, film.truncated, film.episode_length)
    for film in filter(_is_cut, films):
        assert film.media_path is not None
        assert film.n_frames == (film.episode_length or 0) + 1
        repeat = [film.episode_length] * (film.n_encoded - film.n_frames)
        assert barcode.indices(film.media_path) == [*range(film.n_frames), *repeat]
    # The last frame is that after the step before the one that raised.
    assert [film for film in films if _is_cut(film) and film.n_frames == 3]
    return films


def _is_cut(film: Episode) -> bool:
    if film.extra["rllib"]["outcome"] == "finished":
        return False
    assert film.extra["rllib"]["outcome"] == "interrupted"
    assert film.status in ("complete", "truncated_by_crash")
    assert not film.terminated
    assert not film.truncated
    return True

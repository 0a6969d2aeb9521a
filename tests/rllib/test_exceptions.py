"""The user's environment raises in `step`: the films are whole, and the exception is the user's own."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from rollcam.episode import Episode
from tests import barcode
from tests.rllib.rollouts import (
    MIDDLE,
    Explosive,
    Training,
    Twins,
    check_film,
    config,
    films_of,
    finished,
)

pytestmark = pytest.mark.usefixtures("cluster")

LIMIT_S = 120.0
N_LATER = 8
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


def test_runner_that_is_not_restarted_leaves_whole_films(tmp_path: Path) -> None:
    run = _training(tmp_path, {"restart_failed_env_runners": False}, runners=1)
    run.train(1)
    _light(tmp_path)
    # What RLlib makes of it; the user's own exception is in the runner's log.
    with pytest.raises(RayActorError):
        _train_on(run)
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
    raised = _check(run)
    later = [
        film for film in films_of(run.films) if (film.started_at or "") > (raised.ended_at or "")
    ]
    assert len(later) >= N_LATER


def _training(folder: Path, fault: dict[str, Any] | None = None, **setup: Any) -> Training:
    make = exploding_twins if setup.get("multi_agent") else Explosive
    made = config(folder, make=functools.partial(make, str(folder / "fuse")), **setup)
    algorithm = made.fault_tolerance(**(fault or {})).build_algo()
    return Training(algorithm, folder / "films", folder / "journal")


def _light(folder: Path) -> None:
    (folder / "fuse").touch()


def _train_on(run: Training) -> None:
    """Train until some episodes ended after it raised."""
    fuse, deadline = run.films.parent / "fuse", time.monotonic() + LIMIT_S
    n_wanted = None
    while time.monotonic() < deadline:
        run.algorithm.train()
        n = len(run.events("end"))
        if n_wanted is None and not fuse.exists():
            n_wanted = n + N_LATER
        if n_wanted is not None and n >= n_wanted:
            return
    pytest.fail("nobody trains on")


def _check(run: Training) -> Episode:
    """Compare the films of all episodes with what the test logged; return the one that raised."""
    assert not (run.films.parent / "fuse").exists()
    films = films_of(run.films)
    by_id, ended = finished(films), run.events("end")
    assert {line["id"] for line in ended} == set(by_id)
    for line in ended:
        check_film(by_id[line["id"]], line)
    begun = [str(film.extra["rllib"]["episode_id"]) for film in films]
    assert sorted(begun) == sorted(line["id"] for line in run.events("start"))
    for film in filter(_is_cut, films):
        assert film.status in ("complete", "truncated_by_crash")
        assert film.extra["rllib"]["outcome"] == "interrupted"
        assert film.media_path is not None
        assert film.n_frames == (film.episode_length or 0) + 1
        repeat = [film.episode_length] * (film.n_encoded - film.n_frames)
        assert barcode.indices(film.media_path) == [*range(film.n_frames), *repeat]
    # The one that raised shows all steps before, and says of itself what it knows. Another one of the
    # same vector environment may have ended in that very step, which RLlib has thrown away.
    raised = next(film for film in films if film.episode_length == MIDDLE and _is_cut(film))
    assert raised.status == "complete"
    assert not raised.terminated
    assert not raised.truncated
    return raised


def _is_cut(film: Episode) -> bool:
    return bool(film.extra["rllib"]["outcome"] != "finished")

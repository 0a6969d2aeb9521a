"""A film is put in place by the process that encoded it: the same, and whoever dies meanwhile."""

from __future__ import annotations

import errno
import fractions
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rollcam
from rollcam import _commit, _place
from rollcam._errand import Errand
from rollcam._place import place
from rollcam.darkroom import wire
from rollcam.episode import Episode
from rollcam.errors import NameTakenWarning, RecordingFailedWarning
from rollcam.recovery import recover
from rollcam.store.files import list_episodes
from tests import barcode
from tests.darkroom.dying import AT, WHO, Dying
from tests.films import wait_until
from tests.killing import check_nothing_left, frames_of
from tests.process.scripts import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="refused on Windows")

N = 12
N_FILE_CALLS = 30
"""More than an errand makes."""


@pytest.fixture
def n_placed_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts what is put in place by this process."""
    counted = [0]

    def counting(*args: Any, **given: Any) -> Episode:
        counted[0] += 1
        return place(*args, **given)

    monkeypatch.setattr(_commit, "place", counting)
    return counted


def filmed(folder: Path, n_films: int = 1, **settings: Any) -> list[Episode]:
    with rollcam.Recorder(folder, fps=25, encode_in="process", **settings) as recorder:
        (lane,) = recorder._engine._lanes
        wait_until(lambda: bool(lane.darkroom and lane.darkroom.is_ready), "the process is ready")
        return [film(recorder) for _ in range(n_films)]


def film(recorder: rollcam.Recorder) -> Episode:
    recorder.begin("same", seed=3)
    for k in range(N):
        recorder.frame(barcode.draw(k, 64, 48), reward=1.0, action=k, info={"lives": k})
    return recorder.end(terminated=True).result(timeout=60)


def check_whole(folder: Path) -> Episode:
    """Check that there is one film, and nothing else."""
    made = check_film(folder)
    steps = made.read_steps()
    assert steps["return"] == [float(k + 1) for k in range(N)]
    assert steps["action"] == list(range(N))
    assert steps["info.lives"] == list(range(N))
    check_nothing_left(folder)
    return made


def check_film(folder: Path) -> Episode:
    listing = list_episodes(folder)
    assert listing.problems == []
    (made,) = listing.episodes
    assert made.name == "same"
    assert frames_of(made) == list(range(N))
    assert (made.seed, made.terminated, made.episode_return) == (3, True, N)
    return made


def test_nothing_of_it_is_done_by_the_trainer(tmp_path: Path, n_placed_here: list[int]) -> None:
    (made,) = filmed(tmp_path, info_keys=["lives"])
    assert made == check_whole(tmp_path)
    assert made.status == "complete"
    assert n_placed_here == [0]


def test_a_name_that_is_taken_is_told(tmp_path: Path, n_placed_here: list[int]) -> None:
    with pytest.warns(NameTakenWarning, match="same_2"):
        films = filmed(tmp_path, 2)
    assert [one.name for one in films] == ["same", "same_2"]
    assert [frames_of(one) for one in films] == [list(range(N))] * 2
    assert n_placed_here == [0]


@pytest.mark.filterwarnings("ignore::rollcam.errors.RecordingFailedWarning")
@pytest.mark.parametrize("n", [*range(N_FILE_CALLS), -1])
def test_a_process_that_dies_over_it_costs_nothing(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_commit, "Errand", Dying)
    monkeypatch.setattr(wire, "PLAIN", wire.PLAIN | {"tests"})
    monkeypatch.setenv(WHO, "darkroom")
    monkeypatch.setenv(AT, str(n))
    told: list[Episode] = []
    (made,) = filmed(tmp_path, info_keys=["lives"], on_finished=told.append)
    if made.status == "failed":
        assert "rollcam recover" in (made.reason or "")
        assert told == []
        recover(tmp_path)
        assert check_whole(tmp_path).status == "truncated_by_crash"
    else:
        assert made.status == "complete"
        assert told == [made]
        assert made == check_whole(tmp_path)
        recovered = recover(tmp_path)
        assert (recovered.recovered, recovered.problems) == ([], [])


@pytest.mark.filterwarnings("ignore::rollcam.errors.RecordingFailedWarning")
def test_it_dies_at_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above means nothing where the process outlives all of its points."""
    monkeypatch.setattr(_commit, "Errand", Dying)
    monkeypatch.setattr(wire, "PLAIN", wire.PLAIN | {"tests"})
    monkeypatch.setenv(WHO, "darkroom")
    outcomes = []
    for n in (0, N_FILE_CALLS - 1, -1):
        monkeypatch.setenv(AT, str(n))
        with rollcam.Recorder(tmp_path / str(n), fps=25, encode_in="process") as recorder:
            (lane,) = recorder._engine._lanes
            wait_until(
                lambda lane=lane: bool(lane.darkroom and lane.darkroom.is_ready), "it is ready"
            )
            outcomes.append((film(recorder).status, lane.darkroom.is_ready))
    assert outcomes == [("failed", False), ("complete", True), ("complete", False)]


@pytest.mark.parametrize("n", range(20))
def test_a_trainer_that_dies_over_it_costs_nothing(n: int, tmp_path: Path) -> None:
    code = f"""
        from rollcam import _commit, _place
        from rollcam.darkroom import wire
        from tests.darkroom.dying import AT, WHO, Dying

        os.environ.update({{WHO: "trainer", AT: "{n}"}})
        _commit.Errand = Dying
        wire.PLAIN = wire.PLAIN | {{"tests"}}
        recorder = rollcam.Recorder(folder, fps=25, encode_in="process", info_keys=["lives"])
        (lane,) = recorder._engine._lanes
        wait_until(lambda: lane.darkroom.is_ready, "the process is ready")
        recorder.begin("same", seed=3)
        for k in range({N}):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0, action=k, info={{"lives": k}})
        recorder.end(terminated=True).result(timeout=60)
        die()
    """
    run(code, tmp_path, status=-signal.SIGKILL)
    recover(tmp_path)
    # What the trainer had said was done all the same.
    assert check_whole(tmp_path).status == "complete"


@pytest.mark.parametrize("n", range(0, 24, 2))
def test_what_fails_there_is_done_here(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_placed_here: list[int]
) -> None:
    """Whatever a disk says in the middle of it, or behind its end."""
    monkeypatch.setattr(_commit, "Errand", Dying)
    monkeypatch.setattr(wire, "PLAIN", wire.PLAIN | {"tests"})
    monkeypatch.setenv(WHO, "nobody")
    monkeypatch.setenv(AT, str(n))
    (made,) = filmed(tmp_path, info_keys=["lives"])
    assert made.status == "complete"
    # Where no columns can be written, a film goes without, and what cannot be removed stays: as ever.
    assert made == check_film(tmp_path)
    assert (made.steps is None) == ("step columns" in (made.reason or ""))
    assert n_placed_here[0] <= 1


def test_there_is_no_room_for_the_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process died behind the film's name, and then the disk is full."""
    monkeypatch.setattr(_commit, "Errand", Dying)
    monkeypatch.setattr(wire, "PLAIN", wire.PLAIN | {"tests"})
    monkeypatch.setenv(WHO, "darkroom behind the name")
    monkeypatch.setenv(AT, "0")

    def full(*_args: Any, **_given: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(_place, "write_sidecar", full)
        with pytest.warns(RecordingFailedWarning):
            (made,) = filmed(tmp_path, info_keys=["lives"])
    assert made.status == "failed"
    assert list(tmp_path.glob("same*")) == []
    (recovered,) = recover(tmp_path).recovered
    assert recovered == check_whole(tmp_path)


class Strange:
    """A value of a class that the darkroom does not know, and should not import."""

    def __str__(self) -> str:
        return "strange"


def a_function() -> None:
    """Not for another process."""


def test_values_of_foreign_classes_stay_here(tmp_path: Path, n_placed_here: list[int]) -> None:
    with rollcam.Recorder(tmp_path, fps=25, encode_in="process") as recorder:
        (lane,) = recorder._engine._lanes
        wait_until(lambda: bool(lane.darkroom and lane.darkroom.is_ready), "the process is ready")
        recorder.begin("same", metadata={"value": Strange()})
        recorder.frame(barcode.draw(0, 64, 48))
        made = recorder.end().result(timeout=60)
    assert made.status == "complete"
    assert frames_of(made) == [0]
    assert n_placed_here == [1]


@pytest.mark.parametrize(
    "value",
    [Strange(), Strange, [{"a": Strange()}], a_function],
    ids=["value", "class", "in a list", "function"],
)
def test_what_is_not_for_another_process(value: Any) -> None:
    with pytest.raises(pickle.PicklingError, match="tests"):
        wire.packed_errand(value)


def test_values_of_python_and_numpy_go() -> None:
    values = {
        "a": [fractions.Fraction(1, 3), Path("a"), {1, 2}],
        "b": np.arange(3).tolist(),
        "c": np.int64(3),
        "d": [wire.packed, None, "a name", 1.5],
    }
    assert pickle.loads(wire.packed_errand(values)) == values
    assert pickle.loads(wire.packed_errand(Errand)) is Errand

"""Two trainings film into one folder at the same time, and neither takes anything from the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import rollcam
from tests.rllib.neighbour import SCENES
from tests.rllib.rollouts import Training, check_film, films_of, finished

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 200.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both played all scenes."""
    folder = tmp_path_factory.mktemp("neighbours")
    with rollcam.Recorder(folder / "clears" / "films") as recorder:
        recorder.begin("old")
        recorder.frame(np.zeros((48, 64, 3), np.uint8))
        recorder.end()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src{os.pathsep}{ROOT}"}
    script = str(ROOT / "tests/rllib/neighbour.py")
    with ExitStack() as stack:
        runs = []
        for who in ("first", "second"):
            log = stack.enter_context((folder / f"{who}.txt").open("w"))
            run = subprocess.Popen(
                [sys.executable, script, str(folder), who],
                stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder,
                start_new_session=True,
            )  # fmt: skip
            runs.append(stack.enter_context(run))
        try:
            codes = [run.wait(LIMIT_S) for run in runs]
        finally:
            for run in runs:
                if run.poll() is None:
                    os.killpg(run.pid, signal.SIGKILL)
    told = "".join((folder / f"{who}.txt").read_text()[-3000:] for who in ("first", "second"))
    assert codes == [0, 0], told
    return folder


@pytest.mark.parametrize("scene", SCENES)
def test_two_runs_in_one_folder(scene: str, folder: Path) -> None:
    films = films_of(folder / scene / "films")
    assert len({film.name for film in films}) == len(films)
    run_ids = {}
    for who in ("first", "second"):
        place = folder / scene / who
        run_ids[who] = (place / "run_id").read_text()
        own = [film for film in films if film.run_id == run_ids[who]]
        assert {film.metadata["who"] for film in own} == {who}
        # None is lost or overwritten: each episode that began has its film, which shows it whole.
        run = Training(None, folder / scene / "films", place / "journal")
        begun = [str(film.extra["rllib"]["episode_id"]) for film in own]
        assert sorted(begun) == sorted(line["id"] for line in run.events("start"))
        by_id = finished(own)
        for line in run.events("end"):
            if (film := by_id[line["id"]]).status == "complete":
                check_film(film, line)
        if scene == "joins":  # each was sent to where its own run sends films, and once
            sent = (place / "log").read_text().split()
            assert sorted(sent) == sorted(film.episode_id for film in own)
    if scene == "clears":  # to the same place: one sent the films of both
        sent = (folder / scene / "log").read_text().split()
        assert sorted(sent) == sorted(film.episode_id for film in films)
    assert len(set(run_ids.values())) == 2
    # What nobody living wrote was cleared.
    assert {film.run_id for film in films} == set(run_ids.values())


def test_names_are_shared_and_no_film_is_overwritten(folder: Path) -> None:
    films = films_of(folder / "joins" / "films")
    first = {film.name for film in films if film.metadata["who"] == "first"}
    second = {film.name for film in films if film.metadata["who"] == "second"}
    # The second one's films had the names that the first one's had taken.
    assert {f"film-{n:06d}" for n in range(5)} <= first
    assert {f"film-{n:06d}_2" for n in range(5)} <= second


def test_runner_that_was_killed_left_a_film_to_its_own_run(folder: Path) -> None:
    films = films_of(folder / "joins" / "films")
    recovered = [film for film in films if film.status == "truncated_by_crash"]
    assert recovered
    assert {film.metadata["who"] for film in recovered} == {"first"}

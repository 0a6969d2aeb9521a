"""Killed between any two things that it does to files: nothing finished is lost, nothing is twice.

The same for whoever recovers. Random moments are `test_kill_trials.py`'s.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests import killing
from tests.killing import Step, check_folder, check_nothing_left, recovered, run_killed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

STEPS = {"pictures": killing.film_pictures, "text": killing.film_text}
MAX_POINTS = 400


def check(folder: Path, said: list[str]) -> None:
    recovered(folder)
    check_folder(folder, n_flushed=said.count("flushed"), n_done=said.count("done"))
    check_nothing_left(folder)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_writer_killed_between_any_two_file_operations(step: Step, tmp_path: Path) -> None:
    statuses = set()
    for n in range(MAX_POINTS):
        folder = tmp_path / str(n)
        folder.mkdir()
        was_killed, said = run_killed(step, folder, n)
        check(folder, said)
        statuses |= {episode.status.value for episode in killing.list_episodes(folder).episodes}
        if not was_killed:
            break
    else:
        pytest.fail(f"it was still killed before operation {MAX_POINTS}")
    assert n > 40, "it was killed at fewer moments than it has"
    assert statuses == {"complete", "truncated_by_crash"}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("share", [0.4, 0.75, 0.85])
def test_a_recoverer_killed_between_any_two_file_operations(
    step: Step, share: float, tmp_path: Path
) -> None:
    """Whatever the writer left at that share of its way, and wherever the recoverer is killed."""
    n_all = n_points(step, tmp_path)
    template = tmp_path / "template"
    template.mkdir()
    was_killed, said = run_killed(step, template, int(n_all * share))
    assert was_killed
    kill_recoverers(template, tmp_path, said)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_recoverer_killed_where_a_row_tells_of_a_frame_that_the_encoder_never_took(
    step: Step, tmp_path: Path
) -> None:
    def die_in_the_middle(folder: Path, said: killing.Said) -> None:
        said.die_at = b"flushed"
        step(folder, said)

    template = tmp_path / "template"
    template.mkdir()
    was_killed, _ = run_killed(die_in_the_middle, template, None)
    assert was_killed
    (path,) = template.rglob("*.journal")
    rows = [json.loads(line).get("row") for line in path.read_text().splitlines()]
    assert [row["i"] for row in rows if row] == list(range(killing.N_FRAMES))
    with open(path, "a") as file:
        file.write(json.dumps({"row": {**rows[-1], "i": killing.N_FRAMES}}) + "\n")
    kill_recoverers(template, tmp_path, ["flushed"])


def kill_recoverers(template: Path, tmp_path: Path, said: list[str]) -> None:
    """Kill one before each of its file operations, each in a copy of the folder."""
    for n in range(MAX_POINTS):
        folder = tmp_path / str(n)
        shutil.copytree(template, folder)
        was_killed, _ = run_killed(killing.recover_it, folder, n)
        check(folder, said)
        if not was_killed:
            break
    assert n > 5


def n_points(step: Step, tmp_path: Path) -> int:
    """Count the file operations of a step, by letting it be."""
    low, high = 0, MAX_POINTS
    while low < high:
        middle = (low + high) // 2
        folder = tmp_path / f"count-{middle}"
        folder.mkdir()
        was_killed, _ = run_killed(step, folder, middle)
        low, high = (middle + 1, high) if was_killed else (low, middle)
    return low

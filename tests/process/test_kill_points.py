"""Killed between any two things that it does to files: nothing finished is lost, nothing is twice.

The same for whoever recovers. Random moments are `test_kill_trials.py`'s.
"""

from __future__ import annotations

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

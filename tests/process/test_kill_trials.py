"""Runs killed at random moments; `scripts/reliability.py` does many more, and writes a page of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kill_trials import Trial, run_trial

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

TRIALS = [
    Trial(seed, kind, n_writers, is_group_kill)
    for seed, (kind, n_writers, is_group_kill) in enumerate(
        (kind, n, is_group)
        for kind in ("pictures", "text")
        for n, is_group in ((1, False), (2, True), (3, False), (3, True), (4, False), (4, True))
    )
]


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_what_was_written_is_there(trial: Trial, tmp_path: Path) -> None:
    outcome = run_trial(trial, tmp_path / "videos", tmp_path / "logs")
    assert outcome.n_begun > 0
    assert outcome.n_finished + outcome.n_recovered >= outcome.n_begun

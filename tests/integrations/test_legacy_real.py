"""`Monitor`, `RecordVideo` and `VideoRecorder` with the real gyms, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.beside.run import run_cases, run_guide


@pytest.mark.parametrize("version", ["0.17.3", "0.21.0", "0.26.2"])
def test_with_gym(version: str) -> None:
    run_cases(f"gym-{version}", "gym_cases.py")


def test_the_guide_runs_and_films(tmp_path: Path) -> None:
    run_guide("gym-0.26.2", "legacy-gym", tmp_path)

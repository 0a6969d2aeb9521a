"""`rollcam.integrations.dm_env`: with the real packages in a process of their own."""

from __future__ import annotations

from pathlib import Path

from tests.beside.run import run_cases, run_guide


def test_with_dm_env_and_dm_control() -> None:
    run_cases("dm_control", "dm_cases.py")


def test_the_guide_runs_and_films(tmp_path: Path) -> None:
    run_guide("dm_control", "dm-control", tmp_path)

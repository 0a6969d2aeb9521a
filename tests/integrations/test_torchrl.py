"""`rollcam.integrations.torchrl`: with the real TorchRL in a process of its own."""

from __future__ import annotations

from pathlib import Path

from tests.beside.run import run_cases, run_guide


def test_with_torchrl() -> None:
    run_cases("torchrl", "torchrl_cases.py")


def test_the_guide_runs_and_films(tmp_path: Path) -> None:
    run_guide("torchrl", "torchrl", tmp_path)

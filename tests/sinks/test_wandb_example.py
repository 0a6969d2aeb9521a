"""`examples/wandb_cartpole.py` runs, and its films in the run play."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollcam.encode.probe import probe
from tests.sinks.wandb_scripts import ROOT, videos_on_disk


@pytest.mark.parametrize("arguments", [[], ["--wrapper"]], ids=["by hand", "by the wrapper"])
def test_its_three_films_are_in_the_run_and_play(tmp_path: Path, arguments: list[str]) -> None:
    Path(os.environ["WANDB_DIR"]).mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/wandb_cartpole.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
        env={**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    films = videos_on_disk()
    assert len(films) == 3
    assert all(probe(copy).plays for _, copy in films)

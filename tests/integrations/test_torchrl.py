"""`rollcam.integrations.torchrl`: with the real TorchRL in a process of its own, and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.beside.run import run_cases, run_guide


def test_with_torchrl() -> None:
    run_cases("torchrl", "torchrl_cases.py")


@pytest.mark.parametrize("what", ["absent", "empty"])
def test_without_torchrl_the_error_says_what_to_install(tmp_path: Path, what: str) -> None:
    code = "import rollcam.integrations.torchrl"
    if what == "empty":
        (tmp_path / "torchrl.py").write_text("")
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"
    else:
        code = f"import sys; sys.modules['torchrl'] = None; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "MissingDependencyError" in done.stderr
    assert 'pip install "torchrl"' in done.stderr


def test_the_guide_runs_and_films(tmp_path: Path) -> None:
    run_guide("torchrl", "torchrl", tmp_path)

"""`rollcam.integrations.dm_env`: with the real packages in a process of their own, and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.beside.run import run_cases, run_guide


def test_with_dm_env_and_dm_control() -> None:
    run_cases("dm_control", "dm_cases.py")


@pytest.mark.parametrize("what", ["absent", "empty"])
def test_without_dm_env_the_error_says_what_to_install(tmp_path: Path, what: str) -> None:
    code = "import rollcam.integrations.dm_env"
    if what == "empty":
        (tmp_path / "dm_env.py").write_text("")
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"
    else:
        code = f"import sys; sys.modules['dm_env'] = None; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "MissingDependencyError" in done.stderr
    assert 'pip install "dm-env"' in done.stderr


def test_the_guide_runs_and_films(tmp_path: Path) -> None:
    run_guide("dm_control", "dm-control", tmp_path)

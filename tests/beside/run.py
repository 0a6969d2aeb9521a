"""Runs test cases in a child process, with a framework that cannot live in .venv in front of it.

`make test` installs them into `.venv/beside` (scripts/install_beside.sh); ROLLCAM_BESIDE names
another folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rollcam.encode.probe import probe
from rollcam.store.files import list_episodes

REPOSITORY = Path(__file__).parents[2]
# Read at once: no setting of the person who runs the tests is left when a test runs.
_FOLDER = Path(os.environ.get("ROLLCAM_BESIDE") or Path(sys.prefix) / "beside")
_TIMEOUT_S = 200


def environment(framework: str) -> dict[str, str]:
    """Return the environment of a process that imports this framework."""
    folder = _FOLDER / framework
    if not folder.is_dir():
        pytest.fail(
            f"{framework} is not installed in {_FOLDER}: scripts/install_beside.sh "
            f"{sys.executable} {_FOLDER}",
            pytrace=False,
        )
    paths = [str(folder), str(REPOSITORY / "src"), str(REPOSITORY)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def run_cases(framework: str, cases: str) -> None:
    """Run the cases of a file of this folder; fail with what pytest says there."""
    # Old gyms and NumPy 1 warn of each other; warnings of ours are errors there, too.
    # -P: the repository must not stand before the framework.
    arguments = [
        "-P", "-m", "pytest", "-q", "--tb=short", "-p", "no:randomly", "-p", "no:cacheprovider",
        "-p", "no:xdist", "-o", "filterwarnings=error::rollcam.errors.RollcamWarning",
        str(Path(__file__).with_name(cases)),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment(framework),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    if done.returncode != 0:
        pytest.fail(f"{framework}:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}", pytrace=False)


def run_guide(framework: str, guide: str, folder: Path) -> None:
    """Run the code of a guide, block after block; what it films must be whole."""
    text = (REPOSITORY / "docs" / "guides" / f"{guide}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error::rollcam.errors.RollcamWarning", "-c", code],
        cwd=folder,
        env=environment(framework),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    films = list_episodes(folder).episodes
    assert films
    assert all(film.status == "complete" and probe(film.media_path).plays for film in films)

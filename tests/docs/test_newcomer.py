"""A newcomer's path by the README alone: a fresh environment, record, find, watch, publish offline."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
import urllib.request
import venv
from pathlib import Path

import pytest

from rollcam.encode.probe import probe
from rollcam.store.files import list_episodes

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIMIT_S = 300
"""Five minutes, downloads included."""


class Newcomer:
    """Types commands in a folder, with nothing but a fresh environment.

    Args:
        folder: Is made.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.folder = folder
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        left = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ROLLCAM"))}
        self.environment = left | {"SDL_VIDEODRIVER": "dummy"}

    def start(self, command: str) -> subprocess.Popen[str]:
        name, *arguments = shlex.split(command)
        return subprocess.Popen(
            [self.bin / name, *arguments], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def type(self, command: str) -> str:
        process = self.start(command)
        try:
            out, error = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        assert process.returncode == 0, f"{command}:\n{out}\n{error}"
        assert not re.search(r"Traceback|Warning:|failed", error), f"{command}:\n{error}"
        return out


def watch(newcomer: Newcomer) -> None:
    """Open the gallery's page."""
    server = newcomer.start("rollcam serve videos --port 0")
    try:
        assert server.stdout is not None
        (address,) = re.findall(r"http://\S+", server.stdout.readline())
        with urllib.request.urlopen(address, timeout=30) as page:
            assert "Rollcam" in page.read().decode()
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.mark.timeout(2 * LIMIT_S)
def test_install_record_find_watch_and_publish_offline(tmp_path: Path) -> None:
    began = time.monotonic()
    newcomer = Newcomer(tmp_path)
    (told,) = re.findall(r"From a checkout[^`]*`(pip install [^`]+)`", README)
    # In a checkout; the pins are those that the tests run with.
    told = told.replace('"."', f'"{ROOT}"').replace('".[', f'"{ROOT}[')
    newcomer.type(f'{told} -q --disable-pip-version-check -c "{ROOT / "constraints.txt"}"')

    (block, *_) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "first.py").write_text(block, encoding="utf-8")
    newcomer.type("python first.py")
    films = list_episodes(tmp_path / "videos").episodes
    assert len(films) == 2
    for film in films:
        assert film.media_path is not None
        assert (film.status, probe(film.media_path).plays) == ("complete", True)

    name = films[0].name
    assert name in newcomer.type("rollcam ls videos")
    assert "episode_return" in newcomer.type(f"rollcam show videos {name}")
    watch(newcomer)
    newcomer.type("rollcam publish videos --to folder --dir copies")
    assert len(list_episodes(tmp_path / "copies").episodes) == 2
    assert "2 sent" not in newcomer.type("rollcam publish videos --to folder --dir copies")
    newcomer.type("rollcam export videos --out site")
    assert (tmp_path / "site" / "index.html").is_file()
    assert "All is well." in newcomer.type("rollcam doctor")
    assert time.monotonic() - began < LIMIT_S

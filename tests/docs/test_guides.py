"""The code of the guides runs, as it stands, block after block; and the site builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rollcam.encode.probe import probe
from rollcam.store.files import list_episodes

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
ELSEWHERE = {"rllib", "flatland", "legacy-gym", "dm-control", "torchrl"}
"""Guides of what lives in an environment of its own: `tests/rllib` and `tests/beside` run them."""
BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

GUIDES = {
    path.stem: path
    for path in [DOCS / "quickstart.md", *sorted((DOCS / "guides").glob("*.md"))]
    if path.stem not in ELSEWHERE and "```python\n" in path.read_text(encoding="utf-8")
}


def blocks(path: Path, language: str) -> list[str]:
    found = BLOCKS.findall(path.read_text(encoding="utf-8"))
    return [code for name, code in found if name == language]


@pytest.mark.parametrize("name", sorted(GUIDES))
def test_a_guide_runs_and_films(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:__main__", "-c", "\n".join(blocks(GUIDES[name], "python"))],
        cwd=tmp_path,
        env={
            **os.environ,
            "SDL_VIDEODRIVER": "dummy",
            "MUJOCO_GL": "egl",
            "WANDB_MODE": "offline",
            "WANDB_DIR": str(tmp_path),
            "TRACKIO_DIR": str(tmp_path / "trackio"),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    films = list_episodes(tmp_path).episodes
    assert films
    for film in films:
        assert film.status == "complete", film
        if film.media_path is not None and film.media_path.suffix == ".mp4":
            assert probe(film.media_path).plays


@pytest.mark.parametrize("name", sorted(GUIDES))
def test_what_a_guide_installs_is_an_extra(name: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for code in blocks(GUIDES[name], "sh"):
        for given in re.findall(r'"\.\[([^\]]*)\]"', code):
            assert set(given.split(",")) <= extras.keys(), f"pip install {given}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", tmp_path],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "api.html").read_text(encoding="utf-8")
    for name in ("RecordVideo", "WandbSink", "keep_best"):
        assert name in page

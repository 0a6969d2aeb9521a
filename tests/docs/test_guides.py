"""The code of the guides runs as it stands, and what it films is complete; the site builds."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rollcam
from rollcam import errors
from rollcam.encode.probe import probe
from rollcam.store.files import list_episodes
from tests import barcode

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {"rllib", "flatland", "legacy-gym", "dm-control", "torchrl"}
"""What lives in environments of its own is run in them, by `tests/rllib` and `tests/beside`."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

RUNNER = """
import runpy, sys, warnings
import rollcam
warnings.simplefilter("error", rollcam.RollcamWarning)
for script in sys.argv[1:]:
    runpy.run_path(script, run_name="__main__")
"""


def blocks(path: Path, language: str) -> list[str]:
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return [code for name, code in found if name == language]


PAGES = {
    path.stem: path
    for path in [ROOT / "docs" / "quickstart.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
}
RUN = sorted(n for n, path in PAGES.items() if n not in ELSEWHERE and blocks(path, "python"))


@pytest.mark.parametrize("name", RUN)
def test_the_code_of_a_guide_runs(name: str, tmp_path: Path) -> None:
    scripts = []
    for number, block in enumerate(blocks(PAGES[name], "python")):
        scripts.append(tmp_path / f"block_{number}.py")
        scripts[-1].write_text(block, encoding="utf-8")
    settings = {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(tmp_path),
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HF_HUB_OFFLINE": "1",
        # On a busy machine several threads of torch's wait for each other, ten times as long.
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *map(str, scripts)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    folders = {path.parent.parent for path in tmp_path.rglob(".rollcam/*") if path.is_dir()}
    films = [film for folder in folders for film in list_episodes(folder).episodes]
    assert films
    for film in films:
        assert film.status == "complete", (film.name, film.reason)
        if film.media_path is not None and film.media_path.suffix == ".mp4":
            assert probe(film.media_path).plays
            assert len(barcode.decode(film.media_path)) >= film.n_frames
            assert film.kind == "clip" or film.n_frames == (film.episode_length or 0) + 1


@pytest.mark.parametrize("name", sorted(PAGES))
def test_what_a_guide_installs_is_an_extra(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for given in re.findall(r"(?:rollcam|\.)\[([^\]]*)\]", PAGES[name].read_text(encoding="utf-8")):
        assert set(given.split(",")) <= project["optional-dependencies"].keys(), given


def public_names() -> set[str]:
    """Return what the reference has to hold: the package's names, and what each adapter offers."""
    named = {f"rollcam.{name}" for name in rollcam.__all__ if name != "__version__"}
    named -= {f"rollcam.{name}" for name in vars(errors)}  # those have a page of their own
    for path in (ROOT / "src" / "rollcam" / "integrations").glob("[a-z]*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                named.add(f"rollcam.integrations.{path.stem}.{node.name}")
    twice = {
        "rollcam.integrations.gymnasium.RecordVideo",
        "rollcam.integrations.legacy_gym.VideoRecorder",
    }
    return named - twice  # which are names of the package


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    found = set(re.findall(r"auto(?:class|function):: (\S+)", text))
    assert public_names() <= found


def test_what_the_readme_installs_runs_what_it_shows() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"From a checkout[^`]*`(pip install [^`]+)`", text)
    assert "CartPole-v1" in text
    # Gymnasium alone does not draw it: every film would fail.
    assert re.search(r"gymnasium\[classic-control|\.\[[^\]]*demo", told)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", tmp_path],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "api.html").read_text(encoding="utf-8")
    for name in ("RecordVideo", "WandbSink", "keep_best"):
        assert name in page

"""The code of the guides runs as it stands, and what it films is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rollcam.store.files import list_episodes
from tests import barcode

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
TESTED = ("gymnasium", "vector", "sb3", "pettingzoo", "cleanrl")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

RUNNER = """
import runpy, sys, warnings
import rollcam
warnings.simplefilter("error", rollcam.RollcamWarning)
for script in sys.argv[1:]:
    runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("guide", TESTED)
def test_the_code_of_a_guide_runs(guide: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((GUIDES / f"{guide}.md").read_text(encoding="utf-8"))
    assert blocks
    scripts = []
    for number, block in enumerate(blocks):
        scripts.append(tmp_path / f"block_{number}.py")
        scripts[-1].write_text(block, encoding="utf-8")
    # One thread: on a busy machine several of torch's wait for each other, ten times as long.
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *map(str, scripts)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    folders = {path.parent.parent for path in tmp_path.rglob(".rollcam/*") if path.is_dir()}
    films = [film for folder in folders for film in list_episodes(folder).episodes]
    assert films
    for film in films:
        assert film.status == "complete", (film.name, film.reason)
        if film.media_path is not None and film.media_path.suffix == ".mp4":
            assert len(barcode.decode(film.media_path)) >= film.n_frames
            assert film.kind == "clip" or film.n_frames == (film.episode_length or 0) + 1


def test_every_guide_is_known() -> None:
    assert {path.stem for path in GUIDES.glob("*.md")} >= set(TESTED)

"""The code in the guides runs as it stands there, and films."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

import rollcam
from tests.rllib.test_example import EXAMPLE, ROOT, in_a_home_of_its_own
from tests.rllib.test_recipe import load_recipe


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs/guides" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(code: str, folder: Path) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=in_a_home_of_its_own(folder / "home"),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (films,) = (path.parent for path in folder.glob("*/.rollcam"))
    return list(rollcam.Catalog(films))


def test_rllib(tmp_path: Path) -> None:
    (code,) = blocks("rllib.md", "python")
    episodes = run(code, tmp_path)
    assert len(episodes) == 2
    assert {episode.mode for episode in episodes} == {"eval"}
    assert {episode.context_at_end["iteration"] for episode in episodes} == {1, 2}


def test_flatland(tmp_path: Path) -> None:
    (code,) = blocks("flatland.md", "python")
    (episode,) = run(code, tmp_path)
    assert episode.n_frames == episode.episode_length + 1
    assert episode.final_info["n_agents"] == 2


def test_the_experiment_is_one(tmp_path: Path) -> None:
    (text,) = blocks("flatland.md", "yaml")
    (tmp_path / "guide.yaml").write_text(text)
    with load_recipe() as recipe:
        (experiment,) = recipe.read_file(tmp_path / "guide.yaml")
    assert experiment.filming.film == "train"
    own = yaml.safe_load((EXAMPLE / "recording/ppo.yaml").read_text())["flatland-ppo"]
    told = yaml.safe_load(text)["flatland-ppo"]
    assert told["stop"] == own["stop"]
    assert told["config"]["train_batch_size"] == own["config"]["train_batch_size"]

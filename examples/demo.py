"""The demo: three episodes of three environments, filmed, and a table of what came out.

Run by `make demo`; alone: python examples/demo.py --out demo-videos
"""

from __future__ import annotations

import os

# No window is wanted, and none can be had on a server.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import argparse
import sys
import time
from pathlib import Path

import gymnasium as gym
from rich.console import Console
from rich.progress import Progress

import rollcam
from rollcam.cli.browse import episode_table

ENVS = (("CartPole-v1", "rgb_array"), ("LunarLander-v3", "rgb_array"), ("FrozenLake-v1", "ansi"))
EPISODES = 3


def film(env_id: str, render_mode: str, folder: Path, progress: Progress) -> list[rollcam.Episode]:
    """Film some episodes of a random agent."""
    finished: list[rollcam.Episode] = []
    env = rollcam.RecordVideo(
        gym.make(env_id, render_mode=render_mode),
        folder,
        episode_trigger=rollcam.every(1),
        name_prefix=env_id,
        resume=True,
        on_finished=finished.append,
    )
    task = progress.add_task(env_id, total=EPISODES)
    for episode in range(EPISODES):
        env.reset(seed=episode)
        env.action_space.seed(episode)
        done = False
        while not done:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
        progress.advance(task)
    env.close()
    return finished


def main() -> None:
    """Film, and say what was made and where it lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-videos"))
    folder: Path = parser.parse_args().out
    console = Console()
    started = time.monotonic()
    finished: list[rollcam.Episode] = []
    with Progress(console=console) as progress:
        for env_id, render_mode in ENVS:
            finished += film(env_id, render_mode, folder, progress)
    console.print(episode_table(finished, title="What was filmed"))
    rollcam_command = Path(os.path.relpath(Path(sys.executable).with_name("rollcam")))
    console.print(
        f"{len(finished)} films in {time.monotonic() - started:.1f} s. They lie in {folder.resolve()}: "
        "open the .mp4 files in a browser; the .meta.json beside each says what it shows.\n"
        f"Watch them in the gallery:  {rollcam_command} serve {folder}\n"
        f"Or:  {rollcam_command} ls {folder}  |  {rollcam_command} show {folder} {finished[0].name}",
        soft_wrap=True,
        highlight=False,
    )
    if len(finished) != EPISODES * len(ENVS):
        raise SystemExit("some films failed; `rollcam ls` says why")


if __name__ == "__main__":
    main()

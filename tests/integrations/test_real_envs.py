"""The environments of the real packages, filmed: every frame, by the environment's own clock."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import rollcam
from rollcam.encode.cast import read_cast
from rollcam.encode.probe import probe
from tests import barcode

N_STEPS = 25


def film(env: gym.Env, folder: Path) -> tuple[rollcam.Episode, list]:
    """Film one episode; return it and what the environment itself rendered at each step."""
    finished: list[rollcam.Episode] = []
    rendered = []
    env = gym.wrappers.TimeLimit(env, N_STEPS)
    filmed = rollcam.RecordVideo(
        env, folder, episode_trigger=lambda i: True, on_finished=finished.append, on_error="raise"
    )
    filmed.reset(seed=3)
    filmed.action_space.seed(3)
    rendered.append(env.render())
    done = False
    while not done:
        *_, terminated, truncated, _ = filmed.step(filmed.action_space.sample())
        rendered.append(env.render())
        done = terminated or truncated
    filmed.close()
    return finished[0], rendered


def make(env_id: str, render_mode: str) -> gym.Env:
    if env_id.startswith("ALE/"):
        import ale_py

        gym.register_envs(ale_py)
    if env_id.startswith("MiniGrid"):
        import minigrid  # noqa: F401
    return gym.make(env_id, render_mode=render_mode)


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "LunarLander-v3",
        "HalfCheetah-v5",
        "ALE/Breakout-v5",
        "MiniGrid-Empty-8x8-v0",
        "FrozenLake-v1",
    ],
)
def test_pictures(tmp_path: Path, env_id: str) -> None:
    episode, rendered = film(make(env_id, "rgb_array"), tmp_path)
    assert (episode.status, episode.env_id) == ("complete", env_id)
    assert episode.n_frames == len(rendered) == episode.episode_length + 1
    report = probe(episode.media_path)
    assert report.plays, report.problems
    assert report.notes == (), "nothing to mend in what we made ourselves"
    decoded = [frame for _, frame in barcode.decode(episode.media_path)]
    assert len(decoded) - len(rendered) in (0, 1)
    for shown, frame in zip(decoded, rendered, strict=False):
        height, width = frame.shape[:2]
        # 4:2:0 and the codec cost a little; a wrong frame, or wrong colours, would cost much more.
        difference = np.abs(shown[:height, :width].astype(int) - frame)
        assert difference.mean() < 6
    assert episode.fps == pytest.approx(episode.n_frames / episode.duration_s)


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"])
def test_text(tmp_path: Path, env_id: str) -> None:
    episode, rendered = film(make(env_id, "ansi"), tmp_path)
    cast = read_cast(episode.media_path)
    assert len(cast.frames) == len(rendered) == episode.n_frames == episode.episode_length + 1
    for index, ((at_s, data), text) in enumerate(zip(cast.frames, rendered, strict=True)):
        assert at_s == pytest.approx(index / episode.fps)
        assert data.endswith(text.rstrip("\n").replace("\n", "\r\n"))
    assert cast.duration_s == pytest.approx(len(rendered) / episode.fps)
    assert probe(episode.media_path).plays

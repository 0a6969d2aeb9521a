"""Frames of real environments, and how true a film is to them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.lab.envs import Noise, choose_action

_EVERY = 5


def collect(source: str, n_frames: int) -> tuple[list[np.ndarray], float]:
    """Return frames of an environment, episode after episode, and its frames per second."""
    env = _make(source, n_frames)
    obs, _ = env.reset(seed=1)
    env.action_space.seed(1)
    frames = [env.render()]
    while len(frames) < n_frames:
        action = choose_action(obs) if source == "CartPole-v1" else env.action_space.sample()
        obs, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            obs, _ = env.reset()
        frames.append(env.render())
    env.close()
    return frames, float(env.metadata["render_fps"])


def _make(source: str, n_frames: int) -> gym.Env:
    if source == "noise":
        return Noise(n_frames)
    if source.startswith("ALE/"):
        import ale_py

        gym.register_envs(ale_py)
    return gym.make(source, render_mode="rgb_array")


def psnr_db(frames: list[np.ndarray], film: Path) -> float:
    """Return the PSNR of a film against the frames that it was made of, in decibels."""
    import av

    errors = []
    with av.open(str(film)) as container:
        for index, (frame, decoded) in enumerate(
            zip(frames, container.decode(video=0), strict=False)
        ):
            if index % _EVERY == 0:
                errors.append(_squared_error(frame, decoded))
    return 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-9))


def _squared_error(frame: np.ndarray, decoded: Any) -> float:
    height, width = frame.shape[:2]
    shown = decoded.to_ndarray(format="rgb24")[:height, :width].astype(np.float32)
    return float(np.square(shown - frame).mean())

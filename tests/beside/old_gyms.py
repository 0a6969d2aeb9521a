"""Environments as gym's releases had them, registered with the gym that is loaded."""

from __future__ import annotations

from typing import Any

import gym
import numpy as np

from tests import barcode

VERSION = tuple(int(part) for part in gym.__version__.split(".")[:2])
IS_NEW = VERSION >= (0, 26)
"""Steps of five values, and a mode that the environment is made with."""


class Counting(gym.Env):
    """Shows how many steps were made since its reset; `render` fails at the steps of `raise_at`."""

    metadata = (
        {"render_modes": ["rgb_array", "ansi"], "render_fps": 25}
        if IS_NEW
        else {"render.modes": ["human", "rgb_array"], "video.frames_per_second": 25}
    )
    observation_space = gym.spaces.Box(0, 1e6, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    raise_at: Any = ()

    def __init__(self, length: int = 5, render_mode: str | None = "rgb_array") -> None:
        self.length, self.count, self.n_renders, self.seeds = length, 0, 0, []
        if IS_NEW:
            self.render_mode = render_mode

    def reset(self, **kwargs: Any) -> Any:
        self.count = 0
        self.seeds.append(kwargs.get("seed"))
        observation = np.zeros(1, np.float32)
        return (observation, {}) if IS_NEW else observation

    def step(self, action: int) -> Any:
        self.count += 1
        ends = self.count >= self.length
        rest = (ends, False) if IS_NEW else (ends,)
        return np.full(1, self.count, np.float32), 0.5, *rest, {"step": self.count}

    def render(self, *args: Any, **kwargs: Any) -> Any:
        self.n_renders += 1
        if self.count in self.raise_at:
            raise RuntimeError("no OpenGL any more")
        if IS_NEW:
            assert not args
            assert not kwargs
            return (
                f"step {self.count}\n" if self.render_mode == "ansi" else barcode.draw(self.count)
            )
        assert (args, kwargs) in [(("rgb_array",), {}), ((), {"mode": "rgb_array"})]
        return barcode.draw(self.count)

    def seed(self, seed: int | None = None) -> list[int | None]:
        self.seeds.append(seed)
        return [seed]


gym.envs.registration.register("Counting-v0", entry_point=Counting, max_episode_steps=100)


def make(**settings: Any) -> gym.Env:
    """Make it as scripts do, with the wrappers of that gym around it."""
    if VERSION >= (0, 26):
        settings["disable_env_checker"] = True
    return gym.make("Counting-v0", **settings)


def play(env: Any, episodes: int, **reset: Any) -> None:
    """Play whole episodes, in whichever form the steps come."""
    for _ in range(episodes):
        env.reset(**reset)
        done = False
        while not done:
            result = env.step(0)
            done = any(result[2:-1])

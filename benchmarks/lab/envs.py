"""The environments that are filmed, and the stopwatch that is wrapped around them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

HEIGHT, WIDTH = 400, 600
FRAME_BYTES = HEIGHT * WIDTH * 3
_BALANCE = np.array([0.05, 0.2, 1.0, 1.0])


class Noise(gym.Env):
    """Uniform random bytes, 600x400: the worst that an encoder can be given."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - as in every gym.Env
    render_mode = "rgb_array"
    observation_space = gym.spaces.Box(-1, 1, (4,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, n_steps: int) -> None:
        self._n_steps = n_steps
        self._n_done = 0
        self._obs = np.zeros(4, np.float32)
        self._rng = np.random.default_rng(0)

    def reset(self, **_: Any) -> tuple[Any, dict]:
        self._n_done = 0
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self._n_done += 1
        return self._obs, 1.0, False, self._n_done >= self._n_steps, {}

    def render(self) -> np.ndarray:
        return self._rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


class Holding(gym.Wrapper):
    """Keeps a reference to the newest frame, so that whoever films it has to copy it."""

    held: Any = None

    def render(self) -> Any:
        self.held = self.env.render()
        return self.held


class Stopwatch(gym.Wrapper):
    """Adds up the time that the environment itself takes: stepping, resetting, rendering, closing."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.cpu_s = 0.0
        self.wall_s = 0.0

    def step(self, action: Any) -> Any:
        return self._timed(self.env.step, action)

    def reset(self, **kwargs: Any) -> Any:
        return self._timed(functools.partial(self.env.reset, **kwargs))

    def render(self) -> Any:
        return self._timed(self.env.render)

    def close(self) -> None:
        self._timed(self.env.close)

    def _timed(self, call: Callable[..., Any], *args: Any) -> Any:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return call(*args)
        finally:
            self.cpu_s += time.thread_time() - cpu
            self.wall_s += time.perf_counter() - wall


def make_env(source: str, n_steps: int) -> gym.Env:
    """Make an environment whose episodes last `n_steps`.

    Args:
        source: `cartpole` (Gymnasium's own renderer, a fresh array each time), `cartpole-held` (the
            same, and the environment keeps a reference), or `noise`.
        n_steps: Steps of each episode.
    """
    if source == "noise":
        return Noise(n_steps)
    env = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=n_steps)
    return Holding(env) if source == "cartpole-held" else env


def choose_action(obs: Any) -> int:
    """Balance the pole for as long as the episode may last."""
    return int(obs @ _BALANCE > 0)

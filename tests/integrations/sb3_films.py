"""SB3's vector environments of `CountingEnv`s, and what their films should show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from tests.envs import CountingEnv
from tests.integrations.vector_films import FPS

torch.set_num_threads(1)  # on a busy machine several wait for each other, ten times as long

LENGTHS = (3, 5)

KINDS: dict[str, Callable[..., VecEnv]] = {
    "dummy": DummyVecEnv,
    "subproc": partial(SubprocVecEnv, start_method="fork"),
}


def make(kind: str = "dummy", lengths: Sequence[int] = LENGTHS, **settings: Any) -> VecEnv:
    """Make a vector environment; sub-environment i has episodes of `lengths[i]` steps."""
    given = {"fps": FPS, "reuse_buffer": True, **settings}
    return KINDS[kind]([partial(CountingEnv, length=length, **given) for length in lengths])


def play(venv: VecEnv, n_steps: int, seed: int | None = None) -> None:
    if seed is not None:
        venv.seed(seed)
    venv.reset()
    for _ in range(n_steps):
        venv.step(np.zeros(venv.num_envs, np.int64))


def numbers(length: int, n_steps: int) -> list[list[int]]:
    """The frame numbers of each episode of one sub-environment in `n_steps` steps."""
    made: list[list[int]] = [[0]]
    for _ in range(n_steps):
        made[-1].append(made[-1][-1] + 1)
        if made[-1][-1] == length:
            made.append([0])
    return made


def last_frames(length: int, n_steps: int) -> list[int]:
    """One picture for each step, and the first: at the end of an episode, its last frame."""
    return [0, *((step - 1) % length + 1 for step in range(1, n_steps + 1))]

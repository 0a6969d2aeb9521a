"""Vector environments of `CountingEnv`s with episodes of different lengths, and what their films show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

import rollcam
from rollcam.integrations.vector import RecordVideo
from rollcam.store.files import list_episodes
from tests import barcode
from tests.envs import CountingEnv

LENGTHS = (3, 5, 4)
MODES = tuple(AutoresetMode)
SIZE = (64, 48)
FPS = 25  # from 24 on, the last frame stands once in the file

Maker = Callable[..., VectorEnv]

KINDS: dict[str, Maker] = {
    "sync": SyncVectorEnv,
    "async": AsyncVectorEnv,
    "async-copied": partial(AsyncVectorEnv, shared_memory=False),
    "async-spawned": partial(AsyncVectorEnv, context="spawn"),
}


def always(number: int) -> bool:
    return True


def make(
    kind: str, mode: AutoresetMode, lengths: Sequence[int] = LENGTHS, **settings: Any
) -> VectorEnv:
    """Make a vector environment; sub-environment i has episodes of `lengths[i]` steps."""
    given = {"fps": FPS, "size": SIZE, "reuse_buffer": True, **settings}
    makers = [partial(CountingEnv, length=length, **given) for length in lengths]
    return KINDS[kind](makers, autoreset_mode=mode)


def play(env: VectorEnv, n_steps: int, mode: AutoresetMode, **reset: Any) -> None:
    """Reset and step; where episodes are not reset by themselves, reset those that have ended."""
    n = env.num_envs
    env.reset(**reset)
    for _ in range(n_steps):
        *_, terminated, truncated, _ = env.step(np.zeros(n, np.int64))
        done = np.logical_or(terminated, truncated)
        if mode is AutoresetMode.DISABLED and done.any():
            env.reset(options={"reset_mask": done})


def episodes(folder: Path) -> dict[str, rollcam.Episode]:
    listing = list_episodes(folder)
    assert not listing.problems
    return {episode.name: episode for episode in listing.episodes}


def shown(folder: Path) -> dict[str, list[int]]:
    """The frame numbers of every film of one sub-environment."""
    return {path.stem: barcode.indices(path) for path in sorted(folder.glob("*.mp4"))}


def tiles(path: Path, columns: int, rows: int = 1) -> list[tuple[int, ...]]:
    """The frame numbers in the tiles of every picture of a film, row by row."""
    width, height = SIZE
    boxes = [
        (slice(r * height, (r + 1) * height), slice(c * width, (c + 1) * width))
        for r in range(rows)
        for c in range(columns)
    ]
    return [tuple(barcode.read(frame[box]) for box in boxes) for _, frame in barcode.decode(path)]


def counted(length: int, n_steps: int, mode: AutoresetMode) -> list[list[int]]:
    """The frame numbers of each episode of one sub-environment in `n_steps` vector steps."""
    made: list[list[int]] = [[0]]
    for _ in range(n_steps):
        last = made[-1]
        if mode is AutoresetMode.NEXT_STEP and last[-1] == length:
            made.append([0])
            continue
        last.append(last[-1] + 1)
        if mode is not AutoresetMode.NEXT_STEP and last[-1] == length:
            made.append([0])
    return made


def separate_films(n_steps: int, mode: AutoresetMode) -> dict[str, list[int]]:
    """The frame numbers of each film in `n_steps` vector steps, where every episode is filmed."""
    return {
        f"rl-video-env-{i}-episode-{n}": frames
        for i, length in enumerate(LENGTHS)
        for n, frames in enumerate(counted(length, n_steps, mode))
    }


def film_separately(folder: Path, env: VectorEnv, **settings: Any) -> RecordVideo:
    given = {"episode_trigger": always, "layout": "separate", **settings}
    return RecordVideo(env, folder, **given)

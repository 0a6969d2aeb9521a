"""An environment whose tiny frames carry their number."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

_SIDE, _SQUARES = 16, 4
_BITS = np.arange(_SQUARES * _SQUARES)


class Marked(gym.Env):
    """16x16 frames; sixteen squares, black or white, are the bits of the frame's number."""

    render_mode = "rgb_array"
    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(1)

    def __init__(self, fps: int) -> None:
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        self._index = 0

    def reset(self, **_: Any) -> tuple[int, dict]:
        self._index = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict]:
        self._index += 1
        return 0, 0.0, False, False, {}

    def render(self) -> np.ndarray:
        bits = (self._index >> _BITS & 1).astype(np.uint8).reshape(_SQUARES, _SQUARES) * 255
        picture = bits.repeat(_SIDE // _SQUARES, axis=0).repeat(_SIDE // _SQUARES, axis=1)
        return picture[..., None].repeat(3, axis=2)


def read_mark(grey: np.ndarray) -> int:
    """Read the number off a decoded frame, `(16, 16)`."""
    side = _SIDE // _SQUARES
    squares = grey.reshape(_SQUARES, side, _SQUARES, side).mean(axis=(1, 3)).ravel()
    return int(((squares > 127) << _BITS).sum())

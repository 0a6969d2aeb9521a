"""Environments whose films can be checked frame by frame, and whose renderers fail when told to.

Frame 0 is what `render` shows after `reset`, frame k what it shows after step k. The faults of
`CountingEnv` are attributes: they may be changed at any time, through `env.unwrapped` too.

    env = CountingEnv(length=10, fps=25, raise_at={3})
    env.raise_at = ()          # from here on the renderer works

For modes with `_list`, wrap in `gymnasium.wrappers.RenderCollection`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from tests import barcode

ALWAYS = range(1 << 30)
"""For faults: at every frame."""


class _Counter(gym.Env[np.ndarray, int]):
    """Counts its steps: observation `[step]`, reward `step`, info `{"step": step}`.

    Args:
        length: Step at which the episode is terminated (or truncated, when `truncates`).
        truncates: End episodes by `truncated` instead of `terminated`.
        fps: Goes into `metadata["render_fps"]`; `None` leaves it out.
    """

    mode: ClassVar[str]

    def __init__(
        self, *, length: int = 10, truncates: bool = False, fps: float | None = 10
    ) -> None:
        self.metadata = {"render_modes": [self.mode]}
        if fps is not None:
            self.metadata["render_fps"] = fps
        self.render_mode = self.mode
        self.observation_space = gym.spaces.Box(0, np.inf, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.length = length
        self.truncates = truncates
        self.step_number = 0
        self.n_renders = 0
        """How often `render` was called, over all episodes."""
        self.is_closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self._observation(), {"step": 0}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        number, ends = self.step_number, self.step_number >= self.length
        terminated, truncated = ends and not self.truncates, ends and self.truncates
        return self._observation(), float(number), terminated, truncated, {"step": number}

    def close(self) -> None:
        self.is_closed = True

    def _observation(self) -> np.ndarray:
        return np.array([self.step_number], np.float32)


class CountingEnv(_Counter):
    """Draws its step number as a bar code; `tests.barcode.indices` reads it back from a film.

    Args:
        size: Width and height in pixels, at least 16 each.
        raise_at: Step numbers at which `render` raises `RuntimeError("renderer broke at ...")`.
        none_at: Step numbers at which it returns `None`.
        wrong_at: Step numbers at which it returns `wrong`.
        wrong: What it returns there.
        reuse_buffer: `render` returns the same array every time, and every step and reset scribbles
            over it: a recorder that keeps it instead of a copy films noise.
        resize_at: Step numbers at which the frame has the size `resize_to`.
        resize_to: Width and height in pixels.
        noisy: Noise instead of the colour patches: a film of 256x192 takes about 10 kB per frame.
        fps: As all that follow: `length`, `truncates`.
    """

    mode = "rgb_array"

    def __init__(
        self,
        *,
        size: tuple[int, int] = (64, 48),
        raise_at: Collection[int] = (),
        none_at: Collection[int] = (),
        wrong_at: Collection[int] = (),
        wrong: Any = "not a picture",
        reuse_buffer: bool = False,
        resize_at: Collection[int] = (),
        resize_to: tuple[int, int] = (32, 24),
        noisy: bool = False,
        **counting: Any,
    ) -> None:
        super().__init__(**counting)
        self.size = size
        self.raise_at, self.none_at, self.wrong_at = raise_at, none_at, wrong_at
        self.wrong = wrong
        self.resize_at, self.resize_to = resize_at, resize_to
        self.noisy = noisy
        self._buffer = np.zeros((size[1], size[0], 3), np.uint8) if reuse_buffer else None

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self._scribble()
        return super().reset(**options)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._scribble()
        return super().step(action)

    def render(self) -> Any:
        self.n_renders += 1
        number = self.step_number
        if number in self.raise_at:
            raise RuntimeError(f"renderer broke at {number}")
        if number in self.none_at:
            return None
        if number in self.wrong_at:
            return self.wrong
        width, height = self.resize_to if number in self.resize_at else self.size
        frame = barcode.draw(number, width, height)
        if self.noisy:
            patches = frame[round(height * barcode.CODE_HEIGHT) :]
            patches[:] = np.random.default_rng(number).integers(0, 256, patches.shape, np.uint8)
        if self._buffer is None:
            return frame
        self._buffer[:] = frame
        return self._buffer

    def _scribble(self) -> None:
        if self._buffer is not None:
            self._buffer[:] = 128


class AnsiEnv(_Counter):
    """Renders text; frame k is `AnsiEnv.text(k)`."""

    mode = "ansi"

    @staticmethod
    def text(number: int) -> str:
        """Two lines, the second one in colour."""
        return f"step {number}\n\x1b[41mS\x1b[0mFFG\n"

    def render(self) -> str:
        self.n_renders += 1
        return self.text(self.step_number)

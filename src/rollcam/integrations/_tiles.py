"""Many frames in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rollcam.capture.frames import Array, Taken, layout_of, letterboxed, to_rgb
from rollcam.episode import Picture
from rollcam.errors import FrameError


def grid_shape(n: int, height: int, width: int, aspect: float) -> tuple[int, int]:
    """Choose rows and columns as Gymnasium does: no gaps, never more rows than columns.

    Args:
        n: Frames.
        height: Of each, in pixels.
        width: Of each, in pixels.
        aspect: Width through height that the picture should come close to.
    """
    shapes = [(rows, n // rows) for rows in range(1, math.isqrt(n) + 1) if n % rows == 0]
    return min(shapes, key=lambda shape: abs(shape[1] * width / (shape[0] * height) - aspect))


class Tiles:
    """Joins the frames of several sub-environments into one picture.

    The first picture fixes the size of the tiles; a frame of another size is fitted into its tile.

    Args:
        aspect: Width through height that the picture should come close to.
    """

    def __init__(self, aspect: float) -> None:
        self.rows = -1
        """Rows of the grid; -1 before the first picture."""
        self.columns = -1
        """Columns of the grid; -1 before the first picture."""
        self._aspect = aspect
        self._tile = (0, 0)
        self._is_turned = False

    def join(self, frames: Sequence[Any]) -> Picture | None:
        """Return one picture, in memory that nobody else holds; `None` when there is no frame at all.

        Args:
            frames: One for each tile, row by row; where there is none (`None`), the tile is black.

        Raises:
            FrameError: One of them is no picture, or they are text.
        """
        pictures = [_picture(frame) for frame in frames]
        first = next((picture for picture in pictures if picture is not None), None)
        if first is None:
            return None
        if self.rows < 0:
            self._set_up(len(frames), first)
        height, width = self._tile
        shape = (self.rows * height, self.columns * width, 3)
        # In the order in which the frames lie in memory: turning them is the encoder's work.
        grid = (
            np.empty((shape[1], shape[0], 3), np.uint8).transpose(1, 0, 2)
            if self._is_turned
            else np.empty(shape, np.uint8)
        )
        for index, picture in enumerate(pictures):
            top, left = index // self.columns * height, index % self.columns * width
            tile = grid[top : top + height, left : left + width]
            tile[:] = 0 if picture is None else letterboxed(picture, height, width)
        return grid

    def _set_up(self, n: int, first: Picture) -> None:
        self._tile = (first.shape[0], first.shape[1])
        self._is_turned = first.strides[0] < first.strides[1]
        self.rows, self.columns = self._shape(n)

    def _shape(self, n: int) -> tuple[int, int]:
        """Return rows and columns for `n` tiles."""
        return grid_shape(n, *self._tile, self._aspect)


def _picture(frame: Any) -> Picture | None:
    """Return a frame as `(H, W, 3)` uint8; for the usual ones that takes no work."""
    if isinstance(frame, list | tuple):
        frame = frame[-1] if frame else None
    if frame is None:
        return None
    if isinstance(frame, str | bytes) or not hasattr(frame, "shape"):
        raise FrameError(
            f"a tile must be an array, not {type(frame).__name__}; text is filmed with "
            f'layout="separate"'
        )
    if hasattr(frame, "detach") and hasattr(frame, "cpu"):
        frame = frame.detach().cpu().numpy()
    array: Array = np.asarray(frame)
    return to_rgb(Taken(array, layout_of(array)))

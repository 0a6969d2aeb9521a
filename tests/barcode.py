"""Frames whose index can be read back after lossy coding, and the reading of films made of them.

The upper three quarters of a frame are a grid of black and white cells, one bit each, lowest bit
first, row by row; the lower quarter holds the colour patches. The geometry is relative to the
frame's size, so a frame that was padded by a pixel or scaled by an integer reads the same.
Alternate bits are stored inverted: no index at all looks like a blank frame of one colour, and a
picture without a bar code is refused instead of being read as frame 0.

Readable from 16×16 upward; the patches come back within 3 of their colours from about 160×120,
below that chroma bleeds into its neighbours. `tests/browser.py` reads the same layout in a page.
"""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]

COLUMNS = 4
BITS = 12
CODE_HEIGHT = 0.75  # of the frame; the patches stand below
INVERTED = 0b0101_0101_0101_0101_0101_0101
# A cell between these is neither black nor white: coding damage, or no bar code at all.
BLACK_BELOW, WHITE_ABOVE = 96, 160

PATCHES: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
}

Box = tuple[float, float, float, float]


def cells(bits: int = BITS) -> list[Box]:
    """The boxes of the bits, lowest bit first: x, y, width, height as shares of the frame."""
    rows = math.ceil(bits / COLUMNS)
    width, height = 1 / COLUMNS, CODE_HEIGHT / rows
    return [(b % COLUMNS * width, b // COLUMNS * height, width, height) for b in range(bits)]


def patch_boxes() -> list[Box]:
    """The boxes of `PATCHES`, in its order."""
    width = 1 / len(PATCHES)
    return [(k * width, CODE_HEIGHT, width, 1 - CODE_HEIGHT) for k in range(len(PATCHES))]


def draw(index: int, width: int = 256, height: int = 192, *, bits: int = BITS) -> Frame:
    """Draw frame `index`: `(height, width, 3)` uint8 RGB, a new array at each call."""
    if not 0 <= index < 1 << bits:
        raise ValueError(f"index {index} does not fit {bits} bits")
    if width < 16 or height < 16:
        raise ValueError(f"a bar code needs 16 x 16 pixels, not {width} x {height}")
    frame = np.zeros((height, width, 3), np.uint8)
    code = index ^ INVERTED
    for bit, box in enumerate(cells(bits)):
        frame[_pixels(box, width, height)] = 255 if code >> bit & 1 else 0
    for colour, box in zip(PATCHES.values(), patch_boxes(), strict=True):
        frame[_pixels(box, width, height)] = colour
    return frame


def read(frame: Frame, *, bits: int = BITS) -> int:
    """Read the index of a drawn frame; ValueError when the picture holds no clear bar code."""
    index = 0
    for bit, box in enumerate(cells(bits)):
        level = _mean(frame, box)[1]  # green: the channel closest to luma
        if BLACK_BELOW <= level <= WHITE_ABOVE:
            raise ValueError(f"bit {bit} is neither black nor white: {level:.0f} of 255")
        index |= int(level > WHITE_ABOVE) << bit
    return index ^ (INVERTED & ((1 << bits) - 1))


def read_patches(frame: Frame) -> dict[str, tuple[int, int, int]]:
    """Read the mean RGB of each colour patch, to be compared with `PATCHES`."""
    found = [_mean(frame, box).round().astype(int).tolist() for box in patch_boxes()]
    return {name: (r, g, b) for name, (r, g, b) in zip(PATCHES, found, strict=True)}


def decode(path: Path | str) -> list[tuple[float, Frame]]:
    """Decode a film: (presentation time in seconds, `(H, W, 3)` uint8 RGB) of every frame."""
    with av.open(str(path)) as film:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in film.decode(video=0)]


def indices(path: Path | str, *, bits: int = BITS) -> list[int]:
    """Read the index of every frame of a film, in the order of presentation."""
    return [read(frame, bits=bits) for _, frame in decode(path)]


def durations(path: Path | str) -> list[float]:
    """Return how long the container says each sample lasts, in seconds, in file order."""
    with av.open(str(path)) as film:
        return [
            (packet.duration or 0) * float(packet.time_base)
            for packet in film.demux(video=0)
            if packet.size
        ]


def _pixels(box: Box, width: int, height: int) -> tuple[slice, slice]:
    x, y, w, h = box
    return (
        slice(round(y * height), round((y + h) * height)),
        slice(round(x * width), round((x + w) * width)),
    )


def _mean(frame: Frame, box: Box) -> npt.NDArray[np.float64]:
    """Mean RGB of the middle of a box, away from what bleeds over its edges."""
    x, y, w, h = box
    rows, columns = _pixels((x + w / 4, y + h / 4, w / 2, h / 2), frame.shape[1], frame.shape[0])
    return frame[rows, columns].reshape(-1, 3).mean(axis=0)

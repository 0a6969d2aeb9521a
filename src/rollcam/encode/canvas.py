"""The picture that is being encoded, as RGB and as yuv420p; what did not change is not converted again.

The conversion costs two fifths of what encoding an ordinary picture costs, and the camera of most
environments stands still. So a picture is compared with the one before, and of one that changed
here or there, only a box around that is converted. It comes out as if all of it had been: the box is
larger than what changed by more than swscale's filters reach, and lies so that the same pixels are
those that its vector code leaves to the plain code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rollcam.encode.yuv import pixels_of
from rollcam.episode import Picture
from rollcam.errors import EncoderFailed, require

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

PIX_FMT = "yuv420p"

_MIN_PIXELS = 2**16
"""Smaller pictures are converted sooner than compared."""
_REACH = 8
"""Pixels: farther than that no filter of swscale's looks when it halves the chroma."""
_COLUMNS = 64
"""Boxes begin at a multiple of that, in pixels: the vector code takes up to 32 of a plane at once."""
_ROWS = 16
_STEP = 64
"""Boxes come in few sizes, since each size has a converter of its own."""
_MAX_CONVERTED = 2
"""Pictures that all converters of boxes together have room for."""
_MAX_SHARE = 0.6
"""Of the picture: a larger box is not worth its while."""
_MAX_BLIND = 15
"""Pictures that are not compared, after several that changed all over."""


class _Box(NamedTuple):
    """Rows and columns from `y0`, `x0` up to `y1`, `x1`."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def n_pixels(self) -> int:
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    def around(self, other: _Box) -> _Box:
        """Return the smallest box that holds both."""
        return _Box(
            min(self.y0, other.y0), max(self.y1, other.y1),
            min(self.x0, other.x0), max(self.x1, other.x1),
        )  # fmt: skip


class Canvas:
    """Takes pictures, and gives frames for an encoder.

    Args:
        width: Of the frames, in pixels; even.
        height: Of the frames, in pixels; even.
        size: Height and width of the pictures; where they are odd, the edge is repeated.
        compares: Convert only what changed. Less work, in more steps, each of which lets go of the
            interpreter's lock: for a process that has nothing else to do.
    """

    def __init__(
        self, width: int, height: int, size: tuple[int, int], *, compares: bool = False
    ) -> None:
        self._whole = _Box(0, height, 0, width)
        self._size = size
        self._converter = _Converter(height, width)
        self._pixels = self._converter.pixels
        self._converters: dict[tuple[int, int], _Converter] = {}
        """Of boxes, by their height and width."""
        self._frame: VideoFrame | None = None
        self._changed: _Box | None = self._whole
        """What changed since `_frame` was made."""
        is_even = (height, width) == size
        self._is_worth_a_look = compares and is_even and height * width >= _MIN_PIXELS
        self._n_blind = self._n_to_pass = 0

    def paint(self, picture: Picture) -> None:
        """Take a picture.

        Args:
            picture: `(height, width, 3)` uint8, any strides; read before this returns.

        Raises:
            EncoderFailed: It has another size.
        """
        picture = np.asarray(picture)  # a subclass may compare in its own way
        height, width = self._size
        if picture.shape != (height, width, 3):
            raise EncoderFailed(
                f"a picture of shape {picture.shape} came into a film of {(height, width, 3)}"
            )
        changed = self._compared(picture)
        if changed is None:
            return
        y0, y1, x0, x1 = changed
        self._pixels[y0 : min(y1, height), x0 : min(x1, width)] = picture[y0:y1, x0:x1]
        if width < self._pixels.shape[1]:
            self._pixels[:height, width] = self._pixels[:height, width - 1]
        if height < self._pixels.shape[0]:
            self._pixels[height] = self._pixels[height - 1]
        self._changed = changed if self._changed is None else changed.around(self._changed)

    def frame_at(self, time: int, time_base: Any) -> VideoFrame:
        """Return what was painted as a frame of its own, for a moment of the film."""
        box = self._whole if self._frame is None else self._box()
        if box == self._whole:
            frame = self._converter.convert()
        else:
            assert self._frame is not None
            frame = _copied(self._frame)
            if box is not None:
                self._put(box, frame)
        if self._is_worth_a_look:  # otherwise all of the next one is converted, too
            self._frame, self._changed = frame, None
        frame.pts, frame.time_base = time, time_base
        return frame

    def _compared(self, picture: Picture) -> _Box | None:
        """Return where a picture differs from the one before; `None` for nowhere."""
        is_due_anyway = self._changed == self._whole
        if is_due_anyway or not self._is_worth_a_look or not picture.flags.c_contiguous:
            return self._whole
        if self._n_to_pass:
            self._n_to_pass -= 1
            return self._whole
        changed = _difference(picture, self._pixels)
        if changed is not None and changed.n_pixels > _MAX_SHARE * self._whole.n_pixels:
            self._n_blind = self._n_to_pass = min(2 * self._n_blind + 1, _MAX_BLIND)
            return self._whole
        self._n_blind = 0
        return changed

    def _box(self) -> _Box | None:
        """Return what has to be converted."""
        if self._changed is None:
            return None
        _, height, _, width = self._whole
        y0, y1, x0, x1 = self._changed
        y0 = max(0, y0 - 2 * _REACH) // _ROWS * _ROWS
        x0 = max(0, x0 - 2 * _REACH) // _COLUMNS * _COLUMNS
        n_rows = -(-(min(height, y1 + 2 * _REACH) - y0) // _STEP) * _STEP
        n_columns = -(-(min(width, x1 + 2 * _REACH) - x0) // _STEP) * _STEP
        if y0 + n_rows > height:
            y0, n_rows = max(0, height - n_rows), min(height, n_rows)
        # Up to the edge, whatever that makes of its size: the plain code takes what is left there.
        box = _Box(y0, y0 + n_rows, x0, width if x0 + n_columns >= width else x0 + n_columns)
        return self._whole if box.n_pixels > _MAX_SHARE * self._whole.n_pixels else box

    def _converted(self, box: _Box) -> VideoFrame:
        size = (box.y1 - box.y0, box.x1 - box.x0)
        converter = self._converters.pop(size, None) or _Converter(*size)
        self._converters[size] = converter  # the one that was used last stands last
        while sum(h * w for h, w in self._converters) > _MAX_CONVERTED * self._whole.n_pixels:
            del self._converters[next(iter(self._converters))]
        converter.pixels[:] = self._pixels[box.y0 : box.y1, box.x0 : box.x1]
        return converter.convert()

    def _put(self, box: _Box, frame: VideoFrame) -> None:
        """Convert a box, and put of it into a frame what its edges have no part in."""
        part = self._converted(box)
        whole = self._whole
        y0 = box.y0 if box.y0 == whole.y0 else box.y0 + _REACH
        y1 = box.y1 if box.y1 == whole.y1 else box.y1 - _REACH
        x0 = box.x0 if box.x0 == whole.x0 else box.x0 + _REACH
        x1 = box.x1 if box.x1 == whole.x1 else box.x1 - _REACH
        for source, target, half in zip(_planes(part), _planes(frame), (1, 2, 2), strict=True):
            rows, columns = slice(y0 // half, y1 // half), slice(x0 // half, x1 // half)
            top, left = box.y0 // half, box.x0 // half
            target[rows, columns] = source[
                rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]


class _Converter:
    """Converts RGB of one size."""

    def __init__(self, height: int, width: int) -> None:
        av = require("av")
        self._rgb = av.VideoFrame(width, height, "rgb24")
        self._reformatter = av.video.reformatter.VideoReformatter()
        # PyAV 17 brought threads, one for each processor: slower, and a forked child that frees
        # them hangs. Before 17 there is one thread, and no such argument.
        self._options = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
        plane = self._rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        self.pixels: Picture = rows[:, : width * 3].reshape(height, width, 3)
        """What is converted."""

    def convert(self) -> VideoFrame:
        frame: VideoFrame = self._reformatter.reformat(self._rgb, format=PIX_FMT, **self._options)
        return frame


def _difference(picture: Picture, before: Picture) -> _Box | None:
    """Return the box around what differs between two pictures in one piece; `None` for nothing."""
    height, width, _ = picture.shape
    # As many bytes at once as a row can be cut into.
    n_bytes = math.gcd(width * 3, 8)
    words = np.dtype(f"u{n_bytes}")
    differs = picture.reshape(height, -1).view(words) != before.reshape(height, -1).view(words)
    rows = np.flatnonzero(differs.any(axis=1))
    if not rows.size:
        return None
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(differs[y0:y1].any(axis=0))
    x0, x1 = int(columns[0]) * n_bytes // 3, -(-(int(columns[-1]) + 1) * n_bytes // 3)
    return _Box(y0, y1, x0, x1)


def _copied(frame: VideoFrame) -> VideoFrame:
    """Return a copy, since an encoder may hold a frame for longer."""
    copy: VideoFrame = require("av").VideoFrame(frame.width, frame.height, PIX_FMT)
    for source, target in zip(_planes(frame), _planes(copy), strict=True):
        target[:] = source
    return copy


def _planes(frame: VideoFrame) -> list[npt.NDArray[np.uint8]]:
    return [pixels_of(plane) for plane in frame.planes]

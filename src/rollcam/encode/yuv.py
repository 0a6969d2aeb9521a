"""Any decoded picture into the one that every browser shows: 8-bit yuv420p, BT.601, even-sized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rollcam.errors import require

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_Array = npt.NDArray[np.uint8]

_TV, _PC = 1, 2
_BT601 = 5
# FFmpeg's number of a matrix in a frame -> swscale's; anything else is taken for BT.601, as
# swscale, and so every recorder built on it, makes it where nothing is said.
_SWSCALE = {1: 1, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}


class Yuv420:
    """Converts pictures, all to the size of the first one.

    Odd sizes are padded by repeating the edge; transparent pixels are shown on black.
    """

    def __init__(self) -> None:
        self.n_resized = 0
        """Pictures that had another size than the first, and were scaled to it."""
        self._size: tuple[int, int] | None = None
        # One for the whole film: a new one for each picture costs twice the time (playback.md 1).
        self._swscale = require("av").video.reformatter.VideoReformatter()

    def convert(self, picture: VideoFrame) -> VideoFrame:
        """Return a yuv420p picture of even width and height, `tv` range; never the same object."""
        if self._size is None:
            self._size = (picture.width, picture.height)
        width, height = self._size
        if (picture.width, picture.height) != self._size:
            self.n_resized += 1
            picture = self._swscale.reformat(picture, width=width, height=height)
        if picture.format.name in ("yuv420p", "yuvj420p"):
            return _even_planes(self._reformat(picture, "yuv420p"))
        rgb: _Array
        if _has_alpha(picture):
            rgba = self._reformat(picture, "rgba").to_ndarray()
            alpha = rgba[..., 3:].astype(np.uint16)
            rgb = ((rgba[..., :3] * alpha + 127) // 255).astype(np.uint8)
        elif width % 2 or height % 2:
            # Padded before the chroma is halved, so that it stays in place.
            rgb = self._reformat(picture, "rgb24").to_ndarray().astype(np.uint8, copy=False)
        else:
            return self._reformat(picture, "yuv420p")
        rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        even = require("av").VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        return self._reformat(even, "yuv420p")

    def _reformat(self, picture: VideoFrame, pix_fmt: str) -> VideoFrame:
        is_full = picture.format.is_rgb or picture.format.name.startswith("yuvj")
        converted: VideoFrame = self._swscale.reformat(
            picture,
            format=pix_fmt,
            src_colorspace=_SWSCALE.get(int(picture.colorspace), _BT601),
            dst_colorspace=_BT601,
            src_color_range=_PC if is_full or picture.color_range == _PC else _TV,
            dst_color_range=_TV if pix_fmt == "yuv420p" else _PC,
        )
        return converted


def _has_alpha(picture: VideoFrame) -> bool:
    return picture.format.has_palette or any(c.is_alpha for c in picture.format.components)


def _even_planes(picture: VideoFrame) -> VideoFrame:
    """Copy a yuv420p picture; of an odd size, the chroma planes are those of the even one."""
    width, height = picture.width + picture.width % 2, picture.height + picture.height % 2
    even: VideoFrame = require("av").VideoFrame(width, height, "yuv420p")
    for source, target in zip(picture.planes, even.planes, strict=True):
        pixels = pixels_of(source)
        rows, columns = target.height - pixels.shape[0], target.width - pixels.shape[1]
        pixels_of(target)[:] = np.pad(pixels, ((0, rows), (0, columns)), mode="edge")
    return even


def pixels_of(plane: Any) -> _Array:
    """Return a plane as `(height, width)` uint8 that shares its memory."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    pixels: _Array = rows[: plane.height, : plane.width]
    return pixels

"""From whatever `render()` returned to one well-formed frame.

The work is split in two. On the training thread `FrameTaker.take` looks at type, shape and dtype
only, and detaches the frame from its owner with one copy (or none, when nobody else holds it). On
the encoder's thread `to_rgb` turns it into `(H, W, 3)` uint8, and `letterboxed` fits it to the film.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rollcam.episode import Picture
from rollcam.errors import FrameError

Array = npt.NDArray[Any]
Warn = Callable[[str, str], None]
"""Called as `warn(cause, message)`; the caller sees to it that each cause is said once."""

WANTED = "expected (H, W, 3) uint8 RGB with values 0-255"
_CHANNELS = (1, 3, 4)
_MAX_SIDE = 16384


@dataclass(frozen=True, slots=True)
class Layout:
    """How the numbers of an array make a picture."""

    height: int
    """Rows in pixels."""
    width: int
    """Columns in pixels."""
    channels: int
    """1 grey, 3 RGB, 4 RGBA."""
    is_chw: bool
    """Channels come first, as in PyTorch."""
    has_channel_axis: bool
    """False for `(H, W)`."""

    @property
    def is_plain(self) -> bool:
        """Already `(H, W, 3)`."""
        return self.channels == 3 and not self.is_chw


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame that belongs to Rollcam alone."""

    array: Array
    """The pixels, in whatever layout and dtype they came; nobody else writes to them."""
    layout: Layout
    """How to read `array`."""
    buffer: Array | None = None
    """The pool's memory that `array` lies in, to be given back; `None` for memory of its own."""


def layout_of(array: Array) -> Layout:
    """Read the layout of a picture off its shape.

    Args:
        array: `(H, W)`, `(H, W, C)` or, when it cannot be anything else, `(C, H, W)`, with C of 1
            (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        FrameError: The shape or the dtype is no picture's.
    """
    shape, dtype = array.shape, array.dtype
    if dtype.kind not in "uifb":
        raise FrameError(f"a frame of dtype {dtype} and shape {shape} is no picture; {WANTED}")
    if 0 in shape or len(shape) not in (2, 3):
        hint = (
            "; for a batch of frames use Recorder.batch, or one camera for each environment"
            if len(shape) == 4
            else ""
        )
        raise FrameError(
            f"a frame of shape {shape} and dtype {dtype} is no picture; {WANTED}{hint}"
        )
    layout = _layout_of_shape(shape)
    if layout is None:
        raise FrameError(
            f"a frame of shape {shape} and dtype {dtype} has neither 1, 3 nor 4 channels; {WANTED}"
        )
    if max(layout.height, layout.width) > _MAX_SIDE:
        raise FrameError(f"a frame of shape {shape} is larger than {_MAX_SIDE} pixels on a side")
    return layout


def _layout_of_shape(shape: tuple[int, ...]) -> Layout | None:
    if len(shape) == 2:
        return Layout(shape[0], shape[1], 1, is_chw=False, has_channel_axis=False)
    if shape[2] in _CHANNELS:
        return Layout(shape[0], shape[1], shape[2], is_chw=False, has_channel_axis=True)
    if shape[0] in _CHANNELS:
        return Layout(shape[1], shape[2], shape[0], is_chw=True, has_channel_axis=True)
    return None


def to_rgb(taken: Taken) -> Picture:
    """Turn a taken frame into RGB.

    Returns:
        `(H, W, 3)` uint8, any strides; the same memory where nothing had to be done.

    Raises:
        FrameError: Its values lie outside what can be shown; the message says their range.
    """
    array, layout = taken.array, taken.layout
    if array.dtype != np.uint8:
        array = _as_uint8(array)
    if layout.is_chw:
        array = array.transpose(1, 2, 0)
    if layout.channels == 3:
        return array
    if layout.channels == 1:
        grey = array[..., 0] if layout.has_channel_axis else array
        return np.repeat(grey[..., None], 3, axis=2)
    # Composited on black: what a viewer without an alpha channel would show of a sprite.
    weighted = array[..., :3].astype(np.uint16) * array[..., 3:] + 127
    return (weighted // 255).astype(np.uint8)


def _as_uint8(array: Array) -> Picture:
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    low, high = float(array.min()), float(array.max())
    is_float = array.dtype.kind == "f"
    top = 1.0 if is_float else 255.0
    # A little over 1 is how float32 rendering rounds; NaN fails every comparison.
    slack = 1e-3 if is_float else 0.0
    if not (low >= -slack and high <= top + slack):
        raise FrameError(
            f"a frame of shape {array.shape} and dtype {array.dtype} has values from {low:g} to "
            f"{high:g}; {'floats must lie' if is_float else 'integers must lie'} between 0 and "
            f"{top:g}, or {WANTED}"
        )
    if not is_float:
        return array.astype(np.uint8)
    scaled = np.clip(array, 0.0, 1.0) * 255.0
    return np.rint(scaled).astype(np.uint8)


def letterboxed(picture: Picture, height: int, width: int) -> Picture:
    """Fit a picture into the film's size: scaled by the nearest pixel, centred on black.

    Args:
        picture: `(h, w, 3)` uint8.
        height: Of the film, in pixels.
        width: Of the film, in pixels.

    Returns:
        `(height, width, 3)` uint8; `picture` itself when it has that size.
    """
    h, w = picture.shape[:2]
    if (h, w) == (height, width):
        return picture
    # In whole numbers: rounding must not leave a black line where the picture fits exactly.
    if height * w <= width * h:
        new_h, new_w = height, max(1, w * height // h)
    else:
        new_h, new_w = max(1, h * width // w), width
    rows = np.arange(new_h) * h // new_h
    columns = np.arange(new_w) * w // new_w
    top, left = (height - new_h) // 2, (width - new_w) // 2
    box = np.zeros((height, width, 3), np.uint8)
    box[top : top + new_h, left : left + new_w] = picture[rows[:, None], columns]
    return box


def as_text(raw: str | bytes | io.StringIO) -> str:
    """Return a text frame as `str`; bytes are read as UTF-8, what is not valid is shown as such."""
    if isinstance(raw, io.StringIO):
        return raw.getvalue()
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw


@functools.lru_cache(maxsize=64)
def _memory_order(strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes from the slowest to the fastest in memory, and the way back."""
    order = tuple(sorted(range(len(strides)), key=lambda axis: -abs(strides[axis])))
    return order, tuple(order.index(axis) for axis in range(len(strides)))


class BufferPool:
    """Memory for copies of frames, used again and again.

    Fresh memory for each frame costs more than the copy: the kernel maps and clears its pages.
    Buffers are given back by the encoder's thread; `list.append` and `list.pop` are atomic.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._free: list[Array] = []

    def copy(self, array: Array) -> tuple[Array, Array]:
        """Copy `array` into pooled memory, with the same order of axes in memory.

        Returns:
            The copy, and the buffer that it lies in.
        """
        order, back = _memory_order(array.strides)
        in_order = array.transpose(order)
        buffer = self._take(array.nbytes)
        copied = buffer.view(array.dtype).reshape(in_order.shape)
        if in_order.flags.c_contiguous and type(in_order) is np.ndarray:
            # Without giving up the interpreter's lock, as numpy would: getting it back beside the
            # encoder's thread costs more than the copy.
            buffer.data[:] = in_order.reshape(-1).view(np.uint8).data
        else:
            np.copyto(copied, in_order)
        return copied.transpose(back), buffer

    def give_back(self, buffer: Array | None) -> None:
        """Take back a buffer that `copy` returned."""
        # Read before the size: whenever `_take` changes both, this is the list that it abandons.
        free = self._free
        if buffer is None or buffer.size != self._size:
            return
        if (len(free) + 1) * buffer.size <= self._max_bytes:
            free.append(buffer)

    def _take(self, size_bytes: int) -> Array:
        if size_bytes != self._size:
            self._size, self._free = size_bytes, []
        try:
            buffer = self._free.pop()
        except IndexError:
            return np.empty(size_bytes, np.uint8)
        # Another camera's thread may have changed both in between.
        return buffer if buffer.size == size_bytes else np.empty(size_bytes, np.uint8)


class FrameTaker:
    """Takes frames from their owners, on the training thread.

    Args:
        pool: Where copies go.
        warn: Told, with a cause, of everything that was mended.
    """

    def __init__(self, pool: BufferPool, warn: Warn) -> None:
        self._pool = pool
        self._warn = warn
        self._known: dict[tuple[Any, ...], Layout] = {}

    def take(self, raw: Any, *, is_unshared: bool = False) -> Taken | str | None:
        """Detach one frame from whoever made it.

        Args:
            raw: An array, a tensor on any device, text, a list of frames (the last one counts), or
                `None`.
            is_unshared: Nobody else holds the array, so it is used as it is.

        Returns:
            The frame, text, or `None` when there is no frame.

        Raises:
            FrameError: It is none of these, or of a shape or dtype that no picture has.
        """
        if isinstance(raw, list | tuple):
            raw, is_unshared = (raw[-1] if raw else None), False
        if raw is None:
            return None
        if isinstance(raw, str | bytes | io.StringIO):
            return as_text(raw)
        array, is_ours = (raw, is_unshared) if isinstance(raw, np.ndarray) else _from_tensor(raw)
        layout = self._layout(array)
        if is_ours:
            return Taken(array, layout)
        array, buffer = self._pool.copy(array)
        return Taken(array, layout, buffer)

    def _layout(self, array: Array) -> Layout:
        key = (array.shape, array.dtype)
        layout = self._known.get(key)
        if layout is None:
            layout = layout_of(array)
            self._say_what_is_mended(array, layout)
            if len(self._known) > 64:
                self._known.clear()
            self._known[key] = layout
        return layout

    def _say_what_is_mended(self, array: Array, layout: Layout) -> None:
        what = f"frames of shape {array.shape} and dtype {array.dtype}"
        if layout.is_chw:
            self._warn("chw", f"{what} are read as channels first and filmed as (H, W, 3)")
        if layout.channels == 1:
            self._warn("grey", f"{what} are read as grey and filmed as RGB")
        if layout.channels == 4:
            self._warn("rgba", f"{what} are read as RGBA and filmed over black")
        if array.dtype.kind == "f":
            self._warn("float", f"{what} are read as values from 0 to 1 and scaled to 0-255")
        elif array.dtype.kind == "b":
            self._warn("bool", f"{what} are filmed as black and white")
        elif array.dtype != np.uint8:
            self._warn("integer", f"{what} are read as values from 0 to 255")


def _from_tensor(raw: Any) -> tuple[Array, bool]:
    """Return a tensor's values as an array, and whether that array is already ours."""
    kind = type(raw).__name__
    try:
        if hasattr(raw, "detach") and hasattr(raw, "cpu"):
            host = raw.detach().cpu()
            if str(host.dtype) == "torch.bfloat16":  # NumPy has no such type
                host = host.float()
            return host.numpy(), host.data_ptr() != raw.data_ptr()
        if hasattr(raw, "__array__") or hasattr(raw, "__dlpack__"):
            array = np.asarray(raw) if hasattr(raw, "__array__") else np.from_dlpack(raw)
            if array.dtype.name == "bfloat16":
                array = array.astype(np.float32)
            if array.ndim:
                return array, False
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise FrameError(
            f"a frame of type {kind}, shape {getattr(raw, 'shape', None)} and dtype "
            f"{getattr(raw, 'dtype', None)} cannot be read as an array ({error}); {WANTED}"
        ) from error
    raise FrameError(f"a frame must be an array, a tensor or text, not {kind}; {WANTED}")


def render_counted(render: Callable[[], Any]) -> tuple[Any, bool]:
    """Call `render` and say whether nobody but us holds what it returned.

    An array that only we hold need not be copied. Reference counts tell: the array's own, and that
    of the array it is a view of (CartPole returns a transposed view of a fresh array). Where counts
    mean nothing (free-threaded Python, other interpreters) the answer is no.
    """
    raw = render()
    # Tracers and debuggers hold references of their own now and then.
    is_watched = sys.gettrace() is not None or sys.getprofile() is not None
    if not _COUNTS_ARE_TRUE or is_watched or type(raw) is not np.ndarray:
        return raw, False
    count = sys.getrefcount(raw)  # on a line of its own: a call's pending arguments count too
    return raw, _is_unshared(raw, count)


def _is_unshared(array: Array, count: int) -> bool:
    if count > _ALONE:
        return False
    base = array.base
    if base is None:
        return bool(array.flags.owndata)
    return (
        type(base) is np.ndarray
        and base.base is None
        and base.nbytes <= array.nbytes  # a small view would keep all of a large array in memory
        and bool(base.flags.owndata)
        and sys.getrefcount(base) <= _BASE_ALONE
    )


def _measure_counts() -> tuple[int, int]:
    """Measure the counts of an array that nobody else holds: they differ between Pythons."""

    def fresh_view() -> Array:
        return np.empty((2, 2)).T

    raw = fresh_view()
    base = raw.base
    return sys.getrefcount(raw), sys.getrefcount(base)


_ALONE, _BASE_ALONE = 2, 3
_COUNTS_ARE_TRUE = (
    sys.implementation.name == "cpython"
    and sys.version_info[:2] in ((3, 11), (3, 12), (3, 13))
    and getattr(sys, "_is_gil_enabled", lambda: True)()
    and _measure_counts() == (_ALONE, _BASE_ALONE)
)
"""Whether the counts are those of the Pythons that this was tested with; else frames are copied."""

"""Frames: what is taken, what is mended and how exactly, what is refused and with which words."""

from __future__ import annotations

import ctypes
import io
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rollcam.capture import frames
from rollcam.capture.frames import (
    BufferPool,
    FrameTaker,
    Taken,
    as_text,
    layout_of,
    letterboxed,
    render_counted,
    to_rgb,
)
from rollcam.errors import FrameError

SHAPE = (5, 7, 3)


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or SHAPE, np.uint8)


def taken(raw: Any, *, is_unshared: bool = False) -> tuple[Taken, list[str]]:
    """The frame, and the causes that were warned of."""
    said: list[str] = []
    taker = FrameTaker(BufferPool(2**20), lambda cause, message: said.append(cause))
    frame = taker.take(raw, is_unshared=is_unshared)
    assert isinstance(frame, Taken)
    return frame, said


def rgb(raw: Any) -> np.ndarray:
    return to_rgb(taken(raw)[0])


class Subclass(np.ndarray):
    pass


def readonly(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


PLAIN: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda a: a,
    "list": lambda a: [np.zeros((2, 2), float), a],
    "tuple": lambda a: (a,),
    "read-only": lambda a: readonly(a.copy()),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda a: a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "transposed": lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2),
    "every second": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "of RGBA": lambda a: np.dstack([a, a[..., :1]])[..., :3],
    "subclass": lambda a: a.view(Subclass),
    "masked": lambda a: np.ma.masked_array(a, mask=False),
    "of bytes": lambda a: np.frombuffer(a.tobytes(), np.uint8).reshape(a.shape),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 3), (3, 5, 3), (40, 30, 3)])
def test_plain_frames_are_taken_as_they_are_and_copied(kind: str, shape: tuple[int, ...]):
    expected = picture(*shape)
    raw = PLAIN[kind](expected.copy())
    frame, said = taken(raw)
    assert said == []
    assert frame.layout.is_plain
    owner = raw[-1] if isinstance(raw, list | tuple) else raw
    assert not np.shares_memory(frame.array, owner)
    assert type(frame.array) is np.ndarray
    if owner.flags.writeable:
        owner[...] = 7
    result = to_rgb(frame)
    assert result.dtype == np.uint8
    assert np.array_equal(result, expected)


def test_a_copy_keeps_the_order_of_axes_in_memory():
    base = picture(7, 5, 3)
    for raw in (base, base.transpose(1, 0, 2), base.transpose(2, 1, 0), np.asfortranarray(base)):
        copied, buffer = BufferPool(2**20).copy(raw)
        assert np.array_equal(copied, raw)
        assert np.argsort(copied.strides).tolist() == np.argsort(raw.strides).tolist()
        assert np.shares_memory(copied, buffer)


def test_rgba_is_shown_over_black():
    raw = np.array([[[255, 100, 3, 255], [255, 100, 3, 0], [255, 100, 3, 128], [1, 2, 255, 127]]])
    expected = [[[255, 100, 3], [0, 0, 0], [128, 50, 2], [0, 1, 127]]]
    frame, said = taken(raw.astype(np.uint8))
    assert said == ["rgba"]
    assert to_rgb(frame).tolist() == expected
    levels = np.arange(256)
    every = np.stack(np.meshgrid(levels, levels), -1)[..., [0, 0, 0, 1]].astype(np.uint8)
    exact = np.rint(every[..., :1].astype(float) * every[..., 3:] / 255)
    assert np.array_equal(rgb(every), np.repeat(exact, 3, 2))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (1, 4, 6), (5, 3), (3, 5)])
def test_grey_is_shown_in_all_channels(shape: tuple[int, ...]):
    raw = picture(*shape)
    frame, said = taken(raw)
    assert said == (["chw", "grey"] if shape[0] == 1 else ["grey"])
    flat = raw.reshape([n for n in shape if n != 1])
    assert np.array_equal(to_rgb(frame), np.repeat(flat[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("shape", "height", "width", "channels", "is_chw"),
    [
        ((3, 8, 9), 8, 9, 3, True),
        ((4, 8, 9), 8, 9, 4, True),
        ((1, 8, 9), 8, 9, 1, True),
        ((3, 8, 2), 8, 2, 3, True),
        ((3, 5, 3), 3, 5, 3, False),  # either would do: height comes first
        ((3, 3, 3), 3, 3, 3, False),
        ((4, 9, 4), 4, 9, 4, False),
        ((3, 9, 4), 3, 9, 4, False),
        ((3, 9, 1), 3, 9, 1, False),
        ((1, 1, 3), 1, 1, 3, False),
        ((16384, 1, 3), 16384, 1, 3, False),
    ],
)
def test_layouts(shape: tuple[int, ...], height: int, width: int, channels: int, is_chw: bool):
    layout = layout_of(np.zeros(shape, np.uint8))
    assert (layout.height, layout.width) == (height, width)
    assert (layout.channels, layout.is_chw) == (channels, is_chw)
    assert rgb(np.zeros(shape, np.uint8)).shape == (height, width, 3)


def test_channels_first_is_turned_round():
    raw = picture(3, 8, 9)
    frame, said = taken(raw)
    assert said == ["chw"]
    assert np.array_equal(to_rgb(frame), raw.transpose(1, 2, 0))
    with_alpha = np.concatenate([raw, np.full((1, 8, 9), 255, np.uint8)])
    assert np.array_equal(rgb(with_alpha), raw.transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_floats_are_scaled(dtype: Any):
    values = np.array([0, 1, 0.5, 0.25, 1 / 255, 254 / 255, 1.0005, -0.0005]).astype(dtype)
    frame, said = taken(np.tile(values[:, None, None], (1, 2, 3)))
    assert said == ["float"]
    assert to_rgb(frame)[:, 0, 0].tolist() == [0, 255, 128, 64, 1, 254, 255, 0]


def test_every_level_survives_as_a_float():
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    for dtype in (np.float16, np.float32, np.float64):
        assert np.array_equal(rgb(levels / dtype(255)), levels)
    over = levels.astype(np.float32) / np.float32(255) * np.float32(1.000001)
    assert np.array_equal(rgb(over), levels)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64, ">u2"]
)
def test_integers_are_levels(dtype: Any):
    top = min(255, int(np.iinfo(dtype).max))
    raw = np.tile(np.array([0, 1, 100, top]).astype(dtype)[:, None, None], (1, 2, 3))
    frame, said = taken(raw)
    assert said == ["integer"]
    assert np.array_equal(to_rgb(frame), raw)
    assert to_rgb(frame).dtype == np.uint8


def test_booleans_are_black_and_white():
    raw = np.array([[True, False, True]])
    frame, said = taken(raw)
    assert said == ["grey", "bool"]
    assert np.array_equal(to_rgb(frame), np.repeat(raw[..., None], 3, 2) * np.uint8(255))


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_a_picture_in_grey():
    raw = picture(4, 6)
    assert np.array_equal(rgb(np.asmatrix(raw)), np.repeat(raw[..., None], 3, 2))


def test_each_kind_is_said_once():
    said: list[tuple[str, str]] = []
    taker = FrameTaker(BufferPool(2**20), lambda *what: said.append(what))
    for _ in range(3):
        taker.take(np.zeros((4, 5, 4), np.float32))
    assert [cause for cause, _ in said] == ["rgba", "float"]
    assert all("(4, 5, 4)" in message and "float32" in message for _, message in said)


BAD: dict[str, tuple[Any, str]] = {
    "floats to 255": (
        np.array([[0.0, 255.0]]),
        r"shape \(1, 2\) .*float64 .*from 0 to 255.* 0-255",
    ),
    "NaN": (np.full((2, 2, 3), np.nan, np.float32), r"\(2, 2, 3\).*float32.*nan"),
    "one NaN": (np.array([[0.5, np.nan]]), r"\(1, 2\).*float64.*nan"),
    "inf": (np.array([[0, np.inf]], np.float16), r"\(1, 2\).*float16.*from 0 to inf"),
    "floats from -1": (np.array([[-1.0, 1.0]]), r"\(1, 2\).*float64.*from -1 to 1"),
    "negative": (np.array([[-1, 200]]), r"\(1, 2\).*int64.*from -1 to 200.*between 0 and 255"),
    "above 255": (np.array([[0, 256]], np.uint16), r"\(1, 2\).*uint16.*from 0 to 256"),
    "two channels": (picture(6, 5, 2), r"\(6, 5, 2\).*uint8.*1, 3 nor 4 channels"),
    "batch": (picture(2, 4, 5, 3), r"\(2, 4, 5, 3\).*uint8.*one camera for each"),
    "one axis": (picture(9), r"\(9,\).*uint8"),
    "no axis": (np.array(3), r"\(\).*int64"),
    "five axes": (picture(1, 1, 4, 5, 3), r"\(1, 1, 4, 5, 3\).*uint8"),
    "empty": (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\).*uint8"),
    "no channels": (np.zeros((4, 5, 0)), r"\(4, 5, 0\).*float64"),
    "objects": (np.full((2, 2, 3), None), r"object.*\(2, 2, 3\)"),
    "complex": (np.zeros((2, 2, 3), complex), r"complex128.*\(2, 2, 3\)"),
    "strings": (np.array([["a", "b"]]), r"<U1.*\(1, 2\)"),
    "times": (np.zeros((2, 2), "M8[s]"), r"datetime64.*\(2, 2\)"),
    "structured": (np.zeros((2, 2), [("r", "u1")]), r"'r'.*\(2, 2\)"),
    "huge": (np.broadcast_to(np.uint8(0), (16385, 4, 3)), r"\(16385, 4, 3\).*16384"),
    "dict": ({"rgb": picture()}, "array, a tensor or text, not dict.*uint8 RGB"),
    "number": (3.5, "not float"),
    "numpy number": (np.float32(1), "not float32"),
    "list of lists": ([[1, 2], [3, 4]], "not list"),
    "class": (np.ndarray, "not type"),
    "memoryview": (memoryview(b"abc"), "not memoryview"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_mended_is_refused_with_its_facts(kind: str):
    raw, words = BAD[kind]
    with pytest.raises(FrameError, match=words):
        rgb(raw)


def test_an_array_that_cannot_be_read_is_refused():
    class Broken:
        shape, dtype = (2, 2), "odd"

        def __array__(self, *args: Any, **more: Any) -> np.ndarray:
            raise TypeError("lives on another planet")

    with pytest.raises(FrameError, match=r"Broken.*\(2, 2\).*odd.*another planet"):
        rgb(Broken())


def test_text_and_nothing():
    taker = FrameTaker(BufferPool(100), pytest.fail)
    assert taker.take(None) is None
    assert taker.take([]) is None
    assert taker.take([picture(), None]) is None
    assert taker.take("é\r\n") == "é\r\n"
    assert taker.take(["old", "new"]) == "new"
    assert taker.take(io.StringIO("abc")) == "abc"
    assert taker.take(np.str_("abc")) == "abc"
    assert as_text("é".encode()) == "é"
    assert as_text(b"a\xffb") == "a\ufffdb"
    written = io.StringIO()
    written.write("at the end")
    assert as_text(written) == "at the end"


def test_torch_tensors():
    import torch

    expected = picture(8, 9, 3)
    tensor = torch.from_numpy(expected.copy())
    frame, said = taken(tensor)
    assert said == []
    tensor.zero_()
    assert np.array_equal(to_rgb(frame), expected)
    chw = torch.from_numpy(expected).permute(2, 0, 1)
    assert np.array_equal(rgb(chw), expected)
    scaled = (chw.float() / 255).requires_grad_()
    assert np.array_equal(rgb(scaled), expected)
    assert np.array_equal(rgb([scaled * 1.0]), expected)  # not a leaf, and in a list
    assert np.array_equal(rgb(chw.to(torch.int64)), expected)
    assert np.array_equal(rgb(chw.flip(1)), expected[::-1])
    assert rgb(torch.ones(4, 5, dtype=torch.bool)).tolist() == np.full((4, 5, 3), 255).tolist()
    assert rgb(torch.full((3, 4, 5), 0.5, dtype=torch.bfloat16))[0, 0].tolist() == [128] * 3
    for bad, words in (
        (torch.zeros(2, 3, 4, 5), r"\(2, 3, 4, 5\).*float32"),
        (torch.full((4, 5), 255.0), r"\(4, 5\).*float32.*from 255 to 255"),
        (torch.zeros(4, 5).to_sparse(), "Tensor.*float32"),
        (torch.zeros(4, 5, device="meta"), "Tensor.*float32"),
        (torch.Tensor, "_TensorMeta"),
    ):
        with pytest.raises(FrameError, match=words):
            rgb(bad)


def test_jax_arrays():
    import jax.numpy as jnp

    expected = picture(8, 9, 3)
    assert np.array_equal(rgb(jnp.asarray(expected)), expected)
    assert np.array_equal(rgb(jnp.asarray(expected / np.float32(255)).transpose(2, 0, 1)), expected)
    assert rgb(jnp.full((4, 5), 0.5, jnp.bfloat16))[0, 0].tolist() == [128] * 3
    with pytest.raises(FrameError, match=r"\(2, 8, 9, 3\).*uint8"):
        rgb(jnp.zeros((2, 8, 9, 3), jnp.uint8))


DTYPES = ["u1", "u1", "u1", "?", "i1", "u2", ">i4", "i8", "u8", "f2", "f4", "f8", ">f8", "g"]
NO_NUMBERS = ["c8", "O", "U3", "S2", "M8[s]", "V4"]


def random_array(rng: np.random.Generator) -> np.ndarray:
    sides = [0, 1, 2, 3, 3, 4, 5, 6, 9, 9]
    shape = rng.choice(sides, size=rng.choice([0, 1, 2, 3, 3, 3, 4]))
    low, high = rng.choice([(0, 1), (0, 1), (0, 255), (0, 255), (-3, 5), (0, 9e4)])
    raw = np.asarray(rng.uniform(low, high, shape))
    dtype = np.dtype(str(rng.choice([*DTYPES, *NO_NUMBERS])))
    if dtype.kind == "f" and rng.random() < 0.1:
        raw[rng.random(shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    with np.errstate(all="ignore"):
        array = raw.astype(np.int64).astype(dtype) if dtype.kind in "iubMSV" else raw.astype(dtype)
    array = array.transpose(rng.permutation(array.ndim))
    steps = [slice(None, None, rng.choice([-1, 1, 2])) for _ in array.shape]
    return array[tuple(steps)] if array.ndim and rng.random() < 0.3 else array


def picture_or_error(raw: Any) -> np.ndarray | FrameError:
    try:
        return rgb(raw)
    except FrameError as error:
        return error


def test_random_arrays_give_a_picture_or_a_frame_error():
    rng = np.random.default_rng(20261121)
    n_pictures = 0
    for _ in range(4000):
        array = random_array(rng)
        result = picture_or_error([array] if rng.random() < 0.1 else array)
        if isinstance(result, FrameError):
            assert str(array.shape) in str(result)
            assert str(array.dtype) in str(result)
            continue
        n_pictures += 1
        layout = layout_of(array)
        assert result.dtype == np.uint8
        assert result.shape == (layout.height, layout.width, 3)
    assert 500 < n_pictures < 3500


def fresh() -> np.ndarray:
    return np.zeros(SHAPE, np.uint8)


def keep(kept: list[Any], array: np.ndarray, part: Callable[[Any], Any]) -> np.ndarray:
    kept.append(part(array))
    return array


def generator_of(array: np.ndarray) -> Any:
    values = (array for _ in range(2))
    next(values)
    return values


def pointer_to(array: np.ndarray) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_ubyte))


UNSHARED: dict[str, Callable[[list[Any]], Any]] = {
    "fresh": lambda kept: fresh(),
    "transposed, as CartPole's": lambda kept: np.transpose(fresh(), (1, 0, 2)),
    "flipped, as MuJoCo's": lambda kept: np.flipud(fresh()),
    "weakly known": lambda kept: keep(kept, fresh(), weakref.ref),
}
SHARED: dict[str, Callable[[list[Any]], Any]] = {
    "kept": lambda kept: keep(kept, fresh(), lambda a: a),
    "kept in a closure": lambda kept: keep(kept, fresh(), lambda a: lambda: a),
    "kept by a generator": lambda kept: keep(kept, fresh(), generator_of),
    "kept in an object array": lambda kept: keep(kept, fresh(), lambda a: np.array([a, 0], object)),
    "view of what is kept": lambda kept: keep(kept, fresh(), lambda a: a).transpose(1, 0, 2),
    "of which a view is kept": lambda kept: keep(kept, fresh(), lambda a: a[1:]),
    "view beside a kept view": lambda kept: keep(kept, fresh(), lambda a: a[1:])[::-1],
    "of which a memoryview is kept": lambda kept: keep(kept, fresh(), memoryview),
    "view beside a memoryview": lambda kept: keep(kept, fresh(), memoryview)[:],
    "with a pointer kept": lambda kept: keep(kept, fresh(), pointer_to),
    "of a bytearray": lambda kept: np.frombuffer(bytearray(105), np.uint8).reshape(SHAPE),
    "over a bytearray": lambda kept: np.ndarray(SHAPE, np.uint8, bytearray(105)),
    "of bytes": lambda kept: np.frombuffer(bytes(105), np.uint8).reshape(SHAPE),
    "subclass": lambda kept: fresh().view(Subclass),
    # What waits must not keep more memory than it counts for.
    "little of much": lambda kept: np.zeros((50, 70, 3), np.uint8)[::10, ::10],
    "in a list": lambda kept: [fresh()],
}


@pytest.mark.parametrize("kind", [*UNSHARED, *SHARED])
def test_only_what_nobody_else_holds_goes_uncopied(kind: str):
    kept: list[Any] = []
    render = (UNSHARED | SHARED)[kind]
    raw, is_unshared = render_counted(lambda: render(kept))
    is_watched = sys.gettrace() is not None  # such as by a test coverage tool
    assert is_unshared is (kind in UNSHARED and frames._COUNTS_ARE_TRUE and not is_watched)
    owner = raw[-1] if isinstance(raw, list) else raw
    frame, _ = taken(raw, is_unshared=is_unshared)
    assert np.shares_memory(frame.array, owner) is is_unshared
    assert (frame.buffer is None) is is_unshared


def test_what_another_thread_holds_is_copied():
    held, done = threading.Event(), threading.Event()
    box: list[Any] = []

    def hold() -> None:
        array = fresh()
        box.append(array)
        held.set()
        done.wait(20)
        assert array is not None

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    assert render_counted(box.pop)[1] is False
    done.set()
    thread.join(20)


def test_where_counts_mean_nothing_everything_is_copied(monkeypatch: pytest.MonkeyPatch):
    if sys.implementation.name == "cpython" and (3, 11) <= sys.version_info < (3, 13):
        assert frames._COUNTS_ARE_TRUE
    monkeypatch.setattr(frames, "_COUNTS_ARE_TRUE", False)
    assert render_counted(fresh)[1] is False


def test_a_list_is_never_taken_uncopied():
    raw = [picture()]
    frame, _ = taken(raw, is_unshared=True)
    assert not np.shares_memory(frame.array, raw[0])


def test_an_env_that_draws_into_one_buffer_is_filmed_frame_by_frame():
    canvas = np.zeros(SHAPE, np.uint8)
    taker = FrameTaker(BufferPool(2**20), pytest.fail)
    kept = []
    for level in range(20):
        canvas[:] = level
        raw, is_unshared = render_counted(lambda: canvas[::-1])
        kept.append(taker.take(raw, is_unshared=is_unshared))
    assert [int(frame.array.max()) for frame in kept] == list(range(20))


def test_the_pool_reuses_memory_and_is_bounded():
    array = picture()
    pool = BufferPool(3 * array.nbytes + 10)
    first, buffer = pool.copy(array)
    pool.give_back(buffer)
    second, again = pool.copy(array[::-1])
    assert again is buffer
    assert np.shares_memory(first, second)
    assert np.array_equal(second, array[::-1])
    buffers = [pool.copy(array)[1] for _ in range(6)]
    assert len({id(b) for b in [*buffers, again]}) == 7  # what is out is nobody else's
    for b in buffers:
        pool.give_back(b)
    copies = [pool.copy(array)[1] for _ in range(6)]
    assert [any(c is b for b in buffers) for c in copies] == [True] * 3 + [False] * 3


def test_the_pool_takes_back_only_what_fits():
    pool = BufferPool(1000)
    _, small = pool.copy(np.zeros((5, 5, 3), np.uint8))
    pool.copy(np.zeros((6, 5, 3), np.uint8))
    pool.give_back(small)
    pool.give_back(None)
    copied, buffer = pool.copy(np.full((6, 5, 3), 9, np.uint8))
    assert buffer is not small
    assert copied.shape == (6, 5, 3)
    _, large = pool.copy(np.zeros((50, 50, 3), np.uint8))
    pool.give_back(large)
    assert pool.copy(np.zeros((50, 50, 3), np.uint8))[1] is not large


def test_the_pool_may_change_its_size_while_memory_comes_back():
    class Bound(int):
        """The training thread takes a frame of another size in the middle of `give_back`."""

        def __ge__(self, other: int) -> bool:
            if switch:
                pool.copy(np.zeros(switch.pop(), np.uint8))
            return int(self) >= other

    switch: list[tuple[int, ...]] = []
    pool = BufferPool(Bound(10**6))
    _, buffer = pool.copy(picture(4, 4, 3))
    switch.append((5, 5, 3))
    pool.give_back(buffer)
    assert switch == []
    copied, _ = pool.copy(picture(5, 5, 3))
    assert np.array_equal(copied, picture(5, 5, 3))


def test_letterboxed():
    square = picture(4, 4, 3)
    assert letterboxed(square, 4, 4) is square
    wide = letterboxed(square, 4, 10)
    assert np.array_equal(wide[:, 3:7], square)
    assert not wide[:, :3].any()
    assert not wide[:, 7:].any()
    tall = letterboxed(square, 9, 4)
    assert np.array_equal(tall[2:6], square)
    assert not tall[:2].any()
    assert not tall[6:].any()
    assert np.array_equal(letterboxed(square, 8, 8), square.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(letterboxed(square, 2, 2), square[::2, ::2])
    assert letterboxed(np.full((1, 1000, 3), 9, np.uint8), 10, 10).max() == 9


def test_a_letterboxed_picture_touches_two_opposite_edges():
    rng = np.random.default_rng(3)
    for height, width, h, w in rng.integers(1, 120, (3000, 4)).tolist():
        lit = letterboxed(np.full((h, w, 3), 255, np.uint8), height, width)[..., 0] > 0
        assert lit.shape == (height, width)
        fits = (int(lit.any(axis=1).sum()), int(lit.any(axis=0).sum()))
        assert fits[0] == height or fits[1] == width, (height, width, h, w)


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_nothing_is_taken_uncopied_while_a_debugger_watches(kind: str):
    """Tracers hold references of their own, so counts say nothing then."""
    get, watch = getattr(sys, f"get{kind}"), getattr(sys, f"set{kind}")
    before = get()
    watch(lambda *event: None)
    try:
        assert render_counted(fresh)[1] is False
    finally:
        watch(before)

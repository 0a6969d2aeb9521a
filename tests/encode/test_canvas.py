"""`Canvas`: only what changed is converted, and every frame is as if all of it had been."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollcam.encode.canvas import Canvas
from rollcam.errors import EncoderFailed

Array = npt.NDArray[np.uint8]
BASE = Fraction(1, 30)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def planes(frame: Any) -> list[Array]:
    return [
        np.frombuffer(plane, np.uint8)
        .reshape(-1, plane.line_size)[: plane.height, : plane.width]
        .copy()
        for plane in frame.planes
    ]


def converted(picture: Array) -> list[Array]:
    """Convert all of a picture at once."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    return planes(frame.reformat(format="yuv420p"))


def assert_same(found: list[Array], wanted: list[Array]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def noise(rng: np.random.Generator, *shape: int) -> Array:
    """Return the hardest of pictures: a filter that looks one pixel too far shows."""
    return rng.integers(0, 256, (*shape, 3), np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(20, 380),
    width=st.integers(20, 640),
    boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=12),
    seed=st.integers(0, 2**16),
)
def test_a_box_that_changed_comes_out_as_if_all_had_been_converted(
    height: int, width: int, boxes: list[tuple[float, float, float, float]], seed: int
) -> None:
    height, width = 2 * height, 2 * width
    rng = np.random.default_rng(seed)
    canvas = Canvas(width, height, (height, width), compares=True)
    picture = noise(rng, height, width)
    canvas.paint(picture)
    assert_same(planes(canvas.frame_at(0, BASE)), converted(picture))
    for number, (top, left, tall, wide) in enumerate(boxes):
        y0, x0 = int(top * (height - 1)), int(left * (width - 1))
        box = picture[y0 : y0 + 1 + int(tall * height / 2), x0 : x0 + 1 + int(wide * width / 2)]
        box[:] = noise(rng, *box.shape[:2])
        canvas.paint(picture)
        if number % 3:  # the other times, it was shown for too short to get a frame of its own
            frame = canvas.frame_at(number, BASE)
            assert (frame.pts, frame.time_base) == (number, BASE)
            assert_same(planes(frame), converted(picture))


def test_one_pixel_in_each_place(rng: np.random.Generator) -> None:
    """At the edges of the picture, and to both sides of where boxes begin and end."""
    height, width = 258, 330
    canvas = Canvas(width, height, (height, width), compares=True)
    picture = noise(rng, height, width)
    canvas.paint(picture)
    canvas.frame_at(0, BASE)
    for y in (0, 1, 15, 16, 47, 48, 63, 64, 65, 191, 192, 256, 257):
        for x in (0, 1, 31, 32, 63, 64, 65, 299, 319, 320, 328, 329):
            picture[y, x] ^= 255
            canvas.paint(picture)
            assert_same(planes(canvas.frame_at(1, BASE)), converted(picture))


def test_little_is_converted_of_what_hardly_changes(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, ...]] = []
    convert = Canvas._converted

    def told(self: Canvas, box: Any) -> Any:
        sizes.append((box.y1 - box.y0, box.x1 - box.x0))
        return convert(self, box)

    monkeypatch.setattr(Canvas, "_converted", told)
    canvas = Canvas(600, 400, (400, 600), compares=True)
    picture = noise(rng, 400, 600)
    for k in range(20):
        picture[200:210, 300 + k] = k
        canvas.paint(picture)
        canvas.frame_at(k, BASE)
    assert len(sizes) == 19  # all of the first
    assert all(rows <= 64 and columns <= 128 for rows, columns in sizes)
    canvas.paint(picture)
    assert_same(planes(canvas.frame_at(20, BASE)), converted(picture))
    assert len(sizes) == 19


def test_what_changes_all_over_and_then_stands_still(rng: np.random.Generator) -> None:
    canvas = Canvas(400, 300, (300, 400), compares=True)
    for k in range(60):
        if k % 20 < 12:
            picture = noise(rng, 300, 400)
        else:
            picture[100:110, 10 * (k % 20)] = k
        canvas.paint(picture)
        assert_same(planes(canvas.frame_at(k, BASE)), converted(picture))


def test_boxes_of_many_sizes_do_not_pile_up(rng: np.random.Generator) -> None:
    canvas = Canvas(1280, 720, (720, 1280), compares=True)
    picture = noise(rng, 720, 1280)
    for k in range(40):
        picture[: 10 * k + 1, : 16 * k + 1] ^= 255
        canvas.paint(picture)
        assert_same(planes(canvas.frame_at(k, BASE)), converted(picture))
    assert sum(h * w for h, w in canvas._converters) <= 2 * 720 * 1280


@pytest.mark.parametrize(
    "layout",
    [
        lambda p: p[::-1].copy()[::-1],
        lambda p: p.transpose(1, 0, 2).copy().transpose(1, 0, 2),
        lambda p: np.repeat(p, 2, axis=0)[::2],
    ],
)
def test_pictures_of_any_layout(layout: Any, rng: np.random.Generator) -> None:
    canvas = Canvas(400, 300, (300, 400), compares=True)
    picture = noise(rng, 300, 400)
    for k in range(6):
        picture[50:60, 50:60] = k
        canvas.paint(layout(picture) if k % 2 else picture)
        assert_same(planes(canvas.frame_at(k, BASE)), converted(picture))


@pytest.mark.parametrize("size", [(301, 400), (300, 401), (301, 401), (1, 1), (2, 2), (7, 30000)])
def test_sizes_that_are_odd(size: tuple[int, int], rng: np.random.Generator) -> None:
    height, width = size
    canvas = Canvas(width + width % 2, height + height % 2, size, compares=True)
    picture = noise(rng, height, width)
    for k in range(4):
        picture[height // 2, width // 2] = k
        canvas.paint(picture)
        padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        assert_same(planes(canvas.frame_at(k, BASE)), converted(padded))


def test_who_does_not_compare_gets_the_same(rng: np.random.Generator) -> None:
    canvas = Canvas(400, 300, (300, 400))
    picture = noise(rng, 300, 400)
    for k in range(4):
        picture[50:60, 50:60] = k
        canvas.paint(picture)
        for _ in range(2):
            assert_same(planes(canvas.frame_at(k, BASE)), converted(picture))
    assert canvas._converters == {}


def test_a_frame_that_was_given_stays_as_it_is(rng: np.random.Generator) -> None:
    canvas = Canvas(400, 300, (300, 400), compares=True)
    picture = noise(rng, 300, 400)
    given_frames, wanted = [], []
    for k in range(5):
        picture[10 * k : 10 * k + 30, 5:20] ^= 255
        canvas.paint(picture)
        given_frames += [canvas.frame_at(2 * k, BASE), canvas.frame_at(2 * k + 1, BASE)]
        wanted += [converted(picture)] * 2
    for frame, planes_then in zip(given_frames, wanted, strict=True):
        assert_same(planes(frame), planes_then)


def test_a_picture_of_another_size_is_refused() -> None:
    canvas = Canvas(400, 300, (300, 400), compares=True)
    with pytest.raises(EncoderFailed, match=r"\(300, 402, 3\) came into a film of \(300, 400, 3\)"):
        canvas.paint(np.zeros((300, 402, 3), np.uint8))


def test_a_subclass_that_compares_in_its_own_way(rng: np.random.Generator) -> None:
    canvas = Canvas(400, 300, (300, 400), compares=True)
    picture = noise(rng, 300, 400)
    for k in range(3):
        picture[50:60, 50:60] = k
        canvas.paint(np.ma.masked_array(picture, mask=True))  # type: ignore[no-untyped-call]
        assert_same(planes(canvas.frame_at(k, BASE)), converted(picture))

"""Timelines in exact fractions: which frame is shown when, at any pair of rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, pairwise, product

import pytest

from rollcam.encode.timeline import REPEAT_BELOW_FPS, Timeline, as_rate

RATES = [1, 4, 15, 24, 25, 30, 50, 60, 0.5, 29.97, 30000 / 1001, 12.5]
PAIRS = list(product(RATES, RATES))
LENGTHS = [1, 2, 3, 8, 61]
ODD_PAIRS = [(999.999, 0.001), (0.001, 999.999), (143.9877, 59.94), (0.7003, 29.9991), (71.5003, 0.3003)]  # fmt: skip


def timeline(fps: float, output_fps: float | None = None) -> Timeline:
    rate = as_rate(fps)
    return Timeline(rate, rate if output_fps is None else as_rate(output_fps))


def all_pictures(line: Timeline, n_frames: int) -> Iterator[tuple[int, int, int]]:
    """The pictures of a film as (frame, time, duration)."""
    return ((frame, *slot) for frame in range(n_frames) for slot in line.slots(frame))


def pictures(line: Timeline, n_frames: int) -> list[tuple[int, int, int]]:
    return list(all_pictures(line, n_frames))


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (30, Fraction(30)),
        (29.97, Fraction(2997, 100)),
        (29.97002997, Fraction(30000, 1001)),
        (30000 / 1001, Fraction(30000, 1001)),
        (24000 / 1001, Fraction(24000, 1001)),
        (20.000000000004, Fraction(20)),
        (1 / 0.05, Fraction(20)),
        (0.1, Fraction(1, 10)),
        (1 / 3, Fraction(1, 3)),
        (0.001, Fraction(1, 1000)),
        (1000, Fraction(1000)),
    ],
)
def test_the_rate_that_was_meant(fps: float, rate: Fraction):
    assert as_rate(fps) == rate


@pytest.mark.parametrize("fps", RATES)
def test_at_the_same_rate_each_frame_is_one_picture(fps: float):
    line = timeline(fps)
    assert line.is_plain
    shown = pictures(line, 500)
    assert [frame for frame, _, _ in shown] == list(range(500))
    for frame, time, duration in shown:
        assert Fraction(time, line.timescale) == frame / line.rate
        assert Fraction(time + duration, line.timescale) == (frame + 1) / line.rate
        assert (time, duration) == line.true_slot(frame)
    assert shown[-1][1] + shown[-1][2] == line.end(500)


@pytest.mark.parametrize("pair", PAIRS)
def test_ticks_are_exact_and_times_strictly_increase(pair: tuple[float, float]):
    line = timeline(*pair)
    exact = line.timescale % math.lcm(line.rate.numerator, line.output_rate.numerator) == 0
    # Two roundings of what is meant to be one rate have no time scale in common that is usable.
    tolerance = 0 if exact else Fraction(1, 2 * line.timescale)
    assert exact or {29.97, 30000 / 1001, 24000 / 1001} & {*pair}
    shown = pictures(line, 61)
    assert shown[0][:2] == (0, 0)
    for (_, time, duration), (_, after, _) in pairwise(shown):
        assert time < after
        assert time + duration <= after + (0 if exact else 1)
    for slot, (frame, time, duration) in enumerate(shown):
        at = frame / line.rate if line.is_plain else slot / line.output_rate
        assert abs(Fraction(time, line.timescale) - at) <= tolerance
        assert duration >= 1
    for n_frames in LENGTHS:
        assert abs(Fraction(line.end(n_frames), line.timescale) - n_frames / line.rate) <= tolerance


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] != pair[1]])
def test_each_tick_of_the_output_shows_the_frame_of_its_time(pair: tuple[float, float]):
    line = timeline(*pair)
    for n_frames in LENGTHS:
        n_ticks = math.ceil(n_frames / line.rate * line.output_rate)
        shown = [frame for frame, _, _ in pictures(line, n_frames)]
        assert shown == [math.floor(j * line.rate / line.output_rate) for j in range(n_ticks)]
        assert set(range(n_frames)) == set(shown) or line.output_rate < line.rate


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] > pair[1]])
def test_below_the_input_the_last_frame_has_its_own_time_after_all_others(
    pair: tuple[float, float],
):
    line = timeline(*pair)
    for n_frames in LENGTHS:
        last = n_frames - 1
        if list(line.slots(last)):
            continue
        *_, (_, before, _) = pictures(line, n_frames)
        time, duration = line.true_slot(last)
        assert before < time
        assert time + duration == line.end(n_frames)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_repeat_of_the_last_frame_ends_the_film(pair: tuple[float, float]):
    line = timeline(*pair)
    assert line.repeats_last is (line.output_rate < REPEAT_BELOW_FPS)
    for n_frames in LENGTHS:
        time, duration = line.repeat_slot(n_frames)
        last, end = line.true_slot(n_frames - 1)[0], line.end(n_frames)
        assert time + duration == end
        # More than half the frame's time before the end: pages that round still find the frame.
        assert last < time < end - (end - last) // 2 or pair[1] > pair[0]
        *_, (_, last_picture, _) = pictures(line, n_frames)
        assert time > last_picture or not line.is_plain


@pytest.mark.parametrize("pair", [*PAIRS, *ODD_PAIRS])
def test_time_scales_fit_an_mp4(pair: tuple[float, float]):
    line = timeline(*pair)
    assert 10_000 <= line.timescale < 2**31
    gap_s = Fraction(2**32 - 1, line.timescale)  # the time between two pictures has 32 bits
    assert gap_s > 3600
    assert gap_s > 2 / min(line.rate, line.output_rate)


@pytest.mark.parametrize("pair", [*ODD_PAIRS, *(pair[::-1] for pair in ODD_PAIRS)])
def test_odd_pairs_are_right_to_a_microsecond(pair: tuple[float, float]):
    line = timeline(*pair)
    tolerance = Fraction(1, 1_000_000)
    shown = list(islice(all_pictures(line, 5), 500))
    assert shown[0][:2] == (0, 0)
    assert all(a[1] < b[1] for a, b in pairwise(shown))
    for slot, (_, time, _) in enumerate(shown):
        assert abs(Fraction(time, line.timescale) - slot / line.output_rate) <= tolerance
    assert abs(Fraction(line.end(5), line.timescale) - 5 / line.rate) <= tolerance

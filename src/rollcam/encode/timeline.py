"""Which picture is shown when: frame numbers in, exact ticks out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

REPEAT_BELOW_FPS = 24
"""Rates below which VLC loses the last frame too often: 0007-last-frame.md in docs/decisions."""

_REPEAT_BEFORE_END = Fraction(3, 5)
"""Where the repeat begins, in frame times before the end. More than half a frame, so that a page
that rounds `mediaTime * fps` to the nearest frame still finds the last one."""

_MIN_TIMESCALE = 10_000
_MAX_TIMESCALE = 1_000_000
"""MP4 counts the time between two pictures in 32 bits: more than an hour, however many were dropped."""


def as_rate(fps: float) -> Fraction:
    """Return `fps` as the fraction that was meant: 29.97002997 is 30000/1001, 20.000000000004 is 20."""
    return Fraction(fps).limit_denominator(10_000)


@dataclass(frozen=True)
class Timeline:
    """Maps captured frames to pictures in the file.

    Frame `i` was captured at `i / rate` seconds and is shown until frame `i + 1`. At the same
    output rate each frame is one picture. Above it, frames are shown several times; below it, only
    those frames stay that are current at a tick of the output rate, and always the last one, so
    the speed of playback and the length never change.
    """

    rate: Fraction
    """Frames captured per second."""
    output_rate: Fraction
    """Pictures in the file per second."""

    @property
    def timescale(self) -> int:
        """Ticks per second: a multiple of both rates' numerators, so that times are exact.

        For pairs of rates that have no such number in reason, times are right to a microsecond.
        """
        common = math.lcm(self.rate.numerator, self.output_rate.numerator)
        if common > _MAX_TIMESCALE:
            return _MAX_TIMESCALE
        return common * max(1, math.ceil(_MIN_TIMESCALE / common))

    @property
    def is_plain(self) -> bool:
        """Every frame is exactly one picture."""
        return self.rate == self.output_rate

    @property
    def repeats_last(self) -> bool:
        """Whether the last frame has to be repeated for players that would drop it."""
        return self.output_rate < REPEAT_BELOW_FPS

    def slots(self, index: int) -> Iterator[tuple[int, int]]:
        """Yield the pictures of frame `index` as (time, duration), both in ticks."""
        if self.is_plain:
            start = self._ticks(index / self.rate)
            yield start, self._ticks((index + 1) / self.rate) - start
            return
        end = (index + 1) / self.rate
        first = math.ceil(index * self.output_rate / self.rate)
        last = math.ceil((index + 1) * self.output_rate / self.rate)
        for slot in range(first, last):
            start_s = slot / self.output_rate
            stop_s = min((slot + 1) / self.output_rate, end)
            if self.output_rate < self.rate:
                stop_s = (slot + 1) / self.output_rate
            yield self._ticks(start_s), max(1, self._ticks(stop_s) - self._ticks(start_s))

    def true_slot(self, index: int) -> tuple[int, int]:
        """Return frame `index` at its own time, as (time, duration) in ticks."""
        start = self._ticks(index / self.rate)
        return start, self._ticks((index + 1) / self.rate) - start

    def repeat_slot(self, n_frames: int) -> tuple[int, int]:
        """Return where the repeat of the last frame goes in a film of `n_frames`, in ticks."""
        end = n_frames / self.rate
        # Below the input rate the last frame may have nothing but its own time, at the very end.
        start = self._ticks(end - _REPEAT_BEFORE_END / max(self.rate, self.output_rate))
        return start, self._ticks(end) - start

    def end(self, n_frames: int) -> int:
        """Return the end of a film of `n_frames`, in ticks."""
        return self._ticks(n_frames / self.rate)

    def _ticks(self, seconds: Fraction | int) -> int:
        return round(seconds * self.timescale)

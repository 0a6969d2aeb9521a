"""Text episodes drawn as pictures: a terminal's screen, and whole casts as MP4.

Needs the extra ``text``: pyte is the terminal, Pillow the pen, pymupdf-fonts the letters
(docs/decisions/0008-text-episodes.md).
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rollcam.encode.ansi import frame_event, tidy
from rollcam.encode.cast import Cast, read_cast
from rollcam.encode.glyphs import PAPER, Pen, cell_width, cells_of
from rollcam.encode.probe import probe
from rollcam.encode.rewrite import Shown, encode_film
from rollcam.episode import Picture
from rollcam.errors import EncoderFailed, MediaError, SettingError, require

_COLON_COLOUR = re.compile(r"(?<=[\[;])([34]8):(?:2:[0-9]*:([0-9]+):([0-9]+):([0-9]+)|5:([0-9]+))")

_MAX_ACCENTS = 8
"""On one letter: pyte composes it anew with each, so a heap of them takes quadratic time."""

_CRF = 23
_TICKS = 90_000
"""Per second, in the films: whole for every usual frame rate."""
_LONGEST_S = 36_000.0
"""One frame is shown ten hours at most: MP4 counts in 32 bits."""
_LONE_S = 1.0
"""How long a film's only frame is shown where the cast does not say."""


class Raster:
    """Draws a terminal's screen, dark, with the colours of the text.

    A frame that is larger than the screen wraps and scrolls, as in any terminal.

    Args:
        columns: Of the terminal, 1 or more.
        rows: Of the terminal, 1 or more.
        font_px: Size of the letters, in pixels; a cell is about 0.6 of it wide and 1.2 high.
        max_columns: Columns that are drawn at most, from the left.
        max_rows: Rows that are drawn at most, from the top.

    Raises:
        MissingDependencyError: The extra ``text`` is not installed.
        SettingError: A size is not positive.
    """

    def __init__(
        self,
        columns: int,
        rows: int,
        *,
        font_px: int = 20,
        max_columns: int | None = None,
        max_rows: int | None = None,
    ) -> None:
        drawn_columns = columns if max_columns is None else min(columns, max_columns)
        drawn_rows = rows if max_rows is None else min(rows, max_rows)
        if min(font_px, drawn_columns, drawn_rows) < 1:
            raise SettingError(
                f"A picture of {drawn_columns} columns, {drawn_rows} rows and letters of {font_px} "
                f"pixels cannot be drawn; each must be 1 or more."
            )
        pyte = require("pyte", extra="text")
        self._screen = pyte.Screen(columns, rows)
        self._screen.draw = functools.partial(_draw_accented, self._screen, self._screen.draw)
        self._stream = pyte.Stream(self._screen)
        self._pen = Pen(font_px)
        self._columns, self._rows = drawn_columns, drawn_rows
        # A margin of half a letter on each side; even, for the codecs.
        self._margin = self._pen.cell_width
        height = self._rows * self._pen.cell_height + self._margin
        width = self._columns * self._pen.cell_width + self._margin
        self._canvas = np.empty((height + height % 2, width + width % 2, 3), np.uint8)
        self._canvas[:] = PAPER
        self._drawn: list[list[Any]] = [[] for _ in range(self._rows)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the pictures: height and width in pixels, both even, and 3."""
        height, width, _ = self._canvas.shape
        return height, width, 3

    def draw(self, text: str) -> Picture:
        """Draw one frame on a cleared screen.

        Args:
            text: As an environment renders it, or an event of a cast: any newline style.

        Returns:
            `(H, W, 3)` uint8 RGB, 0-255, H and W even; the caller's own.
        """
        self._screen.reset()
        return self.feed(frame_event(text)[0])

    def feed(self, data: str) -> Picture:
        """Draw what the screen shows after more input, as a terminal gets it.

        Args:
            data: Text and escape sequences; it starts where the last input ended.

        Returns:
            As `draw`.
        """
        self._stream.feed(_for_pyte(data))
        for y in range(self._rows):
            line = self._screen.buffer[y]
            cells = [line[x] for x in range(self._columns)]
            if cells != self._drawn[y]:
                self._draw_row(y, cells)
                self._drawn[y] = cells
        return self._canvas.copy()

    def _draw_row(self, y: int, cells: list[Any]) -> None:
        width, height = self._pen.cell_width, self._pen.cell_height
        top, left = self._margin // 2 + y * height, self._margin // 2
        x = 0
        while x < len(cells):
            n_cells = min(cells_of(cells[x].data), len(cells) - x)
            tile = self._pen.tile(cells[x], n_cells)
            at = left + x * width
            self._canvas[top : top + height, at : at + n_cells * width] = tile
            x += n_cells


def _draw_accented(screen: Any, draw: Callable[[str], None], data: str) -> None:
    """Draw text; pyte 0.8 alone wraps the line before an accent on the last letter of a full one."""
    if data.isascii():
        draw(data)
        return
    for char in data:
        if screen.cursor.x == screen.columns and unicodedata.combining(char):
            line, x = screen.buffer[screen.cursor.y], screen.columns - 1
            line[x] = line[x]._replace(data=unicodedata.normalize("NFC", line[x].data + char))
        else:
            draw(char)


def _for_pyte(data: str) -> str:
    """Take out what pyte 0.8 stumbles over: it drops the rest of the line, or raises."""
    data = _COLON_COLOUR.sub(_with_semicolons, tidy(data))
    return data if data.isascii() else "".join(_drawable(data))


def _with_semicolons(match: re.Match[str]) -> str:
    target, red, green, blue, number = match.groups()
    return f"{target};5;{number}" if number else f"{target};2;{red};{green};{blue}"


def _drawable(data: str) -> Iterator[str]:
    n_accents = 0
    for char in data:
        if char.isascii() or cell_width(char) > 0:
            n_accents = 0
            yield char
        elif unicodedata.combining(char) and n_accents < _MAX_ACCENTS:
            n_accents += 1
            yield char


def rasterise(
    cast: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    fps: float | None = None,
    max_columns: int = 240,
    max_rows: int = 100,
) -> int:
    """Draw an asciicast into an MP4 that every browser plays, one picture for each frame.

    Args:
        cast: The asciicast, version 1, 2 or 3; one that a killed writer left will do.
        target: The film. It appears when it is complete, and replaces what is there.
        fps: Frames per second; by default each frame stands at its own time in the cast, and the
            first one at 0.
        max_columns: What is wider is cut off on the right.
        max_rows: What is longer is cut off at the bottom.

    Returns:
        The number of frames.

    Raises:
        MediaError: `cast` is no asciicast, or holds no frame.
        MissingDependencyError: The extra ``text`` is not installed.
        SettingError: `fps` or a limit is not positive.
        EncoderFailed: The encoder or the disk gave up; nothing is left of the film.
    """
    if fps is not None and not 0 < fps <= _TICKS:
        raise SettingError(f"fps={fps!r} is no number between 0 and {_TICKS}.")
    film = read_cast(cast)
    if not film.frames:
        raise MediaError(f"{Path(cast).name} holds no frame to draw.")
    font_px = _font_px(min(film.width, max_columns), min(film.height, max_rows))
    raster = Raster(
        film.width, film.height, font_px=font_px, max_columns=max_columns, max_rows=max_rows
    )
    target = Path(target)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        rate = _rate(film, fps)
        encode_film(_shown(_pictures(raster, film, fps)), partial, rate=lambda: rate, crf=_CRF)
        # Closing an MP4 on a full disk can be silent, so what arrived is counted.
        if (arrived := probe(partial).n_frames) != len(film.frames):
            raise EncoderFailed(f"{arrived} of {len(film.frames)} frames arrived in the film.")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return len(film.frames)


def _font_px(columns: int, rows: int) -> int:
    """Small screens in large letters: a lake of 4 x 4 cells would be a stamp of 60 pixels."""
    return max(20, min(48, 480 // max(rows, 1), 800 // max(columns, 1)))


def _pictures(raster: Raster, film: Cast, fps: float | None) -> Iterator[tuple[int, int, Picture]]:
    """Yield each frame's start and length, in ticks, and its picture."""
    starts, end = _ticks(film, fps)
    for start, stop, (_, data) in zip(starts, [*starts[1:], end], film.frames, strict=True):
        yield start, stop - start, raster.feed(data)


def _rate(film: Cast, fps: float | None) -> Fraction:
    """Frames per second, on average: what the encoder plans its keyframes by."""
    starts, end = _ticks(film, fps)
    return Fraction(len(starts) * _TICKS, end).limit_denominator(1000)


def _ticks(film: Cast, fps: float | None) -> tuple[list[int], int]:
    """When each frame begins, and the end: no two at once, none for longer than MP4 can say."""
    times_s = [at_s for at_s, _ in film.frames]
    ends_s = [*times_s[1:], film.duration_s]
    lengths_s = [end_s - at_s for at_s, end_s in zip(times_s, ends_s, strict=True)]
    if lengths_s[-1] <= 0:  # the file does not say: as long as the frame before it
        # In version 1, where each delay is a frame's time, a lone frame's stands before it.
        lone_s = times_s[0] if film.version == 1 else _LONE_S
        lengths_s[-1] = lengths_s[-2] if len(lengths_s) > 1 else lone_s
    if fps is not None:
        lengths_s = [1 / fps] * len(lengths_s)
    starts, now_s, earliest = [], 0.0, 0
    for length_s in lengths_s:
        starts.append(max(round(now_s * _TICKS), earliest))
        now_s += min(length_s, _LONGEST_S)
        earliest = starts[-1] + 1
    return starts, max(round(now_s * _TICKS), earliest)


def _shown(pictures: Iterable[tuple[int, int, Picture]]) -> Iterator[Shown]:
    av = require("av")
    for start, length, picture in pictures:
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        yield Shown(frame, Fraction(start, _TICKS), Fraction(length, _TICKS))

"""Letters of a terminal as pixels: fonts, colours, and a cache of what was drawn."""

from __future__ import annotations

import functools
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from rollcam.episode import Picture
from rollcam.errors import require

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_Rgb = tuple[int, int, int]

PAPER: _Rgb = (24, 26, 31)
"""Colour of the screen where the text names none, RGB 0-255."""

_INK: _Rgb = (221, 224, 229)
_DARK_INK: _Rgb = (16, 18, 22)
_LIGHT = 140
"""Luma of a background, 0-255, from which on letters without a colour of their own are dark."""

# Calm on the dark paper, and light letters stay readable on each; by pyte's names ("brown" is 33).
_COLOURS: dict[str, _Rgb] = {
    "black": (48, 52, 60),
    "red": (200, 52, 58),
    "green": (70, 150, 80),
    "brown": (196, 150, 40),
    "blue": (64, 124, 214),
    "magenta": (172, 92, 190),
    "cyan": (48, 150, 164),
    "white": (204, 208, 214),
    "brightblack": (112, 119, 132),
    "brightred": (238, 100, 104),
    "brightgreen": (122, 200, 128),
    "brightbrown": (236, 198, 92),
    "brightblue": (112, 168, 242),
    "brightmagenta": (212, 142, 226),
    "bfightmagenta": (212, 142, 226),  # as pyte 0.8.2 spells the background 105
    "brightcyan": (102, 202, 212),
    "brightwhite": (246, 248, 250),
}
_HEX = re.compile("[0-9a-f]{6}")

# Cascadia Mono is the only one of the package's four monospace families that has all of box
# drawing, block elements and Braille. What it lacks is looked for in the faces after it.
_FACES = {
    (False, False): "cascadia",
    (True, False): "cascadiab",
    (False, True): "cascadiai",
    (True, True): "cascadiabi",
}
_OTHER_FACES = ("symbol2", "symbol1", "math", "notos")
_ADVANCE = 1200 / 2048  # of a letter of Cascadia Mono, in its font size
_NO_GLYPH = "\U0010ffff"  # a code point that no font has, ever

_FULL_BLOCK = "\u2588"

_MAX_GLYPHS = 4096


class Pen:
    """Draws the letters, each once.

    Args:
        font_px: Size of the letters, in pixels; rounded so that a cell has whole pixels.

    Raises:
        MissingDependencyError: The extra ``text`` is not installed.
    """

    def __init__(self, font_px: int) -> None:
        self._image = require("PIL.Image", extra="text")
        self._draw = require("PIL.ImageDraw", extra="text")
        # A whole number of pixels to a cell, all of which a full block covers: no seams in lines.
        self.cell_width = max(round(font_px * _ADVANCE), 1)
        self._size = self.cell_width / _ADVANCE
        self.cell_height, self._baseline = self._cell()
        self._tiles: dict[tuple[Any, int], Picture] = {}
        self._masks: dict[tuple[str, bool, bool, int], Picture] = {}

    def _cell(self) -> tuple[int, int]:
        """Height of a cell, and the baseline in it: the rows that a full block covers wholly."""
        font = _font("cascadia", self._size)
        ascent, descent = font.getmetrics()
        image = self._image.new("L", (self.cell_width, ascent + descent))
        self._draw.Draw(image).text((0, ascent), _FULL_BLOCK, fill=255, font=font, anchor="ls")
        rows = np.flatnonzero(np.asarray(image).min(axis=1) > 250)
        if not rows.size:  # letters of two or three pixels
            return ascent + descent, ascent
        return int(rows[-1] - rows[0]) + 1, ascent - int(rows[0])

    def tile(self, char: Any, n_cells: int) -> Picture:
        """Return the pixels of a `pyte.screens.Char` that is `n_cells` wide; not to be changed."""
        key = (char, n_cells)
        if key not in self._tiles:
            if len(self._tiles) >= _MAX_GLYPHS:
                self._tiles.clear()
            self._tiles[key] = self._paint(char, n_cells)
        return self._tiles[key]

    def _paint(self, char: Any, n_cells: int) -> Picture:
        paper = _colour(char.bg, PAPER)
        ink = _colour(char.fg, _INK if _luma(paper) < _LIGHT else _DARK_INK)
        if char.reverse:
            ink, paper = paper, ink
        mask = self._mask(char.data, char.bold, char.italics, n_cells)[..., None] / 255
        thickness = max(self.cell_height // 16, 1)
        for is_on, y in (
            (char.underscore, self._baseline + thickness),
            (char.strikethrough, self._baseline - self.cell_height // 4),
        ):
            if is_on:
                mask = mask.copy()
                mask[y : y + thickness] = 1.0
        tile: Picture = (np.array(paper) * (1 - mask) + np.array(ink) * mask + 0.5).astype(np.uint8)
        return tile

    def _mask(self, text: str, bold: bool, italic: bool, n_cells: int) -> Picture:
        key = (text, bold, italic, n_cells)
        if key not in self._masks:
            if len(self._masks) >= _MAX_GLYPHS:
                self._masks.clear()
            self._masks[key] = self._ink(text, _FACES[bold, italic], n_cells)
        return self._masks[key]

    def _ink(self, text: str, face: str, n_cells: int) -> Picture:
        size = (n_cells * self.cell_width, self.cell_height)
        image = self._image.new("L", size)
        if text and not text.isspace():
            pen = self._draw.Draw(image)
            found = next((f for f in (face, *_OTHER_FACES) if _has_glyph(f, text[0])), None)
            if found is None:
                self._draw_box(pen, size)
            elif found == face:
                font = _font(face, self._size)
                pen.text((0, self._baseline), text, fill=255, font=font, anchor="ls")
            else:
                self._draw_foreign(pen, text, found, size[0])
        return np.asarray(image)

    def _draw_foreign(self, pen: Any, text: str, face: str, width: int) -> None:
        """A letter of a face that is not of this width: made to fit, in the middle."""
        font = _font(face, self._size)
        left, _, right, _ = font.getbbox(text, anchor="ls")
        if right - left > width:
            font = _font(face, self._size * width / (right - left))
            left, _, right, _ = font.getbbox(text, anchor="ls")
        at = ((width - (right - left)) / 2 - left, self._baseline)
        pen.text(at, text, fill=255, font=font, anchor="ls")

    def _draw_box(self, pen: Any, size: tuple[int, int]) -> None:
        """An empty box says that something stands here that no face has."""
        width, _ = size
        top = self._baseline - round(self.cell_height * 0.55)
        pen.rectangle((1, top, width - 2, self._baseline), outline=200)


@functools.lru_cache(maxsize=64)
def _font(face: str, size: float) -> FreeTypeFont:
    fonts = require("pymupdf_fonts", extra="text")
    image_font = require("PIL.ImageFont", extra="text")
    # The basic layout draws each letter alone; with Raqm, "->" may become one arrow.
    font: FreeTypeFont = image_font.truetype(
        io.BytesIO(fonts.fontbuffers[face]()), size, layout_engine=image_font.Layout.BASIC
    )
    return font


@functools.lru_cache(maxsize=_MAX_GLYPHS)
def _has_glyph(face: str, char: str) -> bool:
    """Pillow does not say what a font lacks; it draws the same box for all of that."""
    font = _font(face, 32.0)
    return bytes(font.getmask(char)) != bytes(font.getmask(_NO_GLYPH))


def _luma(rgb: _Rgb) -> float:
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def _colour(name: str, default: _Rgb) -> _Rgb:
    if _HEX.fullmatch(name):
        return int(name[:2], 16), int(name[2:4], 16), int(name[4:], 16)
    return _COLOURS.get(name, default)


@functools.lru_cache(maxsize=_MAX_GLYPHS)
def cell_width(char: str) -> int:
    """Return the cells that pyte gives a character: 2, 1, 0, or -1 for what it cannot print."""
    width: int = require("pyte.screens", extra="text").wcwidth(char)
    return width


def cells_of(text: str) -> int:
    """Return the cells of a screen position's text, which is a letter with its accents, or empty."""
    return 2 if text and cell_width(text[0]) == 2 else 1

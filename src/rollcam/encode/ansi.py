"""Text as an environment renders it: made safe, made a terminal's input, and measured."""

from __future__ import annotations

import functools
import re
import unicodedata

MAX_SIDE = 9_999
"""Columns and rows that are counted: four digits, the room kept for them in a cast's header."""

_CLEAR = "\x1b[0m\x1b[2J\x1b[H"

_NEWLINE = re.compile("\r+\n|\n\r|[\n\r\v\f\x85\u2028\u2029]")
# An escape sequence (CSI; OSC and its kin with their text; any other), a control, half a character.
_SPECIAL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|\x1b[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]|[\ud800-\udfff]"
)
# Colours, cursor, erasing. Titles, modes, margins and clipboards would outlive the frame.
_KEPT = re.compile(
    r"\x1b\[(?:[0-9;:]{0,99}m|[0-9]{0,4}(?:;[0-9]{0,4})?[Hf]|[0-9]{0,4}[@A-GLMPXd]|[0-3]?[JK])"
)
_BLANK_END = re.compile(r"\n(?:\n|\x1b\[[0-9;:]*m)*\Z")
_PIECE = re.compile(r"\x1b\[([0-9;:]*)([@-~])|\n|\t|\x08|[^\x1b\n\t\x08]+")


def tidy(text: str) -> str:
    """Drop what is no part of a picture: any control or escape but colours, cursor and erasing."""
    return _SPECIAL.sub(_kept, text)


def _kept(match: re.Match[str]) -> str:
    found = match[0]
    if "\ud800" <= found <= "\udfff":
        return "\ufffd"
    return found if _KEPT.fullmatch(found) else ""


def frame_event(text: str) -> tuple[str, int, int]:
    r"""Make a terminal's input of a frame's text.

    Args:
        text: As an environment renders it: any newline style (a lone ``\r`` too), ANSI colours.

    Returns:
        The data (cleared screen, CRLF line ends, no newline at the end), its columns and its rows.
    """
    plain = tidy(_NEWLINE.sub("\n", text))
    plain = _BLANK_END.sub(lambda end: end[0].replace("\n", ""), plain)
    columns, rows = _size(plain)
    return _CLEAR + plain.replace("\n", "\r\n"), columns, rows


def _size(text: str) -> tuple[int, int]:
    """Columns and rows that `text` needs, wherever its cursor movements print."""
    columns = rows = 1
    x = y = 0
    for piece in _PIECE.finditer(text):
        found = piece[0]
        if piece[2]:
            x, y = _moved(x, y, piece[1], piece[2])
        elif found == "\n":
            x, y = 0, y + 1
        elif found == "\t":
            x += 8 - x % 8
        elif found == "\b":
            x = max(x - 1, 0)
        else:
            x += text_width(found)
            columns = max(columns, x)
        if not piece[2]:
            rows = max(rows, y + 1)
    return min(columns, MAX_SIDE), min(rows, MAX_SIDE)


def _moved(x: int, y: int, digits: str, final: str) -> tuple[int, int]:
    if final == "m":
        return x, y
    numbers = [max(int(part or 1), 1) for part in digits.split(";")]
    n = numbers[0]
    places = {
        "A": (x, y - n),
        "B": (x, y + n),
        "C": (x + n, y),
        "D": (x - n, y),
        "E": (0, y + n),
        "F": (0, y - n),
        "G": (n - 1, y),
        "d": (x, n - 1),
        "H": (numbers[-1] - 1 if len(numbers) > 1 else 0, n - 1),
    }
    places["f"] = places["H"]
    x, y = places.get(final, (x, y))
    return max(x, 0), max(y, 0)


def text_width(text: str) -> int:
    """Count the terminal cells of `text`, which holds no control characters."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


@functools.lru_cache(maxsize=4096)
def _char_width(char: str) -> int:
    # Vowels and finals of Hangul are written into the cell of the consonant before them.
    if "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7ff":
        return 0
    if unicodedata.category(char) in ("Mn", "Me", "Cf") and char != "\u00ad":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1

"""Asciicasts read back, whoever wrote them, and mended after a kill.

Read through `rollcam.encode.cast`, which has the formats and the writers.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollcam.encode.ansi import MAX_SIDE
from rollcam.errors import MediaError, SettingError

MAX_TIME_S = 1e9
"""Times in a cast, seconds: thirty years and no infinity."""

_RESIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Cast:
    """What `read_cast` found in a file."""

    version: int
    """Of the format: 1, 2 or 3."""
    width: int
    """Columns of the terminal, 1 to `MAX_SIDE`."""
    height: int
    """Rows of the terminal, 1 to `MAX_SIDE`."""
    title: str | None
    """As the header has it; hostile text."""
    frames: list[tuple[float, str]]
    """`(at_s, data)` of each output event: seconds from the start, and what the terminal gets."""
    duration_s: float
    """Seconds from the start to the end of the last frame, as far as the file says so."""
    torn: bool
    """The last line was cut off (a killed writer) and is not among the frames."""


def read_cast(path: str | os.PathLike[str]) -> Cast:
    """Read an asciicast of version 1, 2 or 3, finished or not.

    Args:
        path: The file. It is read whole.

    Returns:
        Its frames. A last line that was cut off is left out, and said by `Cast.torn`.

    Raises:
        MediaError: It is no asciicast, or a damaged one; says what is wrong, and where.
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    name = os.path.basename(path)
    try:
        return _parse(data)
    except _CastError as error:
        raise MediaError(f"{name} is no readable asciicast: {error}.") from error


class _CastError(ValueError):
    """What is wrong with the file, in words that end a sentence."""


@dataclass(frozen=True, slots=True)
class _Event:
    at_s: float
    code: str
    data: str


def _parse(data: bytes) -> Cast:
    first, _, rest = data.partition(b"\n")
    header = _json(first)
    if not isinstance(header, dict):
        header = _json(data)  # version 1 may stand on many lines
    if not isinstance(header, dict):
        raise _CastError("it does not begin with a JSON object")
    match header.get("version"):
        case 1:
            return _cast(1, header, _v1_events(header.get("stdout")))
        case 2 | 3 as version:
            events, torn = _events(_lines(rest), is_relative=version == 3)
            return _cast(int(version), header, events, torn=torn)
    raise _CastError(f"version 1, 2 or 3 is needed, and it says {header.get('version')!r:.40}")


def _json(text: bytes) -> Any:
    """Parse, or return None: neither a cast nor one of its lines is ever ``null``."""
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        return None


def _lines(data: bytes) -> list[tuple[int, bytes]]:
    """The lines after the header that say something, with their numbers in the file."""
    lines = enumerate(data.split(b"\n"), start=2)
    return [(n, line) for n, line in lines if line.strip() and not line.startswith(b"#")]


def _events(lines: list[tuple[int, bytes]], *, is_relative: bool) -> tuple[list[_Event], bool]:
    events: list[_Event] = []
    now_s = 0.0
    for number, line in lines:
        value = _json(line)
        if value is None and number == lines[-1][0]:
            return events, True
        event = _event(value, f"line {number}")
        now_s = now_s + event.at_s if is_relative else max(now_s, event.at_s)
        events.append(_Event(now_s, event.code, event.data))
    return events, False


def _v1_events(stdout: object) -> list[_Event]:
    if not isinstance(stdout, list):
        raise _CastError("'stdout' is no list")
    events: list[_Event] = []
    now_s = 0.0
    for number, value in enumerate(stdout):
        if not isinstance(value, list) or len(value) != 2:
            raise _CastError(f"stdout[{number}] is no [delay, data]")
        event = _event([value[0], "o", value[1]], f"stdout[{number}]")
        now_s += event.at_s
        events.append(_Event(now_s, "o", event.data))
    return events


def _event(value: object, where: str) -> _Event:
    match value:
        case [int() | float() as at_s, str() as code, str() as data]:
            if 0 <= at_s <= MAX_TIME_S:
                return _Event(float(at_s), code, data)
            raise _CastError(f"the time in {where} is {at_s!r:.40}")
    raise _CastError(f"{where} is no [time, code, data]")


def _cast(
    version: int, header: dict[str, Any], events: list[_Event], *, torn: bool = False
) -> Cast:
    term = header.get("term") if version == 3 else None
    sizes = term if isinstance(term, dict) else header
    width, height = (
        _side(sizes.get(name), name)
        for name in (("cols", "rows") if version == 3 else ("width", "height"))
    )
    for event in events:
        if event.code == "r" and (found := _RESIZE.fullmatch(event.data)):
            width, height = max(width, int(found[1])), max(height, int(found[2]))
    frames = [(event.at_s, event.data) for event in events if event.code == "o"]
    if frames and not frames[-1][1]:
        frames.pop()  # only holds the one before it
    title = header.get("title")
    return Cast(
        version,
        min(width, MAX_SIDE),
        min(height, MAX_SIDE),
        title if isinstance(title, str) else None,
        frames,
        max(_duration_s(header), events[-1].at_s if events else 0.0),
        torn,
    )


def _side(value: object, name: str) -> int:
    if isinstance(value, int | float) and value >= 1:
        return int(min(value, MAX_SIDE))
    raise _CastError(f"{name!r} is {value!r:.40}, and 1 or more is needed")


def _duration_s(header: dict[str, Any]) -> float:
    value = header.get("duration")
    return float(value) if isinstance(value, int | float) and 0 <= value <= MAX_TIME_S else 0.0


def finish_cast(
    partial: str | os.PathLike[str], final: str | os.PathLike[str], frame_s: float
) -> int:
    """Write a finished copy of a v2 cast whose writer was killed.

    Args:
        partial: What `CastWriter` left; read only. One that is finished is copied as it is.
        final: The copy; replaced if it exists, and synchronised to the disk. It is not written
            in one step: give it a name of its own and rename it.
        frame_s: How long the last frame is shown, in seconds.

    Returns:
        The number of frames in it.

    Raises:
        MediaError: `partial` is no asciicast v2.
        SettingError: `frame_s` is negative or not finite.
        OSError: The disk gave up.
    """
    if not 0 <= frame_s <= MAX_TIME_S:
        raise SettingError(f"frame_s={frame_s!r} is no length of a frame.")
    cast = read_cast(partial)
    if cast.version != 2:
        raise MediaError(f"{partial} is an asciicast of version {cast.version}; 2 is needed.")
    header, _, rest = Path(partial).read_bytes().partition(b"\n")
    lines = [line for _, line in _lines(rest)]
    if cast.torn:
        lines.pop()
    if cast.frames and _json(lines[-1])[1:] != ["o", ""]:
        lines.append(event_line(cast.duration_s + frame_s, "").rstrip())
    with open(final, "wb") as file:
        file.write(b"\n".join([header, *lines, b""]))
        file.flush()
        os.fsync(file.fileno())
    return len(cast.frames)


def event_line(at_s: float, data: str) -> bytes:
    """Encode one output event of version 2, its line end included."""
    return (json.dumps([round(at_s, 6), "o", data], ensure_ascii=False) + "\n").encode()

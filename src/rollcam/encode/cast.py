"""Text episodes as asciicasts: written while they happen, read back, and mended after a kill.

A frame is one event of code "o": colours reset, screen cleared, cursor home, then the text. So
event *k* of code "o" is frame *k*, whatever was on the screen before; the one event more, which
`CastWriter.finish` appends, is empty and only holds the last frame for its full time.

Formats: https://docs.asciinema.org/manual/asciicast/v1/ (and ``v2``, ``v3``).
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from rollcam.encode.ansi import MAX_SIDE, frame_event
from rollcam.encode.cast_read import MAX_TIME_S, Cast, event_line, finish_cast, read_cast
from rollcam.errors import SettingError, UsageError

__all__ = ["MAX_SIDE", "Cast", "CastV1Writer", "CastWriter", "finish_cast", "read_cast"]


class _Writer:
    """A cast that grows: its size fields are of fixed width and are rewritten in their place."""

    _tail: ClassVar[bytes] = b""
    """What closes the file after the last event."""

    def __init__(self, path: str | os.PathLike[str], version: int, rest: bytes) -> None:
        self.path = Path(path)
        self.n_frames = 0
        """Frames on the disk."""
        self._columns = self._rows = 1
        self._first_s: float | None = None
        self._last_s = 0.0
        self._is_finished = False
        head = b'{"version": %d, ' % version
        self._fields_at = len(head)
        self._file: io.FileIO | None = open(self.path, "wb", buffering=0)  # noqa: SIM115
        body = head + self._fields() + rest
        self._end = len(body)
        try:
            self._put(0, body + self._tail)
        except BaseException:
            self.close()
            raise

    def add(self, text: str, at_s: float) -> None:
        """Append one frame; the system has it when this returns.

        Args:
            text: The screen, in any newline style, with ANSI colours or without.
            at_s: Seconds since the episode's start; not before the frame ahead of it.

        Raises:
            SettingError: `at_s` is negative, not finite, or runs backwards.
            UsageError: The cast is finished or closed.
            OSError: The disk gave up; the file is left as it was before this frame.
        """
        self._check_open()
        if not self._last_s <= at_s <= MAX_TIME_S:
            raise SettingError(
                f"at_s={at_s!r}: a finite time of {self._last_s} s or later is needed."
            )
        data, columns, rows = frame_event(text)
        event = self._event(at_s, data)
        first_s = at_s if self._first_s is None else self._first_s
        with self._undone_on_error():
            self._columns, self._rows = max(columns, self._columns), max(rows, self._rows)
            self._first_s, self._last_s = first_s, at_s
            # First the size, so that whoever reads in between never finds a screen too small.
            self._put(self._fields_at, self._fields())
            self._append(event)
        self.n_frames += 1

    def finish(self, duration_s: float) -> None:
        """Say how long the film is, so that its last frame is shown for its full time.

        The file is synchronised to the disk; `add` is refused from here on.

        Args:
            duration_s: Seconds from the start to the end of the last frame. What lies before the
                last frame's own time is taken as that time.

        Raises:
            SettingError: `duration_s` is not a finite number.
            UsageError: The cast is finished or closed.
            OSError: The disk gave up.
        """
        file = self._check_open()
        if not -MAX_TIME_S <= duration_s <= MAX_TIME_S:
            raise SettingError(f"duration_s={duration_s!r} is no finite length of a film.")
        with self._undone_on_error():
            self._end_at(max(duration_s, self._last_s))
        os.fsync(file.fileno())
        self._is_finished = True

    def close(self) -> None:
        """Release the file, finished or not. Further calls do nothing."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    @property
    def width(self) -> int:
        """Columns of the largest frame so far."""
        return self._columns

    @property
    def height(self) -> int:
        """Rows of the largest frame so far."""
        return self._rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, n_frames={self.n_frames})"

    def _fields(self) -> bytes:
        return b'"width": %4d, "height": %4d' % (self._columns, self._rows)

    def _event(self, at_s: float, data: str) -> bytes:
        raise NotImplementedError

    def _end_at(self, duration_s: float) -> None:
        raise NotImplementedError

    def _check_open(self) -> io.FileIO:
        if self._file is None or self._is_finished:
            state = "closed" if self._file is None else "finished"
            raise UsageError(f"{self.path.name} is {state}; nothing can be added to it.")
        return self._file

    def _append(self, event: bytes) -> None:
        self._put(self._end, event + self._tail)
        self._end += len(event)

    def _put(self, offset: int, data: bytes) -> None:
        assert self._file is not None
        self._file.seek(offset)
        left = memoryview(data)
        while left:  # a file without a buffer may take less than it is given
            taken = self._file.write(left)
            if not taken:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
            left = left[taken:]

    @contextlib.contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        """Take back what the disk took only half: a torn line amid the film spoils the rest."""
        before = (self._columns, self._rows, self._first_s, self._last_s)
        try:
            yield
        except OSError:
            self._columns, self._rows, self._first_s, self._last_s = before
            with contextlib.suppress(OSError):
                self._put(self._end, self._tail)
                assert self._file is not None
                self._file.truncate()
                self._put(self._fields_at, self._fields())
            raise


class CastWriter(_Writer):
    """Writes an asciicast v2 that is right, size included, whenever its writer is killed.

    Event *k* of code "o" is frame *k*; `finish` appends one more, which is empty.

    Args:
        path: The file; one that exists is replaced.
        title: For the header.
        start: When the episode began, for the header.
        env: For the header: names and values, such as ``TERM``.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        start: datetime | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        more: dict[str, Any] = {
            "timestamp": None if start is None else int(start.timestamp()),
            "title": title,
            "env": None if env is None else {str(name): str(value) for name, value in env.items()},
        }
        rest = [f", {json.dumps(k)}: {json.dumps(v)}" for k, v in more.items() if v is not None]
        super().__init__(path, 2, "".join([*rest, "}\n"]).encode())

    def _event(self, at_s: float, data: str) -> bytes:
        return event_line(at_s, data)

    def _end_at(self, duration_s: float) -> None:
        if self.n_frames:
            self._append(event_line(duration_s, ""))


class CastV1Writer(_Writer):
    """Writes an asciicast v1 as gym's ``VideoRecorder`` did; after every `add` it is valid JSON.

    ``stdout[k]`` is frame *k*. As in gym each frame's delay is the time of one frame and stands
    before it, the first one's too; the time itself is the true one, where gym put half a second.

    Args:
        path: The file; one that exists is replaced.
        fps: Frames per second, positive.

    Raises:
        SettingError: `fps` is not a positive number.
        OSError: The file cannot be made.
    """

    _tail = b"\n]}\n"

    def __init__(self, path: str | os.PathLike[str], *, fps: float) -> None:
        if not 0 < fps < math.inf:
            raise SettingError(f"fps={fps!r} is no positive number.")
        self._frame_s = 1 / fps
        self._duration_s = 0.0
        title = b"gym VideoRecorder episode"
        rest = b', "command": "-", "title": "%b", "env": {}, "stdout": [' % title
        super().__init__(path, 1, rest)

    def _fields(self) -> bytes:
        shown_s = 0.0 if self._first_s is None else self._last_s - self._first_s + self._frame_s
        duration_s = max(shown_s, self._duration_s)
        return super()._fields() + b', "duration": %17.6f' % duration_s

    def _event(self, at_s: float, data: str) -> bytes:
        delay_s = round(at_s - self._last_s, 9) if self.n_frames else self._frame_s
        event = json.dumps([delay_s, data], ensure_ascii=False)
        return ((",\n" if self.n_frames else "\n") + event).encode()

    def _end_at(self, duration_s: float) -> None:
        if self._first_s is not None:
            self._duration_s = duration_s - self._first_s
            self._put(self._fields_at, self._fields())

"""What is known of a film in the making, on the disk while it grows: enough to finish it without us.

One JSON value to a line, unbuffered, so that it is with the system when `write` returns:

    {"head": {...}}     the sidecar as far as it is known, and how the film will be named
    {"medium": {...}}   what kind of file it is, before its first byte
    {"row": {...}}      one for each captured frame, before it is encoded
    {"context": {...}}  the trainer's counters, when they changed
    {"end": {...}}      how the episode ended
    {"commit": {...}}   the whole sidecar, before the film gets its name

A kill leaves at most one torn line, the last, and a full disk one in between. Version 1; only the
process that recovers reads it, but that may be an older or a newer Rollcam. What is not understood is
passed over: a film is worth more than what is known of it.
"""

from __future__ import annotations

import errno
import json
import os
import reprlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from rollcam.errors import SidecarError
from rollcam.store.sidecar import as_json

VERSION = 1
SUFFIX = ".journal"

_MAX_LINE_BYTES = 64 * 2**20
_MAX_BYTES = 2**30
"""What is longer was not written by us."""

Lines: TypeAlias = list[tuple[str, Mapping[str, Any]]]
"""Kinds and values, oldest first."""

Row: TypeAlias = tuple[int, float | None, float | None, tuple[Any, ...], Mapping[str, Any]]
"""What is known of a frame: steps so far, reward, return, the action if there was one, and values of
the info."""


def line_of(index: int, row: Row) -> tuple[str, dict[str, Any]]:
    """Return the journal's line of a frame."""
    steps, reward, total, action, infos = row
    columns: dict[str, Any] = {"reward": reward, "return": total}
    if action:
        (columns["action"],) = action
    for key, value in infos.items():
        columns[f"info.{key}"] = value
    return "row", {"i": index, "steps": steps, "columns": columns}


def columns_of(rows: Sequence[Row], info_keys: Sequence[str]) -> dict[str, list[Any]]:
    """Return all rows as columns, under the names that their lines have."""
    if not rows:
        return {}
    columns: dict[str, list[Any]] = {
        "reward": [row[1] for row in rows],
        "return": [row[2] for row in rows],
    }
    if any(row[3] for row in rows):
        columns["action"] = [row[3][0] if row[3] else None for row in rows]
    for key in info_keys:
        columns[f"info.{key}"] = [row[4].get(key) for row in rows]
    return columns


class Journal:
    """Writes the journal of one film.

    Args:
        path: File to write; replaced if it exists.
        head: What is known at the start.

    Raises:
        OSError: The disk is full, or gone.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        self._head = {"version": VERSION, **head}
        self._is_torn = self._is_shared = False
        self._file: BinaryIO | None = open(path, "wb", buffering=0, opener=_appending)  # noqa: SIM115 - closed by `close`
        try:
            self.write("head", self._head)
        except BaseException:
            self.close()
            raise

    def write(self, kind: str, value: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: The disk is full, or gone.
        """
        self.write_all([(kind, value)])

    def share(self) -> Path:
        """Return the path for another process to append to; `write` goes on working.

        From here on rows and contexts are the other's to write, so that they stay in order. Lines of either
        begin on a new one, since only who tore a line knows that it is torn.
        """
        self._is_shared = True
        return self.path

    def write_all(self, lines: Lines) -> None:
        """Append several lines in one go.

        Raises:
            OSError: The disk is full, or gone.
        """
        if self._file is None or not lines:
            return
        # Behind half a line that a full disk left, a new one begins on a line of its own.
        is_torn = self._is_torn or self._is_shared
        view = memoryview((b"\n" if is_torn else b"") + as_lines(lines))
        self._is_torn = True
        while view:
            view = view[self._file.write(view) :]
        self._is_torn = False

    def begin_anew(self, kind: str, value: Mapping[str, Any]) -> None:
        """Put the head and one line in place of everything: on a full disk that makes room.

        Raises:
            OSError: There is none all the same, or the disk is gone.
        """
        if self._file is None:
            return
        self._file.seek(0)
        self._file.truncate()
        self._is_torn = False
        self.write_all([("head", self._head), (kind, value)])

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Close and delete the file: the film is done with."""
        self.close()
        self.path.unlink(missing_ok=True)


def append(path: Path, kind: str, value: Mapping[str, Any]) -> None:
    """Append a line to a journal that another process has begun.

    Raises:
        OSError: The disk is full, or gone.
    """
    with open(path, "ab") as file:
        # On a line of its own, whoever tore the one before.
        file.write(b"\n" + as_lines([(kind, value)]))


def as_lines(lines: Lines) -> bytes:
    """Return lines as they stand in the file."""
    return "".join(as_json({kind: value}) + "\n" for kind, value in lines).encode()


def _appending(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND, 0o666)


@dataclass(slots=True)
class Journalled:
    """What a journal tells."""

    head: dict[str, Any]
    """What was known at the start."""
    medium: dict[str, Any] | None = None
    """What kind of file the film is."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One for each captured frame."""
    context: dict[str, Any] = field(default_factory=dict)
    """The trainer's counters as they were last told."""
    end: dict[str, Any] | None = None
    """How the episode ended; `None` while it went on."""
    commit: dict[str, Any] | None = None
    """The sidecar that was about to be written; `None` before that."""


def read_journal(path: Path) -> Journalled:
    """Read a journal as far as it can be understood.

    Returns:
        What it tells: nothing, where it is none.

    Raises:
        SidecarError: A newer Rollcam wrote it.
        OSError: It cannot be read.
    """
    told = Journalled({})
    for number, line in enumerate(_lines(path)):
        for kind, value in (_parsed(line) or {}).items():
            if not isinstance(value, dict):
                continue
            if kind == "head" and number == 0:
                _check_version(path, value.get("version"))
                told.head = value
            elif kind == "row":
                told.rows.append(value)
            elif kind in ("medium", "context", "end", "commit"):
                setattr(told, kind, value)
    return told


def read_head(path: Path) -> dict[str, Any]:
    """Return what a journal's first line says; nothing, where it says nothing.

    Raises:
        OSError: It cannot be read.
    """
    for line in _lines(path):
        head = (_parsed(line) or {}).get("head")
        return head if isinstance(head, dict) else {}
    return {}


def _check_version(path: Path, version: Any) -> None:
    if isinstance(version, int) and version > VERSION:
        raise SidecarError(
            f"{path} is a journal of version {reprlib.repr(version)}, and this Rollcam reads up to "
            f"{VERSION}; update it with: pip install -U rollcam"
        )


def _lines(path: Path) -> Iterator[bytes]:
    if not stat.S_ISREG(path.lstat().st_mode):  # to open a pipe would be to wait for ever
        raise OSError(errno.EINVAL, "it is no file", str(path))
    n_bytes = 0
    with open(path, "rb") as file:
        while (line := file.readline(_MAX_LINE_BYTES)) and n_bytes < _MAX_BYTES:
            n_bytes += len(line)
            yield line


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

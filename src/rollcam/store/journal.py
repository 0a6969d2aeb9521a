"""What is known of a film in the making, on the disk while it grows: enough to finish it without us.

One JSON value to a line, unbuffered, so that it is with the system when `write` returns:

    {"head": {...}}     the sidecar as far as it is known, and how the film will be named
    {"medium": {...}}   what kind of file it is, before its first byte
    {"row": {...}}      one for each captured frame, before it is encoded
    {"context": {...}}  the trainer's counters, when they changed
    {"end": {...}}      how the episode ended
    {"commit": {...}}   the whole sidecar, before the film gets its name

A kill leaves at most one torn line, the last. Version 1; only the process that recovers reads it,
but that may be a newer Rollcam.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from rollcam.errors import SidecarError
from rollcam.store.sidecar import as_json

VERSION = 1
SUFFIX = ".journal"

Lines: TypeAlias = list[tuple[str, Mapping[str, Any]]]
"""Kinds and values, oldest first."""


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
        self._file: BinaryIO | None = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by `close`
        try:
            self.write("head", {"version": VERSION, **head})
        except BaseException:
            self.close()
            raise

    def write(self, kind: str, value: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: The disk is full, or gone.
        """
        self.write_all([(kind, value)])

    def write_all(self, lines: Lines) -> None:
        """Append several lines in one go.

        Raises:
            OSError: The disk is full, or gone.
        """
        if self._file is None or not lines:
            return
        text = "".join(as_json({kind: value}) + "\n" for kind, value in lines)
        view = memoryview(text.encode())
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Close and delete the file: the film is done with."""
        self.close()
        self.path.unlink(missing_ok=True)


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
    """Read a journal as far as it goes.

    Raises:
        SidecarError: It does not even hold a head, or is of a newer version.
        OSError: It cannot be read.
    """
    lines = [_parsed(line) for line in path.read_bytes().split(b"\n")]
    values = [line for line in lines if line]
    head = values[0].get("head") if values else None
    if not isinstance(head, dict) or not isinstance(head.get("version"), int):
        raise SidecarError(f"{path} is no journal of a film")
    if head["version"] > VERSION:
        raise SidecarError(
            f"{path} is a journal of version {head['version']}, and this Rollcam reads up to "
            f"{VERSION}; update it with: pip install -U rollcam"
        )
    told = Journalled(head)
    for line in values[1:]:
        for kind, value in line.items():
            if not isinstance(value, dict):
                continue
            if kind == "row":
                told.rows.append(value)
            elif kind in ("medium", "context", "end", "commit"):
                setattr(told, kind, value)
    return told


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

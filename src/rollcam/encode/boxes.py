"""The boxes of an MP4, read without FFmpeg: what a broken file still says about itself.

Layout: ISO/IEC 14496-12:2022, 4.2 (a box) and annex A (the order of boxes).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof"})
_MAX_BOXES = 1_000_000
"""A damaged file may say that it is made of nothing but empty boxes; nobody waits for that."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a file."""

    kind: str
    """Its four characters, such as `moov`."""
    start: int
    """Where it begins in the file, in bytes."""
    body: int
    """Where its content begins, in bytes."""
    end: int
    """Where it says that it ends, in bytes; the file may be shorter."""


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """The order and the wholeness of an MP4's outermost boxes."""

    brand: str
    """Major brand, such as `isom` or `qt  `; empty without an `ftyp`."""
    moov: Box | None
    """The index, when it is there to its last byte."""
    mdat: Box | None
    """The largest box of samples."""
    fragmented: bool
    """Whether samples are indexed in fragments (`moof`) too."""
    torn: bool
    """Whether the last box ends beyond the end of the file."""

    @property
    def faststart(self) -> bool:
        """Whether the index stands before the samples."""
        if self.moov is None:
            return False
        return self.mdat is None or self.moov.start < self.mdat.start


def walk(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two offsets, the torn one at the end included.

    Args:
        file: Seekable; its position is changed.
        start: Where the first box begins, in bytes.
        end: Where to stop, in bytes.
    """
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        size, body = int.from_bytes(head[:4], "big"), start + 8
        if size == 1 and len(head) == 16:
            size, body = int.from_bytes(head[8:], "big"), start + 16
        elif size == 0:  # "to the end of the file": how FFmpeg leaves the `mdat` when it is killed
            size = end - start
        if start + size < body:
            return
        yield Box(head[4:8].decode("latin-1"), start, body, start + size)
        start += size


def read_layout(path: str | os.PathLike[str]) -> Mp4Layout | None:
    """Return the outermost boxes of a file, or `None` when it is no MP4 at all.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(8)[4:] not in _FIRST_BOXES:
            return None
        size = file.seek(0, os.SEEK_END)
        boxes = list(walk(file, 0, size))
        moov = next((b for b in boxes if b.kind == "moov" and b.end <= size), None)
        return Mp4Layout(
            brand=_brand(file, boxes),
            moov=moov,
            mdat=max(
                (b for b in boxes if b.kind == "mdat"), key=lambda b: b.end - b.body, default=None
            ),
            fragmented=moov is not None and _has(file, moov, "mvex"),
            torn=not boxes or boxes[-1].end != size,
        )


def _brand(file: BinaryIO, boxes: list[Box]) -> str:
    if not boxes or boxes[0].kind != "ftyp":
        return ""
    file.seek(boxes[0].body)
    return file.read(4).decode("latin-1")


def _has(file: BinaryIO, parent: Box, kind: str) -> bool:
    return any(box.kind == kind for box in walk(file, parent.body, parent.end))

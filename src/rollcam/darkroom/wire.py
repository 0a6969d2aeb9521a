"""What a recorder and its darkroom say to each other, both ways.

A message is a head and a pickled mapping: both ends are the same Rollcam in the same Python, what it goes through
is nobody else's, and nothing of this outlives them.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rollcam.errors import EncoderFailed
from rollcam.store.journal import Lines, Row

_HEAD = struct.Struct("<BIIQ")


class Kind(IntEnum):
    """What is said."""

    OPEN = 1
    """A film begins: its file, size, rates and codec."""
    LINES = 2
    """More is known of a film than goes into the ring with a picture."""
    FINISH = 3
    """Encode what is due; answered."""
    DELIVER = 4
    """Write the finished file; answered."""
    SYNC = 5
    """Answered once everything before it is done."""
    CLOSE = 6
    """The film is done with; answered once its file is closed, where that is waited for."""
    WAKE = 7
    """Pictures lie in the ring."""
    ANSWER = 8
    """The darkroom's only word."""
    PLACE = 9
    """Write the finished file, do an errand with it, and be done with the film; answered."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    kind: Kind
    film: int
    """Number of the film; 0 for none."""
    words: dict[str, Any]
    """What belongs to its kind."""
    position: int = 0
    """How many records were in the ring when it was said: its turn comes after all of them."""


def packed(kind: Kind, film: int, words: dict[str, Any], position: int = 0) -> bytes:
    """Return a message as it goes to the other.

    Raises:
        Exception: Whatever a value raises that cannot be pickled.
    """
    said = pickle.dumps(words, protocol=5)
    return _HEAD.pack(kind, film, len(said), position) + said


def packed_errand(errand: object) -> bytes:
    """Return what is to be done in the darkroom, as it goes there.

    Raises:
        pickle.PicklingError: It holds what is neither Python's own, nor numpy's, nor ours: the darkroom
            would have to import where it comes from, and that may be half a framework.
        Exception: Whatever a value raises that cannot be pickled.
    """
    data = io.BytesIO()
    _PlainPickler(data, protocol=5).dump(errand)
    return data.getvalue()


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        module = str(getattr(value, "__module__", None) or type(value).__module__)
        if module.partition(".")[0] not in PLAIN:
            raise pickle.PicklingError(f"{module} is not imported by the process that encodes")
        return NotImplemented


PLAIN = sys.stdlib_module_names - {"__main__", "multiprocessing"} | {"numpy", "rollcam"}
"""Whose values go to the darkroom: those that are nothing but values."""


class Unpacker:
    """Puts together what comes in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def is_amid(self) -> bool:
        """Whether a part of a message is there, and not all of it."""
        return bool(self._data)

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Yield the messages that are whole with this piece."""
        self._data += piece
        while len(self._data) >= _HEAD.size:
            kind, film, n_words, position = _HEAD.unpack_from(self._data)
            n_all = _HEAD.size + n_words
            if len(self._data) < n_all:
                return
            words = pickle.loads(bytes(self._data[_HEAD.size : n_all]))
            del self._data[:n_all]
            yield Message(Kind(kind), film, words, position)


@dataclass(frozen=True, slots=True)
class Note:
    """What is said of a picture in the ring."""

    index: int
    """Number of the captured frame."""
    journal: str | None = None
    """Where the film's journal is, once; `None` afterwards, and where there is none."""
    lines: Lines | None = None
    """What is appended to it before the frame is encoded."""
    row: Row | None = None
    """The frame's own row, which comes after `lines`."""

    def packed(self) -> bytes:
        """Return it as it goes into the ring.

        Raises:
            Exception: Whatever a value raises that cannot be pickled.
        """
        return pickle.dumps((self.index, self.journal, self.lines, self.row), protocol=5)


def packed_row(index: int, row: Row) -> bytes:
    """Return a note of a frame and its row alone, as it goes into the ring."""
    return pickle.dumps((index, None, None, row), 5)


def note_of(words: bytes) -> Note:
    """Return what `Note.packed` gave."""
    return Note(*pickle.loads(words))


def told(error: Exception) -> dict[str, Any]:
    """Return an error in words that `meant` understands."""
    words = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, OSError):
        where = error.filename if isinstance(error.filename, str) else None
        return {**words, "errno": error.errno or errno.EIO, "path": where}
    return words


def meant(words: dict[str, Any]) -> Exception:
    """Return the error that `told` spoke of: a disk's as a disk's, all others as the encoder's."""
    if "errno" in words:
        return OSError(words["errno"], os.strerror(words["errno"]), words["path"])
    kind = "" if words["type"] == "EncoderFailed" else f"{words['type']}: "
    return EncoderFailed(f"{kind}{words['text']}")

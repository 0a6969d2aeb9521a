"""What a recorder and its darkroom say to each other, both ways.

A message is a head and a pickled mapping: both ends are the same Rollcam in the same Python, what it goes through
is nobody else's, and nothing of this outlives them.
"""

from __future__ import annotations

import errno
import os
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rollcam.errors import EncoderFailed

_HEAD = struct.Struct("<BII")


class Kind(IntEnum):
    """What is said."""

    OPEN = 1
    """A film begins: its file, size, rates and codec."""
    FRAME = 2
    """A picture lies in the ring."""
    FINISH = 3
    """Encode what is due; answered."""
    DELIVER = 4
    """Write the finished file; answered."""
    SYNC = 5
    """Answered once everything before it is done."""
    CLOSE = 6
    """The film is done with; answered once its file is closed."""
    ANSWER = 7
    """The darkroom's only word."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    kind: Kind
    film: int
    """Number of the film; 0 for none."""
    words: dict[str, Any]
    """What belongs to its kind."""


def packed(kind: Kind, film: int, words: dict[str, Any]) -> bytes:
    """Return a message as it goes to the other.

    Raises:
        Exception: Whatever a value raises that cannot be pickled.
    """
    said = pickle.dumps(words, protocol=5)
    return _HEAD.pack(kind, film, len(said)) + said


class Unpacker:
    """Puts together what comes in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Yield the messages that are whole with this piece."""
        self._data += piece
        while len(self._data) >= _HEAD.size:
            kind, film, n_words = _HEAD.unpack_from(self._data)
            n_all = _HEAD.size + n_words
            if len(self._data) < n_all:
                return
            words = pickle.loads(bytes(self._data[_HEAD.size : n_all]))
            del self._data[:n_all]
            yield Message(Kind(kind), film, words)


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

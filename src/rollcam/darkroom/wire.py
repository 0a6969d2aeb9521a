"""What a recorder and its darkroom say to each other, through two pipes.

A message is a head, a few words in JSON, and for frames the lines of the journal as they are. Both
ends are of one Rollcam, and nothing of this outlives them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

_HEAD = struct.Struct("<BIII")


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
    note: bytes = b""
    """Lines for the film's journal."""


def packed(kind: Kind, film: int, words: dict[str, Any], note: bytes = b"") -> bytes:
    """Return a message as it goes through a pipe."""
    said = json.dumps(words, separators=(",", ":")).encode()
    return _HEAD.pack(kind, film, len(said), len(note)) + said + note


class Unpacker:
    """Puts together what comes in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Yield the messages that are whole with this piece."""
        self._data += piece
        while len(self._data) >= _HEAD.size:
            kind, film, n_words, n_note = _HEAD.unpack_from(self._data)
            n_head, n_all = _HEAD.size + n_words, _HEAD.size + n_words + n_note
            if len(self._data) < n_all:
                return
            words = json.loads(self._data[_HEAD.size : n_head])
            note = bytes(self._data[n_head:n_all])
            del self._data[:n_all]
            yield Message(Kind(kind), film, words, note)

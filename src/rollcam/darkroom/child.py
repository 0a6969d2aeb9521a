"""The darkroom's own process: takes pictures from the ring, encodes them, answers.

It ends when the recorder's end is closed, or its process is gone, but not before
everything is encoded that was handed over by then: a kill of the training costs no frame that was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from rollcam.darkroom.ring import Outlet
from rollcam.darkroom.wire import Kind, Message, Unpacker, packed, told
from rollcam.encode.codecs import Codec
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import VideoEncoder, write_all
from rollcam.store.journal import Lines, as_lines

_LOOK_MS = 1000
"""How often it looks whether the recorder's process still lives, in milliseconds: a process that was
forked from it may hold it open."""

_PIECE = 65536

_NAP_S, _AWAKE_S = 0.002, 0.1
"""While frames come, it looks for the next one by itself, in seconds: to be woken costs the training
thread more than to write the message."""


def main(commands: int, answers: int, ring: int, parent: int) -> None:
    """Serve one recorder.

    Args:
        commands: Descriptor that messages come from.
        answers: Descriptor that answers go to.
        ring: Descriptor of the pictures' memory.
        parent: Process id of the recorder.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # These are meant for the training; what becomes of it decides.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    room = _Room(Outlet(ring), answers)
    room.say({"ready": True})
    for message in _messages(commands, parent):
        room.do(message)
    room.close()


def _messages(commands: int, parent: int) -> Iterator[Message]:
    poll = select.poll()
    poll.register(commands, select.POLLIN)
    unpacker = Unpacker()
    heard_at = 0.0
    while True:
        if not poll.poll(0):
            if time.monotonic() - heard_at < _AWAKE_S:
                time.sleep(_NAP_S)
                continue
            if not poll.poll(_LOOK_MS):
                if os.getppid() != parent:
                    return
                continue
        heard_at = time.monotonic()
        piece = os.read(commands, _PIECE)
        if not piece:
            return
        yield from unpacker.feed(piece)


class _Room:
    """The films that are being encoded."""

    def __init__(self, outlet: Outlet, answers: int) -> None:
        self._outlet = outlet
        self._answers = answers
        self._films: dict[int, _Strip] = {}
        self._failed: dict[int, dict[str, Any]] = {}

    def say(self, words: dict[str, Any]) -> None:
        """Answer; nobody may be listening any more."""
        data = memoryview(packed(Kind.ANSWER, 0, words))
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._answers, data) :]

    def do(self, message: Message) -> None:
        """Do what a message asks; what goes wrong costs its film only."""
        answer: dict[str, Any] = {}
        try:
            answer = self._do(message)
        except Exception as error:  # noqa: BLE001 - other films must go on
            answer = {"error": told(error)}
            # Where there is no room for the finished file, what grew may still be asked for.
            if message.kind is not Kind.DELIVER and message.film not in self._failed:
                self._failed[message.film] = answer["error"]
                self._outlet.note_failure()
        if message.kind is Kind.FRAME:
            self._outlet.free(message.words["end"])
        elif message.kind is Kind.SYNC:
            self.say({"failed": self._failed})
        elif message.kind in (Kind.FINISH, Kind.DELIVER, Kind.CLOSE):
            self.say(answer)

    def close(self) -> None:
        """Close what is open, as it is: every picture that came is in its file."""
        for film in self._films.values():
            film.close()

    def _do(self, message: Message) -> dict[str, Any]:
        words = message.words
        if message.kind is Kind.OPEN:
            self._films[message.film] = _Strip(words)
        elif message.kind is Kind.CLOSE:
            film = self._films.pop(message.film, None)
            self._failed.pop(message.film, None)
            if film is not None:
                film.close()
        elif message.film in self._failed:
            return {"error": self._failed[message.film]}
        elif message.kind is Kind.FRAME:
            film = self._films[message.film]
            # Before the frame: what is known of it must not be less than what can be seen.
            film.write_down(words.get("journal"), words.get("lines"))
            film.encoder.add(self._outlet.picture(words), words["i"])
            film.encoder.flush()
        elif message.kind is Kind.FINISH:
            encoder = self._films[message.film].encoder
            return {"end": encoder.finish(words["n"]), "n_encoded": encoder.n_encoded}
        elif message.kind is Kind.DELIVER:
            target = None if words["target"] is None else Path(words["target"])
            facts = self._films[message.film].encoder.deliver(target, words["end"])
            return {"facts": asdict(facts)}
        return {}


class _Strip:
    """One film: its encoder, and its journal once a line for it came."""

    def __init__(self, words: dict[str, Any]) -> None:
        rate, output_rate = (Fraction(text) for text in words["rates"])
        self.encoder = VideoEncoder(
            Path(words["path"]), words["width"], words["height"],
            Timeline(rate, output_rate), Codec(**words["codec"]),
        )  # fmt: skip
        self._journal: BinaryIO | None = None
        # Who finds its trainer dead waits until this is let go of: see `_leftover`.
        self._held: BinaryIO = open(words["path"], "rb")  # noqa: SIM115 - closed by `close`
        with contextlib.suppress(OSError):
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def write_down(self, path: str | None, lines: Lines | None) -> None:
        """Append to the journal; a film whose journal fails is less safe, but not lost."""
        with contextlib.suppress(OSError):
            if self._journal is None and path is not None:
                self._journal = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by `close`
            if self._journal is not None and lines:
                # On a line of its own, whoever tore the one before.
                write_all(self._journal, b"\n" + as_lines(lines))

    def close(self) -> None:
        """Close both files as they are."""
        self.encoder.close()
        self._held.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

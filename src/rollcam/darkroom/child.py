"""The darkroom's own process: takes pictures from the ring, encodes them, answers.

It ends when the recorder's end is closed, or its process is gone, but not before
everything is encoded that was handed over by then: a kill of the training costs no frame that was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from rollcam.darkroom.ring import Outlet, Record
from rollcam.darkroom.wire import Kind, Message, Note, Unpacker, note_of, packed, told
from rollcam.encode.codecs import Codec
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import VideoEncoder, write_all
from rollcam.store.journal import as_lines, line_of

_LOOK_MS = 1000
"""How often it looks whether the recorder's process still lives, in milliseconds: a process that was
forked from it may hold it open."""

_PIECE = 65536

_ANSWERED = (Kind.FINISH, Kind.DELIVER, Kind.PLACE)

_NAP_S, _AWAKE_S = 0.002, 0.1
"""While frames come, it looks for the next one by itself, in seconds: to wake it is a system call on the
training thread."""


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
    outlet = Outlet(ring)
    room = _Room(outlet, answers)
    room.say({"ready": True})
    for done in _Turns(commands, parent, outlet).each(room):
        room.do(done) if isinstance(done, Message) else room.film(done)
    room.close()


class _Turns:
    """Says what is next: messages and pictures come in the order in which they were given."""

    def __init__(self, commands: int, parent: int, outlet: Outlet) -> None:
        self._commands = commands
        self._parent = parent
        self._outlet = outlet
        self._unpacker = Unpacker()
        self._poll = select.poll()
        self._poll.register(commands, select.POLLIN)
        self._messages: deque[Message] = deque()
        self._heard_at = 0.0
        self._is_over = False

    def each(self, room: _Room) -> Iterator[Message | Record]:
        """Yield what is to be done until the recorder is gone, and all that it gave is done."""
        while True:
            if not self._messages and not self._is_over:
                self._listen(0)
                self._hear_out()
            if self._messages and self._messages[0].position <= self._outlet.position:
                yield self._messages.popleft()
                continue
            record = self._outlet.look()
            if record is not None and room.knows(record.film):
                self._heard_at = time.monotonic()
                yield record
                self._outlet.free(record.position)
            elif self._messages:  # of a picture that will never come
                yield self._messages.popleft()
            elif self._is_over:
                return
            elif record is None:
                self._rest()

    def _rest(self) -> None:
        if time.monotonic() - self._heard_at < _AWAKE_S:
            time.sleep(_NAP_S)
            return
        self._outlet.sleep(True)
        try:
            if self._outlet.look() is None and not self._listen(_LOOK_MS):
                self._is_over = os.getppid() != self._parent
        finally:
            self._outlet.sleep(False)

    def _hear_out(self) -> None:
        """Take in the rest of a message: what was put into the ring behind it comes after it."""
        while self._unpacker.is_amid and not self._is_over:
            if not self._listen(_LOOK_MS):
                self._is_over = os.getppid() != self._parent

    def _listen(self, timeout_ms: int) -> bool:
        """Take in what was said; say whether anything was."""
        if not self._poll.poll(timeout_ms):
            return False
        self._heard_at = time.monotonic()
        piece = os.read(self._commands, _PIECE)
        self._is_over = not piece
        self._messages.extend(self._unpacker.feed(piece))
        return True


class _Room:
    """The films that are being encoded."""

    def __init__(self, outlet: Outlet, answers: int) -> None:
        self._outlet = outlet
        self._answers = answers
        self._films: dict[int, _Strip] = {}
        self._failed: dict[int, dict[str, Any]] = {}
        self._n_opened = 0

    def knows(self, film: int) -> bool:
        """Say whether a film was opened, whatever became of it. Their numbers rise."""
        return film <= self._n_opened

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
            if message.kind not in (Kind.DELIVER, Kind.PLACE):
                self._fail(message.film, error)
        if message.kind is Kind.SYNC:
            self.say({"failed": self._failed})
        elif message.kind in _ANSWERED or message.words.get("is_waiting"):
            self.say(answer)

    def film(self, record: Record) -> None:
        """Add a picture to its film; what goes wrong costs that film only."""
        film = self._films.get(record.film)
        # What comes behind the end, from where a handler interrupted the training, has no place in it.
        if film is None or film.is_finished or record.film in self._failed:
            return
        try:
            note = note_of(record.words)
            # Before the frame: what is known of it must not be less than what can be seen.
            film.write_down(note)
            film.encoder.add(record.picture, note.index)
            film.encoder.flush()
        except Exception as error:  # noqa: BLE001 - other films must go on
            self._fail(record.film, error)

    def _fail(self, film: int, error: Exception) -> None:
        if film not in self._failed:
            self._failed[film] = told(error)
            self._outlet.note_failure()

    def close(self) -> None:
        """Close what is open, as it is: every picture that came is in its file."""
        for film in self._films.values():
            film.close()

    def _do(self, message: Message) -> dict[str, Any]:
        words = message.words
        if message.kind is Kind.OPEN:
            self._n_opened = message.film
            self._films[message.film] = _Strip(words)
        elif message.kind is Kind.CLOSE:
            self._close(message.film)
        elif message.film in self._failed:
            return {"error": self._failed[message.film], "is_of_a_frame": True}
        elif message.kind is Kind.LINES:
            self._films[message.film].write_down(Note(0, words["journal"], words["lines"]))
        elif message.kind is Kind.FINISH:
            film = self._films[message.film]
            film.is_finished = True
            encoder = film.encoder
            return {"end": encoder.finish(words["n"]), "n_encoded": encoder.n_encoded}
        elif message.kind is Kind.DELIVER:
            target = None if words["target"] is None else Path(words["target"])
            facts = self._films[message.film].encoder.deliver(target, words["end"])
            return {"facts": asdict(facts)}
        elif message.kind is Kind.PLACE:
            facts = self._films[message.film].encoder.deliver(Path(words["target"]), words["end"])
            done = pickle.loads(words["errand"])(facts)
            # It is done, whatever closing a file says.
            with contextlib.suppress(Exception):
                self._close(message.film)
            return {"done": done}
        return {}

    def _close(self, number: int) -> None:
        film = self._films.pop(number, None)
        self._failed.pop(number, None)
        if film is not None:
            film.close()


class _Strip:
    """One film: its encoder, and its journal once a line for it came."""

    def __init__(self, words: dict[str, Any]) -> None:
        rate, output_rate = (Fraction(text) for text in words["rates"])
        self.encoder = VideoEncoder(
            Path(words["path"]), words["width"], words["height"],
            Timeline(rate, output_rate), Codec(**words["codec"]), compares=True,
        )  # fmt: skip
        self.is_finished = False
        self._journal: BinaryIO | None = None
        # Who finds its trainer dead waits until this is let go of: see `_leftover`.
        self._held: BinaryIO = open(words["path"], "rb")  # noqa: SIM115 - closed by `close`
        with contextlib.suppress(OSError):
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def write_down(self, note: Note) -> None:
        """Append to the journal; a film whose journal fails is less safe, but not lost."""
        lines = [*(note.lines or ()), *([line_of(note.index, note.row)] if note.row else ())]
        with contextlib.suppress(OSError):
            if self._journal is None and note.journal is not None:
                self._journal = open(note.journal, "ab", buffering=0)  # noqa: SIM115 - closed by `close`
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

"""The recorder's end of the darkroom: which films are encoded there, and how frames get there."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from rollcam.darkroom.process import RING_BYTES, DarkroomLost, Process
from rollcam.darkroom.wire import Kind, Note, meant, packed_errand, packed_row
from rollcam.encode.codecs import Codec
from rollcam.encode.faststart import MediaFacts
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import Encoder, VideoEncoder
from rollcam.episode import Picture
from rollcam.errors import EncoderFailed
from rollcam.store.journal import Lines, Row

logger = logging.getLogger("rollcam")
T = TypeVar("T")

_MAX_STARTS = 3
"""A process that is killed again and again, for want of memory, is not started for ever."""
_ROOM_TRIES = 10
_MAX_NOTE_BYTES = 2**20
"""What is more than that goes by itself: a picture that fills half of the ring has to fit in beside it."""


class Darkroom:
    """Encodes films in a process of its own, from `start` on.

    It takes 0.3 s until it is ready. Films that begin before are encoded here: frames that wait for it
    would be lost if the training were killed meanwhile.

    Belongs to one background thread; `RemoteEncoder.hand_over` and `hand_on` alone may be called on
    others.
    """

    def __init__(self) -> None:
        self._process: Process | None = None
        self._n_starts = 0
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """Whether the next film is encoded there."""
        process = self._process
        return process is not None and process.is_ready()

    @property
    def is_held_here(self) -> bool:
        """Whether this very thread is just handing over a frame: nobody else can until it is done."""
        process = self._process
        return process is not None and process.is_held_here

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the pictures that are under way."""
        process = self._process
        return 0 if process is None or process.is_lost else process.ring.waiting_bytes

    def start(self) -> None:
        """Start the process, and do not wait for it; where there can be none, log why."""
        with self._lock:
            if self._is_closed or (self._process is not None and not self._process.is_lost):
                return
            if self._process is not None:
                self._process.end()
                self._process = None
            if self._n_starts == _MAX_STARTS:
                return
            self._n_starts += 1
            try:
                self._process = Process()
            except Exception as error:  # noqa: BLE001 - whatever it is, films are encoded here then
                logger.warning("films are encoded on a thread, as no process starts: %s", error)

    def open(
        self, path: Path, width: int, height: int, timeline: Timeline, codec: Codec
    ) -> Encoder:
        """Open a film there; here, where no process is ready, or its pictures are too large for it.

        Args:
            path: File to write; replaced if it exists.
            width: Of the pictures, in pixels.
            height: Of the pictures, in pixels.
            timeline: Rates of capture and of the file.
            codec: Encoder and settings.

        Raises:
            EncoderFailed: The encoder does not open at this size.
            OSError: The file cannot be written.
        """
        self.start()
        process = self._process
        if process is not None and 2 * width * height * 3 <= RING_BYTES and process.is_ready():
            with contextlib.suppress(DarkroomLost):
                return RemoteEncoder(process, path, width, height, timeline, codec)
        return VideoEncoder(path, width, height, timeline, codec)

    def sync(self) -> None:
        """Wait until everything handed over so far is in its file."""
        process = self._process
        if process is not None and process.is_ready():
            with contextlib.suppress(DarkroomLost):
                process.sync()

    def close(self) -> None:
        """End the process, on the background thread, as its last act. May be called twice."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.end()


class RemoteEncoder:
    """Has the pictures of one film encoded in the darkroom.

    Whether the film can be opened there is not waited for: a later call says what went wrong. When
    the process is gone, `DarkroomLost` is raised: what it wrote by then lies where it grew, and is
    recovered from there.
    """

    def __init__(
        self,
        process: Process,
        path: Path,
        width: int,
        height: int,
        timeline: Timeline,
        codec: Codec,
    ) -> None:
        self.path = path
        self.n_encoded = 0
        self.shape = (height, width, 3)
        """Of the pictures."""
        self._process = process
        self._n_failed = process.ring.n_failed
        self._has_journal = False
        self._is_open, self._is_delivered = True, False
        self._finished: dict[str, Any] | None = None
        self._number = process.new_number()
        given = {
            "path": str(path), "width": width, "height": height,
            "rates": [str(timeline.rate), str(timeline.output_rate)],
            "codec": {**asdict(codec), "options": dict(codec.options)},
        }  # fmt: skip
        process.send(Kind.OPEN, self._number, given)

    @property
    def is_lost(self) -> bool:
        """Whether the process is gone, or belongs to the one that this was forked from."""
        return self._process.is_lost

    @property
    def is_well(self) -> bool:
        """Whether nothing has gone wrong there, with this film or another, that was not looked at."""
        process = self._process
        return not process.is_lost and process.ring.n_failed == self._n_failed

    def add(
        self, picture: Picture, index: int, journal: Path | None = None, lines: Lines | None = None
    ) -> None:
        """Have frame `index` encoded; waits while there is no room.

        Args:
            picture: `(height, width, 3)` uint8 RGB, any strides; read before this returns.
            index: Number of the captured frame.
            journal: The film's journal; `None` for none.
            lines: What is appended to it before the frame is encoded.

        Raises:
            EncoderFailed: It does not open at this size, or a frame before was refused.
            OSError: The disk is full, or gone; or the darkroom is.
        """
        if self._process.ring.n_failed != self._n_failed:
            self._check()
        words = self._note(index, journal, lines).packed()
        if len(words) > _MAX_NOTE_BYTES and journal is not None:
            said = {"journal": str(journal), "lines": lines or []}
            self._process.send(Kind.LINES, self._number, said)
            words = Note(index).packed()
        for _ in range(_ROOM_TRIES):
            if self._process.put(self._number, picture, words, is_waiting=True):
                self._has_journal = self._has_journal or journal is not None
                return
            # All of it is free after this, and the picture is at most half as large.
            self._process.sync()
        raise EncoderFailed(f"the darkroom had no room for frame {index}")

    def hand_over(
        self,
        picture: Picture,
        index: int,
        journal: Path | None = None,
        lines: Lines | None = None,
        row: Row | None = None,
    ) -> bool:
        """Hand frame `index` over if that takes no waiting; say whether it was.

        May be called on the training thread, while nothing of this film is on its way to `add`. For
        the arguments see there.

        Args:
            picture: As in `add`.
            index: As in `add`.
            journal: As in `add`; not needed any more once it was given.
            lines: As in `add`.
            row: The frame's own row, which comes after `lines`.
        """
        if not self.is_well or picture.shape != self.shape:
            return False
        words = self._note(index, journal, lines, row).packed()
        try:
            taken = len(words) <= _MAX_NOTE_BYTES and self._process.put(
                self._number, picture, words
            )
        except DarkroomLost:
            return False
        self._has_journal = self._has_journal or (taken and journal is not None)
        return taken

    def hand_on(self, picture: Picture, index: int, row: Row) -> bool:
        """Hand over a frame of which nothing is known but its row; see `hand_over`."""
        if not self.is_well:
            return False
        try:
            return self._process.put(self._number, picture, packed_row(index, row))
        except DarkroomLost:
            return False

    def _note(
        self, index: int, journal: Path | None, lines: Lines | None, row: Row | None = None
    ) -> Note:
        # They become text over there: on the training thread that costs some 30 us a frame.
        where = None if journal is None or self._has_journal else str(journal)
        # What has no journal keeps no lines, and they may be many.
        return Note(index, where, None if journal is None else lines or None, row)

    def settle(self, n_frames: int) -> None:
        """Wait until every frame is in the file, and encode what is still due.

        Args:
            n_frames: Frames captured, dropped ones included.

        Raises:
            EncoderFailed: The encoder refused a frame.
            OSError: The disk was full, or gone, for a frame; or the darkroom is.
        """
        self._finished = self._process.ask(Kind.FINISH, self._number, {"n": n_frames})
        if "is_of_a_frame" in self._finished:
            raise meant(self._finished["error"])

    def flush(self) -> None:
        """Do nothing: the darkroom writes each frame as it encodes it."""

    def finish(self, n_frames: int) -> int:
        """Encode what is still due and close the growing file.

        Args:
            n_frames: Frames captured, dropped ones included.

        Returns:
            The film's length in ticks.

        Raises:
            EncoderFailed: The encoder refused a frame.
            OSError: The disk is full, or gone; or the darkroom is.
        """
        if self._finished is None:
            self.settle(n_frames)
        assert self._finished is not None
        words = _succeeded(self._finished)
        self.n_encoded = int(words["n_encoded"])
        return int(words["end"])

    def deliver(self, target: Path | None, end: int) -> MediaFacts:
        """Write the finished file; see `finish_film`."""
        where = None if target is None else str(target)
        words = self._process.ask(Kind.DELIVER, self._number, {"target": where, "end": end})
        facts = MediaFacts(**_succeeded(words)["facts"])
        self._is_delivered = True
        return facts

    def place(self, target: Path, end: int, errand: Callable[[MediaFacts], T]) -> T:
        """Write the finished file and have something done with it there; the film is closed then.

        Args:
            target: As for `deliver`.
            end: What `finish` returned.
            errand: Called in the darkroom's process, while the growing file is still held open. It is
                pickled; see `packed_errand`.

        Returns:
            What the errand returned.

        Raises:
            pickle.PicklingError: It is not for another process; nothing was done.
            DarkroomLost: The process is gone, and nothing here knows how far it came.
            Exception: It went wrong there. The film stays open.
        """
        words = {"target": str(target), "end": end, "errand": packed_errand(errand)}
        try:
            done: T = _succeeded(self._process.ask(Kind.PLACE, self._number, words))["done"]
        except DarkroomLost:
            self._process.wait_for_end()  # what it has in hand may still take effect
            raise
        self._is_open = False
        return done

    def close(self) -> None:
        """Close the growing file as it is. May be called twice."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(DarkroomLost):
                if self._is_delivered:
                    self._process.send(Kind.CLOSE, self._number, {})
                else:
                    # Waited for: on a full disk, what is deleted next makes room only once it is
                    # closed.
                    self._process.ask(Kind.CLOSE, self._number, {"is_waiting": True})

    def _check(self) -> None:
        """Raise what went wrong with this film, if anything did."""
        n_failed = self._process.ring.n_failed
        failed = self._process.sync().get(self._number)
        self._n_failed = n_failed
        if failed is not None:
            raise meant(failed)


def _succeeded(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise meant(answer["error"])
    return answer

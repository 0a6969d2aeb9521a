"""The recorder's end of the darkroom: starts the process, hands it pictures, takes its answers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from rollcam.darkroom.child import meant
from rollcam.darkroom.ring import Ring
from rollcam.darkroom.wire import Kind, Unpacker, packed
from rollcam.encode.codecs import Codec
from rollcam.encode.faststart import MediaFacts
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import Encoder, VideoEncoder
from rollcam.episode import Picture
from rollcam.store.journal import Lines

logger = logging.getLogger("rollcam")

RING_BYTES = 16 * 2**20
"""Pictures that may be under way to the darkroom, in bytes; what is more waits in the queue."""

_ANSWER_S = 100.0
"""How long an answer may take: a long film's finished file is written meanwhile."""
_CLOSE_S = 20.0
_SEND_S = 30.0
_END_S = 10.0
_MAX_STARTS = 3
"""A process that is killed again and again, for want of memory, is not started for ever."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from rollcam.darkroom.child import main; main(*map(int, sys.argv[2:]))"
)


class DarkroomLost(OSError):  # noqa: N818 - it says what became of it
    """The process is gone, or does not answer; what it wrote until then lies where films grow."""


class Darkroom:
    """Encodes films in a process of its own, from `start` on.

    It takes 0.3 s until it is ready. Films that begin before are encoded here: frames that wait for it
    would be lost if the training were killed meanwhile.

    Belongs to one background thread; `RemoteEncoder.hand_over` alone may be called on others.
    """

    def __init__(self) -> None:
        self._process: _Process | None = None
        self._n_starts = 0
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """Whether the next film is encoded there."""
        process = self._process
        return process is not None and process.is_ready()

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
                self._process.end(_END_S)
                self._process = None
            if self._n_starts == _MAX_STARTS:
                return
            self._n_starts += 1
            try:
                self._process = _Process()
            except OSError as error:
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
        """End the process. May be called twice."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.end(_END_S)


class RemoteEncoder:
    """Has the pictures of one film encoded in the darkroom.

    When the process is gone, frames are taken and lost, and `finish` raises: what it wrote by then
    lies where it grew, and is recovered from there.
    """

    def __init__(
        self,
        process: _Process,
        path: Path,
        width: int,
        height: int,
        timeline: Timeline,
        codec: Codec,
    ) -> None:
        self.path = path
        self.n_encoded = 0
        self._process = process
        self._shape = (height, width, 3)
        self._n_failed = process.ring.n_failed
        self._has_journal = False
        self._is_open = True
        self._number = process.new_number()
        given = {
            "path": str(path), "width": width, "height": height,
            "rates": [str(timeline.rate), str(timeline.output_rate)],
            "codec": {**asdict(codec), "options": dict(codec.options)},
        }  # fmt: skip
        process.send(Kind.OPEN, self._number, given)
        self._check()

    def add(self, picture: Picture, index: int) -> None:
        """Have frame `index` encoded; waits while there is no room.

        Args:
            picture: `(height, width, 3)` uint8 RGB, any strides; read before this returns.
            index: Number of the captured frame.

        Raises:
            EncoderFailed: A frame before it was refused.
            OSError: The disk is full, or gone.
        """
        if self._process.is_lost:
            return
        with contextlib.suppress(DarkroomLost):
            if self._process.ring.n_failed != self._n_failed:
                self._check()
            if not self._process.put(self._number, picture, index, {}, wait=True):
                # All of it is free after this, and the picture is at most half as large.
                self._process.sync()
                self._process.put(self._number, picture, index, {}, wait=True)

    def hand_over(self, picture: Picture, index: int, journal: Path | None, lines: Lines) -> bool:
        """Hand frame `index` over if that takes no waiting; say whether it was.

        May be called on the training thread, while nothing of this film is on its way to `add`.

        Args:
            picture: `(height, width, 3)` uint8 RGB, any strides; read before this returns.
            index: Number of the captured frame.
            journal: The film's journal; `None` for none.
            lines: What is appended to it before the frame is encoded.
        """
        process = self._process
        if (
            process.is_lost
            or picture.shape != self._shape
            or process.ring.n_failed != self._n_failed
        ):
            return False
        words: dict[str, Any] = {} if journal is None else {"lines": lines}
        if journal is not None and not self._has_journal:
            words["journal"] = str(journal)
        try:
            taken = process.put(self._number, picture, index, words)
        except DarkroomLost:
            return False
        self._has_journal = self._has_journal or (taken and journal is not None)
        return taken

    def settle(self) -> None:
        """Wait until every frame is in the file; says nothing when the process is gone.

        Raises:
            EncoderFailed: The encoder refused a frame.
            OSError: The disk is full, or gone.
        """
        with contextlib.suppress(DarkroomLost):
            self._check()

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
        words = self._ask(Kind.FINISH, {"n": n_frames})
        self.n_encoded = int(words["n_encoded"])
        return int(words["end"])

    def deliver(self, target: Path | None, end: int) -> MediaFacts:
        """Write the finished file; see `finish_film`."""
        where = None if target is None else str(target)
        return MediaFacts(**self._ask(Kind.DELIVER, {"target": where, "end": end})["facts"])

    def close(self) -> None:
        """Close the growing file as it is. May be called twice."""
        if self._is_open:
            self._is_open = False
            # Waited for: on a full disk, what is deleted next makes room only once it is closed.
            with contextlib.suppress(DarkroomLost):
                self._process.ask(Kind.CLOSE, self._number, {}, timeout_s=_CLOSE_S)

    def _ask(self, kind: Kind, words: dict[str, Any]) -> dict[str, Any]:
        answer = self._process.ask(kind, self._number, words)
        if "error" in answer:
            raise meant(answer["error"])
        return answer

    def _check(self) -> None:
        """Raise what went wrong with this film, if anything did."""
        n_failed = self._process.ring.n_failed
        failed = self._process.sync().get(str(self._number))
        self._n_failed = n_failed
        if failed is not None:
            raise meant(failed)


class _Process:
    """The process, its two pipes, and the memory shared with it."""

    def __init__(self) -> None:
        self.is_lost = False
        self.ring = Ring(RING_BYTES)
        self._n_films = 0
        self._unpacker = Unpacker()
        self._answers_waiting: list[dict[str, Any]] = []
        self._is_ready = False
        # Not waited for on the training thread: it hands over without waiting, or not at all.
        self._sending = threading.Lock()
        self._asking = threading.RLock()
        self._errors: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        fds: list[int] = []
        try:
            fds += os.pipe()
            fds += os.pipe()
            self._popen = _popen(fds[0], fds[3], self.ring.fd, self._errors)
        except BaseException:
            for fd in fds:
                os.close(fd)
            self.ring.close()
            self._errors.close()
            raise
        os.close(fds[0])
        os.close(fds[3])
        self._commands, self._answers = fds[1], fds[2]
        os.set_blocking(self._commands, False)
        _processes.add(self)

    def is_ready(self) -> bool:
        """Say whether it takes films by now; waits for nothing."""
        with self._asking:
            if (
                not self._is_ready
                and not self.is_lost
                and _waited(self._answers, select.POLLIN, 0.0)
            ):
                with contextlib.suppress(DarkroomLost):
                    self._answer(_SEND_S)
                    self._is_ready = True
            return self._is_ready and not self.is_lost

    def new_number(self) -> int:
        """Return the number of a new film."""
        self._n_films += 1
        return self._n_films

    def put(
        self,
        film: int,
        picture: Picture,
        index: int,
        words: dict[str, Any],
        *,
        wait: bool = False,
    ) -> bool:
        """Put a picture into the ring and say so; `False` when there is no room for either.

        Raises:
            DarkroomLost: The process is gone.
        """
        if not self._sending.acquire(blocking=wait):
            return False
        try:
            if self.is_lost:
                raise self._lost("it ended")
            slot = self.ring.put(picture)
            if slot is None:
                return False
            words |= {
                "at": slot.at, "end": slot.end, "i": index,
                "shape": picture.shape, "strides": slot.strides,
            }  # fmt: skip
            message = packed(Kind.FRAME, film, words)
            if wait:
                self._write(message)
                return True
            if len(message) <= select.PIPE_BUF and self._write_at_once(message):
                return True
            self.ring.take_back()
            return False
        finally:
            self._sending.release()

    def send(self, kind: Kind, film: int, words: dict[str, Any]) -> None:
        """Say something that wants no answer.

        Raises:
            DarkroomLost: The process is gone, or takes nothing.
        """
        with self._sending:
            if self.is_lost:
                raise self._lost("it ended")
            self._write(packed(kind, film, words))

    def ask(
        self, kind: Kind, film: int, words: dict[str, Any], *, timeout_s: float = _ANSWER_S
    ) -> dict[str, Any]:
        """Say something, and return the answer.

        Raises:
            DarkroomLost: The process is gone, or does not answer.
        """
        with self._asking:
            self.send(kind, film, words)
            return self._answer(timeout_s)

    def sync(self) -> dict[str, Any]:
        """Wait until everything before is done; return what went wrong, by number of the film.

        Raises:
            DarkroomLost: The process is gone, or does not answer.
        """
        failed: dict[str, Any] = self.ask(Kind.SYNC, 0, {})["failed"]
        return failed

    def end(self, timeout_s: float) -> None:
        """Have it finish what it has, and end. May be called twice."""
        with self._asking, self._sending:
            self.is_lost = True
            for fd in (self._commands, self._answers):
                if fd >= 0:
                    os.close(fd)
            self._commands = self._answers = -1
            if not self._n_films:
                self._popen.kill()
            try:
                self._popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
            self.ring.close()
            self._errors.close()

    def forget(self) -> None:
        """In a forked child: hold nothing open that is the parent's, and free nothing of it."""
        self.is_lost = True
        for fd in (self._commands, self._answers):
            with contextlib.suppress(OSError):
                if fd >= 0:
                    os.close(fd)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _write_at_once(self, data: bytes) -> bool:
        """Write all of it or nothing (POSIX: up to PIPE_BUF bytes are one piece)."""
        try:
            os.write(self._commands, data)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._lost(str(error)) from error
        return True

    def _write(self, data: bytes) -> None:
        deadline = time.monotonic() + _SEND_S
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._commands, view) :]
            except BlockingIOError:
                if not _waited(self._commands, select.POLLOUT, deadline):
                    raise self._lost(f"it took nothing for {_SEND_S:g} s") from None
            except OSError as error:
                raise self._lost(str(error)) from error

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while not self._answers_waiting:
            if self.is_lost:
                raise self._lost("it ended")
            if not _waited(self._answers, select.POLLIN, deadline):
                raise self._lost(f"it did not answer within {timeout_s:g} s")
            piece = os.read(self._answers, 65536)
            if not piece:
                raise self._lost("it ended")
            self._answers_waiting += [m.words for m in self._unpacker.feed(piece)]
        return self._answers_waiting.pop(0)

    def _lost(self, why: str) -> DarkroomLost:
        """Note that the process is of no use any more, and see that it ends."""
        if not self.is_lost:
            self.is_lost = True
            with contextlib.suppress(OSError):
                self._popen.kill()
            logger.warning("the process that encodes is lost (%s)%s", why, self._last_words())
        return DarkroomLost(
            errno.EIO, f"the process that encodes is lost ({why}); what it wrote by then is kept"
        )

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            lines = self._errors.read(4096).decode("utf-8", "replace").strip().splitlines()
            return f": {lines[-1][:300]}" if lines else ""
        return ""


def _popen(commands: int, answers: int, ring: int, errors: BinaryIO) -> subprocess.Popen[bytes]:
    numbers = (commands, answers, ring, os.getpid())
    return subprocess.Popen(
        [sys.executable, "-c", _START, json.dumps(sys.path), *map(str, numbers)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=(commands, answers, ring),
        # Ctrl-C in the terminal is for the training.
        start_new_session=True,
    )


def _waited(fd: int, events: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


_processes: weakref.WeakSet[_Process] = weakref.WeakSet()


def _forget_inherited() -> None:
    for process in list(_processes):
        process.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)

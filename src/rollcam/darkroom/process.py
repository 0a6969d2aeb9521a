"""The process that encodes, as the recorder sees it, and what is said between the two."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from typing import Any, BinaryIO

from rollcam.darkroom.ring import Ring
from rollcam.darkroom.wire import Kind, Unpacker, packed
from rollcam.episode import Picture

logger = logging.getLogger("rollcam")

RING_BYTES = 16 * 2**20
"""Pictures that may be under way to the darkroom, in bytes; what is more waits in the queue."""

_ANSWER_S = 600.0
"""How long an answer may take: a disk that stands still for minutes is waited for, as a thread would."""
# Longer than an encoder that stops again and again may keep it from listening (`encode/packets.py`).
_SEND_S = 300.0
_SIGN_OF_LIFE = 16
_LOCK_S = 30.0
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
_END_S, _KILLED_S = 10.0, 2.0

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from rollcam.darkroom.child import main; main(*map(int, sys.argv[2:]))"
)


class DarkroomLost(OSError):  # noqa: N818 - it says what became of it
    """The process is gone, or does not answer; what it wrote until then lies where films grow."""


class Process:
    """The process, the two ways between it and us, and the memory shared with it."""

    def __init__(self) -> None:
        self.is_lost = False
        self.ring = Ring(RING_BYTES)
        self._n_films = self._n_put = 0
        self._unpacker = Unpacker()
        self._answers_waiting: list[dict[str, Any]] = []
        self._is_ready = False
        self._is_wanted = False
        self._holder: int | None = None
        # Not waited for on the training thread: it hands over without waiting, or not at all.
        self._sending = threading.Lock()
        self._asking = threading.RLock()
        self._unsent = b""
        fds: list[int] = []
        self._errors: BinaryIO | None = None
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
            fds += os.pipe()
            # A socket, as who writes to a dead one gets an error, and never SIGPIPE.
            self._commands, theirs = socket.socketpair()
            fds.append(theirs.detach())
            self._popen = _popen(fds[2], fds[1], self.ring.fd, self._errors)
        except BaseException:
            for fd in fds:
                os.close(fd)
            if len(fds) > 2:
                self._commands.close()
            self.ring.close()
            if self._errors is not None:
                self._errors.close()
            raise
        os.close(fds[1])
        os.close(fds[2])
        self._answers = fds[0]
        self._commands.setblocking(False)
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

    @property
    def is_held_here(self) -> bool:
        """Whether this very thread stands in `put`, as where a signal's handler interrupted it."""
        return self._holder == threading.get_ident()

    def put(self, film: int, picture: Picture, words: bytes, *, is_waiting: bool = False) -> bool:
        """Put a picture into the ring; `False` when there is no room for it.

        Args:
            film: Number of the film.
            picture: `(H, W, 3)` uint8, any strides; still the caller's.
            words: What is said of it.
            is_waiting: The caller will wait for room. Once such a picture found none, others are
                refused until it did: they may not take what was just made free for it.

        Raises:
            DarkroomLost: The process is gone.
        """
        if not self._sending.acquire(timeout=_LOCK_S if is_waiting else 0):
            return False
        self._holder = threading.get_ident()
        try:
            if self.is_lost:
                raise self._lost("it ended")
            if self._is_wanted and not is_waiting:
                return False
            is_in = self.ring.put(film, picture, words)
            self._is_wanted = is_waiting and not is_in
            self._n_put += is_in
        finally:
            self._holder = None
            # A release also orders memory: the record is there for all before `is_asleep` is read.
            self._sending.release()
        # Now and then in any case: only who writes to it notices that it is gone.
        if is_in and (self.ring.is_asleep or not self._n_put % _SIGN_OF_LIFE):
            self._wake()
        return is_in

    def _wake(self) -> None:
        """Have it look into the ring; who else is just saying something does that, too."""
        if not self._sending.acquire(timeout=0):
            return
        self._holder = threading.get_ident()
        try:
            if not self.is_lost:
                self._write_at_once(packed(Kind.WAKE, 0, {}))
        finally:
            self._holder = None
            self._sending.release()

    def send(self, kind: Kind, film: int, words: dict[str, Any]) -> None:
        """Say something that wants no answer.

        Raises:
            DarkroomLost: The process is gone, or takes nothing.
        """
        if not self._sending.acquire(timeout=_LOCK_S):
            raise self._lost(f"nothing could be said for {_LOCK_S:g} s")
        try:
            if self.is_lost:
                raise self._lost("it ended")
            self._write(packed(kind, film, words, self.ring.position))
        finally:
            self._sending.release()

    def ask(self, kind: Kind, film: int, words: dict[str, Any]) -> dict[str, Any]:
        """Say something, and return the answer.

        Raises:
            DarkroomLost: The process is gone, or does not answer.
        """
        with self._asking:
            self.send(kind, film, words)
            return self._answer(_ANSWER_S)

    def sync(self) -> dict[int, Any]:
        """Wait until everything before is done; return what went wrong, by number of the film.

        Raises:
            DarkroomLost: The process is gone, or does not answer.
        """
        failed: dict[int, Any] = self.ask(Kind.SYNC, 0, {})["failed"]
        return failed

    def end(self) -> None:
        """Have it finish what it has, and end. May be called twice; on the worker's thread only."""
        if not self._sending.acquire(timeout=_LOCK_S):
            self._lost("it could not be ended")
            return
        try:
            self.is_lost = True
            self._commands.close()
            if self._answers >= 0:
                os.close(self._answers)
                self._answers = -1
            if not self._n_films:
                self._popen.kill()
            self._reap()
        finally:
            self.ring.close()
            if self._errors is not None:
                self._errors.close()
            self._sending.release()

    def wait_for_end(self) -> None:
        """Wait until the process that was lost is gone, for a few seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_KILLED_S)

    def _reap(self) -> None:
        for timeout_s in (_END_S, _KILLED_S):
            try:
                self._popen.wait(timeout_s)
                return
            except subprocess.TimeoutExpired:
                self._popen.kill()
        logger.warning("the process that encodes, %d, does not end", self._popen.pid)

    def forget(self) -> None:
        """In a forked child: hold nothing open that is the parent's, and free nothing of it."""
        self.is_lost = True
        self._commands.close()
        with contextlib.suppress(OSError):
            os.close(self._answers)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _write_at_once(self, data: bytes) -> None:
        """Write a message if that takes no waiting. What is cut off of one is written before the next."""
        if self._unsent:
            self._unsent = self._unsent[self._send(self._unsent) :]
        n_sent = 0 if self._unsent else self._send(data)
        self._unsent = self._unsent or (data[n_sent:] if n_sent else b"")

    def _write(self, data: bytes) -> None:
        deadline = time.monotonic() + _SEND_S
        view = memoryview(self._unsent + data)
        self._unsent = b""
        while view:
            n_sent = self._send(view)
            view = view[n_sent:]
            if not n_sent and not _waited(self._commands.fileno(), select.POLLOUT, deadline):
                raise self._lost(f"it took nothing for {_SEND_S:g} s")

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._commands.send(data, _NO_SIGNAL)
        except BlockingIOError:
            return 0
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
        if self._errors is None:
            return ""
        with contextlib.suppress(OSError, ValueError):
            end = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, end - 4096))
            lines = self._errors.read(4096).decode("utf-8", "replace").strip().splitlines()
            return f": {lines[-1][:300]}" if lines else ""
        return ""


def _popen(commands: int, answers: int, ring: int, errors: BinaryIO) -> subprocess.Popen[bytes]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError(errno.ENOEXEC, "this program is no Python that could be started again")
    numbers = (commands, answers, ring, os.getpid())
    paths = [os.fspath(path) for path in sys.path if isinstance(path, str | os.PathLike)]
    return subprocess.Popen(
        # Nothing is imported from the working directory but what `sys.path` says.
        [sys.executable, "-P", "-c", _START, json.dumps(paths), *map(str, numbers)],
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


_processes: weakref.WeakSet[Process] = weakref.WeakSet()


def _forget_inherited() -> None:
    for process in list(_processes):
        process.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)

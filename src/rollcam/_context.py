"""The trainer's counters, from wherever they are told to wherever a film begins or ends.

`rollcam.set_context` speaks to every recorder of the process, and to those of its multiprocessing
children (async vector environments, subprocess environments), however these were started. The words
pass through a small file in memory that all processes of one multiprocessing tree find by the key
that they share; a reader is never waited for, and what it finds is checked before it is believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import multiprocessing
import multiprocessing.util
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rollcam.episode import Context, Scalar, scalars_of
from rollcam.errors import UsageError

_SIZE = 64 * 1024
_HEAD = struct.Struct("<II")  # length and CRC-32 of the JSON that follows
_ATTEMPTS = 5


class Board:
    """A note that one process writes and its multiprocessing children read.

    Args:
        path: The file; made by the writer, for its owner's eyes only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def write(self, values: Mapping[str, Scalar]) -> None:
        """Replace what stands there.

        Raises:
            OSError: The file cannot be made.
            UsageError: It is too much.
        """
        data = json.dumps(values, separators=(",", ":")).encode()
        if len(data) > _SIZE - _HEAD.size:
            raise UsageError(
                f"the context is {len(data)} bytes of JSON; at most {_SIZE - _HEAD.size} reach the "
                f"recorders of other processes"
            )
        if self._map is None:
            self._map = self._opened(os.O_RDWR | os.O_CREAT)
        # Length and check sum first: whoever reads in between finds that they do not fit.
        self._map[: _HEAD.size] = _HEAD.pack(len(data), zlib.crc32(data))
        self._map[_HEAD.size : _HEAD.size + len(data)] = data

    def read(self) -> dict[str, Scalar]:
        """Return what stands there; nothing, where there is nothing that can be believed."""
        if self._map is None:
            try:
                self._map = self._opened(os.O_RDWR)
            except OSError:
                return {}
        for _ in range(_ATTEMPTS):
            size, check = _HEAD.unpack(self._map[: _HEAD.size])
            data = self._map[_HEAD.size : _HEAD.size + size]
            if 0 < size <= _SIZE - _HEAD.size and zlib.crc32(data) == check:
                with contextlib.suppress(ValueError):
                    return scalars_of(json.loads(data))
        return {}

    def remove(self) -> None:
        """Delete the file; processes that have it open go on reading what stood there last."""
        self._map = None
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _opened(self, flags: int) -> mmap.mmap:
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if not stat.S_ISREG(status.st_mode) or not is_ours:
                raise PermissionError(f"{self._path} is not ours")
            if flags & os.O_CREAT:
                _fill(descriptor, status.st_size)
            elif status.st_size < _SIZE:
                raise OSError(f"{self._path} is being made")
            return mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)


def _fill(descriptor: int, n_bytes: int) -> None:
    """Write zeros up to the full size.

    A file of holes would do until the disk is full: then to write into its memory is a bus error,
    which ends the training.
    """
    os.lseek(descriptor, n_bytes, os.SEEK_SET)
    while n_bytes < _SIZE:
        n_bytes += os.write(descriptor, bytes(_SIZE - n_bytes))


class _Process:
    """What was told in this process, and where it goes.

    Args:
        may_be_trainer: Whether a process that it was forked from is not.
    """

    def __init__(self, *, may_be_trainer: bool = True) -> None:
        self._may_be_trainer = may_be_trainer
        self.told: dict[str, Any] = {}
        self.version = 0
        self.board: Board | None = None
        self.pid = os.getpid()

    @property
    def is_trainer(self) -> bool:
        """Whether what it tells is for its multiprocessing children, too.

        Asked each time: a spawned child imports this before it knows whose child it is.
        """
        return self._may_be_trainer and multiprocessing.parent_process() is None


_here = _Process()


def set_context(**values: Any) -> None:
    """Tell the trainer's counters, such as `iteration` or `num_env_steps`, to every recorder.

    Each film's sidecar holds them as they stood when its episode began and when it ended. They reach
    the recorders of this process and those of its multiprocessing children. What a recorder is told
    of its own (`context=`, `Recorder.set_context`) counts more.

    Args:
        **values: Scalars; a counter that was told before is replaced, the others stay.

    Raises:
        UsageError: They are more than 64 kB.

    Example:
        >>> set_context(iteration=3, num_env_steps=12_000)
    """
    _after_fork()
    _here.told.update(values)
    _here.version += 1
    # Only the trainer speaks to all; what a child says is its own affair.
    if _here.is_trainer:
        with contextlib.suppress(OSError):  # no place for temporary files: this process still knows
            _our_board().write(scalars_of(_here.told))


def process_context() -> dict[str, Scalar]:
    """Return what this process was told, and its multiprocessing parents."""
    _after_fork()
    if _here.is_trainer:
        return scalars_of(_here.told)
    return {**_our_board().read(), **scalars_of(_here.told)}


def _after_fork() -> None:
    """Forget the parent's words in a forked child: the board has its newer ones.

    Who has spoken before it forked goes on as the trainer; otherwise a child of `os.fork` may be it,
    as where a program puts itself into the background.
    """
    global _here
    if _here.pid != os.getpid():
        has_spoken = _here.board is not None
        _here = _Process(may_be_trainer=_here.is_trainer and not has_spoken)


def _our_board() -> Board:
    if _here.board is None:
        # All processes of a multiprocessing tree share this key, and nobody else knows it.
        key = hashlib.sha256(b"rollcam" + multiprocessing.current_process().authkey).hexdigest()
        board = Board(Path(tempfile.gettempdir()) / f"rollcam-context-{key[:32]}")
        if _here.is_trainer:
            multiprocessing.util.Finalize(_here, board.remove, exitpriority=0)
        _here.board = board
    return _here.board


class ContextSource:
    """The trainer's counters as one recorder knows them.

    Args:
        source: A mapping, or a callable that returns one; it is asked at each episode's start and
            end, on the training thread.
    """

    def __init__(self, source: Context | Callable[[], Context] | None) -> None:
        self.error: Exception | None = None
        self._source = source
        self._told: dict[str, Any] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """Changes whenever something new was told in this process."""
        return self._version + _here.version

    def update(self, values: Context) -> None:
        """Add counters, or change them."""
        self._told.update(values)
        self._version += 1

    def now(self) -> dict[str, Scalar]:
        """Return the scalars among the counters as they stand; a failing callable gives none."""
        given: Context = {}
        try:
            given = {**((self._source() if callable(self._source) else self._source) or {})}
        except Exception as error:  # noqa: BLE001 - the user's callable must not stop the training
            self.error = error
        return {**process_context(), **scalars_of({**given, **self._told})}

    def told(self) -> dict[str, Scalar]:
        """Return what was told, without asking the callable."""
        return {**process_context(), **scalars_of(self._told)}

"""Memory that two processes share: pictures go through it in order, with what is said of them.

One thread at a time puts records in, the darkroom takes them out; no lock, and no system call. A record
is words and a picture, and lies wherever there was room, as far in front as can be: what was used
last is in the processors' caches still, and there is more of everything that the training has to fetch
when sixteen megabytes go by. Their heads go round: that of record `n` is the `n`-th, modulo
their number. Each side writes one number that the other reads, how many records it is on: eight aligned
bytes, which the processors that Rollcam runs on write in one piece.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import struct
import tempfile
import threading
from collections.abc import MutableSequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rollcam.episode import Picture

_ALIGNED = 64
_N_HEADS = 256
"""Records that may be under way, however small they are."""
_COUNTERS = 4 * _ALIGNED
"""Bytes in front. What either side writes lies in cache lines of its own."""
_TAIL, _N_FAILED, _IS_ASLEEP = 0, 1, 2
"""The darkroom's: records that it is done with, films that went wrong there, and whether it has to be
woken."""
_HEAD = 2 * _ALIGNED // 8
"""Ours: records that were put."""
_RECORD = struct.Struct("<QIIIIqqq")
"""Place of the words, their number, film, height, width, strides of the picture, which lies behind."""
_FRONT = _COUNTERS + _N_HEADS * _ALIGNED
"""Bytes before the first record."""


class Ring:
    """The recorder's end.

    Args:
        size_bytes: Of the records that may be under way; a multiple of 64.

    Raises:
        OSError: There is no such memory.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.fd = _anonymous_file(_FRONT + size_bytes)
        try:
            self._memory = mmap.mmap(self.fd, _FRONT + size_bytes)
        except BaseException:
            os.close(self.fd)
            raise
        self._bytes = memoryview(self._memory)
        self._counts: MutableSequence[int] | memoryview = self._bytes[:_COUNTERS].cast("Q")
        self._head = 0
        self._places = [(0, 0)] * _N_HEADS
        """Where records lie, each at its number modulo theirs. An interrupted `put` leaves one that the
        next overwrites."""
        self._fence = threading.Lock()

    @property
    def n_failed(self) -> int:
        """Films that went wrong in the darkroom so far."""
        return self._counts[_N_FAILED]

    @property
    def is_asleep(self) -> bool:
        """Whether the darkroom has to be woken to notice what was put."""
        return self._counts[_IS_ASLEEP] != 0

    @property
    def position(self) -> int:
        """How many records were put."""
        return self._head

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that are under way."""
        return sum(end - start for start, end in self._under_way())

    def put(self, film: int, picture: Picture, words: bytes) -> bool:
        """Copy a picture into the ring, with its words; `False` when there is no room for it.

        From then on the darkroom has it, whatever becomes of this process.

        Args:
            film: Its number.
            picture: `(H, W, 3)` uint8, any strides; still the caller's.
            words: What is said of it.
        """
        n_words, n_pixels = len(words), picture.nbytes
        n_before = -(-n_words // _ALIGNED) * _ALIGNED
        n_bytes = n_before + -(-n_pixels // _ALIGNED) * _ALIGNED
        start = self._room_for(n_bytes)
        if start is None:
            return False
        at = _FRONT + start + n_before
        if picture.flags.c_contiguous and type(picture) is np.ndarray:
            # Without giving up the interpreter's lock, as numpy would.
            self._bytes[at : at + n_pixels] = picture.reshape(-1).data
            strides = picture.strides
        else:
            strides = self._copy(picture, at)
        height, width, _ = picture.shape
        place = _FRONT + start
        self._bytes[place : place + n_words] = words
        head = self._head
        _RECORD.pack_into(
            self._bytes, _head_of(head), place, n_words, film, height, width, *strides
        )
        self._places[head % _N_HEADS] = (start, start + n_bytes)
        # Whoever sees the number has to see the record, on processors that write in another order too.
        if not _WRITES_IN_ORDER:
            _keep_order(self._fence)
        self._head = self._counts[_HEAD] = head + 1
        return True

    def close(self) -> None:
        """Let go of the memory. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._counts = [0] * (_COUNTERS // 8)
            self._counts[_TAIL] = self._head
            self._bytes = memoryview(b"")
            # Another thread may be reading one of the numbers: then its view frees the memory.
            with contextlib.suppress(BufferError):
                self._memory.close()

    def _room_for(self, n_bytes: int) -> int | None:
        """Return the foremost place for so many bytes."""
        under_way = self._under_way()
        if len(under_way) == _N_HEADS:
            return None
        start = 0
        for other, end in sorted(under_way):
            if other - start >= n_bytes:
                return start
            start = end
        return start if start + n_bytes <= self.size_bytes else None

    def _under_way(self) -> list[tuple[int, int]]:
        """Return where the records lie that were not taken out, the oldest first."""
        tail = self._counts[_TAIL]  # before the head: it is never behind
        return [self._places[number % _N_HEADS] for number in range(tail, self._head)]

    def _copy(self, picture: Picture, offset: int) -> tuple[int, ...]:
        order = sorted(range(3), key=lambda axis: -abs(picture.strides[axis]))
        in_order = picture.transpose(order)
        if in_order.flags.c_contiguous and type(in_order) is np.ndarray:
            self._bytes[offset : offset + in_order.nbytes] = in_order.reshape(-1).data
            return picture.strides
        here: npt.NDArray[np.uint8] = np.frombuffer(
            self._memory, np.uint8, picture.size, offset
        ).reshape(picture.shape)
        np.copyto(here, picture)
        return here.strides


@dataclass(frozen=True, slots=True)
class Record:
    """What lies in the ring."""

    film: int
    """Number of the film."""
    words: bytes
    """What is said of the picture."""
    picture: Picture
    """`(H, W, 3)` uint8; lasts until `Outlet.free`."""
    position: int
    """Records put so far, this one included."""


class Outlet:
    """The darkroom's end.

    Args:
        fd: Of the ring's memory.
    """

    def __init__(self, fd: int) -> None:
        self.position = 0
        """How many records were taken out."""
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._counts = memoryview(self._memory)[:_COUNTERS].cast("Q")
        self._fence = threading.Lock()

    def look(self) -> Record | None:
        """Return what was put first of all that is there; `None` when nothing is."""
        if self.position == self._counts[_HEAD]:
            return None
        _keep_order(self._fence)
        place, n_words, film, height, width, *strides = _RECORD.unpack_from(
            self._memory, _head_of(self.position)
        )
        words = self._memory[place : place + n_words]
        at = place + -(-n_words // _ALIGNED) * _ALIGNED
        shape = (height, width, 3)
        picture: Picture = np.ndarray(shape, np.uint8, self._memory, at, tuple(strides))
        return Record(film, words, picture, self.position + 1)

    def free(self, position: int) -> None:
        """Give back the records up to one."""
        self.position = position
        self._counts[_TAIL] = position

    def sleep(self, is_asleep: bool) -> None:
        """Let the recorder know whether it has to wake us; look once more before going to sleep."""
        self._counts[_IS_ASLEEP] = int(is_asleep)
        _keep_order(self._fence)

    def note_failure(self) -> None:
        """Let the recorder know that a film went wrong."""
        self._counts[_N_FAILED] += 1


_WRITES_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64")


def _head_of(number: int) -> int:
    """Return where the head of a record lies."""
    return _COUNTERS + number % _N_HEADS * _ALIGNED


def _keep_order(fence: threading.Lock) -> None:
    """Have the memory written and read before this be so before what comes after.

    To release a lock is to publish what was done before, and to take it is to see it.
    """
    with fence:
        pass
    with fence:
        pass


def _anonymous_file(size_bytes: int) -> int:
    """Return a file in memory that has no name, so that no death leaves one behind."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("rollcam-frames", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size_bytes)
        except BaseException:
            os.close(fd)
            raise
        return fd
    with tempfile.TemporaryFile(buffering=0) as file:
        # Zeros, and no hole: to write into the memory of one is a bus error where the disk is full.
        n_left = size_bytes
        while n_left:
            n_left -= file.write(bytes(min(n_left, 2**20)))
        return os.dup(file.fileno())

"""Memory that two processes share: pictures go through it in order, with what is said of them.

One thread at a time puts records in, the darkroom takes them out; no lock, and no system call. A record
is a head, words, and a picture. Positions count bytes since the beginning and never go back; where they
fall in the ring is their remainder. Each side writes one number that the other reads, how far it is:
eight aligned bytes, which the processors that Rollcam runs on write in one piece.
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
_HEADER = 4 * _ALIGNED
"""Bytes in front. What either side writes lies in cache lines of its own."""
_TAIL, _N_FAILED, _IS_ASLEEP = 0, 1, 2
"""The darkroom's: how far it is, films that went wrong there, and whether it has to be woken."""
_HEAD = 2 * _ALIGNED // 8
"""Ours: how far we are."""

_RECORD = struct.Struct("<QQIIIIqqq")
"""Position behind it, offset of the picture, film (0: nothing up to there), bytes of words, height,
width, strides."""


class Ring:
    """The recorder's end.

    Args:
        size_bytes: Of the records that may be under way; a multiple of 64.

    Raises:
        OSError: There is no such memory.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.fd = _anonymous_file(_HEADER + size_bytes)
        try:
            self._memory = mmap.mmap(self.fd, _HEADER + size_bytes)
        except BaseException:
            os.close(self.fd)
            raise
        self._bytes = memoryview(self._memory)
        self._counts: MutableSequence[int] | memoryview = self._bytes[:_HEADER].cast("Q")
        self._head = 0
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
        """Position behind what was put last."""
        return self._head

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that are under way."""
        return self._head - self._counts[_TAIL]

    def put(self, film: int, picture: Picture, words: bytes) -> bool:
        """Copy a picture into the ring, with its words; `False` when there is no room for it.

        From then on the darkroom has it, whatever becomes of this process.

        Args:
            film: Its number; not 0.
            picture: `(H, W, 3)` uint8, any strides; still the caller's.
            words: What is said of it.
        """
        n_words = len(words)
        n_before = _RECORD_BYTES + -(-n_words // _ALIGNED) * _ALIGNED
        n_bytes = n_before + picture.nbytes
        start = self._room_for(n_bytes)
        if start is None:
            return False
        place = _HEADER + start % self.size_bytes
        end = -(-(start + n_bytes) // _ALIGNED) * _ALIGNED
        at = place + n_before
        if picture.flags.c_contiguous and type(picture) is np.ndarray:
            # Without giving up the interpreter's lock, as numpy would.
            self._bytes[at : at + picture.nbytes] = picture.reshape(-1).data
            strides = picture.strides
        else:
            strides = self._copy(picture, at)
        height, width, _ = picture.shape
        self._bytes[place + _RECORD_BYTES : place + _RECORD_BYTES + n_words] = words
        _RECORD.pack_into(self._bytes, place, end, at, film, n_words, height, width, *strides)
        # Whoever sees the number has to see the record, on processors that write in another order too.
        if not _WRITES_IN_ORDER:
            _keep_order(self._fence)
        self._head = self._counts[_HEAD] = end
        return True

    def close(self) -> None:
        """Let go of the memory. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._counts = [0] * (_HEADER // 8)
            self._counts[_TAIL] = self._head
            self._bytes = memoryview(b"")
            # Another thread may be reading one of the numbers: then its view frees the memory.
            with contextlib.suppress(BufferError):
                self._memory.close()

    def _room_for(self, n_bytes: int) -> int | None:
        """Return the position of a record of so many bytes; what lies before it is skipped."""
        head, size, freed = self._head, self.size_bytes, self._counts[_TAIL]
        front = -(-head // size) * size
        has_room_here = head % size + n_bytes <= size and head + n_bytes - freed <= size
        # In an empty ring, the memory at the front is in the processor's cache still. What is skipped
        # is room only once the other end has passed over it, which takes it a while when a film begins.
        goes_to_front = head == freed and head % size >= size // 2
        if front == head or (has_room_here and not goes_to_front):
            return head if has_room_here else None
        # What is not taken out yet, the head that says what is skipped included, stays as it is.
        if front + n_bytes - freed <= size:
            self._skip_to(front)
            return front
        if has_room_here:
            return head
        if head == freed and n_bytes <= size:
            self._skip_to(front)
            _keep_order(self._fence)
            self._head = self._counts[_HEAD] = front
        return None

    def _skip_to(self, front: int) -> None:
        place = _HEADER + self._head % self.size_bytes
        _RECORD.pack_into(self._bytes, place, front, 0, 0, 0, 0, 0, 0, 0, 0)

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
    end: int
    """Position behind it."""


class Outlet:
    """The darkroom's end.

    Args:
        fd: Of the ring's memory.
    """

    def __init__(self, fd: int) -> None:
        self.position = 0
        """Position of what is taken out next."""
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._size = len(self._memory) - _HEADER
        self._counts = memoryview(self._memory)[:_HEADER].cast("Q")
        self._fence = threading.Lock()

    def look(self) -> Record | None:
        """Return what was put first of all that is there; `None` when nothing is."""
        while self.position != self._counts[_HEAD]:
            _keep_order(self._fence)
            place = _HEADER + self.position % self._size
            end, at, film, n_words, height, width, *strides = _RECORD.unpack_from(
                self._memory, place
            )
            if film:
                words = self._memory[place + _RECORD_BYTES : place + _RECORD_BYTES + n_words]
                picture: Picture = np.ndarray(
                    (height, width, 3), np.uint8, self._memory, at, tuple(strides)
                )
                return Record(film, words, picture, end)
            self.free(end)
        return None

    def free(self, end: int) -> None:
        """Give back everything up to a position."""
        self.position = end
        self._counts[_TAIL] = end

    def sleep(self, is_asleep: bool) -> None:
        """Let the recorder know whether it has to wake us; look once more before going to sleep."""
        self._counts[_IS_ASLEEP] = int(is_asleep)
        _keep_order(self._fence)

    def note_failure(self) -> None:
        """Let the recorder know that a film went wrong."""
        self._counts[_N_FAILED] += 1


_WRITES_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64")
_RECORD_BYTES = -(-_RECORD.size // _ALIGNED) * _ALIGNED


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

"""Memory that two processes share: pictures go through it in order, without a lock.

One thread at a time puts pictures in, the darkroom takes them out. Positions count bytes since the
beginning and never go back; where they fall in the ring is their remainder. The one number that the
darkroom writes is how far it is: eight aligned bytes, which the processors that Rollcam runs on
write in one piece.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rollcam.episode import Picture

_HEADER = 64
"""Bytes in front: how far the darkroom is, and how many films went wrong there."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a picture lies."""

    at: int
    """Offset of its first byte."""
    end: int
    """Position behind it."""
    strides: tuple[int, ...]
    """In bytes: pictures keep the order of axes that they came with."""


class Ring:
    """The recorder's end.

    Args:
        size_bytes: Of the pictures that may be under way.

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
        self._counts = np.frombuffer(self._memory, np.uint64, 2)
        self._bytes = memoryview(self._memory)
        self._head = self._floor = self._before = 0

    @property
    def n_failed(self) -> int:
        """Films that went wrong in the darkroom so far."""
        return int(self._counts[1])

    @property
    def waiting_bytes(self) -> int:
        """Bytes of pictures that are under way."""
        return self._head - max(int(self._counts[0]), self._floor)

    def put(self, picture: Picture) -> Slot | None:
        """Copy a picture into the ring; `None` when there is no room for it.

        Args:
            picture: `(H, W, 3)` uint8, any strides; still the caller's.
        """
        size = picture.nbytes
        if self.waiting_bytes == 0:
            # At the front the memory is in the processor's cache still.
            self._head = self._floor = -(-self._head // self.size_bytes) * self.size_bytes
        start, place = self._head, self._head % self.size_bytes
        if place + size > self.size_bytes:
            start += self.size_bytes - place
        if start + size - max(int(self._counts[0]), self._floor) > self.size_bytes:
            return None
        offset = _HEADER + start % self.size_bytes
        strides = self._copy(picture, offset)
        self._before, self._head = self._head, start + size
        return Slot(offset, self._head, strides)

    def take_back(self) -> None:
        """Undo the last `put`: the darkroom was not told of it."""
        self._head = self._before

    def close(self) -> None:
        """Let go of the memory. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._counts = np.zeros(2, np.uint64)
            # Another thread may be reading one of the numbers: then its array frees the memory.
            with contextlib.suppress(BufferError):
                self._bytes.release()
                self._memory.close()

    def _copy(self, picture: Picture, offset: int) -> tuple[int, ...]:
        order = sorted(range(3), key=lambda axis: -abs(picture.strides[axis]))
        in_order = picture.transpose(order)
        if in_order.flags.c_contiguous and type(in_order) is np.ndarray:
            # Without giving up the interpreter's lock, as numpy would.
            self._bytes[offset : offset + in_order.nbytes] = in_order.reshape(-1).data
            return picture.strides
        here: npt.NDArray[np.uint8] = np.frombuffer(
            self._memory, np.uint8, picture.size, offset
        ).reshape(picture.shape)
        np.copyto(here, picture)
        return here.strides


class Outlet:
    """The darkroom's end.

    Args:
        fd: Of the ring's memory.
    """

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._counts = np.frombuffer(self._memory, np.uint64, 2)

    def picture(self, words: dict[str, Any]) -> Picture:
        """Return the picture that a message speaks of; it lasts until `free`."""
        return np.ndarray(
            tuple(words["shape"]), np.uint8, self._memory, words["at"], tuple(words["strides"])
        )

    def free(self, end: int) -> None:
        """Give back everything up to a position."""
        self._counts[0] = end

    def note_failure(self) -> None:
        """Let the recorder know that a film went wrong."""
        self._counts[1] += np.uint64(1)


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

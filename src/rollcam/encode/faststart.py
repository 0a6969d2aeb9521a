"""From a growing, fragmented film to the finished file: an ordinary MP4 with its index in front.

Nothing is encoded anew: the samples are copied, and their tables are written before them, so that
a browser can start and seek at once. The same for a film that ended and for one that a killed
process left behind, whose last fragment may be torn. Errors of the disk arrive as they are: the
file is Python's own (closing one of FFmpeg's on a full disk can be silent, playback.md 3).

Boxes: ISO/IEC 14496-12:2022, 8.2 to 8.7. The sample description (`stsd`) and what else says how to
decode is FFmpeg's, taken from the head of the fragmented file.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rollcam.encode.fragments import MOOF_SIZE, FragmentHead, read_head
from rollcam.errors import MediaError

_CHUNK_BYTES = 2**20
_LARGE_BYTES = 2**32 - 2**24
"""Samples from which on sizes and offsets take 64 bits; the tables before them need room too."""
_UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED = 0x55C4  # language code "und", ISO 639-2/T packed as in 8.4.2.3


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a finished file is."""

    width: int
    """In pixels, padding included; columns for text."""
    height: int
    """In pixels, padding included; rows for text."""
    n_encoded: int
    """Pictures in the file."""
    duration_s: float
    """Length in seconds."""
    size_bytes: int
    """Of the file."""
    sha256: str
    """Of the file, in hex."""
    last_s: float = 0.0
    """When the last picture begins, in seconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded picture in a fragmented file."""

    offset: int
    """Of its first byte in the file."""
    size: int
    """In bytes."""
    time: int
    """Decode and presentation time, in ticks."""
    duration: int
    """In ticks, as its fragment says."""
    is_keyframe: bool
    """Whether decoding can begin here."""


def finish_film(
    partial: Path, target: Path | None, *, end: int | None = None, n_encoded: int | None = None
) -> MediaFacts:
    """Write the finished file of a fragmented film.

    Args:
        partial: The fragmented film, as `VideoEncoder` writes it; only read.
        target: File to write; replaced if it exists. `None` writes nothing, and returns what the
            growing film itself is.
        end: Length of the film in ticks; `None` takes the end of the last picture.
        n_encoded: Pictures that have to be there; `None` takes what is there.

    Raises:
        MediaError: There is no picture in it, fewer than were encoded, or it is no such film.
        OSError: The disk is full, or gone.
    """
    with open(partial, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise MediaError(f"{partial} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            head = _head(data, partial)
            samples = list(_samples(data, head.size))
            if not samples or (n_encoded is not None and len(samples) != n_encoded):
                raise MediaError(
                    f"{partial} holds {len(samples)} pictures"
                    + (f" where {n_encoded} were encoded" if n_encoded else "")
                )
            last = samples[-1]
            length = max(end or 0, last.time + (last.duration if end is None else 1))
            if target is None:
                digest, size = hashlib.sha256(data).hexdigest(), len(data)
            else:
                digest, size = _write(target, head, samples, length, data)
    length_s, last_s = length / head.timescale, last.time / head.timescale
    return MediaFacts(head.width, head.height, len(samples), length_s, size, digest, last_s)


def has_samples(partial: Path) -> bool:
    """Whether a film that grows or grew holds a whole picture.

    Raises:
        MediaError: It has no head that says how to read it.
    """
    with open(partial, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return next(_samples(data, _head(data, partial).size), None) is not None


@dataclass(frozen=True, slots=True)
class _Head:
    size: int
    timescale: int
    width: int
    height: int
    description: bytes
    handler: bytes


def _boxes(data: mmap.mmap | bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the payload, end) of the boxes between `start` and `stop`."""
    while start + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > stop:
            return
        yield kind, start + 8, start + size
        start += size


def _find(data: mmap.mmap | bytes, path: str, start: int, stop: int) -> tuple[int, int]:
    for name in path.split("/"):
        spans = [(a, b) for kind, a, b in _boxes(data, start, stop) if kind == name.encode()]
        if not spans:
            raise LookupError(name)
        start, stop = spans[0]
    return start, stop


def _head(data: mmap.mmap, label: Path) -> _Head:
    try:
        _, ftyp_end = _find(data, "ftyp", 0, len(data))
        moov, size = _find(data, "moov", ftyp_end, len(data))
        mdhd, _ = _find(data, "trak/mdia/mdhd", moov, size)
        handler, handler_end = _find(data, "trak/mdia/hdlr", moov, size)
        stsd, stsd_end = _find(data, "trak/mdia/minf/stbl/stsd", moov, size)
        (timescale,) = struct.unpack_from(">I", data, mdhd + (20 if data[mdhd] == 1 else 12))
        # VisualSampleEntry (12.1.3): width and height stand 24 bytes into its payload.
        width, height = struct.unpack_from(">HH", data, stsd + 8 + 8 + 24)
    except (LookupError, struct.error) as error:
        raise MediaError(f"{label} is no film in the making: it has no box {error}") from error
    if timescale == 0:
        raise MediaError(f"{label} is no film in the making: it has no time scale")
    return _Head(
        size, timescale, width, height, data[stsd - 8 : stsd_end], data[handler - 8 : handler_end]
    )


def _samples(data: mmap.mmap, start: int) -> Iterator[Sample]:
    """Yield the samples whose fragments are whole; a torn tail ends the film."""
    while start + MOOF_SIZE + 8 <= len(data):
        head: FragmentHead | None = read_head(data, start)
        if head is None or start + MOOF_SIZE + 8 + head.sample_size > len(data):
            return
        offset = start + MOOF_SIZE + 8
        yield Sample(offset, head.sample_size, head.time, head.duration, head.is_keyframe)
        start = offset + head.sample_size


def _write(
    target: Path, head: _Head, samples: list[Sample], length: int, data: mmap.mmap
) -> tuple[str, int]:
    payload = sum(sample.size for sample in samples)
    ftyp = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso2mp41")
    is_large = payload > _LARGE_BYTES
    mdat_head = struct.pack(">I4sQ", 1, b"mdat", payload + 16) if is_large else (
        struct.pack(">I4s", payload + 8, b"mdat")
    )  # fmt: skip
    # The tables hold offsets that depend on their own size; it does not depend on the offsets.
    moov_size = len(_moov(head, samples, length, 0, is_large))
    first = len(ftyp) + moov_size + len(mdat_head)
    moov = _moov(head, samples, length, first, is_large)
    digest = hashlib.sha256()
    with open(target, "wb", buffering=_CHUNK_BYTES) as file:
        for piece in (ftyp, moov, mdat_head):
            digest.update(piece)
            file.write(piece)
        for sample in samples:
            piece = data[sample.offset : sample.offset + sample.size]
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return digest.hexdigest(), size


def _moov(head: _Head, samples: list[Sample], length: int, first: int, is_large: bool) -> bytes:
    mvhd = struct.pack(">QQIQIHHII", 0, 0, head.timescale, length, 0x10000, 0x100, 0, 0, 0)
    mvhd += _UNITY + bytes(24) + struct.pack(">I", 2)
    tkhd = struct.pack(">QQIIQQHHHH", 0, 0, 1, 0, length, 0, 0, 0, 0, 0)
    tkhd += _UNITY + struct.pack(">II", head.width << 16, head.height << 16)
    mdhd = struct.pack(">QQIQHH", 0, 0, head.timescale, length, _UNDETERMINED, 0)
    url = _full_box(b"url ", 0, 1)
    dinf = _box(b"dinf", _full_box(b"dref", 0, 0, struct.pack(">I", 1), url))
    vmhd = _full_box(b"vmhd", 0, 1, bytes(8))
    stbl = _box(b"stbl", head.description, *_tables(samples, length, first, is_large))
    minf = _box(b"minf", vmhd, dinf, stbl)
    mdia = _box(b"mdia", _full_box(b"mdhd", 1, 0, mdhd), head.handler, minf)
    trak = _box(b"trak", _full_box(b"tkhd", 1, 3, tkhd), mdia)
    return _box(b"moov", _full_box(b"mvhd", 1, 0, mvhd), trak)


def _tables(samples: list[Sample], length: int, first: int, is_large: bool) -> Iterator[bytes]:
    # A film whose first frames were dropped shows its first picture from the start.
    times = [0, *(sample.time for sample in samples[1:]), length]
    deltas = [after - before for before, after in itertools.pairwise(times)]
    runs = _runs(deltas)
    yield _full_box(b"stts", 0, 0, _table(">II", ((n, delta) for delta, n in runs), len(runs)))
    keys = [number for number, s in enumerate(samples, 1) if s.is_keyframe]
    yield _full_box(b"stss", 0, 0, _table(">I", ((key,) for key in keys), len(keys)))
    chunks = list(_chunks(samples))
    runs = _runs(chunks)
    starts = itertools.accumulate((n_chunks for _, n_chunks in runs), initial=1)
    rows = [(start, n, 1) for start, (n, _) in zip(starts, runs, strict=False)]
    yield _full_box(b"stsc", 0, 0, _table(">III", rows, len(rows)))
    sizes = _table(">I", ((s.size,) for s in samples), len(samples))
    yield _full_box(b"stsz", 0, 0, bytes(4), sizes)
    offsets, position, index = [], first, 0
    for n in chunks:
        offsets.append((position,))
        position += sum(s.size for s in samples[index : index + n])
        index += n
    kind, row = (b"co64", ">Q") if is_large else (b"stco", ">I")
    yield _full_box(kind, 0, 0, _table(row, offsets, len(offsets)))


def _chunks(samples: list[Sample]) -> Iterator[int]:
    """Yield the number of samples of each chunk: what a player reads in one go."""
    count, size = 0, 0
    for sample in samples:
        if count and size + sample.size > _CHUNK_BYTES:
            yield count
            count, size = 0, 0
        count, size = count + 1, size + sample.size
    yield count


def _runs(values: Iterable[int]) -> list[tuple[int, int]]:
    """Return (value, times in a row)."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


def _table(row: str, rows: Iterable[tuple[int, ...]], n_rows: int) -> bytes:
    packer = struct.Struct(row)
    return struct.pack(">I", n_rows) + b"".join(packer.pack(*values) for values in rows)


def _box(kind: bytes, *payload: bytes) -> bytes:
    body = b"".join(payload)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full_box(kind: bytes, version: int, flags: int, *payload: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *payload)

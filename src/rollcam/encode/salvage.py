"""Frames out of an MP4 that has no index (`moov`), with the help of a film by the same recorder.

A killed recorder leaves `ftyp` and `mdat`: every sample is there, one after the other, but neither
where they begin nor the parameter sets without which nothing decodes. The samples can be found
again (H.264: each NAL unit has its length before it; MPEG-4 Part 2: start codes), and the parameter
sets are the same in every film that the same recorder made.

ISO/IEC 14496-15, 5.3.3 (`avcC`, length prefixes) and 14496-10, 7.3.1 and 7.3.3 (NAL unit types,
`first_mb_in_slice`); ISO/IEC 14496-2, table 6-3 (start codes).
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from rollcam.encode.boxes import Mp4Layout, read_layout
from rollcam.encode.rewrite import Shown
from rollcam.encode.streams import DEFAULT_RATE, as_rate, open_media, reading_errors
from rollcam.errors import MediaError, require

_TRIAL_SAMPLES = 30
_MAX_SIBLINGS = 200
_SLICES = (1, 5)  # NAL unit types of a picture's data
_LEADERS = (6, 7, 8, 9)  # what stands before a picture: SEI, SPS, PPS, delimiter
_VOP = 0xB6
_START_CODE = b"\x00\x00\x01"
_HELP = (
    "give it a film that the same recorder finished, with the same settings: "
    "rollcam transcode FILE --like GOOD.mp4"
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to decode samples that have lost their index."""

    codec: str
    """`h264` or `mpeg4`."""
    header: bytes
    """Parameter sets that go before the first sample; empty when they stand among the samples."""
    length_size: int
    """Bytes of a NAL unit's length, for H.264."""
    rate: Fraction
    """Frames per second."""
    learned_from: Path | None
    """The film that it was learned from."""


class Salvage:
    """The frames of an MP4 without an index.

    Args:
        path: The broken film.
        like: A film by the same recorder; `None` tries those in the same folder.

    Raises:
        MediaError: The file holds no samples, or nothing at hand says how to decode them.
    """

    def __init__(self, path: Path, like: Path | None = None) -> None:
        self.path = path
        self.n_damaged = 0
        """Samples that could not be decoded, so far."""
        layout = read_layout(path)
        if layout is None or layout.mdat is None or layout.mdat.body >= path.stat().st_size:
            raise MediaError(
                f"{path} has no index (moov) and no samples either; nothing is left of it"
            )
        self._start, self._end = layout.mdat.body, min(layout.mdat.end, path.stat().st_size)
        self.recipe = self._find_recipe(layout, like)

    def __iter__(self) -> Iterator[Shown]:
        """Yield the frames at the constant rate of the recipe: their own times are lost."""
        duration = 1 / self.recipe.rate
        decoder = _decoder(self.recipe)
        with self._samples(self.recipe) as samples:
            pictures = itertools.chain.from_iterable(
                self._decode(decoder, sample) for sample in itertools.chain(samples, (None,))
            )
            for n, picture in enumerate(pictures):
                yield Shown(picture, n * duration, duration)

    def _find_recipe(self, layout: Mp4Layout, like: Path | None) -> Recipe:
        for recipe in _recipes(self.path, layout, like):
            if self._fits(recipe):
                return recipe
        if like is not None:
            raise MediaError(
                f"{self.path} has no index (moov), and {like} does not fit: it is no H.264 or "
                f"MPEG-4 film, or another recorder or other settings made it; {_HELP}"
            )
        raise MediaError(
            f"{self.path} has no index (moov), and no finished film beside it says how its frames "
            f"are coded; {_HELP}"
        )

    def _fits(self, recipe: Recipe) -> bool:
        """Whether the first samples decode without a single error; the file's last may be torn."""
        decoder, n_pictures = _decoder(recipe), 0
        with self._samples(recipe) as samples:
            head = list(itertools.islice(samples, _TRIAL_SAMPLES + 1))
        if len(head) > 1:
            head.pop()
        try:
            for sample in (*head, None):
                n_pictures += len(_pictures(decoder, sample))
        except reading_errors():
            return False
        return n_pictures > 0

    def _decode(self, decoder: Any, sample: bytes | None) -> list[Any]:
        try:
            return _pictures(decoder, sample)
        except reading_errors():
            self.n_damaged += 1
            return []

    @contextlib.contextmanager
    def _samples(self, recipe: Recipe) -> Iterator[Iterator[bytes]]:
        with (
            open(self.path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if recipe.codec == "h264":
                units = h264_samples(data, self._start, self._end, recipe.length_size)
                samples = (_annex_b(sample, recipe.length_size) for sample in units)
            else:
                samples = (sample for sample in mpeg4_samples(data, self._start, self._end))
            yield itertools.chain(
                (recipe.header + s for s in itertools.islice(samples, 1)), samples
            )


def h264_samples(data: Any, start: int, end: int, length_size: int) -> Iterator[bytes]:
    """Yield one picture after the other from length-prefixed NAL units; a torn unit is the end.

    Args:
        data: Bytes, or a memory map.
        start: Where the first unit's length stands.
        end: Where the last unit ends.
        length_size: Bytes of a unit's length.
    """
    first, has_slice = start, False
    for unit, body, unit_end in _nal_units(data, start, end, length_size):
        kind = data[body] & 31
        begins = kind in _LEADERS or (
            # `first_mb_in_slice` is 0, which is coded as one set bit.
            kind in _SLICES and body + 1 < unit_end and bool(data[body + 1] & 0x80)
        )
        if begins and has_slice:
            yield data[first:unit]
            first, has_slice = unit, False
        has_slice = has_slice or kind in _SLICES
        start = unit_end
    if has_slice:
        yield data[first:start]


def _nal_units(data: Any, start: int, end: int, length_size: int) -> Iterator[tuple[int, int, int]]:
    while start + length_size < end:
        body = start + length_size
        unit_end = body + int.from_bytes(data[start:body], "big")
        # Neither is a NAL unit: the samples end here, or other things are mixed in.
        if not body < unit_end <= end or data[body] & 0x80 or not 0 < data[body] & 31 < 24:
            return
        yield start, body, unit_end
        start = unit_end


def _annex_b(sample: bytes, length_size: int) -> bytes:
    units = _nal_units(sample, 0, len(sample), length_size)
    return b"".join(_START_CODE + sample[body:end] for _, body, end in units)


def mpeg4_samples(data: Any, start: int, end: int) -> Iterator[bytes]:
    """Yield one picture after the other from MPEG-4 Part 2, with the headers before each.

    Args:
        data: Bytes, or a memory map.
        start: Where the first start code stands.
        end: Where the last picture ends.
    """
    first, has_picture = start, False
    at = data.find(_START_CODE, start, end)
    if at != start:  # not what MPEG-4 begins with
        return
    while at >= 0 and at + 3 < end:
        if has_picture:
            yield data[first:at]
            first, has_picture = at, False
        has_picture = data[at + 3] == _VOP
        at = data.find(_START_CODE, at + 3, end)
    if has_picture:
        yield data[first:end]


def _pictures(decoder: Any, sample: bytes | None) -> list[Any]:
    packet = None
    if sample is not None:
        # Made from bytes it would lack the zeros that FFmpeg wants behind a packet, and MPEG-4
        # would fail now and then.
        packet = require("av").Packet(len(sample))
        packet.update(sample)
    pictures = list(decoder.decode(packet))
    if any(picture.is_corrupt for picture in pictures):
        raise ValueError("a picture is incomplete")
    return pictures


def _decoder(recipe: Recipe) -> Any:
    decoder = require("av").CodecContext.create(recipe.codec, "r")
    # Wrong parameter sets show as errors, which the decoder would hide by patching the picture up.
    decoder.options = {"err_detect": "explode"}
    decoder.thread_count = 1
    return decoder


def _recipes(path: Path, layout: Mp4Layout, like: Path | None) -> Iterator[Recipe]:
    seen = set()
    for film in _siblings(path, layout) if like is None else (like,):
        recipe = _learn(film)
        if recipe is not None and (recipe.codec, recipe.header) not in seen:
            seen.add((recipe.codec, recipe.header))
            yield recipe
    # Some recorders repeat the parameter sets among the samples.
    yield Recipe("h264", b"", 4, DEFAULT_RATE, None)
    yield Recipe("mpeg4", b"", 4, DEFAULT_RATE, None)


def _siblings(path: Path, layout: Mp4Layout) -> Iterator[Path]:
    """Yield whole films of the same kind in the folder, those made at about the same time first."""
    films = []
    made_at = path.stat().st_mtime
    with os.scandir(path.parent) as entries:
        for entry in entries:
            is_film = entry.name.lower().endswith(".mp4") and not entry.name.startswith(".")
            if is_film and entry.name != path.name and entry.is_file():
                films.append((abs(entry.stat().st_mtime - made_at), Path(entry.path)))
    for _, film in sorted(films)[:_MAX_SIBLINGS]:
        with contextlib.suppress(OSError):
            other = read_layout(film)
            if other is not None and other.moov is not None and other.brand == layout.brand:
                yield film


def _learn(film: Path) -> Recipe | None:
    errors: tuple[type[Exception], ...] = (OSError, *reading_errors())
    try:
        with open_media(film) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.codec.canonical_name
            if codec not in ("h264", "mpeg4"):
                return None
            header, length_size = bytes(stream.codec_context.extradata or b""), 4
            if codec == "h264" and header[:1] == b"\x01":  # an `avcC`
                header, length_size = _parameter_sets(header), (header[4] & 3) + 1
            return Recipe(codec, header, length_size, as_rate(stream.average_rate), film)
    except errors:
        return None


def _parameter_sets(avcc: bytes) -> bytes:
    """Return the SPS and PPS of an `avcC` box as an Annex B byte stream."""
    sets, at = [], 5
    for mask in (0x1F, 0xFF):  # the number of SPS has five bits
        at, count = at + 1, avcc[at] & mask
        for _ in range(count):
            size = int.from_bytes(avcc[at : at + 2], "big")
            sets.append(_START_CODE + avcc[at + 2 : at + 2 + size])
            at += 2 + size
    return b"".join(sets)

"""What FFmpeg finds in a media file: one pass over its packets, nothing judged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rollcam.errors import MediaError, require

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

DEFAULT_RATE = Fraction(30)
"""Frames per second where a file says nothing about it."""

_MAX_RATE = 1000
# ITU-T H.273, tables 2 to 4, under the names that FFmpeg gives them; 2 is "unspecified".
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020",
    12: "smpte432",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear",
    13: "iec61966-2-1", 14: "bt2020-10", 16: "smpte2084", 18: "arib-std-b67",
}  # fmt: skip
_MATRICES = {
    0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c",
}  # fmt: skip
_RANGES = {1: "tv", 2: "pc"}


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """The first video stream of a file."""

    format: str
    """FFmpeg's name of the container, such as `matroska,webm`."""
    codec: str
    """FFmpeg's name of the codec, such as `h264`."""
    profile: str | None
    """Of the codec, such as `High`."""
    pix_fmt: str | None
    """Pixel format, such as `yuv420p`."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    rate: Fraction
    """Frames per second, on average."""
    n_frames: int
    """Packets that arrived whole."""
    n_declared: int
    """Frames that the container's index lists; 0 where it has none."""
    n_hidden: int
    """Frames of the index that an edit list hides."""
    start_s: Fraction
    """When the first frame is shown, in seconds."""
    duration_s: Fraction
    """From the start of the first frame to the end of the last, in seconds."""
    declared_s: Fraction | None
    """Length that the container declares, in seconds."""
    torn: bool
    """Whether the file ends, or is damaged, inside a packet."""
    reorders: bool
    """Whether frames are stored in another order than they are shown (B-frames)."""
    decodes: bool
    """Whether a first frame comes out of the decoder."""
    n_other_streams: int
    """Sound, subtitles and further pictures."""
    color_space: str | None
    """Matrix that RGB was converted with; None when the file does not say."""
    color_primaries: str | None
    """What red, green and blue are; None when the file does not say."""
    color_trc: str | None
    """Transfer function; None when the file does not say."""
    color_range: str | None
    """`tv` (16 to 235) or `pc` (0 to 255); None when the file does not say."""


def open_media(path: str | os.PathLike[str]) -> InputContainer:
    """Open a file for reading, and only a file.

    A name such as `a:b.mp4` is no protocol, and a playlist in disguise fetches nothing.

    Raises:
        av.FFmpegError: FFmpeg cannot read it.
    """
    av = require("av")
    # PyAV 19 has no such argument, and raises nothing on a title that is no UTF-8.
    is_strict = int(av.__version__.partition(".")[0]) < 19
    container: InputContainer = av.open(
        "file:" + os.fspath(path),
        # Not `options`: they go to each stream too, where PyAV 16 crashes on FLV.
        container_options={"protocol_whitelist": "file"},
        **({"metadata_errors": "replace"} if is_strict else {}),
    )
    return container


def reading_errors() -> tuple[type[Exception], ...]:
    """Return what PyAV raises on a damaged file: FFmpeg's errors, and its own on odd numbers."""
    return (require("av").FFmpegError, ValueError, ArithmeticError, LookupError)


def as_rate(value: Any) -> Fraction:
    """Return a stream's rate as a usable fraction: PyAV has None, 0, and types of its own."""
    if not value:
        return DEFAULT_RATE
    rate = Fraction(value.numerator, value.denominator)
    return rate if 0 < rate <= _MAX_RATE else DEFAULT_RATE


def is_whole(packet: Packet[Any]) -> bool:
    """Whether a packet is a frame to be shown, there to its last byte."""
    return bool(packet.size) and not packet.is_corrupt and not packet.is_discard


def read_stream(path: str | os.PathLike[str]) -> StreamFacts | None:
    """Read every packet of a file's first video stream, and decode its first frame.

    Returns:
        `None` when the file holds no video stream.

    Raises:
        MediaError: FFmpeg cannot read the file.
    """
    errors = reading_errors()
    try:
        with open_media(path) as container:
            if not container.streams.video:
                return None
            if container.streams.video[0].codec_context is None:
                raise MediaError("its codec is none that FFmpeg knows")
            return _facts(container, _scan(container, errors))
    except errors as error:
        raise MediaError(f"FFmpeg cannot read it: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return what went wrong without FFmpeg's error number and without the file's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@dataclass(slots=True)
class _Scan:
    n_whole: int = 0
    n_hidden: int = 0
    first_pts: int | None = None
    last_pts: int = 0
    end_pts: int = 0
    torn: bool = False
    reorders: bool = False
    decodes: bool = False

    def add(self, packet: Packet[Any], frame_ticks: int) -> None:
        # AVI and raw streams have no presentation times; there frames follow each other.
        pts = packet.pts if packet.pts is not None else self.n_whole * frame_ticks
        if self.first_pts is None:
            self.first_pts = self.last_pts = pts
        self.reorders = self.reorders or pts < self.last_pts
        self.first_pts = min(self.first_pts, pts)
        self.last_pts = max(self.last_pts, pts)
        self.end_pts = max(self.end_pts, pts + (packet.duration or frame_ticks))
        self.n_whole += 1


def _scan(container: InputContainer, errors: tuple[type[Exception], ...]) -> _Scan:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # nothing to gain on one frame
    time_base = stream.time_base or Fraction(1, 1000)
    frame_ticks = max(1, round(1 / (as_rate(stream.average_rate) * _fraction(time_base))))
    scan = _Scan()
    try:
        for packet in container.demux(stream):
            if not scan.decodes:
                scan.decodes = _decodes(packet, errors)
            if is_whole(packet):
                scan.add(packet, frame_ticks)
            elif packet.is_discard:
                scan.n_hidden += 1
            elif packet.size:
                scan.torn = True
    except errors:
        scan.torn = True
    return scan


def _decodes(packet: Packet[Any], errors: tuple[type[Exception], ...]) -> bool:
    try:
        return bool(packet.decode())
    except errors:
        return False


def _facts(container: InputContainer, scan: _Scan) -> StreamFacts:
    stream = container.streams.video[0]
    context = stream.codec_context
    time_base = _fraction(stream.time_base or Fraction(1, 1000))
    first = scan.first_pts or 0
    return StreamFacts(
        format=container.format.name,
        codec=context.codec.canonical_name,
        profile=context.profile,
        pix_fmt=context.pix_fmt,
        width=context.width,
        height=context.height,
        rate=as_rate(stream.average_rate),
        n_frames=scan.n_whole,
        n_declared=stream.frames,
        n_hidden=scan.n_hidden,
        start_s=first * time_base,
        duration_s=max(0, scan.end_pts - first) * time_base,
        declared_s=Fraction(container.duration, 1_000_000) if container.duration else None,
        torn=scan.torn,
        reorders=scan.reorders,
        decodes=scan.decodes,
        n_other_streams=len(container.streams) - 1,
        color_space=_name(_MATRICES, context.colorspace),
        color_primaries=_name(_PRIMARIES, context.color_primaries),
        color_trc=_name(_TRANSFERS, context.color_trc),
        color_range=_RANGES.get(int(context.color_range)),
    )


def _fraction(value: Any) -> Fraction:
    return Fraction(value.numerator, value.denominator)


def _name(names: dict[int, str], code: int) -> str | None:
    return None if code == 2 else names.get(int(code), str(int(code)))

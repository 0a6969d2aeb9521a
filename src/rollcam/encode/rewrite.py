"""A film written anew: its packets copied, or its frames encoded again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollcam.encode.codecs import choose_codec, set_up
from rollcam.encode.streams import DEFAULT_RATE, as_rate, is_whole, open_media, reading_errors
from rollcam.encode.yuv import Yuv420
from rollcam.errors import EncoderFailed, MediaError, require

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Progress = Callable[[int], None]
"""Called with the number of frames done so far."""

_TICKS = 90_000  # a multiple of every usual frame rate, and of milliseconds
_KEYFRAME_EVERY_S = 4
_MAX_GOP = 250
_WITHOUT_TIMES = ("avi",)
"""Containers that know when a frame is decoded, but not when it is shown; FFmpeg's guess fails."""
_BT601_TAGS = "colour_primaries=6:transfer_characteristics=6:matrix_coefficients=6"


class CannotCopyError(MediaError):
    """The packets do not say enough to be copied; encoding helps."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A decoded frame and when it is shown."""

    picture: VideoFrame
    """In whatever format the decoder gives."""
    at_s: Fraction
    """From the start of the film, in seconds."""
    duration_s: Fraction
    """In seconds."""


class FrameReader:
    """Decodes a file, in the order of presentation, past whatever is damaged in it.

    Args:
        path: The film.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rate = DEFAULT_RATE
        """Frames per second, on average; known from the first frame on."""
        self.n_damaged = 0
        """Packets that could not be decoded, so far."""
        self._errors = reading_errors()
        self._has_times = True
        self._decoded_at: list[int | None] = []

    def __iter__(self) -> Iterator[Shown]:
        """Yield the frames; times begin at 0 and strictly increase.

        Raises:
            MediaError: FFmpeg cannot open the file.
        """
        try:
            container = open_media(self.path)
        except self._errors as error:
            raise MediaError(f"{self.path} cannot be opened: {error}") from error
        with container:
            stream = container.streams.video[0]
            self.rate = as_rate(stream.average_rate)
            self._has_times = container.format.name not in _WITHOUT_TIMES
            yield from self._timed(self._decoded(container, stream))

    def _decoded(self, container: Any, stream: VideoStream) -> Iterator[VideoFrame]:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    yield from self._decode(packet)
        except self._errors:
            self.n_damaged += 1
        yield from self._flush(stream)

    def _decode(self, packet: Packet[Any]) -> list[Any]:
        if packet.is_corrupt:
            return []
        try:
            pictures = list(packet.decode())
        except self._errors:
            self.n_damaged += 1
            return []
        self._decoded_at.append(packet.dts)
        return pictures

    def _flush(self, stream: VideoStream) -> list[VideoFrame]:
        try:
            return list(stream.codec_context.decode(None))
        except self._errors:
            return []

    def _timed(self, pictures: Iterable[VideoFrame]) -> Iterator[Shown]:
        offset, last, due = None, Fraction(-1), Fraction(0)
        for n, picture in enumerate(pictures):
            # Frames come out in the order of presentation, so the n-th is shown where the n-th was
            # decoded.
            pts = picture.pts
            if not self._has_times:
                pts = self._decoded_at[n] if n < len(self._decoded_at) else None
            base = picture.time_base
            at, length = due, 1 / self.rate
            if pts is not None and base is not None:
                tick = Fraction(base.numerator, base.denominator)
                offset = pts * tick if offset is None else offset
                at = pts * tick - offset
                length = (picture.duration or 0) * tick or length
                if at <= last:  # the clock jumped back, as where films were joined
                    offset, at = offset - (due - at), due
            last, due = at, at + length
            yield Shown(picture, at, length)


@dataclass(frozen=True, slots=True)
class Written:
    """What a rewrite put into its target."""

    n_frames: int
    """Frames handed to the muxer."""
    notes: tuple[str, ...] = ()
    """What the user should know, one sentence each."""


def encode_film(
    frames: Iterable[Shown],
    target: Path,
    *,
    rate: Callable[[], Fraction],
    crf: int,
    progress: Progress | None = None,
) -> Written:
    """Encode frames into a fast-start H.264 MP4, each at its own time.

    Args:
        frames: In the order of presentation.
        target: File to write; replaced if it exists.
        rate: Frames per second, asked for when the first frame is there.
        crf: Quality of x264, 1 (best) to 51.
        progress: Told about each frame.

    Raises:
        MediaError: There is no frame.
        CodecUnavailable: This build of FFmpeg has no H.264 encoder.
        EncoderFailed: The encoder or the disk gave up.
    """
    film = _Film(target, crf)
    try:
        for shown in frames:
            film.add(shown, rate)
            if progress is not None:
                progress(film.n_frames)
        return film.finish()
    finally:
        film.close()


class _Film:
    def __init__(self, target: Path, crf: int) -> None:
        self.n_frames = 0
        self._target = target
        self._codec = choose_codec("h264", crf)
        self._yuv = Yuv420()
        self._output: Any = None
        self._stream: Any = None
        self._last = -1
        self._durations: dict[int, int] = {}

    def add(self, shown: Shown, rate: Callable[[], Fraction]) -> None:
        picture = self._yuv.convert(shown.picture)
        if self._output is None:
            self._open(picture, rate())
        # Never twice at the same time: a frame would be gone.
        time = max(round(shown.at_s * _TICKS), self._last + 1)
        picture.pts, picture.time_base = time, Fraction(1, _TICKS)
        self._durations[time] = max(1, round(shown.duration_s * _TICKS))
        self._last = time
        self._encode(picture)
        self.n_frames += 1

    def finish(self) -> Written:
        if self._output is None:
            raise MediaError(
                "not one frame of it can be decoded; there is nothing to make a film of"
            )
        self._encode(None)
        try:
            self._output.close()
        except require("av").FFmpegError as error:
            raise _failed(self._target, error) from error
        self._output = None
        if not self._yuv.n_resized:
            return Written(self.n_frames)
        note = (
            f"{self._yuv.n_resized} frames had another size than the first and were scaled to it."
        )
        return Written(self.n_frames, (note,))

    def close(self) -> None:
        """Let go of the file after a failure, whose error is on its way already."""
        output, self._output = self._output, None
        if output is not None:
            try:
                output.close()
            except require("av").FFmpegError:
                return

    def _open(self, picture: VideoFrame, rate: Fraction) -> None:
        options = dict(self._codec.options)
        if self._codec.encoder == "libx264":
            options.pop(
                "tune", None
            )  # nobody kills a copy for its last frame; looking ahead is smaller
        try:
            self._output = require("av").open(
                str(self._target), "w", format="mp4", container_options=_mp4_options(_TICKS)
            )
            self._stream = self._output.add_stream(self._codec.encoder, rate=rate)
            context = self._stream.codec_context
            set_up(context, picture.width, picture.height, rate, options=options)
            context.time_base = Fraction(1, _TICKS)
            context.gop_size = min(_MAX_GOP, max(12, round(_KEYFRAME_EVERY_S * rate)))
        except require("av").FFmpegError as error:
            raise _failed(self._target, error) from error

    def _encode(self, picture: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(picture):
                # The muxer knows where the next frame begins, but not where the last one ends.
                packet.duration = self._durations.pop(packet.pts, 0)
                self._output.mux(packet)
        except require("av").FFmpegError as error:
            raise _failed(self._target, error) from error


def copy_film(
    source: Path, target: Path, *, tag_bt601: bool, progress: Progress | None = None
) -> Written:
    """Copy the whole packets of a film into a fast-start MP4, beginning at time 0.

    Args:
        source: The film; its codec must be one that MP4 takes.
        target: File to write; replaced if it exists.
        tag_bt601: Write into the H.264 stream that its colours are BT.601.
        progress: Told about each packet.

    Raises:
        CannotCopyError: The packets carry no usable times; encode instead.
        EncoderFailed: The disk gave up.
    """
    av = require("av")
    times = _decode_times(source)
    try:
        with open_media(source) as opened, av.open(
            str(target), "w", format="mp4", container_options=_mp4_options(times.timescale)
        ) as output:  # fmt: skip
            stream = opened.streams.video[0]
            copy = output.add_stream_from_template(stream, opaque=True)
            tagger = _Tagger(stream, copy) if tag_bt601 else None
            for n, packet in enumerate(_whole(opened, stream)):
                times.stamp(packet, n)
                for ready in tagger.filter(packet) if tagger else (packet,):
                    ready.stream = copy
                    output.mux(ready)
                if progress is not None:
                    progress(n + 1)
            for ready in tagger.filter(None) if tagger else ():
                ready.stream = copy
                output.mux(ready)
    except OSError as error:
        raise _failed(target, error) from error
    except reading_errors() as error:
        raise CannotCopyError(f"{source} cannot be copied as it is: {error}") from error
    return Written(len(times.decode))


class _Tagger:
    """Writes colour tags into an H.264 stream without touching its pictures."""

    def __init__(self, stream: VideoStream, copy: Any) -> None:
        from av.bitstream import BitStreamFilterContext

        self._context = BitStreamFilterContext(f"h264_metadata={_BT601_TAGS}", stream, copy)

    def filter(self, packet: Packet[Any] | None) -> list[Any]:
        return list(self._context.filter(packet))


@dataclass(frozen=True, slots=True)
class _Times:
    """When each packet is to be decoded, made anew: Matroska stores none, fragments store late ones."""

    first: int
    """Presentation time that becomes 0, in the source's ticks."""
    decode: list[int]
    """Of each packet, in the source's ticks, relative to `first`."""
    nominal: int
    """Ticks of one frame, for packets without a duration."""
    timescale: int
    """Ticks per second that the target should have."""

    def stamp(self, packet: Packet[Any], n: int) -> None:
        assert packet.pts is not None  # `_decode_times` has seen it
        packet.pts -= self.first
        packet.dts = self.decode[n]
        if not packet.duration:
            packet.duration = self.nominal


def _decode_times(source: Path) -> _Times:
    shown: list[int] = []
    try:
        with open_media(source) as opened:
            stream = opened.streams.video[0]
            base, rate = stream.time_base, as_rate(stream.average_rate)
            if opened.format.name in _WITHOUT_TIMES and stream.codec_context.has_b_frames:
                raise CannotCopyError(f"{source} does not say when its B-frames are shown")
            for packet in _whole(opened, stream):
                if packet.pts is None:
                    raise CannotCopyError(f"{source} does not say when its frames are shown")
                shown.append(packet.pts)
    except reading_errors() as error:
        raise CannotCopyError(f"{source} cannot be read: {error}") from error
    in_order = sorted(set(shown))
    if len(in_order) != len(shown) or not shown or not base:
        raise CannotCopyError(f"{source} has frames that are shown at the same time")
    # Decoding has to begin so early that no frame is shown before it is decoded.
    lead = max(early - late for early, late in zip(in_order, shown, strict=True))
    tick = Fraction(base.numerator, base.denominator)
    ticks_per_s = tick.denominator if tick.numerator == 1 else _TICKS
    return _Times(
        first=in_order[0],
        decode=[time - lead - in_order[0] for time in in_order],
        nominal=max(1, round(1 / (rate * tick))),
        timescale=ticks_per_s * -(-10_000 // ticks_per_s),
    )


def _whole(container: Any, stream: VideoStream) -> Iterator[Packet[Any]]:
    """Yield the packets that are there to their last byte; a torn tail ends the film."""
    try:
        for packet in container.demux(stream):
            if packet.is_discard:
                raise CannotCopyError("an edit list hides some of its frames")
            if is_whole(packet):
                yield packet
    except require("av").error.InvalidDataError:
        return


def _mp4_options(timescale: int) -> dict[str, str]:
    # The film's own scale too: in its default of milliseconds the last frame may be cut short.
    return {
        "movflags": "faststart",
        "video_track_timescale": str(timescale),
        "movie_timescale": str(timescale),
    }


def _failed(target: Path, error: Exception) -> EncoderFailed:
    number = getattr(error, "errno", None)
    detail = os.strerror(number) if isinstance(error, OSError) and number else str(error)
    return EncoderFailed(f"writing a film into {target.parent} failed: {detail}")

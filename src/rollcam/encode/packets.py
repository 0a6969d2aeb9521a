"""Pictures into coded packets: an open encoder, and one that is replaced when it stops for good."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rollcam.encode.aside import Aside, TimedOut, n_stopped
from rollcam.encode.codecs import STOPPED_S, Codec, can_stop, same_priority, set_up
from rollcam.encode.timeline import Timeline
from rollcam.errors import EncoderFailed, require

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

logger = logging.getLogger("rollcam")
T = TypeVar("T")

_KEYFRAME_EVERY_S = 4
_MAX_GOP = 250
_MAX_STOPPED = 10  # in one film: each leaves its memory behind
_MAX_IN_A_ROW = 3
_MAX_LEFT_BEHIND = 40  # in this process


class Packets(Protocol):
    """An open encoder, and the head of the MP4 that its packets belong into."""

    head: bytes
    """What an MP4 of these packets begins with: `ftyp` and `moov`."""
    time_base: Fraction
    """Of the frames' `pts`, in seconds."""

    def encode(self, frame: VideoFrame | None) -> list[Packet[Any]]:
        """Encode a frame; with `None`, return what the encoder still holds.

        Raises:
            EncoderFailed: The encoder refused it, or stopped.
        """

    def close(self) -> None:
        """Free the encoder here and now. May be called twice."""


def open_packets(width: int, height: int, timeline: Timeline, codec: Codec) -> Packets:
    """Open an encoder.

    Args:
        width: Of the frames, in pixels; even.
        height: Of the frames, in pixels; even.
        timeline: Rates of capture and of the file.
        codec: Encoder and settings.

    Raises:
        EncoderFailed: The encoder does not open at this size, or does not come back.
    """

    def open_one() -> _Opened:
        return _open(width, height, timeline, codec)

    return _Replaced(open_one, codec.encoder) if can_stop(codec.encoder) else open_one()


class _Opened:
    def __init__(self, container: Any, stream: Any, head: bytes, time_base: Fraction) -> None:
        self.head = head
        self.time_base = time_base
        # It writes to memory only; its encoder is what is used.
        self._container = container
        self._stream = stream

    def encode(self, frame: VideoFrame | None) -> list[Packet[Any]]:
        av = require("av")
        try:
            return list(self._stream.encode(frame))
        except (av.FFmpegError, ValueError) as error:
            raise EncoderFailed(f"the encoder refused a frame: {error}") from error

    def close(self) -> None:
        """Free the encoder in this thread.

        A container and its streams hold each other until one of them is closed: an encoder would keep
        its threads (SVT-AV1 has sixteen) and its memory until a garbage collector comes by, which may
        be on the training thread.
        """
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            # What it has to say at its end goes nowhere.
            with contextlib.suppress(require("av").FFmpegError, ValueError):
                container.close()


class _Replaced:
    """An encoder that can stop for good, and the next one that goes on where it stopped.

    Nothing from outside wakes it, so it is left behind with its thread and its memory. The next one
    gets the frames that no packet came back for. It begins with a key frame, and has the same settings,
    so its packets belong under the head that stands.
    """

    def __init__(self, open_one: Callable[[], _Opened], encoder: str) -> None:
        self._open_one = open_one
        self._encoder = encoder
        self._n_stopped = self._n_in_a_row = 0
        # One packet comes for each frame, in their order: nothing here looks ahead (`codecs`).
        self._due: deque[VideoFrame] = deque()
        self._n_given = 0
        self._ready: list[Packet[Any]] = []
        self._begin()
        self.head, self.time_base = self._opened.head, self._opened.time_base

    def encode(self, frame: VideoFrame | None) -> list[Packet[Any]]:
        if frame is not None:
            self._due.append(frame)
        is_end = frame is None
        while True:
            try:
                self._go_on(is_end=is_end)
            except TimedOut:
                self._aside.end(self._opened.close)
                if not is_end or self._due:
                    self._note_stop()
                    self._begin()
                    continue
            ready, self._ready = self._ready, []
            return ready

    def close(self) -> None:
        if self._aside.is_usable:
            self._aside.end(self._opened.close)

    def _go_on(self, *, is_end: bool) -> None:
        """Give the encoder what it has not got: one frame, or all that are due after a stop."""
        while self._n_given < len(self._due):
            self._n_given += 1
            self._take(self._due[self._n_given - 1])
        if is_end:
            self._take(None)

    def _take(self, frame: VideoFrame | None) -> None:
        opened = self._opened
        packets = self._call(lambda: opened.encode(frame))
        self._n_in_a_row = 0
        for packet in packets:
            self._ready.append(packet)
            self._due.popleft()
            self._n_given -= 1

    def _begin(self) -> None:
        while True:
            self._n_given = 0
            self._aside = Aside("rollcam-encoder")
            late: list[_Opened] = []
            try:
                self._opened: _Opened = self._call(partial(_opened_into, late, self._open_one))
                return
            except TimedOut:
                self._aside.end(partial(_close_all, late))
                self._note_stop()
            except BaseException:
                self._aside.end()
                raise

    def _call(self, function: Callable[[], T]) -> T:
        # The second time, it may have been work after all.
        return self._aside.call(function, STOPPED_S << self._n_in_a_row)

    def _note_stop(self) -> None:
        self._n_stopped += 1
        self._n_in_a_row += 1
        if self._n_in_a_row > _MAX_IN_A_ROW or self._n_stopped > _MAX_STOPPED:
            raise EncoderFailed(
                f"{self._encoder} stopped {self._n_stopped} times in one film, {self._n_in_a_row} "
                "of them in a row; give it a processor to spare, or use codec='h264'"
            )
        if n_stopped() > _MAX_LEFT_BEHIND:
            raise EncoderFailed(
                f"{self._encoder} stopped {n_stopped()} times in this process, and each time its "
                "memory and its threads stay; use codec='h264'"
            )
        logger.warning(
            "%s stopped, as it can on a machine with more work than processors, and another one goes "
            "on with the film; no frame is lost. codec='h264' has no such fault",
            self._encoder,
        )


def _opened_into(late: list[_Opened], open_one: Callable[[], _Opened]) -> _Opened:
    late.append(open_one())
    return late[0]


def _close_all(opened: list[_Opened]) -> None:
    for one in opened:
        one.close()


def _open(width: int, height: int, timeline: Timeline, codec: Codec) -> _Opened:
    av = require("av")

    memory = io.BytesIO()
    time_base = Fraction(1, timeline.timescale)
    try:
        container = av.open(
            memory, "w", format="mp4",
            container_options={
                "movflags": "empty_moov+default_base_moof+frag_custom",
                "video_track_timescale": str(timeline.timescale),
            },
        )  # fmt: skip
        stream = container.add_stream(codec.encoder, rate=timeline.output_rate)
        context = stream.codec_context
        set_up(context, width, height, timeline.output_rate, options=codec.options)
        context.time_base = time_base
        context.gop_size = min(_MAX_GOP, max(12, round(_KEYFRAME_EVERY_S * timeline.output_rate)))
        with same_priority(codec.encoder):
            container.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        raise EncoderFailed(
            f"{codec.encoder} does not open for {width}x{height} at "
            f"{float(timeline.output_rate):g} fps: {error}"
        ) from error
    return _Opened(container, stream, memory.getvalue(), time_base)

"""Pictures into a growing MP4 that plays at any moment, and from there into the finished file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rollcam.encode.canvas import Canvas
from rollcam.encode.codecs import Codec
from rollcam.encode.faststart import MediaFacts, finish_film
from rollcam.encode.fragments import fragment, sample_of
from rollcam.encode.packets import Packets, open_packets
from rollcam.encode.timeline import Timeline
from rollcam.episode import Picture


class Encoder(Protocol):
    """What becomes of pictures: `VideoEncoder`, here or in another process; see its methods."""

    n_encoded: int

    def add(self, picture: Picture, index: int) -> None:
        """Encode frame `index`."""

    def flush(self) -> None:
        """Write to the file what was encoded so far."""

    def finish(self, n_frames: int) -> int:
        """Encode what is still due and close the growing file."""

    def deliver(self, target: Path | None, end: int) -> MediaFacts:
        """Write the finished file."""

    def close(self) -> None:
        """Close the file as it is."""


class VideoEncoder:
    """Encodes pictures into a fragmented MP4.

    Used from one thread at a time. Holds no container of FFmpeg's open: only the encoder itself,
    and the file, so that a forked child has nothing to close.

    Args:
        path: File to write; replaced if it exists.
        width: Of the pictures, in pixels; odd sizes are padded by repeating the edge.
        height: Of the pictures, in pixels.
        timeline: Rates of capture and of the file.
        codec: Encoder and settings.
        compares: See `Canvas`.

    Raises:
        EncoderFailed: The encoder does not open at this size.
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        timeline: Timeline,
        codec: Codec,
        *,
        compares: bool = False,
    ) -> None:
        self.path = path
        self.width, self.height = width + width % 2, height + height % 2
        self.n_encoded = 0
        self._timeline = timeline
        self._codec = codec
        self._last_time = -1
        self._held: int | None = None
        self._pending: list[bytes] = []
        self._packets: Packets = open_packets(self.width, self.height, timeline, codec)
        self._canvas = Canvas(self.width, self.height, (height, width), compares=compares)
        self._file: BinaryIO | None = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._pending.append(self._packets.head)

    def add(self, picture: Picture, index: int) -> None:
        """Encode frame `index`.

        Args:
            picture: `(height, width, 3)` uint8 RGB, any strides; read before this returns.
            index: Number of the captured frame; gaps are frames that were dropped.

        Raises:
            EncoderFailed: The encoder refused it.
        """
        self._canvas.paint(picture)
        slots = list(self._timeline.slots(index))
        if self._last_time < 0 and not slots:
            slots = [self._timeline.true_slot(index)]
        self._held = None if slots else index
        for time, duration in slots:
            self._encode(time, duration)

    def flush(self) -> None:
        """Write to the file what was encoded so far; afterwards the file plays up to there.

        Raises:
            OSError: The disk is full, or gone.
        """
        if self._pending and self._file is not None:
            data = b"".join(self._pending)
            self._pending.clear()
            write_all(self._file, data)

    def finish(self, n_frames: int) -> int:
        """Encode what is still due and close the file.

        Args:
            n_frames: Frames captured, dropped ones included: the film lasts that long.

        Returns:
            The film's length in ticks of `timeline.timescale`.
        """
        if self._held is not None:
            self._encode(*self._timeline.true_slot(self._held))
        if self._timeline.repeats_last and self._last_time >= 0:
            time, duration = self._timeline.repeat_slot(n_frames)
            if time > self._last_time:
                self._encode(time, duration)
        for packet in self._packets.encode(None):
            self._queue(packet, 1)
        self.flush()
        self.close()
        return self._timeline.end(n_frames)

    def deliver(self, target: Path | None, end: int) -> MediaFacts:
        """Write the finished file, after `finish`.

        Args:
            target: File to write; replaced if it exists. `None` writes nothing, and returns what the
                growing film itself is.
            end: What `finish` returned.

        Raises:
            MediaError: Pictures are missing in what grew.
            OSError: The disk is full, or gone.
        """
        return finish_film(self.path, target, end=end, n_encoded=self.n_encoded)

    def close(self) -> None:
        """Close the file as it is, and end the encoder with its threads. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._packets.close()

    def _encode(self, time: int, duration: int) -> None:
        self._last_time = time
        for packet in self._packets.encode(self._canvas.frame_at(time, self._packets.time_base)):
            self._queue(packet, duration)

    def _queue(self, packet: Any, duration: int) -> None:
        self.n_encoded += 1
        sample = sample_of(bytes(packet), self._codec.family)
        self._pending.append(
            fragment(
                self.n_encoded,
                sample,
                decode_time=packet.pts,
                duration=duration,
                is_keyframe=packet.is_keyframe,
            )
        )


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file, which may take it in pieces."""
    view = memoryview(data)
    while view:
        written = file.write(view)
        view = view[written:]

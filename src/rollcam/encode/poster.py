"""One picture of a film, small, as JPEG: what a gallery shows before anybody presses play."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollcam.encode.streams import open_media, reading_errors
from rollcam.errors import MediaError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_SIDE = 320
"""Longer side in pixels."""
_MAX_DECODED = 2000
"""Pictures decoded in search of the right one; a film without key frames must not hold anybody up."""
_QUALITY = "4"  # of FFmpeg's mjpeg, 2 to 31: 8 to 15 kB at this size


def poster(film: Path, at_s: float) -> bytes:
    """Return the picture that a film shows at a time, as JPEG.

    Args:
        film: The film.
        at_s: Seconds from its start; beyond its end the last picture counts.

    Raises:
        MediaError: There is no picture in it.
    """
    errors = reading_errors()
    try:
        picture = _picture(film, at_s, errors)
        if picture is None:
            raise MediaError(f"{film} holds no picture")
        return _jpeg(picture)
    except errors as error:
        raise MediaError(f"no poster can be made of {film}: {error}") from error


def _picture(film: Path, at_s: float, errors: Any) -> VideoFrame | None:
    with open_media(film) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)  # type: ignore[union-attr]
        target = int(Fraction(at_s) / base) + (stream.start_time or 0)
        if at_s > 0:
            try:
                container.seek(target, stream=stream, backward=True)
            except errors:  # beyond the end, or a file without an index: from the start, then
                container.seek(0)
        shown = None
        try:
            for n, picture in enumerate(container.decode(stream)):
                is_after = picture.pts is not None and picture.pts > target
                if shown is None or not is_after:
                    shown = picture
                if is_after or n > _MAX_DECODED:
                    break
        except errors:  # a torn film shows what it has
            if shown is None:
                raise
        return shown


def _jpeg(picture: VideoFrame) -> bytes:
    from av.video.codeccontext import VideoCodecContext

    scale = min(1.0, MAX_SIDE / max(picture.width, picture.height))
    width, height = (
        max(2, round(side * scale / 2) * 2) for side in (picture.width, picture.height)
    )
    small = picture.reformat(width=width, height=height, format="yuvj420p")
    small.pts = 0
    encoder = VideoCodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.qmin = encoder.qmax = int(_QUALITY)
    return b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])

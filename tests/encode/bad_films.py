"""Films made for real, in all the ways in which films go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from rollcam.encode.boxes import read_layout
from rollcam.encode.codecs import same_priority
from tests import barcode

SIZE = (160, 120)
TICKS = 90_000
FASTSTART = {"movflags": "faststart"}
FRAGMENTS = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
GOOD = {"bf": "0", "preset": "ultrafast"}
BT709, SMPTE170M, TV, PC = 1, 6, 1, 2


def film(
    path: Path,
    n: int = 12,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = SIZE,
    rate: int = 30,
    options: Mapping[str, str] = GOOD,
    container: Mapping[str, str] = FASTSTART,
    matrix: int | None = SMPTE170M,
    color_range: int = TV,
    times: Sequence[Fraction] | None = None,
    last_s: Fraction | None = None,
    draw: Callable[..., barcode.Frame] = barcode.draw,
    form: str | None = None,
    title: str = "",
) -> Path:
    """Write `n` frames that carry their index; untagged where `matrix` is None."""
    tick = Fraction(1, TICKS) if times is not None else Fraction(1, rate)
    shown = times or [Fraction(i, rate) for i in range(n)]
    swscale = VideoReformatter()
    is_planar = pix_fmt.startswith("yuv")
    with (
        same_priority(codec),  # or SVT-AV1 would make the whole test process realtime, under root
        av.open(str(path), "w", format=form, container_options=dict(container)) as output,
    ):
        if title:
            output.metadata["title"] = title
        stream = output.add_stream(codec, rate=rate, options=dict(options))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = *size, pix_fmt
        context.time_base = tick
        if matrix is not None and is_planar:
            context.colorspace = context.color_primaries = context.color_trc = matrix
            context.color_range = color_range
        for index, at in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(draw(index, *size), format="rgb24")
            if is_planar:
                frame = swscale.reformat(
                    frame,
                    format=pix_fmt,
                    dst_colorspace=1 if matrix == BT709 else 5,
                    dst_color_range=color_range,
                )
            frame.pts, frame.time_base = round(at / tick), tick
            mux(output, stream.encode(frame), shown[-1], last_s)
        mux(output, stream.encode(None), shown[-1], last_s)
    return path


def mux(output, packets, last_at: Fraction, last_s: Fraction | None) -> None:
    for packet in packets:
        if last_s is not None and packet.pts * packet.time_base == last_at:
            packet.duration = round(last_s / packet.time_base)
        output.mux(packet)


def cut(path: Path, keep: float) -> Path:
    """Keep that share of a file, as a full disk or a broken copy does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def without_moov(path: Path, keep: float = 0.8) -> Path:
    """Leave `ftyp` and that share of the samples of a film whose index stands at the end.

    What FFmpeg has on the disk when it is killed: the length of `mdat` is not yet filled in.
    """
    layout = read_layout(path)
    assert layout is not None
    assert layout.mdat is not None
    mdat = layout.mdat
    data = bytearray(path.read_bytes()[: mdat.body + int((mdat.end - mdat.body) * keep)])
    data[mdat.start : mdat.start + 4] = bytes(4)
    path.write_bytes(data)
    return path


def mpeg4(path: Path, n: int = 12, **more) -> Path:
    """As gym's recorder wrote it."""
    return film(path, n, codec="mpeg4", options={"q:v": "2"}, container={}, matrix=None, **more)


def untagged(path: Path, n: int = 12, **more) -> Path:
    """As Gymnasium's recorder writes it: x264's defaults, `moov` at the end, no colour tags."""
    return film(path, n, options={}, container={}, matrix=None, **more)

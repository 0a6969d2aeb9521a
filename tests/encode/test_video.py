"""`VideoEncoder` and the codecs: what is on the disk at any moment, its pixels, and what is refused."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rollcam.encode.codecs import Codec, choose_codec
from rollcam.encode.faststart import finish_film
from rollcam.encode.probe import probe
from rollcam.encode.timeline import REPEAT_BELOW_FPS, Timeline, as_rate
from rollcam.encode.video import VideoEncoder
from rollcam.errors import CodecUnavailable, EncoderFailed, MediaError, SettingError
from tests import barcode
from tests.films import wait_until

CODECS = ["h264", "vp9", "av1"]
SMPTE170M, TV = 6, 1


def encoder_at(
    path: Path,
    height: int,
    width: int,
    codec: str = "h264",
    *,
    fps: float = 30,
    output_fps: float | None = None,
    quality: str | int = "standard",
) -> VideoEncoder:
    rate = as_rate(fps)
    line = Timeline(rate, rate if output_fps is None else as_rate(output_fps))
    return VideoEncoder(path, width, height, line, choose_codec(codec, quality))


def film_of(
    path: Path, pictures: list[np.ndarray], codec: str = "h264", **settings: Any
) -> list[np.ndarray]:
    """Film the pictures, finish the file, and decode it."""
    growing = path.with_name("growing.mp4")
    encoder = encoder_at(growing, *pictures[0].shape[:2], codec, **settings)
    for index, picture in enumerate(pictures):
        encoder.add(picture, index)
    end = encoder.finish(len(pictures))
    finish_film(growing, path, end=end, n_encoded=encoder.n_encoded)
    return [frame for _, frame in barcode.decode(path)]


def flat(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(64, 64), (193, 257)])
def test_at_any_moment_the_file_holds_exactly_the_frames_so_far(
    tmp_path: Path, codec: str, size: tuple[int, int]
):
    path = tmp_path / "growing.mp4"
    encoder = encoder_at(path, *size, codec)
    for index in range(14):
        encoder.add(barcode.draw(index, size[1], size[0]), index)
        encoder.flush()
        assert barcode.indices(path) == list(range(index + 1))
    encoder.finish(14)
    assert barcode.indices(path) == list(range(14))


@pytest.mark.parametrize("codec", CODECS)
def test_nothing_is_written_before_a_flush_and_nothing_twice(tmp_path: Path, codec: str):
    path = tmp_path / "growing.mp4"
    encoder = encoder_at(path, 64, 64, codec)
    encoder.add(barcode.draw(0, 64, 64), 0)
    encoder.add(barcode.draw(1, 64, 64), 1)
    assert path.stat().st_size == 0
    encoder.flush()
    size = path.stat().st_size
    encoder.flush()
    assert path.stat().st_size == size > 0
    assert encoder.n_encoded == 2
    encoder.close()
    encoder.close()
    encoder.flush()
    assert barcode.indices(path) == [0, 1]


@pytest.mark.parametrize("codec", CODECS)
def test_the_stream_is_what_every_player_expects(tmp_path: Path, codec: str):
    path = tmp_path / "film.mp4"
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (72, 90, 3), np.uint8) for _ in range(30)]
    film_of(path, noise, codec)
    with av.open(path) as container:
        (stream,) = container.streams
        context = stream.codec_context
        assert (context.width, context.height) == (90, 72)
        assert context.pix_fmt == "yuv420p"
        tags = (context.colorspace, context.color_primaries, context.color_trc)
        assert tags == (SMPTE170M,) * 3
        assert context.color_range == TV
        assert not context.has_b_frames
        assert stream.average_rate == 30
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert [p.dts for p in packets] == [p.pts for p in packets]
        assert packets[0].is_keyframe
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        assert all(frame.pict_type != av.video.frame.PictureType.B for frame in frames)
        assert {frame.format.name for frame in frames} == {"yuv420p"}
        assert {int(frame.colorspace) for frame in frames} == {SMPTE170M}
    report = probe(path)
    assert report.plays, report.problems
    assert not report.notes


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(120, 160), (720, 1280)])
def test_flat_patches_keep_their_colours(tmp_path: Path, codec: str, size: tuple[int, int]):
    frames = film_of(
        tmp_path / "film.mp4", [barcode.draw(i, size[1], size[0]) for i in range(3)], codec
    )
    for frame in frames:
        for name, found in barcode.read_patches(frame).items():
            assert np.allclose(found, barcode.PATCHES[name], atol=6), (name, found)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("colour", [*barcode.PATCHES.values(), (250, 120, 20), (0, 0, 0)])
def test_a_flat_picture_keeps_its_colour(tmp_path: Path, codec: str, colour: tuple[int, int, int]):
    for frame in film_of(tmp_path / "film.mp4", [flat(65, 97, colour)] * 3, codec):
        assert np.abs(frame.astype(int) - colour).max() <= 6


@pytest.mark.parametrize("codec", ["h264", "vp9"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (1, 300), (300, 1), (5, 7), (16, 16)])
def test_tiny_films(tmp_path: Path, codec: str, size: tuple[int, int]):
    colours = [(250, 120, 20), (20, 60, 200), (128, 128, 128)]
    frames = film_of(tmp_path / "film.mp4", [flat(*size, c) for c in colours], codec)
    assert len(frames) == 3
    for frame, colour in zip(frames, colours, strict=True):
        assert frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
        assert np.abs(frame.astype(int) - colour).max() <= 12


def test_what_is_too_small_for_an_encoder_fails_before_a_file_is_made(tmp_path: Path, capfd: Any):
    assert len(film_of(tmp_path / "film.mp4", [flat(3, 3, (9, 99, 199))] * 2, "av1")) == 2
    with pytest.raises(EncoderFailed, match=r"libsvtav1 does not open for 2x2 at 30 fps"):
        encoder_at(tmp_path / "tiny.mp4", 1, 1, "av1")
    assert not (tmp_path / "tiny.mp4").exists()


@pytest.mark.parametrize("codec", CODECS)
def test_4k(tmp_path: Path, codec: str):
    frames = film_of(tmp_path / "film.mp4", [barcode.draw(i, 3840, 2160) for i in range(3)], codec)
    assert [frame.shape for frame in frames] == [(2160, 3840, 3)] * 3
    assert [barcode.read(frame) for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(33, 65), (33, 64), (32, 65)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path: Path, codec: str, size: tuple[int, int]):
    height, width = size
    picture = flat(height, width, (0, 0, 255))
    picture[:, width - 1] = (255, 0, 0)
    picture[height - 1] = (0, 128, 0)
    (frame,) = film_of(tmp_path / "film.mp4", [picture], codec, quality=1)
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    shown = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(int)
    edge = np.abs(frame - shown)
    if width % 2:  # both columns have the same colour, so chroma cannot bleed into them
        assert edge[: height - 3, -2:].max() <= 25
    if height % 2:  # FFmpeg's scaler takes some of the chroma from the rows above
        assert edge[-2:, : width - 3].max() <= 45
    assert edge[:24, :56].max() <= 25  # not rescaled: what is flat stays where it was


@pytest.mark.parametrize("change", [np.asfortranarray, lambda a: a[::-1, ::-1].copy()[::-1, ::-1]])
def test_strides_do_not_matter(tmp_path: Path, change: Any):
    pictures = [change(barcode.draw(i, 65, 49)) for i in range(4)]
    frames = film_of(tmp_path / "film.mp4", pictures)
    assert [barcode.read(frame) for frame in frames] == [0, 1, 2, 3]


def test_a_picture_may_be_written_to_once_it_was_added(tmp_path: Path):
    path, canvas = tmp_path / "growing.mp4", np.zeros((48, 64, 3), np.uint8)
    encoder = encoder_at(path, 48, 64)
    for index in range(10):
        canvas[:] = barcode.draw(index, 64, 48)
        encoder.add(canvas, index)
        canvas[:] = 128
    encoder.finish(10)
    assert barcode.indices(path) == list(range(10))


RATES = [
    (30, 30),
    (4, 4),
    (1, 1),
    (20, 20),
    (10, 30),
    (15, 60),
    (30, 50),
    (24, 25),
    (30000 / 1001, 60),
]
RATES += [(30, 10), (60, 24), (50, 30), (60, 7), (30, 0.5), (25, 24), (12.5, 4)]


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("n_frames", [1, 2, 3, 13, 40])
def test_rates_change_the_pictures_and_never_the_times(
    tmp_path: Path, rates: tuple[float, float], n_frames: int
):
    fps, output_fps = map(as_rate, rates)
    path = tmp_path / "film.mp4"
    shown = film_of(
        path,
        [barcode.draw(i, 64, 48) for i in range(n_frames)],
        fps=rates[0],
        output_fps=rates[1],
    )
    with av.open(path) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    n_ticks = math.ceil(n_frames / fps * output_fps)
    expected = [(j / output_fps, math.floor(j * fps / output_fps)) for j in range(n_ticks)]
    if expected[-1][1] != n_frames - 1:  # the last frame is always there
        expected.append(((n_frames - 1) / fps, n_frames - 1))
    found = list(zip(times, map(barcode.read, shown), strict=True))
    if output_fps < REPEAT_BELOW_FPS and len(found) > len(expected):
        time, frame = found.pop()
        assert frame == n_frames - 1
        assert times[-2] < time < n_frames / fps
    else:
        assert output_fps >= REPEAT_BELOW_FPS or output_fps < fps
    assert found == expected
    assert sum(barcode.durations(path)) == pytest.approx(float(n_frames / fps), abs=1e-6)


def test_low_rates_repeat_the_last_frame_for_players_that_drop_it(tmp_path: Path):
    for fps, output_fps, repeats in ((10, 10, 1), (30, 30, 0), (60, 10, 1), (10, 30, 0)):
        pictures = [barcode.draw(i, 64, 48) for i in range(60)]
        frames = film_of(tmp_path / "film.mp4", pictures, fps=fps, output_fps=output_fps)
        n_last = [barcode.read(frame) for frame in frames].count(59)
        assert n_last == repeats + max(1, output_fps // fps)


@pytest.mark.parametrize("output_fps", [10, 30, 60])
def test_dropped_frames_keep_the_times_of_the_others(tmp_path: Path, output_fps: int):
    growing, path = tmp_path / "growing.mp4", tmp_path / "film.mp4"
    encoder = encoder_at(growing, 48, 64, output_fps=output_fps)
    captured = [4, 5, 6, 20, 21, 33]
    for index in captured:
        encoder.add(barcode.draw(index, 64, 48), index)
    finish_film(growing, path, end=encoder.finish(40))
    pictures = [(time, barcode.read(frame)) for time, frame in barcode.decode(path)]
    shown = sorted({index for _, index in pictures})
    assert shown == (captured if output_fps >= 30 else [4, 6, 21, 33])
    for time, index in pictures[1:]:
        assert time >= index / 30 - 1e-6
    assert pictures[0] == (0, 4)
    assert sum(barcode.durations(path)) == pytest.approx(40 / 30, abs=1e-4)


def test_a_film_without_a_picture_is_no_film(tmp_path: Path):
    for fps in (4, 30):
        encoder = encoder_at(tmp_path / "growing.mp4", 48, 64, fps=fps)
        end = encoder.finish(0)
        assert encoder.n_encoded == 0
        with pytest.raises(MediaError, match="holds 0 pictures"):
            finish_film(tmp_path / "growing.mp4", tmp_path / "film.mp4", end=end, n_encoded=0)


def test_a_picture_of_another_size_is_refused(tmp_path: Path):
    encoder = encoder_at(tmp_path / "growing.mp4", 48, 64)
    for shape in ((64, 48, 3), (48, 64, 4), (48, 64), (47, 64, 3)):
        with pytest.raises(EncoderFailed, match=rf"shape \({shape[0]}, {shape[1]}.*\(48, 64, 3\)"):
            encoder.add(np.zeros(shape, np.uint8), 0)
    encoder.add(barcode.draw(0, 64, 48), 0)
    encoder.finish(1)
    assert barcode.indices(tmp_path / "growing.mp4") == [0]


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path: Path):
    with pytest.raises(OSError, match="nowhere"):
        encoder_at(tmp_path / "nowhere" / "growing.mp4", 48, 64)


def test_an_old_file_is_replaced(tmp_path: Path):
    path = tmp_path / "growing.mp4"
    path.write_bytes(bytes(10**5))
    encoder = encoder_at(path, 48, 64)
    encoder.add(barcode.draw(5, 64, 48), 0)
    encoder.finish(1)
    assert barcode.indices(path) == [5]


def test_there_is_a_keyframe_every_few_seconds(tmp_path: Path):
    path = tmp_path / "film.mp4"
    film_of(path, [barcode.draw(7, 64, 48)] * 100, fps=10)
    with av.open(path) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert [i for i, is_key in enumerate(keys) if is_key] == [0, 40, 80]


@pytest.mark.parametrize(
    ("name", "family", "encoder"),
    [
        ("h264", "h264", "libx264"),
        ("vp9", "vp9", "libvpx-vp9"),
        ("av1", "av1", "libsvtav1"),
        ("libx264", "h264", "libx264"),
        ("libvpx-vp9", "vp9", "libvpx-vp9"),
        ("libsvtav1", "av1", "libsvtav1"),
    ],
)
def test_codecs(name: str, family: str, encoder: str):
    codec = choose_codec(name)
    assert (codec.family, codec.encoder) == (family, encoder)
    version = codec.version()
    assert version["encoder"] == encoder
    assert version["version"] == av.__version__
    assert version["options"] == codec.options
    assert version["libavcodec"].count(".") == 2


@pytest.mark.parametrize(
    "name",
    ["", "H264", "h265", "mpeg4", "libx265", "h264nvenc", "nvenc", None, 264, ["h264"], b"vp9"],
)
def test_unknown_codecs(name: Any):
    with pytest.raises(SettingError, match=r"one of h264, vp9, av1, .*'h264_nvenc', not "):
        choose_codec(name)


@pytest.mark.parametrize("name", ["h264_nosuch", "av1_", "vp9_nosuch"])
def test_an_encoder_that_is_not_there_is_unavailable(name: str):
    with pytest.raises(
        CodecUnavailable, match=rf"codec '{name}' does not open.*\({name}: .+\).*h264"
    ):
        choose_codec(name)


@pytest.mark.parametrize(
    "name", ["h264_nvenc", "h264_v4l2m2m", "libopenh264", "h264_qsv", "av1_nvenc"]
)
def test_a_hardware_encoder_opens_or_says_why_not(name: str, tmp_path: Path):
    try:
        codec = choose_codec(name)
    except CodecUnavailable as error:
        assert f"({name}: " in str(error)  # noqa: PT017 - a machine may have the hardware
        assert "use codec='h264'" in str(error)  # noqa: PT017
        return
    assert codec.family in name
    frames = film_of(tmp_path / "film.mp4", [barcode.draw(i, 320, 240) for i in range(4)], name)
    assert [barcode.read(frame) for frame in frames] == [0, 1, 2, 3]


@pytest.mark.parametrize("codec", CODECS)
def test_quality_sets_the_quantiser_and_the_size(tmp_path: Path, codec: str):
    crf = {q: int(choose_codec(codec, q).options["crf"]) for q in ("small", "standard", "high")}
    assert crf["small"] > crf["standard"] > crf["high"]
    assert choose_codec(codec, 0).options["crf"] == ("1" if codec == "h264" else "0")
    assert choose_codec(codec, 18).options["crf"] == "18"
    assert int(choose_codec(codec, 63).options["crf"]) == (51 if codec == "h264" else 63)
    y, x = np.mgrid[:96, :128]
    pictures = [
        np.stack([x * 2, y * 2, (x * y + 9 * i) % 256], -1).astype(np.uint8) for i in range(6)
    ]
    sizes = {}
    for quality in ("small", "standard", "high"):
        film_of(tmp_path / f"{quality}.mp4", pictures, codec, quality=quality)
        sizes[quality] = (tmp_path / f"{quality}.mp4").stat().st_size
    assert sizes["small"] < sizes["standard"] < sizes["high"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("quality", [0, 1, 63])
def test_at_the_ends_of_the_scale_films_still_play(tmp_path: Path, codec: str, quality: int):
    path = tmp_path / "film.mp4"
    frames = film_of(path, [barcode.draw(i, 160, 120) for i in range(4)], codec, quality=quality)
    assert [barcode.read(frame) for frame in frames] == [0, 1, 2, 3]
    report = probe(path)
    assert report.plays, report.problems  # x264 leaves the profiles of browsers at 0


@pytest.mark.parametrize("quality", [True, False, -1, 64, "best", "", None, 23.0, [23], "23"])
def test_qualities_that_are_refused(quality: Any):
    with pytest.raises(
        SettingError, match=r"'small', 'standard', 'high' or a CRF from 0 to 63, not "
    ):
        choose_codec("h264", quality)


def test_an_encoder_that_fails_in_the_middle(tmp_path: Path):
    broken = Codec("h264", "libx264", {**choose_codec().options, "profile": "nonsense"})
    rate = Fraction(30)
    with pytest.raises(EncoderFailed, match=r"libx264 does not open for 64x48 at 30 fps: .+"):
        VideoEncoder(tmp_path / "growing.mp4", 64, 48, Timeline(rate, rate), broken)
    assert not (tmp_path / "growing.mp4").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc")
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_closed_encoder_has_no_threads(tmp_path: Path, is_finished: bool) -> None:
    """Though it is referred to, and no garbage is collected."""

    def threads() -> set[str]:
        return set(os.listdir("/proc/self/task"))

    four = Codec("h264", "libx264", {**choose_codec().options, "threads": "4"})
    before = threads()
    gc.disable()
    try:
        line = Timeline(Fraction(30), Fraction(30))
        encoder = VideoEncoder(tmp_path / "growing.mp4", 320, 240, line, four)
        encoder.add(flat(240, 320, (255, 0, 0)), 0)
        own = threads() - before
        assert len(own) >= 4
        if is_finished:
            encoder.finish(1)
        encoder.close()
        encoder.close()
        # A thread that was joined may be listed for a moment more.
        wait_until(lambda: not own & threads(), "the threads of the encoder have ended")
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no such call")
def test_no_encoder_makes_a_thread_realtime(tmp_path: Path) -> None:
    """SVT-AV1 does, under root: its own threads, and the one that opens it."""
    code = f"""
import os, numpy as np, rollcam
with rollcam.Recorder({str(tmp_path)!r}, codec="av1") as recorder:
    recorder.begin()
    recorder.frame(np.zeros((64, 64, 3), np.uint8))
    recorder.flush()
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    print(len(threads) > 3, {{os.sched_getscheduler(thread) for thread in threads}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"True {{{os.SCHED_OTHER}}}\n", done.stderr

"""`transcode` on real films: every frame, its time and its colours, and what happens when it fails."""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from rollcam.encode.boxes import read_layout
from rollcam.encode.probe import probe
from rollcam.encode.transcode import TranscodeResult, transcode
from rollcam.errors import EncoderFailed, MediaError, RollcamError, SettingError
from tests import barcode
from tests.encode import bad_films
from tests.encode.bad_films import (
    BT709,
    FRAGMENTS,
    GOOD,
    cut,
    film,
    mpeg4,
    untagged,
    without_moov,
)

if TYPE_CHECKING:
    from tests.browser import Browser

Make = Callable[[Path], Path]
NEAR = 6  # of 255: what the README promises


def check_film(path: Path, n: int, *, rate: float = 30, first: int = 0, near: int = NEAR) -> None:
    """Every frame is there, at its time, in its colours, and nothing is to be complained of."""
    report = probe(path)
    assert report.problems == report.notes == ()
    assert (report.codec, report.pix_fmt, report.color_space) == ("h264", "yuv420p", "smpte170m")
    frames = barcode.decode(path)
    assert [barcode.read(frame) for _, frame in frames] == list(range(first, first + n))
    assert [at for at, _ in frames] == pytest.approx([i / rate for i in range(n)], abs=0.0012)
    assert sum(barcode.durations(path)) == pytest.approx(n / rate, abs=0.0012)
    for _, frame in frames[:: max(1, n // 4)]:
        for name, colour in barcode.read_patches(frame).items():
            assert colour == pytest.approx(barcode.PATCHES[name], abs=near), name


@pytest.fixture(autouse=True)
def nothing_left_over(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob(".rollcam-*"))


ENCODED: dict[str, tuple[str, Make]] = {
    "mpeg4": ("a.mp4", lambda p: mpeg4(p, 30)),
    "mpeg4 with B-frames": (
        "a.mp4",
        lambda p: film(
            p, 30, codec="mpeg4", options={"bf": "2", "q:v": "2"}, container={}, matrix=None
        ),
    ),
    "mpeg4 in avi": (
        "a.avi",
        lambda p: film(
            p, 30, codec="mpeg4", options={"bf": "2", "q:v": "2"}, container={}, matrix=None
        ),
    ),
    "yuv444p": ("a.mp4", lambda p: film(p, 30, pix_fmt="yuv444p")),
    "yuv444p, BT.709": ("a.mp4", lambda p: film(p, 30, pix_fmt="yuv444p", matrix=BT709)),
    "yuvj444p, full range": (
        "a.mp4",
        lambda p: film(p, 30, pix_fmt="yuvj444p", color_range=bad_films.PC),
    ),
    "yuv422p": ("a.mp4", lambda p: film(p, 30, pix_fmt="yuv422p")),
    "ten bit": ("a.mp4", lambda p: film(p, 30, pix_fmt="yuv420p10le")),
    "rgb": ("a.mp4", lambda p: film(p, 30, codec="libx264rgb", pix_fmt="rgb24")),
    "B-frames": ("a.mp4", lambda p: film(p, 30, pix_fmt="yuv444p", options={"bf": "3"})),
    "odd size": ("a.mp4", lambda p: film(p, 30, pix_fmt="yuv444p", size=(161, 121))),
    "hevc, BT.709": (
        "a.mp4",
        lambda p: film(
            p, 30, codec="libx265", options={"x265-params": "log-level=none"}, matrix=BT709
        ),
    ),
    "mjpeg, full range": (
        "a.mov",
        lambda p: film(
            p, 30, codec="mjpeg", pix_fmt="yuvj420p", options={"q:v": "2"}, matrix=None,
            color_range=bad_films.PC,
        ),
    ),
    "vp8 in mkv": ("a.mkv", lambda p: film(p, 30, codec="libvpx", options={}, container={})),
    "ffv1": ("a.mkv", lambda p: film(p, 30, codec="ffv1", options={}, container={})),
    "h264 in avi, B-frames": (
        "a.avi",
        lambda p: film(p, 30, options={"bf": "2"}, container={}),
    ),
    "raw": (
        "a.avi",
        lambda p: film(p, 30, codec="rawvideo", options={}, container={}, pix_fmt="bgr24"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
def test_encoded(tmp_path: Path, name: str) -> None:
    file, make = ENCODED[name]
    source = make(tmp_path / file)
    before = source.read_bytes()
    result = transcode(source)
    assert (result.action, result.n_frames) == ("encode", 30)
    assert result.target == tmp_path / "a-playable.mp4"
    assert result.size_bytes == result.target.stat().st_size
    check_film(result.target, 30)
    assert not probe(result.target).has_b_frames
    assert source.read_bytes() == before


COPIED: dict[str, tuple[str, Make]] = {
    "moov at the end": ("a.mp4", lambda p: film(p, 30, container={})),
    "as Gymnasium writes it": ("a.mp4", lambda p: untagged(p, 30)),
    "fragmented": ("a.mp4", lambda p: film(p, 30, container=FRAGMENTS)),
    "fragmented, B-frames": (
        "a.mp4",
        lambda p: film(p, 30, container=FRAGMENTS, options={"bf": "3"}),
    ),
    "mkv": ("a.mkv", lambda p: film(p, 30, container={})),
    "mkv, B-frames, untagged": (
        "a.mkv",
        lambda p: film(p, 30, container={}, options={"bf": "3"}, matrix=None),
    ),
    "mov": ("a.mov", lambda p: film(p, 30, rate=30)),
    "avi": ("a.avi", lambda p: film(p, 30, container={})),
    "flv": ("a.flv", lambda p: film(p, 30, container={})),
    "mpegts": ("a.m2ts", lambda p: film(p, 30, container={}, options={"bf": "2"})),
}


@pytest.mark.parametrize("name", COPIED)
def test_copied_without_loss(tmp_path: Path, name: str) -> None:
    file, make = COPIED[name]
    source = make(tmp_path / file)
    before = [frame for _, frame in barcode.decode(source)]
    result = transcode(source, tmp_path / "new.mp4")
    assert (result.action, result.n_frames, result.target.name) == ("remux", 30, "new.mp4")
    check_film(result.target, 30)
    after = [frame for _, frame in barcode.decode(result.target)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert any("BT.601" in note for note in result.notes) == (probe(source).color_space is None)


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libsvtav1"])
def test_vp9_and_av1_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    source = film(tmp_path / "a.mkv", 20, codec=codec, options={}, container={})
    result = transcode(source)
    assert (result.action, result.n_frames) == ("remux", 20)
    report = probe(result.target)
    assert report.problems == report.notes == ()
    assert barcode.indices(result.target) == list(range(20))


@pytest.mark.parametrize("matrix", [bad_films.SMPTE170M, BT709])
def test_a_good_film_is_left_alone(tmp_path: Path, matrix: int) -> None:
    source = film(tmp_path / "a.mp4", matrix=matrix)
    before = source.stat()
    for result in (transcode(source), transcode(source, in_place=True)):
        assert (result.action, result.target, result.n_frames) == ("none", source, 12)
        assert "nothing was done" in result.notes[0]
    assert source.stat() == before or source.stat().st_mtime_ns == before.st_mtime_ns
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_true_times_of_a_variable_rate(tmp_path: Path) -> None:
    times = [Fraction(t, 1000) for t in (0, 33, 66, 500, 501, 1750, 4000)]
    source = film(
        tmp_path / "a.mp4", pix_fmt="yuv444p", times=times, last_s=Fraction(3, 2), matrix=None
    )
    result = transcode(source)
    frames = barcode.decode(result.target)
    assert [barcode.read(frame) for _, frame in frames] == list(range(7))
    assert [at for at, _ in frames] == [float(t) for t in times]
    ends = [*times[1:], Fraction(11, 2)]
    assert barcode.durations(result.target) == pytest.approx(
        [float(b - a) for a, b in zip(times, ends, strict=True)]
    )
    assert result.duration_s == 5.5


def test_a_variable_rate_is_copied_too(tmp_path: Path) -> None:
    times = [Fraction(t, 1000) for t in (0, 40, 500, 1750)]
    source = film(tmp_path / "a.mkv", times=times, container={})
    result = transcode(source)
    assert result.action == "remux"
    assert [at for at, _ in barcode.decode(result.target)] == [float(t) for t in times]


@pytest.mark.parametrize("rate", [1, 4, 24, 60, 144])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_rates_and_lengths(tmp_path: Path, rate: int, n: int) -> None:
    result = transcode(mpeg4(tmp_path / "a.mp4", n, rate=rate))
    check_film(result.target, n, rate=rate)
    assert result.duration_s == pytest.approx(n / rate, abs=0.0012)
    copied = transcode(film(tmp_path / "b.mp4", n, rate=rate, container={}))
    assert copied.action == "remux"
    check_film(copied.target, n, rate=rate)


def test_gif(tmp_path: Path) -> None:
    source = film(
        tmp_path / "a.gif", 20, codec="gif", pix_fmt="rgb8", rate=10, options={}, container={}
    )
    result = transcode(source)
    assert result.action == "encode"
    check_film(result.target, 20, rate=10, near=12)  # rgb8 itself is 5 off


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    rgba = np.full((64, 64, 4), 255, np.uint8)
    rgba[:, 32:, 3] = 0
    rgba[:32, :32, 3] = 128
    with av.open(str(source), "w") as output:
        stream = output.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgra"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        output.mux(stream.encode(None))
    ((_, frame),) = barcode.decode(transcode(source).target)
    assert frame[8, 56].max() <= 2
    assert frame[56, 8].min() >= 253
    assert frame[8, 8] == pytest.approx(128, abs=3)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (161, 120), (160, 121)])
@pytest.mark.parametrize("codec", ["ffv1", "mpeg4", "libvpx"])
def test_odd_sizes_are_padded_with_the_edge(
    tmp_path: Path, size: tuple[int, int], codec: str
) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, -1] = 200  # what the new column has to repeat
    source = film(
        tmp_path / "a.mkv", 3, codec=codec, size=size, options={}, container={}, matrix=None,
        draw=lambda *_: picture, pix_fmt="yuv444p" if codec == "ffv1" else "yuv420p",
    )  # fmt: skip
    result = transcode(source, crf=1)
    report = probe(result.target)
    assert report.plays
    assert (report.width, report.height) == (width + width % 2, height + height % 2)
    before, after = (barcode.decode(path)[-1][1] for path in (source, result.target))
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    assert np.pad(before, padding, mode="edge") == pytest.approx(after, abs=8)


def test_films_that_were_joined(tmp_path: Path) -> None:
    """The clock jumps back in the middle, so the packets cannot be copied as they are."""
    joint = {"mpegts_flags": "initial_discontinuity"}
    parts = [film(tmp_path / f"{i}.m2ts", 15, container=joint).read_bytes() for i in range(2)]
    (tmp_path / "a.m2ts").write_bytes(parts[0] + parts[1])
    result = transcode(tmp_path / "a.m2ts")
    assert (result.action, result.n_frames) == ("encode", 30)
    frames = barcode.decode(result.target)
    assert [barcode.read(frame) for _, frame in frames] == [*range(15), *range(15)]
    assert [at for at, _ in frames] == pytest.approx([i / 30 for i in range(30)], abs=0.0012)


def test_hidden_frames_stay_hidden(tmp_path: Path) -> None:
    """An edit list that begins after the first frame of the file."""
    whole = film(tmp_path / "whole.mp4", 30, options={"bf": "0"})
    source = tmp_path / "a.mp4"
    with av.open(str(whole)) as opened, av.open(str(source), "w") as output:
        stream = opened.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in opened.demux(stream):
            if packet.size:
                packet.pts -= 5 * packet.duration
                packet.dts -= 5 * packet.duration
                packet.stream = copy
                output.mux(packet)
    report = probe(source)
    assert (report.plays, report.n_frames) == (True, 25)
    result = transcode(source)
    assert (result.action, result.n_frames) == ("encode", 25)
    check_film(result.target, 25, first=5)


def test_a_size_that_changes(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
        for i, (width, height) in enumerate([(160, 120)] * 5 + [(320, 240)] * 5):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 30)
            frame = av.VideoFrame.from_ndarray(barcode.draw(i, width, height), format="rgb24")
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                packet.stream, packet.pts, packet.dts = stream, i, i
                packet.time_base = Fraction(1, 30)
                output.mux(packet)
    result = transcode(source)
    assert result.notes == ("5 frames had another size than the first and were scaled to it.",)
    assert barcode.indices(result.target) == list(range(10))


def test_sound_is_left_out_and_said(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    with av.open(str(source), "w") as output:
        video = output.add_stream("mpeg4", rate=30, options={"q:v": "2"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        sound = output.add_stream("aac", rate=48000, layout="mono")
        for i in range(30):
            picture = av.VideoFrame.from_ndarray(barcode.draw(i, 160, 120), format="rgb24")
            output.mux(video.encode(picture))
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), "fltp", "mono")
            noise.sample_rate, noise.pts, noise.time_base = 48000, 1600 * i, Fraction(1, 48000)
            output.mux(sound.encode(noise))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    result = transcode(source)
    check_film(result.target, 30)
    assert result.notes == ("Sound, subtitles and further pictures were left out.",)
    with av.open(str(result.target)) as written:
        assert len(written.streams) == 1


# What recorders leave when they are killed.


@pytest.mark.parametrize("options", [{}, {"preset": "ultrafast"}, {"bf": "3", "slices": "4"}])
def test_h264_without_an_index(tmp_path: Path, options: dict[str, str]) -> None:
    good = film(tmp_path / "a-0.mp4", 5, rate=20, options=options, container={}, matrix=None)
    film(tmp_path / "other.mp4", 5, size=(320, 240), container={})  # another recorder's
    mpeg4(tmp_path / "older.mp4")
    broken = without_moov(film(tmp_path / "a-1.mp4", 60, options=options, container={}))
    result = transcode(broken)
    assert result.action == "encode"
    assert 30 < result.n_frames < 60
    assert result.notes == (
        f"The index was missing; {result.n_frames} frames were found without it. Their rate "
        f"(20 per second) is taken from {good.name}.",
    )
    if "bf" not in options and options:
        check_film(result.target, result.n_frames, rate=20)
    shown = barcode.indices(result.target)
    assert shown == sorted(set(shown))
    assert len(shown) == result.n_frames


def test_mpeg4_without_an_index(tmp_path: Path) -> None:
    mpeg4(tmp_path / "a-0.mp4", 5, rate=20)
    broken = without_moov(mpeg4(tmp_path / "a-1.mp4", 60))
    result = transcode(broken)
    assert 30 < result.n_frames < 60
    check_film(result.target, result.n_frames, rate=20)


@pytest.mark.parametrize("make", [mpeg4, untagged])
def test_an_index_that_was_cut_off(tmp_path: Path, make: Callable[..., Path]) -> None:
    """All the samples are there; only the index, behind them, is not."""
    good = make(tmp_path / "good.mp4", 5)
    broken = make(tmp_path / "a.mp4", 60)
    layout = read_layout(broken)
    assert layout is not None
    assert layout.moov is not None
    broken.write_bytes(broken.read_bytes()[: layout.moov.start + 20])
    result = transcode(broken, like=good)
    assert result.n_frames == 60
    check_film(result.target, 60)


def test_the_help_may_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    good = untagged(tmp_path / "old" / "good.mp4")
    broken = without_moov(untagged(tmp_path / "a.mp4", 60))
    with pytest.raises(MediaError, match=r"no index.*no finished film beside it.*--like GOOD\.mp4"):
        transcode(broken)
    assert transcode(broken, like=good).n_frames > 30


def test_parameter_sets_among_the_samples(tmp_path: Path) -> None:
    """Some recorders repeat them; then nothing else is needed but a rate."""
    path = tmp_path / "a.mp4"
    film(path, 60, container={}, options={**GOOD, "x264-params": "repeat-headers=1"})
    result = transcode(without_moov(path))
    check_film(result.target, result.n_frames)
    assert "guessed" in result.notes[0]


def test_a_film_that_does_not_help(tmp_path: Path) -> None:
    broken = without_moov(untagged(tmp_path / "a.mp4", 60))
    other = film(tmp_path / "b.mp4", size=(320, 240), container={})
    for like in (other, mpeg4(tmp_path / "c.mp4"), broken):
        with pytest.raises(MediaError, match="does not fit"):
            transcode(broken, like=like)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4", "c.mp4"]


def test_no_index_and_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(untagged(tmp_path / "good.mp4").read_bytes()[:40])
    with pytest.raises(MediaError, match="no samples either"):
        transcode(path)


def test_a_cut_film_keeps_what_is_there(tmp_path: Path) -> None:
    source = cut(film(tmp_path / "a.mp4", 60), 0.6)
    n = probe(source).n_frames
    result = transcode(source, in_place=True)
    assert (result.action, result.n_frames) == ("remux", n)
    assert 20 < n < 60
    check_film(source, n)


def test_a_killed_recording_keeps_what_is_there(tmp_path: Path) -> None:
    source = cut(film(tmp_path / "a.mp4", 60, container=FRAGMENTS), 0.7)
    n = probe(source).n_frames
    result = transcode(source)
    assert (result.action, result.n_frames) == ("remux", n)
    check_film(result.target, n)


def test_damage_in_the_middle(tmp_path: Path) -> None:
    source = film(
        tmp_path / "a.mp4", 30, codec="mjpeg", pix_fmt="yuvj420p", options={}, container={},
        matrix=None,
    )  # fmt: skip
    with av.open(str(source)) as container:
        packet = [p for p in container.demux(video=0) if p.size][10]
        start, size = packet.pos, packet.size
    data = bytearray(source.read_bytes())
    data[start : start + size] = bytes(size)
    source.write_bytes(data)
    with pytest.raises(MediaError, match=r"1 of 30 frames .* was not replaced"):
        transcode(source, in_place=True)
    assert source.read_bytes() == data
    result = transcode(source)
    assert result.n_frames == 29
    assert result.notes == ("1 of 30 frames are damaged and could not be saved.",)
    assert barcode.indices(result.target) == [i for i in range(30) if i != 10]


# Where it writes.


def test_in_place(tmp_path: Path) -> None:
    source = mpeg4(tmp_path / "a.mp4", 30)
    source.chmod(0o640)
    mode = stat.S_IMODE(source.stat().st_mode)
    result = transcode(source, in_place=True)
    assert (result.action, result.target, result.source) == ("encode", source, source)
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert stat.S_IMODE(source.stat().st_mode) == mode
    check_film(source, 30)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_in_place_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    real = mpeg4(tmp_path / "store" / "real.mp4")
    link = tmp_path / "a.mp4"
    link.symlink_to(real)
    transcode(link, in_place=True)
    assert link.is_symlink()
    check_film(real, 12)


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    source = mpeg4(tmp_path / "a.mp4")
    taken = tmp_path / "a-playable.mp4"
    taken.write_bytes(b"mine")
    names = [transcode(source).target.name for _ in range(2)]
    assert names == ["a-playable_2.mp4", "a-playable_3.mp4"]
    with pytest.raises(SettingError, match="exists"):
        transcode(source, taken)
    with pytest.raises(SettingError, match="exists"):
        transcode(source, source)
    assert taken.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"target": "b.mp4", "in_place": True}, "not both"),
        ({"target": "b.webm"}, r"must end in \.mp4"),
        ({"crf": 0}, "crf"),
        ({"crf": 52}, "crf"),
        ({"crf": True}, "crf"),
        ({"crf": 23.5}, "crf"),
    ],
)
def test_settings(tmp_path: Path, more: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        transcode(mpeg4(tmp_path / "a.mp4"), **more)


def test_a_gif_does_not_become_an_mp4_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"a\.gif cannot be mended in place"):
        transcode(tmp_path / "a.gif", in_place=True)


@pytest.mark.parametrize("content", [b"", b"<html></html>", bytes(3000)])
def test_nothing_to_mend(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.mp4 cannot be mended"):
        transcode(path, in_place=True)
    assert path.read_bytes() == content
    with pytest.raises(MediaError, match="there is no file"):
        transcode(tmp_path / "gone.mp4")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    source = mpeg4(tmp_path / "a.mp4")
    with pytest.raises(EncoderFailed, match="No such file or directory"):
        transcode(source, tmp_path / "none" / "b.mp4")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("make", [mpeg4, untagged])
def test_a_full_disk(tmp_path: Path, make: Callable[..., Path]) -> None:
    import resource
    import signal

    source = make(tmp_path / "a.mp4", 60)
    before = source.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(EncoderFailed):
            transcode(source, in_place=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert source.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    source = mpeg4(tmp_path / "a.mp4", 30)
    before = source.read_bytes()

    def interrupt(done: int, total: int | None) -> None:
        assert total == 30
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcode(source, in_place=True, progress=interrupt)
    assert source.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    transcode(mpeg4(tmp_path / "a.mp4"), progress=lambda *step: seen.append(step))
    assert seen == [(i, 12) for i in range(1, 13)]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_films_raise_nothing_but_our_errors(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    whole = [
        mpeg4(tmp_path / "a.mp4").read_bytes(),
        untagged(tmp_path / "b.mp4").read_bytes(),
        film(tmp_path / "c.mp4", container=FRAGMENTS).read_bytes(),
    ]
    path = tmp_path / "broken.mp4"
    for n in range(24):
        data = bytearray(whole[n % 3])
        for _ in range(chance.choice([1, 4, 30])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randint(1, len(data))])
        try:
            result: TranscodeResult | None = transcode(path)
        except RollcamError:
            result = None
        if result is not None:
            assert probe(result.target).plays


def test_a_text_recording_is_drawn(tmp_path: Path) -> None:
    source = tmp_path / "lake.cast"
    source.write_text(
        '{"version": 2, "width": 12, "height": 4}\n[0.0, "o", "SFFF"]\n[0.5, "o", "FHFH"]\n'
    )
    result = transcode(source)
    assert (result.action, result.target.name) == ("encode", "lake-playable.mp4")
    assert result.n_frames >= 2
    assert probe(result.target).plays


# In a browser.


@pytest.mark.parametrize(
    "make",
    [
        mpeg4,
        untagged,
        lambda p, n: film(p, n, container=FRAGMENTS, options={"bf": "3"}),
        lambda p, n: film(p, n, pix_fmt="yuv444p", matrix=BT709),
    ],
    ids=["mpeg4", "untagged", "fragments with B-frames", "yuv444p"],
)
def test_plays_in_chromium(
    tmp_path: Path, browser: Browser, make: Callable[[Path, int], Path]
) -> None:
    target = transcode(make(tmp_path / "a.mp4", 40)).target
    asked = [0, 1, 7, 20, 38, 39]
    report = browser.probe(target, fps=30, seek_to=asked)
    assert report.first == "loadeddata"
    assert report.ended
    assert report.sought == {i: i for i in asked}
    assert report.duration_s == pytest.approx(40 / 30, abs=0.002)
    for colours in report.colours.values():
        for name, colour in colours.items():
            assert colour == pytest.approx(barcode.PATCHES[name], abs=NEAR), name


def test_a_salvaged_film_plays_in_chromium(tmp_path: Path, browser: Browser) -> None:
    shutil.copy(mpeg4(tmp_path / "a.mp4", 60), tmp_path / "good.mp4")
    broken = without_moov(tmp_path / "a.mp4")
    assert browser.probe(tmp_path / "good.mp4", fps=30).first == "error"
    target = transcode(broken).target
    assert browser.probe(target, fps=30, seek_to=[0, 30]).sought == {0: 0, 30: 30}

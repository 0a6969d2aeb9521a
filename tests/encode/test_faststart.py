"""`finish_film`: from a whole, torn, gappy or foreign growing film to a finished one, or to an error."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rollcam.encode import faststart
from rollcam.encode.boxes import Box, read_layout, walk
from rollcam.encode.codecs import choose_codec
from rollcam.encode.faststart import MediaFacts, finish_film
from rollcam.encode.timeline import Timeline, as_rate
from rollcam.encode.video import VideoEncoder
from rollcam.errors import MediaError
from tests import barcode
from tests.encode.bad_films import FRAGMENTS, film

SIZE = (64, 48)
FPS = 30


def encoder_of(path: Path, fps: float = FPS, codec: str = "h264") -> VideoEncoder:
    rate = as_rate(fps)
    return VideoEncoder(path, *SIZE, Timeline(rate, rate), choose_codec(codec))


def partial_of(
    path: Path, indices: Iterable[int], *, fps: float = FPS, codec: str = "h264"
) -> list[int]:
    """Write a growing film; return the file's size after its head and after each frame."""
    encoder = encoder_of(path, fps, codec)
    sizes = []
    encoder.flush()
    sizes.append(path.stat().st_size)
    for index in indices:
        encoder.add(barcode.draw(index, *SIZE), index)
        encoder.flush()
        sizes.append(path.stat().st_size)
    encoder.close()
    return sizes


def times_of(path: Path) -> list[Fraction]:
    with av.open(path) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def boxes(data: bytes, *parents: str) -> dict[str, Box]:
    """The boxes inside a box."""
    start, end = 0, len(data)
    for parent in parents:
        (box,) = [box for box in walk(io.BytesIO(data), start, end) if box.kind == parent]
        start, end = box.body, box.end
    return {box.kind: box for box in walk(io.BytesIO(data), start, end)}


def assert_plays(path: Path, facts: MediaFacts, indices: list[int], length: Fraction) -> None:
    """The file is what the facts say, and an ordinary fast-start MP4 of these frames."""
    data = path.read_bytes()
    assert facts.size_bytes == len(data)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert (facts.width, facts.height) == SIZE
    assert facts.n_encoded == len(indices)
    assert facts.duration_s == pytest.approx(float(length), abs=1e-9)
    layout = read_layout(path)
    assert layout is not None
    assert layout.faststart
    assert not layout.fragmented
    assert not layout.torn
    assert list(boxes(data)) == ["ftyp", "moov", "mdat"]
    assert barcode.indices(path) == indices
    assert sum(barcode.durations(path)) == pytest.approx(float(length), abs=1e-6)
    with av.open(path) as container:
        assert container.duration == round(length * 1_000_000)
        assert container.streams.video[0].frames == len(indices)


@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
@pytest.mark.parametrize("n_frames", [1, 2, 40])
def test_a_whole_film(tmp_path: Path, codec: str, n_frames: int):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    encoder = encoder_of(partial, codec=codec)
    for index in range(n_frames):
        encoder.add(barcode.draw(index, *SIZE), index)
    end = encoder.finish(n_frames)
    before = partial.read_bytes()
    facts = finish_film(partial, target, end=end, n_encoded=encoder.n_encoded)
    assert_plays(target, facts, list(range(n_frames)), Fraction(n_frames, FPS))
    assert partial.read_bytes() == before
    for (_, was), (_, now) in zip(barcode.decode(partial), barcode.decode(target), strict=True):
        assert np.array_equal(was, now)
    assert times_of(target) == times_of(partial) == [Fraction(i, FPS) for i in range(n_frames)]


def test_every_truncation_around_the_last_two_fragments(tmp_path: Path):
    partial, torn, target = (tmp_path / f"{name}.mp4" for name in ("partial", "torn", "target"))
    sizes = partial_of(partial, range(6))
    data = partial.read_bytes()
    assert len(data) == sizes[-1]
    for size in range(sizes[-3] - 2, sizes[-1] + 1):
        torn.write_bytes(data[:size])
        n_whole = max(n for n, end in enumerate(sizes) if end <= size)
        facts = finish_film(torn, target)
        assert facts.n_encoded == n_whole
        assert facts.duration_s == pytest.approx(n_whole / FPS)
        is_edge = any(abs(size - end) <= 1 for end in sizes)
        if is_edge or size % 16 == 0:
            assert_plays(target, facts, list(range(n_whole)), Fraction(n_whole, FPS))
        with pytest.raises(MediaError, match=f"holds {n_whole} pictures where 7 were encoded"):
            finish_film(torn, target, n_encoded=7)


def test_every_truncation_of_the_head(tmp_path: Path):
    partial, torn, target = (tmp_path / f"{name}.mp4" for name in ("partial", "torn", "target"))
    sizes = partial_of(partial, range(2))
    data = partial.read_bytes()
    for size in [*range(sizes[0] + 1), sizes[0] + 50, sizes[1] - 1]:
        torn.write_bytes(data[:size])
        with pytest.raises(MediaError, match="torn"):
            finish_film(torn, target)
    assert not target.exists()


@pytest.mark.parametrize("tail", [bytes(4000), b"\xff" * 500, b"moof" * 100])
def test_what_stands_after_the_last_whole_fragment_is_left_out(tmp_path: Path, tail: bytes):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    partial_of(partial, range(5))
    partial.write_bytes(partial.read_bytes() + tail)
    assert_plays(target, finish_film(partial, target), list(range(5)), Fraction(5, FPS))


@pytest.mark.parametrize(
    "indices",
    [
        [3, 4, 5],  # the first frames were dropped
        [0, 1, 5, 6, 20],
        [0, 99],
        [7],
        [2, 3, 50],
    ],
)
def test_dropped_frames_leave_gaps_and_true_times(tmp_path: Path, indices: list[int]):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    partial_of(partial, indices)
    facts = finish_film(partial, target)
    assert_plays(target, facts, indices, Fraction(indices[-1] + 1, FPS))
    # The first picture stands from the beginning: a player that starts in a gap shows nothing.
    assert times_of(target) == [Fraction(0), *(Fraction(i, FPS) for i in indices[1:])]
    ends = [*indices[1:], indices[-1] + 1]
    starts = [0, *indices[1:]]
    expected = [(b - a) / FPS for a, b in zip(starts, ends, strict=True)]
    assert barcode.durations(target) == pytest.approx(expected)


def test_long_gaps(tmp_path: Path):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    indices = [0, 1, 4000]
    partial_of(partial, indices, fps=999.999)  # a rate whose ticks are as fine as they come
    facts = finish_film(partial, target)
    assert facts.duration_s == pytest.approx(4001 / 999.999)
    partial_of(partial, indices, fps=1)  # more than an hour without a picture
    facts = finish_film(partial, target)
    assert_plays(target, facts, indices, Fraction(4001))


@pytest.mark.parametrize(("end_frames", "length"), [(9, 9), (30, 30), (6, 6)])
def test_the_end_may_be_told(tmp_path: Path, end_frames: int, length: int):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    partial_of(partial, range(6))
    end = Timeline(Fraction(FPS), Fraction(FPS)).end(end_frames)
    facts = finish_film(partial, target, end=end)
    assert_plays(target, facts, list(range(6)), Fraction(length, FPS))


@pytest.mark.parametrize("early", [0, 1, 100, 334, 700, 2000])
def test_an_end_before_the_end_of_the_last_picture_loses_no_picture(tmp_path: Path, early: int):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    partial_of(partial, range(4))
    line = Timeline(Fraction(FPS), Fraction(FPS))
    last, end = line.end(3), max(0, line.end(4) - early)
    facts = finish_film(partial, target, end=end)
    assert_plays(target, facts, [0, 1, 2, 3], Fraction(max(end, last + 1), line.timescale))


def test_an_old_target_is_replaced_to_its_last_byte(tmp_path: Path):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    target.write_bytes(bytes(10**6))
    partial_of(partial, range(3))
    assert_plays(target, finish_film(partial, target), [0, 1, 2], Fraction(3, FPS))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"hello", bytes(5000), b"\xff" * 5000, b"\x00\x00\x00\x08ftyp" * 20, b"moov" * 99],
)  # fmt: skip
def test_garbage_is_refused(tmp_path: Path, content: bytes):
    path, target = tmp_path / "garbage.mp4", tmp_path / "target.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"garbage\.mp4"):
        finish_film(path, target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("faststart.mp4", {}),
        ("late.mp4", {"container": {}}),
        ("fragments.mp4", {"container": FRAGMENTS}),
        ("film.mkv", {"container": {}}),
        ("film.avi", {"container": {}, "codec": "mpeg4", "options": {}}),
    ],
)
def test_films_of_others_are_refused(tmp_path: Path, name: str, settings: dict):
    path, target = film(tmp_path / name, 5, **settings), tmp_path / "target.mp4"
    with pytest.raises(MediaError, match=name):
        finish_film(path, target)
    assert not target.exists()


def test_a_finished_film_is_no_film_in_the_making(tmp_path: Path):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    partial_of(partial, range(3))
    finish_film(partial, target)
    with pytest.raises(MediaError, match=r"target\.mp4 holds 0 pictures"):
        finish_film(target, tmp_path / "again.mp4")


def test_a_damaged_head_gives_a_film_or_a_media_error(tmp_path: Path):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    sizes = partial_of(partial, range(2))
    data, rng, n_refused = partial.read_bytes(), random.Random(7), 0
    for _ in range(1500):
        damaged = bytearray(data[: rng.choice([len(data), sizes[0], len(data) - 9])])
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(sizes[0])] = rng.choice([0, 1, 8, 255, rng.randrange(256)])
        partial.write_bytes(damaged)
        try:
            finish_film(partial, target)
        except MediaError:
            n_refused += 1
    assert 600 < n_refused < 1500


def test_heads_that_lie(tmp_path: Path):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    size = partial_of(partial, range(2))[0]
    data = bytearray(partial.read_bytes())
    mdhd = boxes(bytes(data[:size]), "moov", "trak", "mdia")["mdhd"]
    data[mdhd.body + 12 : mdhd.body + 16] = bytes(4)
    partial.write_bytes(data)
    with pytest.raises(MediaError, match=r"partial\.mp4 is no film in the making.* time scale"):
        finish_film(partial, target)
    stsd = boxes(bytes(data[:size]), "moov", "trak", "mdia", "minf", "stbl")["stsd"]
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):  # all end inside `stsd`
        at = data.index(kind) - 4
        data[at : at + 4] = (stsd.body + 20 - at).to_bytes(4, "big")
    partial.write_bytes(data[: stsd.body + 20])
    with pytest.raises(MediaError, match=r"partial\.mp4 is no film in the making"):
        finish_film(partial, target)
    assert not target.exists()


def test_what_cannot_be_opened_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        finish_film(tmp_path / "nothing.mp4", tmp_path / "target.mp4")
    partial_of(tmp_path / "partial.mp4", range(2))
    with pytest.raises(OSError, match="folder"):
        finish_film(tmp_path / "partial.mp4", tmp_path / "no folder" / "target.mp4")


@pytest.mark.parametrize("chunk_bytes", [2, 300, 1000, 2**20])
@pytest.mark.parametrize("large_bytes", [0, 2**32])
def test_chunks_and_64_bit_offsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, large_bytes: int
):
    monkeypatch.setattr(faststart, "_CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(faststart, "_LARGE_BYTES", large_bytes)
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    partial_of(partial, range(30))
    assert_plays(target, finish_film(partial, target), list(range(30)), Fraction(1))
    offsets, data = "stco" if large_bytes else "co64", target.read_bytes()
    tables = boxes(data, "moov", "trak", "mdia", "minf", "stbl")
    assert list(tables) == ["stsd", "stts", "stss", "stsc", "stsz", offsets]
    start = tables[offsets].body + 4
    n_chunks = int.from_bytes(data[start : start + 4], "big")
    payload = boxes(data)["mdat"].end - boxes(data)["mdat"].body
    assert (
        min(30, payload // chunk_bytes) <= n_chunks <= max(1, min(30, 2 * payload // chunk_bytes))
    )
    with av.open(target) as container:  # seeking reads the tables from the middle
        for index in (29, 3, 17):
            container.seek(round(Fraction(index, FPS) * 1_000_000))
            read = {barcode.read(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)}
            assert index in read


def test_keyframes_are_where_they_were(tmp_path: Path):
    partial, target = tmp_path / "partial.mp4", tmp_path / "target.mp4"
    partial_of(partial, range(30), fps=4)  # a keyframe every 4 s
    finish_film(partial, target)

    def keys(path: Path) -> list[bool]:
        with av.open(path) as container:
            return [packet.is_keyframe for packet in container.demux(video=0) if packet.size]

    assert keys(target) == keys(partial)
    assert keys(target)[0]
    assert sum(keys(target)) > 1

"""Fragments: our own boxes, byte for byte, and as FFmpeg reads them."""

from __future__ import annotations

import io
import random
from fractions import Fraction
from pathlib import Path

import av
import pytest

from rollcam.encode.boxes import walk
from rollcam.encode.codecs import choose_codec
from rollcam.encode.fragments import (
    MOOF_SIZE,
    TRACK_ID,
    FragmentHead,
    fragment,
    nal_units,
    read_head,
    sample_of,
)
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import VideoEncoder
from tests import barcode
from tests.encode.bad_films import FRAGMENTS, film

HEAD_SIZE = MOOF_SIZE + 8


@pytest.mark.parametrize(
    ("stream", "units"),
    [
        (b"", []),
        (b"no start code", []),
        (b"\x00\x00\x01", []),
        (b"\x00\x00\x01\x65", [b"\x65"]),
        (b"\x00\x00\x01ab\x00\x00\x01cd", [b"ab", b"cd"]),
        (b"\x00\x00\x00\x01ab\x00\x00\x00\x01cd", [b"ab", b"cd"]),
        (b"\x00\x00\x00\x01ab\x00\x00\x01cd", [b"ab", b"cd"]),
        (b"\x00\x00\x01ab\x00\x00\x00\x00\x00\x01cd", [b"ab", b"cd"]),
        (b"\x00\x00\x01ab\x00\x00\x00", [b"ab"]),
        (b"\x00\x00\x01\x00\x00\x01ab", [b"ab"]),
        (b"junk\x00\x00\x01ab", [b"ab"]),
        (b"\x00\x00\x01a\x00\x00\x03\x01b", [b"a\x00\x00\x03\x01b"]),  # emulation prevention
        (b"\x00\x00\x01a\x00b\x00\x00\x01\x01", [b"a\x00b", b"\x01"]),
        (b"\x00\x00\x01ab\x00\x00\x02cd", [b"ab\x00\x00\x02cd"]),
    ],
)
def test_nal_units(stream: bytes, units: list[bytes]):
    assert nal_units(stream) == units


def test_nal_units_of_random_streams():
    rng = random.Random(1)
    for _ in range(300):
        units = []
        for _ in range(rng.randint(1, 6)):
            raw = bytes(rng.choice([0, 0, 1, 3, 255]) for _ in range(rng.randint(0, 30)))
            while b"\x00\x00\x01" in raw or b"\x00\x00\x00" in raw:
                raw = raw.replace(b"\x00\x00", b"\x00\x00\x03")
            units.append(b"\x65" + raw + b"\x80")
        codes = [b"\x00" * rng.randint(2, 5) + b"\x01" for _ in units]
        stream = b"".join(code + unit for code, unit in zip(codes, units, strict=True))
        assert nal_units(stream + bytes(rng.randint(0, 3))) == units


def test_samples_of_each_codec():
    annex_b = b"\x00\x00\x00\x01ab\x00\x00\x01cde"
    assert sample_of(annex_b, "h264") == b"\x00\x00\x00\x02ab\x00\x00\x00\x03cde"
    assert sample_of(annex_b, "vp9") == annex_b
    assert sample_of(b"\x12\x00\x0a\x01x", "av1") == b"\x0a\x01x"  # without temporal delimiter
    assert sample_of(b"\x0a\x01\x12\x00", "av1") == b"\x0a\x01\x12\x00"
    assert sample_of(b"\x12\x00x", "vp9") == b"\x12\x00x"


@pytest.mark.parametrize("time", [0, 1, 2**31, 2**32, 2**63 - 1])
@pytest.mark.parametrize("duration", [0, 512, 2**32 - 1])
@pytest.mark.parametrize("is_keyframe", [True, False])
def test_what_is_written_is_read_back(time: int, duration: int, is_keyframe: bool):
    for sample in (b"", b"x", bytes(range(256)) * 300):
        data = fragment(
            2**32 - 1, sample, decode_time=time, duration=duration, is_keyframe=is_keyframe
        )
        assert len(data) == HEAD_SIZE + len(sample)
        assert data[HEAD_SIZE:] == sample
        expected = FragmentHead(len(sample), time, duration, is_keyframe)
        assert read_head(data, 0) == expected
        assert read_head(b"before" + data + b"after", 6) == expected


def test_a_torn_or_foreign_head_is_none():
    data = fragment(1, b"sample", decode_time=5, duration=7, is_keyframe=True)
    for size in range(HEAD_SIZE):
        assert read_head(data[:size], 0) is None
    assert read_head(data[:HEAD_SIZE], 0) is not None  # the sample itself is not its concern
    assert read_head(data, 1) is None
    assert read_head(data, len(data)) is None
    assert read_head(bytes(200), 0) is None
    for place in (4, MOOF_SIZE, MOOF_SIZE + 4):  # a kind, a size, the other kind
        broken = bytearray(data)
        broken[place] ^= 0x20
        assert read_head(bytes(broken), 0) is None


def test_ffmpegs_own_fragments_are_foreign(tmp_path: Path):
    data = film(tmp_path / "theirs.mp4", 5, container=FRAGMENTS).read_bytes()
    boxes = list(walk(io.BytesIO(data), 0, len(data)))
    moofs = [box for box in boxes if box.kind == "moof"]
    assert len(moofs) == 5
    assert all(read_head(data, box.start) is None for box in moofs)


def test_the_boxes_nest_and_lead_to_the_sample():
    sample = b"the sample"
    data = fragment(9, sample, decode_time=77, duration=3, is_keyframe=False)
    file = io.BytesIO(data)

    def inside(kind: str, start: int, end: int) -> tuple[int, int]:
        (box,) = [box for box in walk(file, start, end) if box.kind == kind]
        assert box.end <= end
        return box.body, box.end

    assert [box.kind for box in walk(file, 0, len(data))] == ["moof", "mdat"]
    moof = inside("moof", 0, len(data))
    assert moof[1] == MOOF_SIZE
    assert [box.kind for box in walk(file, *moof)] == ["mfhd", "traf"]
    assert data[slice(*inside("mfhd", *moof))] == bytes(4) + (9).to_bytes(4, "big")
    traf = inside("traf", *moof)
    assert traf[1] == MOOF_SIZE
    assert [box.kind for box in walk(file, *traf)] == ["tfhd", "tfdt", "trun"]
    assert data[slice(*inside("tfhd", *traf))] == b"\x00\x02\x00\x00" + TRACK_ID.to_bytes(4, "big")
    assert data[slice(*inside("tfdt", *traf))] == b"\x01\x00\x00\x00" + (77).to_bytes(8, "big")
    trun, end = inside("trun", *traf)
    count, offset = (int.from_bytes(data[trun + at : trun + at + 4], "big") for at in (4, 8))
    assert (count, end) == (1, MOOF_SIZE)
    assert data[offset:] == data[slice(*inside("mdat", 0, len(data)))] == sample


def test_pyav_reads_the_times_that_were_written(tmp_path: Path):
    made = tmp_path / "made.mp4"
    encoder = VideoEncoder(made, 64, 48, Timeline(Fraction(10), Fraction(10)), choose_codec("h264"))
    encoder.flush()
    head = made.read_bytes()
    for index in range(6):
        encoder.add(barcode.draw(index, 64, 48), index)
    encoder.flush()
    encoder.close()
    data, start, samples = made.read_bytes(), len(head), []
    while (found := read_head(data, start)) is not None:
        samples.append(data[start + HEAD_SIZE : start + HEAD_SIZE + found.sample_size])
        start += HEAD_SIZE + found.sample_size
    assert start == len(data)
    times = [0, 1, 700, 5000, 2**32, 2**32 + 9]
    durations = [1, 699, 4300, 2**32 - 5000, 9, 123]
    retimed = tmp_path / "retimed.mp4"
    retimed.write_bytes(
        head
        + b"".join(
            fragment(n + 1, sample, decode_time=time, duration=duration, is_keyframe=n == 0)
            for n, (sample, time, duration) in enumerate(
                zip(samples, times, durations, strict=True)
            )
        )
    )
    with av.open(retimed) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [packet.pts for packet in packets] == times
    assert [packet.dts for packet in packets] == times
    assert [packet.duration for packet in packets] == durations
    assert [packet.is_keyframe for packet in packets] == [True] + [False] * 5
    assert [bytes(packet) for packet in packets] == samples
    assert barcode.indices(retimed) == list(range(6))

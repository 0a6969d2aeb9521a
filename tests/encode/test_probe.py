"""`probe` against real films of every kind, and against what is none."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rollcam.encode.boxes import read_layout, walk
from rollcam.encode.probe import MediaReport, probe
from rollcam.errors import MediaError
from tests.encode import bad_films
from tests.encode.bad_films import FRAGMENTS, GOOD, cut, film, mpeg4, untagged, without_moov

Make = Callable[[Path], Path]


def slugs(report: MediaReport) -> tuple[list[str], list[str]]:
    return [p.slug for p in report.problems], [n.slug for n in report.notes]


FAILS: dict[str, tuple[str, Make, str]] = {
    "mpeg4": ("a.mp4", mpeg4, "codec"),
    "hevc": (
        "a.mp4",
        lambda p: film(p, codec="libx265", options={"x265-params": "log-level=none"}),
        "codec",
    ),
    "mjpeg": (
        "a.mp4",
        lambda p: film(p, codec="mjpeg", pix_fmt="yuvj420p", options={}, matrix=None),
        "codec",
    ),
    "avi": ("a.avi", lambda p: mpeg4(p), "codec"),
    "yuv444p": ("a.mp4", lambda p: film(p, pix_fmt="yuv444p"), "pixel-format"),
    "yuv422p": ("a.mp4", lambda p: film(p, pix_fmt="yuv422p"), "pixel-format"),
    "ten bit": ("a.mp4", lambda p: film(p, pix_fmt="yuv420p10le"), "pixel-format"),
    "rgb": ("a.mp4", lambda p: film(p, codec="libx264rgb", pix_fmt="rgb24"), "pixel-format"),
    "odd size": ("a.mp4", lambda p: film(p, pix_fmt="yuv444p", size=(161, 121)), "pixel-format"),
    "mkv": ("a.mkv", lambda p: film(p, container={}), "container"),
    "mov": ("a.mov", film, "container"),
    "flv": ("a.flv", lambda p: film(p, container={}), "container"),
    "no moov": ("a.mp4", lambda p: without_moov(untagged(p, 60)), "moov-missing"),
    "moov cut": ("a.mp4", lambda p: cut(untagged(p, 60), 0.97), "moov-missing"),
    "truncated": ("a.mp4", lambda p: cut(film(p, 60), 0.6), "truncated"),
    "truncated webm": (
        "a.webm",
        lambda p: cut(film(p, 60, codec="libvpx-vp9", options={}, container={}), 0.6),
        "truncated",
    ),
    "no frames": ("a.mp4", lambda p: cut(film(p, 1, container=FRAGMENTS), 0.45), "no-frames"),
    "gif": (
        "a.gif",
        lambda p: film(p, codec="gif", pix_fmt="rgb8", rate=10, options={}, container={}),
        "image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
def test_says_why_a_film_does_not_play(tmp_path: Path, name: str) -> None:
    file, make, slug = FAILS[name]
    report = probe(make(tmp_path / file))
    assert slugs(report) == ([slug], [])
    assert not report.plays
    assert report.kind == "video"
    (problem,) = report.problems
    assert problem.message.endswith(".")
    assert "rollcam transcode" in problem.message or slug == "no-frames"


def test_good_film(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 45)
    assert probe(path) == MediaReport(
        path=path,
        kind="video",
        plays=True,
        size_bytes=path.stat().st_size,
        container="mp4",
        codec="h264",
        profile="Constrained Baseline",
        pix_fmt="yuv420p",
        width=160,
        height=120,
        fps=30.0,
        n_frames=45,
        duration_s=1.5,
        has_moov=True,
        faststart=True,
        color_space="smpte170m",
        color_primaries="smpte170m",
        color_trc="smpte170m",
        color_range="tv",
    )


@pytest.mark.parametrize(
    ("file", "options", "notes"),
    [
        ("a.mp4", {"container": {}}, ["moov-at-end"]),
        ("a.mp4", {"matrix": None}, ["untagged-colours"]),
        ("a.mp4", {"container": FRAGMENTS}, ["fragmented"]),
        ("a.mp4", {"container": FRAGMENTS, "options": {"bf": "2"}}, ["late-start", "fragmented"]),
        ("a.mp4", {"options": {"bf": "2"}}, []),
        ("a.mp4", {"codec": "libvpx-vp9", "options": {}}, []),
        ("a.mp4", {"codec": "libsvtav1", "options": {"preset": "12"}}, []),
        ("a.webm", {"codec": "libvpx-vp9", "options": {}, "container": {}}, []),
        ("a.webm", {"codec": "libvpx", "options": {}, "container": {}}, []),
        ("a.webm", {"codec": "libvpx-vp9", "options": {}, "container": {}, "matrix": None},
         ["untagged-colours"]),
        ("a.webm", {"codec": "libvpx-vp9", "options": {}, "container": {}, "size": (161, 121)},
         ["odd-size"]),
        ("a.mp4", {"pix_fmt": "yuvj420p", "color_range": bad_films.PC}, []),
    ],
)  # fmt: skip
def test_plays_with_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, options: dict, notes: list[str]
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    report = probe(film(tmp_path / file, **options))
    assert slugs(report) == ([], notes)
    assert report.plays
    assert (report.n_frames, report.fps) == (12, 30)
    assert report.duration_s == pytest.approx(12 / 30, abs=0.001)


def test_a_killed_fragmented_film_plays_up_to_the_tear(tmp_path: Path) -> None:
    report = probe(cut(film(tmp_path / "a.mp4", 60, container=FRAGMENTS), 0.7))
    assert slugs(report) == ([], ["fragmented", "torn-tail"])
    assert 20 < report.n_frames < 60
    assert report.duration_s == pytest.approx(report.n_frames / 30)


def test_a_webm_without_its_length(tmp_path: Path) -> None:
    # `live` is what a muxer has written that cannot go back to fill the length in.
    path = film(
        tmp_path / "a.webm", codec="libvpx-vp9", options={}, container={"live": "1"}, form="webm"
    )
    assert slugs(probe(path)) == ([], ["no-duration"])


def test_b_frames(tmp_path: Path) -> None:
    assert probe(film(tmp_path / "a.mp4", options={"bf": "2"})).has_b_frames
    assert not probe(film(tmp_path / "b.mp4", options=GOOD)).has_b_frames


def test_zeroed_samples(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    layout = read_layout(path)
    assert layout is not None
    assert layout.mdat is not None
    data = bytearray(path.read_bytes())
    data[layout.mdat.body : layout.mdat.end] = bytes(layout.mdat.end - layout.mdat.body)
    path.write_bytes(data)
    assert slugs(probe(path))[0] == ["damaged"]


@pytest.mark.parametrize(
    ("name", "content", "slug"),
    [
        ("a.mp4", b"", "empty-file"),
        ("a.mp4", b"<html>404 not found</html>\n", "text-file"),
        ("a.mp4", "#EXTM3U\n/etc/passwd\nünï\n".encode(), "text-file"),
        ("a.mp4", bytes(2000), "not-media"),
        ("a.webm", b"\x1a\x45\xdf\xa3" + bytes(60), "not-media"),
        ("a.mp4", b"\0\0\0\x08ftyp", "moov-missing"),
        ("a.cast", b'{"version": 9}\n', "cast"),
        ("a.cast", b"\x00\x01", "cast"),
        ("a.cast", b'{"version": 2, "width": 80, "height": 24}\n', "no-frames"),
        ("a.json", b'{"reward": [1, 2]}', "cast"),
    ],
)
def test_no_film_at_all(tmp_path: Path, name: str, content: bytes, slug: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    report = probe(path)
    assert slugs(report) == ([slug], [])
    assert not report.plays


def test_folder_and_nothing(tmp_path: Path) -> None:
    report = probe(tmp_path)
    assert slugs(report) == (["not-a-file"], [])
    assert "folder" in report.problems[0].message
    with pytest.raises(MediaError, match=r"there is no file .*gone\.mp4"):
        probe(tmp_path / "gone.mp4")
    with pytest.raises(MediaError, match="there is no file"):
        probe(film(tmp_path / "a.mp4") / "b.mp4")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in the folder")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert slugs(probe(tmp_path / "a.mp4"))[0] == ["not-a-file"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unreadable to root"
)
def test_unreadable(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    path.chmod(0)
    assert slugs(probe(path))[0] == ["unreadable"]


def test_a_name_is_no_protocol(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("a colon cannot stand in a name on Windows")
    assert probe(film(tmp_path / "a.mp4").rename(tmp_path / "concat:b.mp4")).plays


def test_a_title_in_no_known_encoding(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", container={}, title="AAAAAAAA")
    data = path.read_bytes()
    assert b"AAAAAAAA" in data
    path.write_bytes(data.replace(b"AAAAAAAA", b"\xe9\xff\x00AAAAA"))
    assert slugs(probe(path)) == (["container"], [])


HEAD_2 = '{"version": 2, "width": 80, "height": 24}\n'
EVENTS = '[0.0, "o", "a"]\n[0.5, "o", "b"]\n'


@pytest.mark.parametrize(
    ("content", "version", "notes"),
    [
        (HEAD_2 + EVENTS, 2, []),
        (HEAD_2 + EVENTS + '[0.75, "o", "c', 2, ["torn-line"]),
        ('{"version": 3, "term": {"cols": 80, "rows": 24}}\n# said\n' + EVENTS, 3, []),
        (
            json.dumps({"version": 1, "width": 80, "height": 24, "stdout": [[0, "a"], [0.5, "b"]]}),
            1,
            [],
        ),
    ],
)
def test_text(tmp_path: Path, content: str, version: int, notes: list[str]) -> None:
    path = tmp_path / ("a.json" if version == 1 else "a.cast")
    path.write_text(content, encoding="utf-8")
    report = probe(path)
    assert slugs(report) == ([], notes)
    assert (report.kind, report.plays, report.container) == ("text", True, f"asciicast-v{version}")
    assert (report.width, report.height, report.n_frames) == (80, 24, 2)
    assert report.duration_s == 0.5


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["mp4", "fragments", "webm", "mkv"])
def test_no_damage_makes_it_raise(tmp_path: Path, kind: str, seed: int) -> None:
    suffix = "mp4" if kind == "fragments" else kind
    whole = tmp_path / f"whole.{suffix}"
    film(
        whole,
        codec="libvpx-vp9" if kind == "webm" else "libx264",
        options={} if kind == "webm" else GOOD,
        container=FRAGMENTS if kind == "fragments" else {},
    )
    chance = random.Random(f"{kind} {seed}")
    path = tmp_path / f"a.{suffix}"
    for _ in range(20):
        data = bytearray(whole.read_bytes())
        for _ in range(chance.choice([1, 4, 30])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randint(1, len(data))])
        report = probe(path)
        assert report.plays == (not report.problems)


def test_boxes_of_every_size(tmp_path: Path) -> None:
    large = b"\0\0\0\x01mdat" + (24).to_bytes(8, "big") + bytes(8)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x10ftypqt  \0\0\0\0" + large + b"\0\0\0\0free" + bytes(5))
    with open(path, "rb") as file:
        boxes = list(walk(file, 0, path.stat().st_size))
    assert [(b.kind, b.start, b.body, b.end) for b in boxes] == [
        ("ftyp", 0, 8, 16), ("mdat", 16, 32, 40), ("free", 40, 48, 53),
    ]  # fmt: skip
    layout = read_layout(path)
    assert layout is not None
    assert (layout.brand, layout.moov, layout.torn) == ("qt  ", None, False)
    assert not layout.faststart
    path.write_bytes(b"\0\0\0\x02moov" + bytes(40))  # smaller than its own header
    layout = read_layout(path)
    assert layout is not None
    assert (layout.moov, layout.torn) == (None, True)


def test_a_copy_elsewhere_reports_the_same(tmp_path: Path) -> None:
    path = film(tmp_path / "ä b.mp4")
    other = Path(shutil.copy(path, tmp_path / "b.mp4"))
    assert probe(str(path)).duration_s == probe(other).duration_s

"""Every kind of finished film plays in real Chromium, seeks to the frame, and shows true colours."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import rollcam
from rollcam.encode import packets
from rollcam.encode.probe import probe
from rollcam.encode.transcode import transcode
from tests import barcode
from tests.browser import Browser, PlayReport

SOUGHT = [0, 1, 7, 29, 30, 44, 58, 59]


def film(folder: Path, n_frames: int = 60, size: tuple[int, int] = (256, 192), **settings: object):
    with rollcam.Recorder(folder, on_error="raise", **settings) as recorder:
        recorder.begin()
        for index in range(n_frames):
            recorder.frame(barcode.draw(index, *size))
        return recorder.end().result(timeout=60)


def assert_plays(report: PlayReport, n_frames: int, sought: list[int]) -> None:
    assert report.first == "loadeddata", report.error_message
    assert report.start_index == 0
    assert report.sought == {index: index for index in sought}
    assert report.ended
    # A busy machine may skip callbacks; what it showed last must be near the end, and never wrong.
    assert all(index is not None for index in report.presented)
    assert report.last_index >= n_frames - 3


@pytest.mark.parametrize(
    ("fps", "settings"),
    [
        pytest.param(30, {}, id="h264 30 fps"),
        pytest.param(50, {}, id="h264 50 fps"),
        pytest.param(4, {}, id="h264 4 fps"),
        pytest.param(30, {"quality": "small"}, id="small"),
        pytest.param(30, {"quality": "high"}, id="high"),
        pytest.param(30, {"codec": "vp9"}, id="vp9"),
        pytest.param(30, {"codec": "av1"}, id="av1"),
    ],
)
def test_a_finished_film_plays(browser: Browser, tmp_path: Path, fps: int, settings: dict) -> None:
    n_frames = 60 if fps > 10 else 12
    sought = [index for index in SOUGHT if index < n_frames]
    episode = film(tmp_path, n_frames, fps=fps, **settings)
    report = browser.probe(episode.media_path, fps=fps, seek_to=sought)
    assert_plays(report, n_frames, sought)
    assert report.duration_s == pytest.approx(n_frames / fps, abs=0.01)
    assert (report.width, report.height) == (256, 192)


@pytest.mark.parametrize("size", [(255, 191), (33, 17), (1280, 720)], ids=str)
def test_odd_and_large_films_play(browser: Browser, tmp_path: Path, size: tuple[int, int]) -> None:
    episode = film(tmp_path, 60, size, fps=30)
    assert_plays(browser.probe(episode.media_path, fps=30, seek_to=SOUGHT), 60, SOUGHT)


def test_a_film_of_one_frame_plays(browser: Browser, tmp_path: Path) -> None:
    episode = film(tmp_path, 1, fps=30)
    report = browser.probe(episode.media_path, fps=30, seek_to=[0])
    assert (report.first, report.sought, report.ended) == ("loadeddata", {0: 0}, True)


@pytest.mark.parametrize("size", [(256, 192), (1280, 720)], ids=str)
@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
def test_colours_are_true_in_chromium_and_pyav(
    browser: Browser, tmp_path: Path, size: tuple[int, int], codec: str
) -> None:
    episode = film(tmp_path, 30, size, fps=30, codec=codec)
    report = browser.probe(episode.media_path, fps=30, seek_to=[15], play=False)
    in_pyav = barcode.read_patches(barcode.decode(episode.media_path)[15][1])
    for name, colour in barcode.PATCHES.items():
        assert np.abs(np.subtract(report.colours[15][name], colour)).max() <= 6, name
        assert np.abs(np.subtract(in_pyav[name], colour)).max() <= 6, name


def test_a_growing_film_plays_with_every_frame_so_far(browser: Browser, tmp_path: Path) -> None:
    recorder = rollcam.Recorder(tmp_path, fps=30, on_error="raise")
    recorder.begin()
    for index in range(60):
        recorder.frame(barcode.draw(index))
    assert recorder.flush(timeout_s=60)
    [growing] = (tmp_path / ".rollcam" / "partial").glob("*/*.mp4")
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(growing.read_bytes())
    recorder.close()
    assert_plays(browser.probe(copy, fps=30, seek_to=SOUGHT), 60, SOUGHT)


def test_what_gym_wrote_does_not_play_until_it_is_mended(browser: Browser, tmp_path: Path) -> None:
    """gym 0.19 to 0.21 wrote MPEG-4 Part 2, which no browser plays: this is why `check` exists."""
    old = tmp_path / "openaigym.video.0.mp4"
    with av.open(str(old), "w") as container:
        stream = container.add_stream("mpeg4", rate=30, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(barcode.draw(index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    report = browser.probe(old, fps=30)
    assert (report.first, report.error_code) == ("error", 4)
    assert not probe(old).plays
    mended = transcode(old)
    assert_plays(browser.probe(mended.target, fps=30, seek_to=SOUGHT), 60, SOUGHT)
    assert not probe(old).plays, "the original is left alone"


def test_a_film_that_two_av1_encoders_made_plays(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second goes on where the first stopped for good: docs/decisions/0005-codec-and-quality.md."""
    encode, calls, over = packets._Opened.encode, itertools.count(), threading.Event()

    def stopping(opened: packets._Opened, frame: Any) -> Any:
        if next(calls) == 17:
            over.wait(60)
        return encode(opened, frame)

    monkeypatch.setattr(packets, "STOPPED_S", 2)
    monkeypatch.setattr(packets._Opened, "encode", stopping)
    episode = film(tmp_path, 60, fps=30, codec="av1")
    over.set()
    assert_plays(browser.probe(episode.media_path, fps=30, seek_to=SOUGHT), 60, SOUGHT)

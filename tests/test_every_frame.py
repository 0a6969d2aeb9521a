"""Every frame is in the film, in its place, for as long as it has to be: decoded and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rollcam
from tests import barcode

ALL_LENGTHS = range(1, 201)
FRAME_RATES = (4, 15, 24, 25, 30, 50, 60)


def film(
    folder: Path, n_frames: int, *, width: int = 32, height: int = 32, **settings: object
) -> rollcam.Episode:
    with rollcam.Recorder(folder, on_error="raise", **settings) as recorder:
        return film_one(recorder, n_frames, width=width, height=height)


def film_one(
    recorder: rollcam.Recorder, n_frames: int, *, width: int = 32, height: int = 32
) -> rollcam.Episode:
    recorder.begin()
    for index in range(n_frames):
        reward = {"reward": 1.0} if index else {}
        assert recorder.frame(barcode.draw(index, width, height), **reward)
    return recorder.end(truncated=True).result(timeout=60)


def check(episode: rollcam.Episode, shown: list[tuple[float, int]], duration_s: float) -> None:
    """The file shows `shown` (time, frame) and perhaps the last one once more, and lasts that long."""
    decoded = barcode.decode(episode.media_path)
    found = [(time, barcode.read(frame)) for time, frame in decoded]
    assert len(found) == episode.n_encoded
    if len(found) == len(shown) + 1:
        assert found.pop()[1] == shown[-1][1]
    assert [index for _, index in found] == [index for _, index in shown]
    assert [time for time, _ in found] == pytest.approx([time for time, _ in shown], abs=1e-4)
    assert sum(barcode.durations(episode.media_path)) == pytest.approx(duration_s, abs=1e-4)
    assert episode.duration_s == pytest.approx(duration_s, abs=1e-6)


@pytest.mark.parametrize("fps", FRAME_RATES)
def test_every_length_at_every_rate(tmp_path: Path, fps: int) -> None:
    with rollcam.Recorder(tmp_path, fps=fps, on_error="raise") as recorder:
        for length in ALL_LENGTHS:
            episode = film_one(recorder, length + 1)
            assert episode.status == "complete"
            assert episode.episode_length == length
            assert episode.n_frames == length + 1
            shown = [(index / fps, index) for index in range(length + 1)]
            check(episode, shown, (length + 1) / fps)


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_the_last_frame_is_repeated_only_where_a_player_needs_it(tmp_path: Path, fps: int) -> None:
    assert film(tmp_path, 10, fps=fps).n_encoded == 10


def test_a_film_of_one_frame(tmp_path: Path) -> None:
    episode = film(tmp_path, 1, fps=30)
    check(episode, [(0.0, 0)], 1 / 30)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 7, 30, 61])
@pytest.mark.parametrize(
    ("fps", "output_fps"), [(30, 60), (30, 50), (4, 30), (24, 60), (29.97, 60)]
)
def test_output_fps_above_the_input_repeats_frames(
    tmp_path: Path, fps: float, output_fps: float, n_frames: int
) -> None:
    episode = film(tmp_path, n_frames, fps=fps, output_fps=output_fps)
    shown, slot = [], 0
    while (index := int(slot * fps / output_fps + 1e-9)) < n_frames:
        shown.append((slot / output_fps, index))
        slot += 1
    check(episode, shown, n_frames / fps)
    assert episode.n_frames == n_frames


@pytest.mark.parametrize("n_frames", [1, 2, 3, 7, 30, 61, 62])
@pytest.mark.parametrize(
    ("fps", "output_fps"), [(60, 30), (60, 25), (50, 30), (30, 29.97), (30, 4)]
)
def test_output_fps_below_the_input_leaves_frames_out_but_never_the_last(
    tmp_path: Path, fps: float, output_fps: float, n_frames: int
) -> None:
    episode = film(tmp_path, n_frames, fps=fps, output_fps=output_fps)
    shown = []
    for index in range(n_frames):
        slot = int(np.ceil(index * output_fps / fps - 1e-9))
        if slot / output_fps < (index + 1) / fps - 1e-9:
            shown.append((slot / output_fps, index))
    if shown[-1][1] != n_frames - 1:
        shown.append(((n_frames - 1) / fps, n_frames - 1))
    check(episode, shown, n_frames / fps)
    assert episode.n_frames == n_frames


@pytest.mark.parametrize(("width", "height"), [(97, 95), (33, 64), (64, 33), (16, 16), (640, 480)])
def test_odd_sizes_are_padded_and_complete(tmp_path: Path, width: int, height: int) -> None:
    episode = film(tmp_path, 40, fps=30, width=width, height=height)
    assert (episode.width, episode.height) == (width + width % 2, height + height % 2)
    check(episode, [(index / 30, index) for index in range(40)], 40 / 30)


def test_4k(tmp_path: Path) -> None:
    episode = film(tmp_path, 5, fps=30, width=3840, height=2160)
    assert (episode.width, episode.height) == (3840, 2160)
    check(episode, [(index / 30, index) for index in range(5)], 5 / 30)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 3)])
def test_the_smallest_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    colours = [(200, 40, 40), (40, 40, 200), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    with rollcam.Recorder(tmp_path, fps=30, on_error="raise") as recorder:
        recorder.begin()
        for colour in colours:
            recorder.frame(np.full((*size, 3), colour, np.uint8))
        episode = recorder.end().result(timeout=60)
    decoded = [frame for _, frame in barcode.decode(episode.media_path)]
    assert [frame.shape for frame in decoded] == [
        (2 * -(-size[0] // 2), 2 * -(-size[1] // 2), 3)
    ] * 5
    for frame, colour in zip(decoded, colours, strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 8


@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
def test_every_codec_holds_every_frame(tmp_path: Path, codec: str) -> None:
    episode = film(tmp_path, 50, fps=30, width=128, height=96, codec=codec)
    assert episode.codec == codec
    check(episode, [(index / 30, index) for index in range(50)], 50 / 30)


def test_a_buffer_that_is_written_to_afterwards_does_not_change_the_film(tmp_path: Path) -> None:
    buffer = np.zeros((64, 64, 3), np.uint8)
    with rollcam.Recorder(tmp_path, fps=30, on_error="raise") as recorder:
        recorder.begin()
        for index in range(60):
            buffer[:] = barcode.draw(index, 64, 64)
            recorder.frame(buffer)
            buffer[:] = 0
        episode = recorder.end().result(timeout=60)
    check(episode, [(index / 30, index) for index in range(60)], 2.0)

"""A disk that fills up costs the film that filled it, and nothing else: tmpfs and file size limits."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rollcam
from rollcam.recovery import recover
from tests import barcode
from tests.envs import CountingEnv
from tests.films import (
    BEFORE,
    KINDS,
    check_failed,
    check_tidy,
    check_whole,
    episodes,
    film,
    name_of,
    undisturbed,
)
from tests.process.scripts import run

LENGTH = 60
WHOLE = list(range(LENGTH + 1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB, with a recordings folder in it."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mount_point)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here; the size limits below stand for it")
    try:
        yield mount_point / "videos"
    finally:
        subprocess.run(["umount", "-l", str(mount_point)], check=True)


def noisy(length: int = LENGTH) -> CountingEnv:
    return CountingEnv(length=length, fps=25, size=(256, 192), noisy=True)


def quiet_from(env: CountingEnv, first: int) -> Callable[[int, int], None]:
    """A hook: from that episode on films are small."""

    def hook(episode: int, step: int) -> None:
        if (episode, step) == (first, BEFORE):
            env.noisy = False

    return hook


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_amid_an_episode(kind: str, small_disk: Path) -> None:
    env = noisy()
    rollout = film(kind, env, small_disk, n_episodes=3, hook=quiet_from(env, 1))
    assert rollout.history == undisturbed(LENGTH, 3)
    assert rollout.categories == ["RecordingFailedWarning"]
    assert "No space left on device" in rollout.messages
    check_failed(small_disk, name_of(0), "OSError", "No space left on device")
    for episode in (1, 2):
        check_whole(small_disk, name_of(episode), WHOLE)
    check_tidy(small_disk)


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_somebody_else_filled(kind: str, small_disk: Path) -> None:
    """Not even a sidecar finds room, until there is some again."""
    ballast = small_disk / "rollcam-test-ballast"

    def hook(episode: int, step: int) -> None:
        if (episode, step) == (1, 5):
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
        if (episode, step) == (2, BEFORE):
            ballast.unlink()

    rollout = film(kind, noisy(12), small_disk, n_episodes=3, hook=hook)
    assert rollout.history == undisturbed(12, 3)
    assert rollout.categories == ["RecordingFailedWarning"]
    assert "No space left on device" in rollout.messages
    check_whole(small_disk, name_of(0), list(range(13)))
    check_whole(small_disk, name_of(2), list(range(13)))
    assert not (small_disk / f"{name_of(1)}.mp4").exists()
    # On a slow machine it may have been whole when no room was left for its finished file.
    for late in recover(small_disk).recovered:
        assert late.media_path is not None
        assert barcode.indices(late.media_path) == list(range(late.n_frames))
    check_tidy(small_disk)


@pytest.mark.parametrize("kind", KINDS)
def test_wherever_the_disk_fills_up_a_film_is_whole_or_absent(kind: str, small_disk: Path) -> None:
    """From films that fit twice, over those whose copy does not fit, to those that never fit.

    Where there is no room for a copy, what grew is the film."""
    statuses = []
    for length in (8, 13, 16, 20, 24, 30, 31, 32, 33, 34, 35, 36, 45, 80):
        folder = small_disk / str(length)
        rollout = film(kind, noisy(length), folder, n_episodes=1)
        assert rollout.history == undisturbed(length, 1)
        (episode,) = episodes(folder).values()
        statuses.append(str(episode.status))
        if episode.status == "complete":
            assert rollout.categories == []
            assert episode.media_path is not None
            assert barcode.indices(episode.media_path) == list(range(length + 1))
            if kind != "VideoRecorder":  # which writes no columns
                assert (episode.steps is None) == ("No space left" in (episode.reason or ""))
        else:
            assert rollout.categories == ["RecordingFailedWarning"]
            check_failed(folder, name_of(0), "No space left on device")
        check_tidy(folder)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert [status for status, _ in itertools.groupby(statuses)] == ["complete", "failed"]


def test_a_full_disk_is_refused_or_survived_at_construction(small_disk: Path) -> None:
    small_disk.parent.joinpath("rollcam-test-ballast").write_bytes(bytes(300 * 1024))
    env = CountingEnv(length=3, fps=25)
    with pytest.raises(rollcam.StoreError, match="No space left"):
        film("VideoRecorder", env, small_disk)
    assert not any(small_disk.iterdir())
    with pytest.raises(rollcam.StoreError, match="No space left"):
        film("Recorder", CountingEnv(length=3, fps=25), small_disk)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of file sizes")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_may_not_grow_any_further(kind: str, tmp_path: Path) -> None:
    code = f"""
        import resource
        from tests import films
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        env = CountingEnv(length={LENGTH}, fps=25, size=(256, 192), noisy=True)

        def hook(episode, step):
            if (episode, step) == (1, 0):
                films.wait_until((folder / "rl-video-episode-0.mp4").exists, "it is finished")
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            if (episode, step) == (2, films.BEFORE):
                resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))

        rollout = films.film({kind!r}, env, folder, n_episodes=3, hook=hook)
        assert rollout.history == films.undisturbed({LENGTH}, 3)
        assert rollout.categories == ["RecordingFailedWarning"], rollout.messages
        assert "File too large" in rollout.messages
    """
    run(code, tmp_path)
    check_failed(tmp_path, name_of(1), "OSError", "File too large")
    for episode in (0, 2):
        check_whole(tmp_path, name_of(episode), WHOLE)
    check_tidy(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of file sizes")
def test_a_film_whose_columns_find_no_room_is_not_left_without_a_sidecar(tmp_path: Path) -> None:
    code = """
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        recorder = rollcam.Recorder(folder, fps=25)
        for action in (np.arange(16) / 7, 0):
            recorder.begin()
            for k in range(200):
                recorder.frame(barcode.draw(0, 64, 48), reward=0.1, action=action)
            recorder.end()
        recorder.close()
    """
    run(code, tmp_path)
    without = episodes(tmp_path)[name_of(0)]
    assert (without.status, without.steps) == ("complete", None)
    assert "File too large" in (without.reason or "")
    assert barcode.indices(tmp_path / f"{name_of(0)}.mp4") == [0] * 200
    check_whole(tmp_path, name_of(1), [0] * 200)
    check_tidy(tmp_path)


def test_a_full_disk_at_exit_is_said_and_leaves_no_film(small_disk: Path) -> None:
    code = f"""
        env = CountingEnv(length={LENGTH}, fps=25, size=(256, 192), noisy=True)
        recorder = rollcam.Recorder(folder, fps=25, on_full="drop")
        frames = []
        env.reset()
        for _ in range({LENGTH}):
            frames.append(env.render())
            env.step(0)
        recorder.begin()
        for frame in frames:
            recorder.frame(frame)
    """
    done = run(code, small_disk, python=("-W", "ignore"))
    assert "Traceback" not in done.stderr
    check_failed(small_disk, name_of(0), "No space left on device")
    check_tidy(small_disk)


def test_a_killed_film_on_a_full_disk_still_plays(small_disk: Path) -> None:
    """What lies on the disk before the recorder knows that it is full is a film up to there."""
    code = f"""
        env = CountingEnv(length={LENGTH}, fps=25, size=(256, 192), noisy=True)
        recorder = rollcam.VideoRecorder(env, folder / "film.mp4")
        env.reset()
        for _ in range(12):
            recorder.capture_frame()
            env.step(0)
        with open(folder / "rollcam-test-ballast", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(512))
            except OSError:
                pass
        die()
    """
    run(code, small_disk, status=-9)
    assert barcode.indices(small_disk / "film.mp4") == list(range(12))
    assert os.path.exists(small_disk / "film.meta.json")

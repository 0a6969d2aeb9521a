"""`kill -9` at any moment costs at most what was still queued in memory: design 2, promise 3."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from rollcam.encode.cast_read import read_cast
from tests import barcode
from tests.process.scripts import run

KILLED = -signal.SIGKILL
TRIALS = 8


def the_partial(folder: Path, suffix: str = ".mp4") -> Path:
    """The one film in the making; nothing else may look like a film."""
    (growing,) = (folder / ".rollcam" / "partial").iterdir()
    found, journal, reserve = sorted(
        growing.iterdir(), key=lambda p: (p.suffix != suffix, p.suffix == "")
    )
    assert (found.suffix, journal.suffix, reserve.name) == (suffix, ".journal", "reserve")
    assert [path for path in folder.iterdir() if path.name != ".rollcam"] == []
    return found


@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
def test_after_a_flush_nothing_is_missing(codec: str, tmp_path: Path) -> None:
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25, codec={codec!r})
        recorder.begin()
        for k in range(57):
            recorder.frame(barcode.draw(k, 64, 64))
        assert recorder.flush()
        die()
    """
    run(code, tmp_path, status=KILLED)
    assert barcode.indices(the_partial(tmp_path)) == list(range(57))


@pytest.mark.parametrize("wrapped", [False, True])
def test_without_a_flush_only_what_was_queued_is_missing(wrapped: bool, tmp_path: Path) -> None:
    # What waits is read right before the end; what is encoded in between makes it only less.
    code = f"""
        frames = [barcode.draw(k, 320, 240) for k in range(400)]
        class Quick(CountingEnv):
            def render(self):
                return frames[self.step_number]
        recorder = rollcam.Recorder(folder, fps=25)
        if {wrapped}:
            env = rollcam.RecordVideo(Quick(length=500, fps=25), folder, rollcam.every(1))
            env.reset()
            for _ in range(399):
                env.step(0)
            recorder = env._recorder
        else:
            recorder.begin()
            for frame in frames:
                recorder.frame(frame)
        print(recorder._engine.waiting_bytes // frames[0].nbytes, flush=True)
        die()
    """
    done = run(code, tmp_path, status=KILLED)
    n_queued = int(done.stdout)
    shown = barcode.indices(the_partial(tmp_path))
    assert shown == list(range(len(shown)))
    assert len(shown) >= 400 - n_queued


def test_whenever_it_dies_what_is_there_plays(tmp_path: Path) -> None:
    """Killed from outside, at moments that nobody chose."""
    code = f"""
        for trial in range({TRIALS}):
            pid = os.fork()
            if pid == 0:
                recorder = rollcam.Recorder(folder / str(trial), fps=25)
                recorder.begin()
                for k in range(4000):
                    recorder.frame(barcode.draw(k, 64, 48))
                os._exit(3)
            partial = folder / str(trial) / ".rollcam" / "partial"
            wait_until(
                lambda: any(film.stat().st_size > 1500 * trial for film in partial.glob("*/*.mp4")),
                "the film has grown",
            )
            os.kill(pid, signal.SIGKILL)
            assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    """
    run(code, tmp_path)
    for trial in range(TRIALS):
        shown = barcode.indices(the_partial(tmp_path / str(trial)))
        assert shown == list(range(len(shown)))
        assert len(shown) >= trial


def test_the_growing_file_of_a_video_recorder_holds_every_frame(tmp_path: Path) -> None:
    code = """
        env = CountingEnv(length=100, fps=25)
        env.reset()
        recorder = rollcam.VideoRecorder(env, folder / "film.mp4")
        recorder.capture_frame()
        for _ in range(41):
            env.step(0)
            recorder.capture_frame()
        die()
    """
    run(code, tmp_path, status=KILLED)
    assert barcode.indices(tmp_path / "film.mp4") == list(range(42))
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "film.meta.json"}


@pytest.mark.parametrize("suffix", [".cast", ".json"])
def test_text_survives_too(suffix: str, tmp_path: Path) -> None:
    code = f"""
        env = AnsiEnv(length=100)
        env.reset()
        recorder = rollcam.VideoRecorder(env, folder / "film{suffix}")
        recorder.capture_frame()
        for _ in range(41):
            env.step(0)
            recorder.capture_frame()
        die()
    """
    run(code, tmp_path, status=KILLED)
    if suffix == ".json":
        events = json.loads((tmp_path / "film.json").read_text())["stdout"]
        texts = [text for _, text in events]
    else:
        cast = read_cast(tmp_path / "film.cast")
        texts = [text for _, text in cast.frames]
    assert len(texts) == 42
    assert all(f"step {k}\r\n" in text for k, text in enumerate(texts))


def test_text_in_a_folder_survives_too(tmp_path: Path) -> None:
    code = """
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
        for k in range(300):
            recorder.frame(AnsiEnv.text(k))
        recorder.flush()
        die()
    """
    run(code, tmp_path, status=KILLED)
    assert len(read_cast(the_partial(tmp_path, ".cast")).frames) == 300

"""A recorder that nobody closes finishes its films when it is dropped, or the process ends."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import rollcam
from tests import barcode
from tests.envs import CountingEnv
from tests.films import KINDS, check_tidy, check_whole, episodes, name_of, wait_until
from tests.process.scripts import run

N = 30
WHOLE = list(range(N))

WAYS_OUT = {
    "falls off the end": ("", 0),
    "sys.exit": ("sys.exit(7)", 7),
    "raises": ("raise ValueError('mine')", 1),
    "main in a function": ("(lambda: sys.exit('said'))()", 1),
    "in a thread": (
        "del three; thread = threading.Thread(target=work); thread.start(); thread.join()", 0,
    ),
    "a thread goes on": ("del three; threading.Thread(target=work).start()", 0),
    "keyboard": ("signal.raise_signal(signal.SIGINT)", -2),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS_OUT)
def test_exit_without_close_finishes_everything(way: str, tmp_path: Path) -> None:
    last_line, status = WAYS_OUT[way]
    code = f"""
        def work():
            global kept
            kept = Three({N})
            sys.exit(3)  # ends the thread only
        three = Three({N})
        {last_line}
    """
    if "thread" in way:
        code = code.replace(f"three = Three({N})\n", "three = None\n")
    done = run(code, tmp_path, status=status)
    expected = {"raises": "ValueError: mine", "main in a function": "said"}
    expected["keyboard"] = "KeyboardInterrupt"
    assert expected.get(way, "") in done.stderr
    assert "rollcam" not in done.stderr.replace("import rollcam", "")
    for kind in KINDS:
        check_whole(tmp_path / kind, name_of(0), WHOLE)
        check_tidy(tmp_path / kind)


def test_exit_says_nothing_even_when_warnings_are_errors(tmp_path: Path) -> None:
    done = run(f"three = Three({N})", tmp_path, python=("-W", "error", "-X", "dev"))
    assert (done.stdout, done.stderr) == ("", "")
    for kind in KINDS:
        check_whole(tmp_path / kind, name_of(0), WHOLE)


def test_a_failure_at_exit_is_said_in_one_line(tmp_path: Path) -> None:
    code = """
        import shutil
        recorder = rollcam.Recorder(folder / "videos", fps=25)
        recorder.begin()
        recorder.frame(barcode.draw(0))
        recorder.flush()
        shutil.rmtree(folder / "videos")
        (folder / "videos").write_text("in the way")
    """
    done = run(code, tmp_path, python=("-W", "error"))
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "a recording failed" in line


def test_a_huge_backlog_is_drained_at_exit(tmp_path: Path) -> None:
    # `drop` never pauses the loop, and the bound is wide: nearly all of it waits at the end.
    code = """
        frames = [barcode.draw(k, 160, 120) for k in range(1500)]
        recorder = rollcam.Recorder(folder, fps=25, on_full="drop", queue_bytes=10**9)
        recorder.begin()
        for frame in frames:
            recorder.frame(frame)
        print(recorder._engine.waiting_bytes // frames[0].nbytes)
    """
    done = run(code, tmp_path)
    assert int(done.stdout) > 500
    check_whole(tmp_path, name_of(0), list(range(1500)))


def test_os_exit_leaves_what_was_encoded(tmp_path: Path) -> None:
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
        for k in range({N}):
            recorder.frame(barcode.draw(k))
        recorder.flush()
        os._exit(5)
    """
    run(code, tmp_path, status=5)
    (partial,) = (tmp_path / ".rollcam" / "partial").glob("*/*.mp4")
    assert barcode.indices(partial) == WHOLE


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGALRM")
@pytest.mark.parametrize("handler", ["sys.exit(0)", "recorder.close(); sys.exit(0)"])
def test_a_signal_handler_may_end_the_program_at_any_moment(handler: str, tmp_path: Path) -> None:
    code = f"""
        def end(*_):
            {handler}
        signal.signal(signal.SIGALRM, end)
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
        recorder.frame(barcode.draw(0))
        recorder.flush()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        for k in range(1, 4096):
            recorder.frame(barcode.draw(k))
        signal.pause()
    """
    done = run(code, tmp_path)
    assert done.stderr == ""
    episode = episodes(tmp_path)[name_of(0)]
    assert (episode.status, episode.n_dropped) == ("complete", 0)
    # The frame that was being handed over may be in it, or not.
    assert barcode.indices(episode.media_path) == list(range(episode.n_frames))
    assert episode.n_frames > 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM of this kind")
def test_a_terminated_process_leaves_what_was_encoded(tmp_path: Path) -> None:
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
        for k in range({N}):
            recorder.frame(barcode.draw(k))
        recorder.flush()
        signal.raise_signal(signal.SIGTERM)
    """
    run(code, tmp_path, status=-signal.SIGTERM)
    (partial,) = (tmp_path / ".rollcam" / "partial").glob("*/*.mp4")
    assert barcode.indices(partial) == WHOLE


# --- garbage collection, in this process ----------------------------------------------------------


def open_one(kind: str, folder: Path) -> Any:
    """A recorder of each kind, in the middle of an episode."""
    env = CountingEnv(length=1000, fps=25)
    if kind == "RecordVideo":
        filmed = rollcam.RecordVideo(env, folder, rollcam.every(1))
        filmed.reset()
        for _ in range(N - 1):
            filmed.step(0)
        return filmed
    env.reset()
    recorder: Any
    if kind == "Recorder":
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
    else:
        recorder = rollcam.VideoRecorder(env, folder / f"{name_of(0)}.mp4")
    for k in range(N):
        recorder.capture(env.render) if kind == "Recorder" else recorder.capture_frame()
        if k < N - 1:
            env.step(0)
    return recorder


@pytest.mark.parametrize("kind", KINDS)
def test_a_dropped_recorder_finishes_its_film(kind: str, tmp_path: Path) -> None:
    recorder = open_one(kind, tmp_path)
    del recorder
    check_whole(tmp_path, name_of(0), WHOLE)
    check_tidy(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorder_in_a_cycle_finishes_its_film(kind: str, tmp_path: Path) -> None:
    cycle: list[Any] = [open_one(kind, tmp_path)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    check_whole(tmp_path, name_of(0), WHOLE)
    check_tidy(tmp_path)


def test_a_recorder_collected_on_its_own_thread_does_not_wait_for_itself(tmp_path: Path) -> None:
    """The collector runs on whichever thread allocates: the recorder's own is as good as any."""
    go, done = threading.Event(), threading.Event()

    def collect(episode: rollcam.Episode) -> None:
        assert go.wait(20)
        gc.collect()
        done.set()

    recorder = rollcam.Recorder(tmp_path, fps=25, on_finished=collect)
    recorder.begin()
    recorder.frame(barcode.draw(0))
    recorder.end()
    recorder.begin()
    for k in range(N):
        recorder.frame(barcode.draw(k))
    cycle: list[Any] = [recorder]
    cycle.append(cycle)
    del recorder, cycle
    go.set()
    assert done.wait(10)
    wait_until(lambda: len(episodes(tmp_path)) == 2, "both films are finished", 10)
    check_whole(tmp_path, name_of(0), [0])
    check_whole(tmp_path, name_of(1), WHOLE)


def test_a_closed_recorder_is_not_finished_twice(tmp_path: Path) -> None:
    recorder = open_one("Recorder", tmp_path)
    recorder.close()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    del recorder
    gc.collect()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before

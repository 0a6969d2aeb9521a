"""`encode_in="process"`: the same films, whatever is filmed, and whatever becomes of either process."""

from __future__ import annotations

import enum
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import rollcam
from rollcam.darkroom.process import RING_BYTES, Process
from rollcam.darkroom.room import RemoteEncoder
from rollcam.darkroom.wire import Note
from rollcam.encode.codecs import choose_codec
from rollcam.encode.timeline import Timeline
from rollcam.episode import Episode, EpisodeStatus
from rollcam.errors import DroppedFramesWarning, SettingError
from rollcam.recovery import recover
from rollcam.store.files import list_episodes
from tests import barcode
from tests.envs import AnsiEnv, CountingEnv
from tests.films import episodes, film, wait_until
from tests.killing import check_nothing_left, frames_of
from tests.process.scripts import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="refused on Windows")

N = 40


def darkrooms(parent: int | None = None) -> list[psutil.Process]:
    """The processes that encode for a process."""
    found = []
    for child in psutil.Process(parent).children():
        try:
            if any("rollcam.darkroom" in word for word in child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    left = darkrooms()
    for process in left:
        process.kill()
    assert left == []


def record(recorder: rollcam.Recorder, frames: Any, **ending: bool) -> Episode:
    recorder.begin()
    for k, frame in enumerate(frames):
        recorder.frame(frame, reward=float(k > 0))
    return recorder.end(**ending).result(timeout=60)


def pictures(n: int = N, width: int = 64, height: int = 48) -> list[Any]:
    return [barcode.draw(k, width, height) for k in range(n)]


def recorder_at(folder: Path, **settings: Any) -> rollcam.Recorder:
    """A recorder whose process is ready: films that begin before are encoded by a thread."""
    recorder = rollcam.Recorder(folder, fps=25, encode_in="process", **settings)
    wait_until(lambda: is_ready(recorder), "the process is ready")
    return recorder


def is_ready(recorder: rollcam.Recorder) -> bool:
    return all(lane.darkroom.is_ready for lane in recorder._engine._lanes)


def test_films_are_the_same_to_the_last_byte(tmp_path: Path) -> None:
    made = {}
    for encode_in in ("thread", "process"):
        folder = tmp_path / encode_in
        with rollcam.Recorder(folder, fps=25, output_fps=10, encode_in=encode_in) as recorder:
            if encode_in == "process":
                wait_until(lambda: is_ready(recorder), "the process is ready")
            for _ in range(3):
                assert record(recorder, pictures(), terminated=True).status == "complete"
            assert len(darkrooms()) == (encode_in == "process")
        made[encode_in] = list_episodes(folder).episodes
    here, there = (sorted(made[kind], key=lambda e: e.name) for kind in ("thread", "process"))
    for one, other in zip(here, there, strict=True):
        assert one.media_path is not None
        assert other.media_path is not None
        assert one.media_path.read_bytes() == other.media_path.read_bytes()
        assert (one.n_frames, one.n_encoded, one.sha256) == (N, other.n_encoded, other.sha256)
        assert one.read_steps() == other.read_steps()
        assert one.encoder_version == other.encoder_version


SHAPES = {
    "odd sizes": lambda k: barcode.draw(k, 65, 49),
    "width first in memory": lambda k: np.ascontiguousarray(
        barcode.draw(k, 64, 48).transpose(1, 0, 2)
    ).transpose(1, 0, 2),
    "channels first": lambda k: np.ascontiguousarray(barcode.draw(k, 64, 48).transpose(2, 0, 1)),
    "floats": lambda k: barcode.draw(k, 64, 48) / np.float32(255),
    "with alpha": lambda k: np.dstack([barcode.draw(k, 64, 48), np.full((48, 64), 255, np.uint8)]),
    "read only": lambda k: np.frombuffer(barcode.draw(k, 64, 48).tobytes(), np.uint8).reshape(
        48, 64, 3
    ),
    "of two sizes": lambda k: barcode.draw(k, *((64, 48) if k % 3 else (128, 96))),
    "too large for the ring": lambda k: np.repeat(
        np.repeat(barcode.draw(k, 256, 192), 8, axis=0), 8, axis=1
    ),
}


@pytest.mark.filterwarnings("ignore::rollcam.errors.FrameMendedWarning")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_frame_is_in_the_film(shape: str, tmp_path: Path) -> None:
    n = 5 if "large" in shape else N
    if "large" in shape:
        assert 2 * SHAPES[shape](0).nbytes > RING_BYTES
    with recorder_at(tmp_path) as recorder:
        made = record(recorder, (SHAPES[shape](k) for k in range(n)), truncated=True)
    assert (made.status, made.n_frames, made.n_dropped) == ("complete", n, 0)
    assert frames_of(made) == list(range(n))


def test_more_than_the_ring_holds_at_once(tmp_path: Path) -> None:
    """It goes round several times, and the queue takes what finds no room in it."""
    n = 3 * RING_BYTES // barcode.draw(0, 640, 480).nbytes
    with recorder_at(tmp_path) as recorder:
        made = record(recorder, (barcode.draw(k, 640, 480) for k in range(n)))
    assert frames_of(made) == list(range(n))
    assert [row is not None for row in made.read_steps()["reward"]] == [True] * n


def test_text_needs_no_process_to_be_encoded(tmp_path: Path) -> None:
    film("Recorder", AnsiEnv(length=5), tmp_path, encode_in="process")
    for episode in episodes(tmp_path).values():
        assert frames_of(episode) == list(range(6))


def test_wrappers_take_it_too(tmp_path: Path) -> None:
    film("RecordVideo", CountingEnv(length=N, fps=25), tmp_path, encode_in="process")
    for episode in episodes(tmp_path).values():
        assert frames_of(episode) == list(range(N + 1))


def test_vector_wrappers_take_it_too(tmp_path: Path) -> None:
    from gymnasium.vector import SyncVectorEnv

    from rollcam.integrations.vector import RecordVideo

    envs = SyncVectorEnv([lambda: CountingEnv(length=N, fps=25)] * 2)
    filmed = RecordVideo(
        envs, tmp_path, episode_trigger=rollcam.every(1), layout="separate", encode_in="process"
    )
    wait_until(lambda: is_ready(filmed._recorder), "the processes are ready")
    filmed.reset()
    for _ in range(N):
        filmed.step(filmed.action_space.sample())
    filmed.close()
    made = list_episodes(tmp_path).episodes
    assert [frames_of(episode) for episode in made] == [list(range(N + 1))] * 2


def test_many_cameras_have_a_process_for_each_thread(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path, threads=2)
    cameras = [recorder.camera(vector_index=k) for k in range(4)]
    for camera in cameras:
        camera.begin()
    for k in range(N):
        for camera in cameras:
            camera.frame(barcode.draw(k, 64, 48), reward=1.0)
    futures = [camera.end(terminated=True) for camera in cameras]
    assert len(darkrooms()) == 2
    for future in futures:
        assert frames_of(future.result(timeout=60)) == list(range(N))
    recorder.close()


def test_flush_waits_for_the_process(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path)
    recorder.begin()
    for k in range(N):
        recorder.frame(barcode.draw(k, 64, 48))
    assert recorder.flush()
    (growing,) = (tmp_path / ".rollcam" / "partial").rglob("*.mp4")
    assert barcode.indices(growing) == list(range(N))
    recorder.close()


def test_what_grows_at_a_path_of_its_own_needs_no_process(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path)
    recorder.begin(path=tmp_path / "film.mp4")
    for k in range(N):
        recorder.frame(barcode.draw(k, 64, 48))
    (process,) = darkrooms()
    process.kill()
    process.wait(20)
    assert recorder.end().result(timeout=60).status == "complete"
    assert barcode.indices(tmp_path / "film.mp4") == list(range(N))
    recorder.close()


@pytest.mark.parametrize("value", ["processes", True, None])
def test_other_values_are_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"encode_in must be one of 'thread', 'process', not"):
        rollcam.Recorder(tmp_path, encode_in=value)


def test_without_a_process_films_are_encoded_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with rollcam.Recorder(tmp_path / "videos", fps=25, encode_in="process") as recorder:
        made = record(recorder, pictures())
    assert frames_of(made) == list(range(N))
    assert "films are encoded on a thread, as no process starts" in caplog.text


def test_a_python_that_is_none_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a program that embeds Python: what is started is not an interpreter."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with rollcam.Recorder(tmp_path / "videos", fps=25, encode_in="process") as recorder:
        for _ in range(5):
            assert frames_of(record(recorder, pictures())) == list(range(N))
        wait_until(lambda: not is_ready(recorder) and caplog.text, "its end is noticed")
        assert frames_of(record(recorder, pictures())) == list(range(N))
    assert "the process that encodes is lost (it ended)" in caplog.text


def test_a_film_that_begins_before_the_process_is_ready_waits_for_nothing(tmp_path: Path) -> None:
    recorder = rollcam.Recorder(tmp_path, fps=25, encode_in="process")
    (process,) = darkrooms()
    process.suspend()
    try:
        recorder.begin()
        for k in range(N):
            recorder.frame(barcode.draw(k, 64, 48))
        assert recorder.flush(timeout_s=20)
        assert recorder.end().result(timeout=20).status == "complete"
    finally:
        process.resume()
    wait_until(lambda: is_ready(recorder), "the process is ready")
    assert frames_of(record(recorder, pictures())) == list(range(N))
    recorder.close()


def test_a_killed_process_costs_one_film_that_is_recovered(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path)
    assert record(recorder, pictures()).status == "complete"
    recorder.begin(name="struck")
    for k in range(N):
        recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
    assert recorder.flush()
    (process,) = darkrooms()
    process.kill()
    process.wait(20)
    with pytest.warns(rollcam.RollcamWarning, match="the process that encodes is lost"):
        for k in range(N, 2 * N):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        recorder.flush()
        assert recorder.frame(barcode.draw(2 * N, 64, 48)) is False
        assert recorder.error is not None
        recorder.flush()
    struck = recorder.end(terminated=True).result(timeout=60)
    assert struck.status == EpisodeStatus.FAILED
    assert "`rollcam recover` finishes it" in (struck.reason or "")
    after = record(recorder, pictures(), terminated=True)
    assert (after.status, frames_of(after)) == ("complete", list(range(N)))
    recorder.close()
    (made,) = recover(tmp_path).recovered
    assert (made.name, made.status) == ("struck", "truncated_by_crash")
    assert frames_of(made) == list(range(N))
    check_nothing_left(tmp_path)


@pytest.mark.parametrize("on_full", ["block", "drop"])
def test_a_process_that_stands_still_does_not_stop_the_training(
    on_full: str, tmp_path: Path
) -> None:
    recorder = recorder_at(tmp_path, on_full=on_full, queue_bytes=2**20)
    assert record(recorder, pictures()).status == "complete"
    (process,) = darkrooms()
    process.suspend()
    try:
        recorder.begin(name="late")
        frames = [barcode.draw(k, 640, 480) for k in range(60)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DroppedFramesWarning)
            taken = [recorder.frame(frame) for frame in frames]
        assert not all(taken)
        assert not recorder.flush(timeout_s=0.2)
    finally:
        process.resume()
    made = recorder.end(terminated=True).result(timeout=60)
    assert (made.status, made.n_dropped) == ("complete", taken.count(False))
    assert frames_of(made) == [k for k in range(60) if taken[k]]
    recorder.close()


def test_frames_that_were_handed_over_survive_the_trainer(tmp_path: Path) -> None:
    """Not even the one in hand is lost: who encodes it is another process, and finishes first."""
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25, encode_in="process")
        (lane,) = recorder._engine._lanes
        wait_until(lambda: lane.darkroom.is_ready, "the process is ready")
        recorder.begin(seed=5)
        recorder.frame(barcode.draw(0, 64, 48), reward=1.0)
        recorder.flush()
        for k in range(1, {N}):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
            (folder / "taken").write_text(str(k))
        wait_until(lambda: not lane.worker.waiting_bytes, "all handed over")
        import psutil
        print([child.pid for child in psutil.Process().children()][0], flush=True)
        die()
    """
    pid = int(run(code, tmp_path, status=-signal.SIGKILL).stdout)
    wait_until(lambda: not psutil.pid_exists(pid), "the process ends by itself")
    (tmp_path / "taken").unlink()
    (made,) = recover(tmp_path).recovered
    assert frames_of(made) == list(range(N))
    assert (made.n_frames, made.episode_return, made.seed) == (N, N, 5)
    assert made.read_steps()["return"] == [float(k + 1) for k in range(N)]
    check_nothing_left(tmp_path)


def test_a_trainer_that_minds_broken_pipes_outlives_the_process(tmp_path: Path) -> None:
    """With SIGPIPE as the shell has it, a word to a reader that is gone would end the training."""
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25, encode_in="process")
        (lane,) = recorder._engine._lanes
        wait_until(lambda: lane.darkroom.is_ready, "the process is ready")
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        import psutil
        (process,) = psutil.Process().children()
        recorder.begin()
        recorder.frame(barcode.draw(0, 64, 48))
        recorder.flush()
        process.kill()
        process.wait(20)
        for k in range(1, {N}):
            recorder.frame(barcode.draw(k, 64, 48))
        struck = recorder.end().result(timeout=60)
        recorder.begin()
        recorder.frame(barcode.draw(0, 64, 48))
        after = recorder.end().result(timeout=60)
        recorder.close()
        print(struck.status, after.status)
    """
    assert run(code, tmp_path).stdout.split() == ["failed", "complete"]


def test_it_ends_with_its_trainer_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    code = """
        recorder = rollcam.Recorder(folder, fps=25, encode_in="process")
        (lane,) = recorder._engine._lanes
        wait_until(lambda: lane.darkroom.is_ready, "the process is ready")
        recorder.begin()
        recorder.frame(barcode.draw(0, 64, 48))
        recorder.flush()
        import psutil
        pid = psutil.Process().children()[0].pid
        child = os.fork()
        if child == 0:
            os.close(1)
            os.close(2)
            signal.pause()
        print(pid, child, flush=True)
        die()
    """
    said = run(code, tmp_path, status=-signal.SIGKILL).stdout.split()
    pid, child = map(int, said)
    try:
        wait_until(lambda: not psutil.pid_exists(pid), "the process ends by itself")
    finally:
        os.kill(child, signal.SIGKILL)
    (made,) = recover(tmp_path).recovered
    assert frames_of(made) == [0]


def test_ctrl_c_in_the_terminal_is_not_for_it(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path)
    recorder.begin()
    for k in range(N):
        recorder.frame(barcode.draw(k, 64, 48))
    recorder.flush()
    (process,) = darkrooms()
    assert os.getpgid(process.pid) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    assert frames_of(recorder.end().result(timeout=60)) == list(range(N))
    recorder.close()


def test_a_full_disk_costs_the_film_and_says_why(tmp_path: Path) -> None:
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mount_point)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        env = CountingEnv(length=90, fps=25, size=(256, 192), noisy=True)
        done = film("Recorder", env, mount_point / "videos", n_episodes=1, encode_in="process")
        (made,) = list_episodes(mount_point / "videos").episodes
        assert made.status == EpisodeStatus.FAILED
        assert "No space left on device" in (made.reason or "")
        assert "No space left on device" in done.messages
    finally:
        subprocess.run(["umount", "-l", str(mount_point)], check=True)


def test_values_of_any_class_come_through(tmp_path: Path) -> None:
    class Turn(enum.IntEnum):
        """As environments have them: a class that no other process can import."""

        LEFT = 0
        RIGHT = 1

    class Word(str):
        __slots__ = ()

    told = {"context": {"stage": Turn.RIGHT}, "info_keys": ("turn", "word", "share")}
    with recorder_at(tmp_path, **told) as recorder:
        recorder.begin()
        for k in range(N):
            recorder.set_context(stage=Turn(k % 2))
            info = {"turn": Turn.RIGHT, "word": Word("a"), "share": np.float64(0.5)}
            recorder.frame(barcode.draw(k, 64, 48), reward=Turn.RIGHT, action=Turn.RIGHT, info=info)
        made = recorder.end().result(timeout=60)
    assert made.status == "complete"
    assert frames_of(made) == list(range(N))
    steps = made.read_steps()
    for name, value in {"action": 1, "info.turn": 1, "info.word": "a", "info.share": 0.5}.items():
        assert steps[name][1:] == [value] * (N - 1)


def test_cameras_that_share_a_full_ring_lose_nothing(tmp_path: Path) -> None:
    """Two pictures fill it; what one camera's waits for, another's may not take away."""
    recorder = recorder_at(tmp_path)
    cameras = [recorder.camera(vector_index=k) for k in range(3)]
    n = 8
    pictures_ = [np.repeat(np.repeat(barcode.draw(k, 200, 200), 8, 0), 8, 1) for k in range(n)]
    assert RING_BYTES < 3 * pictures_[0].nbytes < 2 * RING_BYTES
    for camera in cameras:
        camera.begin()

    def film_it(camera: rollcam.Camera) -> None:
        for picture in pictures_:
            camera.frame(picture, reward=1.0)

    threads = [threading.Thread(target=film_it, args=(camera,)) for camera in cameras]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for camera in cameras:
        made = camera.end().result(timeout=60)
        assert (made.status, made.n_frames, made.n_dropped) == ("complete", n, 0)
        assert frames_of(made) == list(range(n))
    recorder.close()


def test_what_waits_for_room_gets_it_before_others(tmp_path: Path) -> None:
    process = Process()
    try:
        wait_until(process.is_ready, "the process is ready")
        line = Timeline(Fraction(30), Fraction(30))
        one, other = (
            RemoteEncoder(process, tmp_path / name, 640, 480, line, choose_codec("h264"))
            for name in ("one.mp4", "other.mp4")
        )
        (child,) = darkrooms()
        child.suspend()
        try:
            n = 0
            while one.hand_over(barcode.draw(n, 640, 480), n):
                n += 1
            picture = barcode.draw(n, 640, 480)
            assert not process.put(one._number, picture, Note(n).packed(), is_waiting=True)
        finally:
            child.resume()
        process.sync()
        assert not other.hand_over(picture, 0), "it was made free for somebody"
        one.add(picture, n)
        assert other.hand_over(picture, 0)
        assert (one.finish(n + 1), one.n_encoded) == (line.end(n + 1), n + 1)
        other.close()
    finally:
        process.end()


def test_closed_on_its_own_thread_it_finishes_what_is_open(tmp_path: Path) -> None:
    recorder = rollcam.Recorder(
        tmp_path, fps=25, encode_in="process", on_finished=lambda _: recorder.close()
    )
    wait_until(lambda: is_ready(recorder), "the process is ready")
    cameras = [recorder.camera(vector_index=k) for k in range(2)]
    for camera in cameras:
        camera.begin()
        for k in range(N):
            camera.frame(barcode.draw(k, 64, 48))
    cameras[0].end()
    wait_until(lambda: len(list_episodes(tmp_path).episodes) == 2, "both are finished")
    for made in list_episodes(tmp_path).episodes:
        assert frames_of(made) == list(range(N))
    wait_until(lambda: not darkrooms(), "the process ends")


def test_close_keeps_its_limit_while_the_process_stands_still(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path)
    assert record(recorder, pictures()).status == "complete"
    (process,) = darkrooms()
    process.suspend()
    try:
        recorder.begin()
        recorder.frame(barcode.draw(0, 64, 48))
        began = time.monotonic()
        with pytest.warns(rollcam.RollcamWarning, match="not finished within"):
            recorder.close(timeout_s=0.5)
        assert time.monotonic() - began < 8
    finally:
        process.resume()
    wait_until(lambda: len(list_episodes(tmp_path).episodes) == 2, "it is finished afterwards")
    wait_until(lambda: not darkrooms(), "the process ends")


def test_recovery_waits_for_what_a_dead_trainer_had_handed_over(tmp_path: Path) -> None:
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25, encode_in="process")
        (lane,) = recorder._engine._lanes
        wait_until(lambda: lane.darkroom.is_ready, "the process is ready")
        recorder.begin()
        recorder.frame(barcode.draw(0, 64, 48), reward=1.0)
        recorder.flush()
        import psutil
        child = psutil.Process().children()[0]
        child.suspend()
        for k in range(1, {N}):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        print(child.pid, flush=True)
        die()
    """
    pid = int(run(code, tmp_path, status=-signal.SIGKILL).stdout)
    timer = threading.Timer(0.5, psutil.Process(pid).resume)
    timer.start()
    (made,) = recover(tmp_path).recovered
    timer.join(20)
    assert frames_of(made) == list(range(N))
    check_nothing_left(tmp_path)
    wait_until(lambda: not psutil.pid_exists(pid), "the process ends by itself")


def test_recovery_waits_for_a_film_that_is_still_to_be_opened(tmp_path: Path) -> None:
    code = f"""
        recorder = rollcam.Recorder(folder, fps=25, encode_in="process")
        (lane,) = recorder._engine._lanes
        wait_until(lambda: lane.darkroom.is_ready, "the process is ready")
        import psutil
        child = psutil.Process().children()[0]
        child.suspend()
        recorder.begin()
        recorder.frame(barcode.draw(0, 64, 48), reward=1.0)
        wait_until(lambda: not lane.worker.waiting_bytes, "the first is handed over")
        for k in range(1, {N}):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        wait_until(lambda: not lane.worker.waiting_bytes, "all are")
        print(child.pid, flush=True)
        die()
    """
    pid = int(run(code, tmp_path, status=-signal.SIGKILL).stdout)
    assert not list((tmp_path / ".rollcam").rglob("*.mp4"))
    timer = threading.Timer(0.5, psutil.Process(pid).resume)
    timer.start()
    (made,) = recover(tmp_path).recovered
    timer.join(20)
    assert frames_of(made) == list(range(N))
    assert made.read_steps()["return"] == [float(k + 1) for k in range(N)]


def test_a_path_that_is_no_text_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, 3])
    with recorder_at(tmp_path) as recorder:
        assert frames_of(record(recorder, pictures())) == list(range(N))

"""What filming takes of the process: memory that does not grow with the episode, and one thread."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.films import episodes, name_of
from tests.process.scripts import run

MIB = 2**20


def test_memory_does_not_grow_with_the_episode(tmp_path: Path) -> None:
    # The first film brings in the libraries and the queue's memory; 5000 steps come on top.
    code = """
        import psutil
        process = psutil.Process()
        frame = np.zeros((400, 600, 3), np.uint8)
        recorder = rollcam.Recorder(folder, fps=50)
        recorder.begin()
        before = peak = process.memory_info().rss
        for step in range(5001):
            frame[step % 400, :, step % 3] = step % 256
            recorder.frame(frame, reward=1.0, action=step % 2)
            if step % 100 == 0:
                peak = max(peak, process.memory_info().rss)
        recorder.end()
        recorder.close()
        peak = max(peak, process.memory_info().rss)
        print(peak - before)
    """
    done = run(code, tmp_path, timeout_s=240)
    assert int(done.stdout) < 120 * MIB
    episode = episodes(tmp_path)[name_of(0)]
    assert (episode.status, episode.n_frames, episode.n_dropped) == ("complete", 5001, 0)


def test_nothing_is_kept_of_finished_films(tmp_path: Path) -> None:
    code = """
        import gc
        recorder = rollcam.Recorder(folder, fps=50)
        frame = barcode.draw(1, 64, 48)

        def film(n):
            for _ in range(n):
                recorder.begin()
                recorder.frame(frame, reward=1.0, info={"a": 1})
                recorder.end()
            recorder.flush()
            gc.collect()
            return len(gc.get_objects())

        before = film(20)
        print(film(100) - before)
        recorder.close()
    """
    assert int(run(code, tmp_path).stdout) < 50


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_film_takes_one_thread(tmp_path: Path) -> None:
    code = """
        recorder = rollcam.Recorder(folder, fps=50)
        def n_threads():
            return len(os.listdir("/proc/self/task"))
        before = n_threads()
        recorder.begin()
        for k in range(5):
            recorder.frame(barcode.draw(k, 640, 480))
        recorder.flush()
        print(n_threads() - before)
        recorder.close()
    """
    assert run(code, tmp_path).stdout.strip() == "1"

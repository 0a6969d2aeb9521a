"""`Follower` closes itself when its run is over, and not before the last writer is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rollcam import Recorder
from rollcam.follow import Follower
from rollcam.recovery import LivingRuns

PICTURE = np.zeros((48, 64, 3), np.uint8)
LIMIT_S = 30.0


def test_closes_itself_after_the_last_film(tmp_path: Path) -> None:
    films, copies, is_over = tmp_path / "films", tmp_path / "copies", threading.Event()
    looked = threading.Semaphore(0)

    def says() -> bool:
        looked.release()
        return is_over.is_set()

    follower = Follower(films, run_id="run", sinks=[f"folder:{copies}"], is_over=says, poll_s=0.01)
    with Recorder(films, run_id="run") as recorder:
        recorder.begin("last")
        recorder.frame(PICTURE)
        is_over.set()
        # Somebody still films: asked again and again, the follower stays.
        for _ in range(10):
            assert looked.acquire(timeout=LIMIT_S)
        assert _follows()
        recorder.end()
    _wait_for(lambda: not _follows())
    assert [path.stem for path in copies.rglob("*.mp4")] == ["last"]
    _wait_for(lambda: "run" not in LivingRuns(films))
    assert follower.close(timeout_s=0)  # nothing is left to do


def test_closing_while_it_closes_itself(tmp_path: Path) -> None:
    for _ in range(10):
        follower = Follower(tmp_path, run_id="run", is_over=lambda: True, poll_s=0.001)
        assert follower.close(LIMIT_S)
        # Whoever came second has waited for the first.
        _wait_for(lambda: not _follows())
        assert "run" not in LivingRuns(tmp_path)


def _follows() -> bool:
    return any(thread.name == "rollcam-follow" for thread in threading.enumerate())


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)

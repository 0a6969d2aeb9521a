"""What lies in a folder, read without an index, while others write there."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

from rollcam.store.files import list_episodes


def test_folders_that_vanish_meanwhile_are_passed_over(tmp_path: Path) -> None:
    """Those in which films grow go when their recorder closes."""
    growing = tmp_path / ".rollcam" / "partial"
    named = tmp_path / "by-name"
    for folder in (growing, named):
        folder.mkdir(parents=True)
    stop = threading.Event()

    def come_and_go() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            for folder in (growing / f"{number % 5}", named / f"{number % 5}"):
                folder.mkdir()
                folder.rmdir()

    others = threading.Thread(target=come_and_go)
    others.start()
    try:
        for _ in range(5_000):
            list_episodes(tmp_path)
    finally:
        stop.set()
        others.join(10)

"""What lies in a folder, read without an index, while others write there."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rollcam.episode import Episode, EpisodeStatus
from rollcam.errors import RollcamWarning
from rollcam.store import sidecar
from rollcam.store.files import clear, list_episodes


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


def test_clearing_names_each_file_once(tmp_path: Path) -> None:
    """What somebody still writes is no foreign file, whatever dots its name has."""
    for name in ("v1.2-run-episode-0", "sub/x.y"):
        path = tmp_path / f"{name}.meta.json"
        path.parent.mkdir(exist_ok=True)
        episode = Episode(f"id-{name}", "living", name, EpisodeStatus.COMPLETE)
        episode = replace(episode, media=f"{name.rpartition('/')[2]}.mp4")
        path.write_text(sidecar.to_json(episode))
        path.with_name(str(episode.media)).write_bytes(b"film")
    (tmp_path / "mine.txt").touch()
    with pytest.warns(RollcamWarning) as said:
        clear(tmp_path, spare={"living"})
    assert [str(each.message).rpartition(": ")[2] for each in said] == [
        "sub/x.y, v1.2-run-episode-0",
        "mine.txt",
    ]

"""Films to publish, a place to publish them to, and time that passes when somebody waits."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from ulid import ULID

import rollcam
from rollcam._outgoing import Outgoing
from rollcam.episode import Episode
from rollcam.publish.entry import State
from rollcam.publish.ledger import Ledger
from rollcam.publish.line import Line
from rollcam.publish.source import queue
from rollcam.store import sidecar
from rollcam.store.files import list_episodes
from tests.example_sink.example_sink import ShelfSink


@cache
def original() -> Episode:
    """One real film, made once; the others are copies of it with facts of their own."""
    folder = Path(mkdtemp(prefix="rollcam-publish-"))
    with rollcam.Recorder(folder, fps=10) as recorder:
        recorder.begin(name="original")
        for k in range(3):
            recorder.frame(np.full((32, 32, 3), 60 * k, np.uint8), reward=1.0)
        return recorder.end(terminated=True).result(timeout=60)


def add_film(folder: Path, name: str, **facts: Any) -> Episode:
    """Put a finished film into a folder, as a recorder would."""
    folder.mkdir(parents=True, exist_ok=True)
    first = original()
    episode = replace(
        first,
        **{
            "episode_id": str(ULID()), "name": name, "folder": folder, "media": f"{name}.mp4",
            "steps": None, **facts,
        },
    )  # fmt: skip
    assert first.media_path is not None
    if episode.media_path is not None:
        shutil.copyfile(first.media_path, episode.media_path)
    assert episode.sidecar_path is not None
    episode.sidecar_path.write_text(sidecar.to_json(episode))
    return episode


def add_films(folder: Path, n: int, **facts: Any) -> list[Episode]:
    """Put films into a folder, oldest first, and their ids sort so."""
    ids = sorted(str(ULID()) for _ in range(n))
    return [
        add_film(folder, f"film-{k}", **{"episode_id": episode_id, **facts})
        for k, episode_id in enumerate(ids)
    ]


class Time:
    """Time that stands still until somebody waits."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.start = self.time = now
        self.waits: list[float] = []
        self.on_wait: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        self.time += timeout_s
        self.on_wait()
        return event.is_set()

    @property
    def passed(self) -> float:
        return self.time - self.start


@dataclass
class Rig:
    """A folder with films, a shelf, and a line between them that is stepped by hand."""

    folder: Path
    sink: ShelfSink
    time: Time
    ledger: Ledger
    line: Line

    def queue(self, *, must_ask: bool = False, again: bool = False) -> None:
        episodes = list_episodes(self.folder).episodes
        queue(self.ledger, self.line.key, episodes, self.time.now(), must_ask=must_ask, again=again)

    def steps(self, limit: int = 2000, until: Callable[[], bool] = lambda: False) -> None:
        """Step until nothing is owed, or `until`; wait as long as each step says."""
        for _ in range(limit):
            wait_s = self.line.step()
            if not self.line.n_pending() or until():
                return
            if wait_s > 0:
                self.time.wait(threading.Event(), wait_s)
        raise AssertionError(f"still owed after {limit} steps: {self.states()}")

    def states(self) -> dict[str, State]:
        ids = [e.episode_id for e in list_episodes(self.folder).episodes]
        return {e.name: e.state for e in self.ledger.find(self.line.key, ids).values()}

    def order(self) -> list[str]:
        """The names of what arrived, in the order of arrival."""
        names = {e.episode_id: e.name for e in list_episodes(self.folder).episodes}
        return [names[episode_id] for episode_id, _, _ in self.sink.films()]

    def again(self, **settings: Any) -> Rig:
        """Return what the next process sees."""
        self.line.release()
        return rig(self.folder, ShelfSink(self.sink.path), self.time, **settings)


def rig(folder: Path, sink: Any, time: Time | None = None, **settings: Any) -> Rig:
    time = time or Time()
    corner = folder / ".rollcam"
    ledger = Ledger(corner / "ledger.sqlite")
    line = Line(
        ledger, sink, Outgoing(folder), lock_folder=corner / "publish", clock=time,
        jitter=lambda: 0.0, **settings,
    )  # fmt: skip
    return Rig(folder, sink, time, ledger, line)


def python_path() -> dict[str, str]:
    """The environment of a process that finds Rollcam, these tests and the example sink."""
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "src"), str(root / "tests" / "example_sink")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}

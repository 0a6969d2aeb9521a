"""A place for films outside Rollcam: a shelf, with a list in SQLite that every process can read.

It does what a simple tracker does, and nothing to help: what is handed over twice stands there
twice. Files in its folder make it fail as trackers do:

    down        nobody answers
    refuses     it takes nothing, ever
    mute        it cannot tell what it has
    loses       it says yes, and keeps nothing
    hangs       it does not come back for as long as the file is there
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

from rollcam.errors import SinkError, SinkRefused
from rollcam.publish.sink import Delivery

HANG_LIMIT_S = 60.0


class ShelfSink:
    name = "shelf"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).resolve()
        self.path.mkdir(parents=True, exist_ok=True)
        self.target = str(self.path)
        self.is_closed = False

    def publish(self, delivery: Delivery) -> str:
        self._check("taking", delivery)
        if self._is("loses"):
            return "nowhere"
        with closing(self._open()) as db:
            row = (delivery.episode.episode_id, delivery.sha256, os.getpid(), time.time())
            number = db.execute("insert into films values (null, ?, ?, ?, ?)", row).lastrowid
            shutil.copyfile(delivery.media, self.path / f"{number}.mp4")
            db.commit()
        self.arrived(delivery)
        return f"shelf:{number}"

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str] | None:
        self._check("asking", None)
        if self._is("mute"):
            return None
        with closing(self._open()) as db:
            have = set(db.execute("select episode_id, sha256 from films"))
        return [
            d.episode.episode_id for d in deliveries if (d.episode.episode_id, d.sha256) in have
        ]

    def close(self) -> None:
        self.is_closed = True

    def arrived(self, delivery: Delivery) -> None:
        """For tests to step in after a film arrived."""

    def films(self) -> list[tuple[str, str, int]]:
        """What stands on the shelf, in the order of arrival: episode, sha256, who brought it."""
        with closing(self._open()) as db:
            return list(db.execute("select episode_id, sha256, pid from films order by number"))

    def _check(self, what: str, delivery: Delivery | None) -> None:
        until = time.monotonic() + HANG_LIMIT_S
        while self._is("hangs") and time.monotonic() < until:
            time.sleep(0.01)  # until a test sets it free; HANG_LIMIT_S is the limit
        if self._is("refuses") and delivery is not None:
            raise SinkRefused(f"the shelf takes no film such as {delivery.episode.name}")
        if self._is("down"):
            raise SinkError(f"the shelf is down ({what})")

    def _is(self, mood: str) -> bool:
        return (self.path / mood).exists()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path / "shelf.sqlite", timeout=20)
        db.execute(
            "create table if not exists films (number integer primary key, episode_id, sha256, "
            "pid, at)"
        )
        return db

"""The films below a log directory, found again when somebody asks and some time has passed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollcam.sinks.tensorboard_films import FACTS_SUFFIX, FOLDER, Film, is_whole, read_facts

REFRESH_S = 2.0
"""For this long an answer is given again without looking."""
MAX_FOLDERS = 50_000
"""Folders that are looked into; a log directory at the root of a disk must not hang TensorBoard."""
MAX_FILMS = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """A film below the log directory."""

    key: str
    """Names the film in addresses; says nothing of its path."""
    run: str
    """The run's folder, relative to the log directory."""
    path: Path
    """The film's file."""
    film: Film
    """Its facts."""

    def told(self) -> dict[str, Any]:
        """Return what the page is told."""
        film = self.film
        return {
            "key": self.key,
            "run": self.run,
            "episode_id": film.episode_id,
            "step": film.step,
            "caption": film.caption,
            "name": film.name,
            "mode": film.mode,
            "ended_at": film.ended_at,
            "fps": film.fps,
            "scalars": dict(film.scalars),
        }


class Library:
    """Finds films; safe to ask from many threads at once.

    Args:
        root: TensorBoard's log directory. Links below it are not followed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._films: dict[str, Found] = {}
        self._read: dict[Path, tuple[tuple[int, int, int], Film | None]] = {}

    def films(self) -> list[Found]:
        """Return all films, newest first."""
        found = list(self._refreshed().values())
        return sorted(found, key=lambda f: (f.film.ended_at, f.film.step, f.key), reverse=True)

    def film(self, key: str) -> Found | None:
        """Return the film that `films` told under this key."""
        # A page asks for what it was told: the last answer holds it, unless TensorBoard restarted.
        return self._films.get(key) or self._refreshed().get(key)

    def _refreshed(self) -> dict[str, Found]:
        with self._lock:
            is_fresh = (
                self._looked_at is not None and time.monotonic() - self._looked_at < REFRESH_S
            )
            if not is_fresh:
                self._films = self._look()
                self._looked_at = time.monotonic()
            return self._films

    def _look(self) -> dict[str, Found]:
        films: dict[str, Found] = {}
        read: dict[Path, tuple[tuple[int, int, int], Film | None]] = {}
        for folder in self._folders():
            for path in _facts_files(folder):
                known = self._read_once(path)
                if known is None:
                    continue
                read[path] = known
                film = known[1]
                if film is not None and is_whole(folder, film) and len(films) < MAX_FILMS:
                    found = self._found(folder, film)
                    films[found.key] = found
        self._read = read
        return films

    def _folders(self) -> Iterator[Path]:
        for n, (top, folders, _) in enumerate(os.walk(self._root)):
            if n >= MAX_FOLDERS:
                return
            if FOLDER in folders:
                folder = Path(top) / FOLDER
                folders.remove(FOLDER)
                if not folder.is_symlink():
                    yield folder

    def _read_once(self, path: Path) -> tuple[tuple[int, int, int], Film | None] | None:
        try:
            status = os.lstat(path)
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._read.get(path)
        return known if known is not None and known[0] == stamp else (stamp, read_facts(path))

    def _found(self, folder: Path, film: Film) -> Found:
        run = folder.parent.relative_to(self._root).as_posix()
        # Names on a disk may hold bytes that are no text; JSON cannot say those.
        shown = os.fsencode(run).decode("utf-8", "replace")
        key = hashlib.sha256(os.fsencode(folder / film.file)).hexdigest()[:32]
        return Found(key, shown, folder / film.file, film)


def _facts_files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.name.endswith(FACTS_SUFFIX)]
    except OSError:
        return []

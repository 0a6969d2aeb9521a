"""Posters of the films, made once: on request, and ahead of it on a background thread.

They lie in `.rollcam/posters`, a cache that may be deleted at any time; in a folder that cannot be
written, in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Literal, TypeAlias, get_args
from uuid import uuid4

from rollcam.encode.poster import poster
from rollcam.episode import Episode
from rollcam.errors import EpisodeNotFound, MediaError, RollcamError
from rollcam.gallery.ask import Question
from rollcam.gallery.bounds import within
from rollcam.gallery.shelf import Book, Shelf
from rollcam.store.names import HIDDEN

At: TypeAlias = Literal["first", "middle", "last", "best"]
"""Which frame; `best` is the one of highest reward."""
CHOICES: tuple[At, ...] = get_args(At)

N_AHEAD = 500
"""Films, newest first, whose posters are made before anybody asks."""
_N_KEPT = 20_000
_N_IN_MEMORY = 500
_AT_ONCE = 2
_PAUSE_S = 0.02
_JOIN_S = 5.0


class Posters:
    """Makes and keeps the posters of a shelf. May be used from several threads.

    Args:
        shelf: The folders.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin with the newest films, in the background."""
        self._thread = threading.Thread(target=self._ahead, name="rollcam-posters", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the background thread. May be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def get(self, key: str, at: At) -> bytes:
        """Return a poster, as JPEG.

        Raises:
            EpisodeNotFound: There is no such film.
            MediaError: It holds no picture, or is text.
        """
        book, episode = self._shelf.episode(key)
        told = episode.media_path
        path = None if told is None else within(book.root, told)
        if path is None or not path.is_file():
            raise EpisodeNotFound("this episode has no film")
        if episode.is_text:
            raise MediaError("a recording of text has no poster; the page draws it itself")
        status = path.stat()
        named = f"{path}|{status.st_mtime_ns}|{status.st_size}|{at}"
        name = hashlib.sha256(os.fsencode(named)).hexdigest()[:32]
        kept = self._kept(book, name)
        if kept is None:
            with self._turns:
                kept = self._kept(book, name) or poster(path, _moment(episode, at))
            self._keep(book, name, kept)
        return kept

    def _kept(self, book: Book, name: str) -> bytes | None:
        with self._lock:
            if name in self._memory:
                self._memory.move_to_end(name)
                return self._memory[name]
        folder = _folder(book)
        if folder is None:
            return None
        try:
            return (folder / f"{name}.jpg").read_bytes()
        except OSError:
            return None

    def _keep(self, book: Book, name: str, data: bytes) -> None:
        folder = _folder(book)
        if folder is not None:
            scratch = folder / f"{name}.{uuid4().hex}"
            try:
                scratch.write_bytes(data)
                os.replace(scratch, folder / f"{name}.jpg")
            except OSError:
                with contextlib.suppress(OSError):
                    scratch.unlink(missing_ok=True)
            else:
                return
        with self._lock:
            self._memory[name] = data
            if len(self._memory) > _N_IN_MEMORY:
                self._memory.popitem(last=False)

    def _ahead(self) -> None:
        with contextlib.suppress(RollcamError):
            for book in self._shelf.books.values():
                _tidy(book)
            newest = self._shelf.table(Question(), ["codec"], N_AHEAD, 0)
            for label, path, codec in newest:
                if codec in (None, "asciicast"):
                    continue
                with contextlib.suppress(RollcamError, OSError):
                    self.get(self._shelf.book(label).key(path), "middle")
                if self._stop.wait(_PAUSE_S):
                    return


def _moment(episode: Episode, at: At) -> float:
    fps, length_s = episode.fps or 30.0, episode.duration_s or 0.0
    if at == "first":
        return 0.0
    if at == "best":
        frame = _best_frame(episode)
        if frame is not None:
            return (frame + 0.5) / fps
    return length_s if at == "last" else length_s / 2


def _best_frame(episode: Episode) -> int | None:
    try:
        rewards = episode.read_steps().get("reward", [])
    except RollcamError:
        return None
    numbers = [(r, -n) for n, r in enumerate(rewards) if isinstance(r, int | float)]
    return -max(numbers)[1] if numbers else None


def _folder(book: Book) -> Path | None:
    """Return where a folder's posters lie; `None` where none can."""
    hidden = book.root / HIDDEN
    folder = hidden / "posters"
    # A link could lead the writing anywhere.
    if hidden.is_symlink() or folder.is_symlink():
        return None
    if not folder.is_dir():
        if not hidden.is_dir() or not os.access(hidden, os.W_OK | os.X_OK):
            return None
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _tidy(book: Book) -> None:
    """Delete the oldest posters beyond so many; those of deleted films are among them in time."""
    folder = _folder(book)
    if folder is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = sorted((entry.stat().st_mtime_ns, entry.path) for entry in entries)
        for _, path in found[:-_N_KEPT]:
            os.unlink(path)

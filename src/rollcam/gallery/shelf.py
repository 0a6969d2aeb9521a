"""Several recordings folders, opened for reading: an episode by its key, and nothing outside them.

A key is `{label}/{path}`: the folder's label, and where the sidecar lies in it, without extension.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollcam.episode import Episode
from rollcam.errors import EpisodeNotFound, RollcamError, StoreError
from rollcam.gallery.ask import Question
from rollcam.recovery import recover
from rollcam.store import sidecar
from rollcam.store.catalog import Catalog
from rollcam.store.names import HIDDEN, SIDECAR_SUFFIX

MAX_PROBLEMS = 100
"""Sidecars that cannot be read, of which the page is told; an odd folder may hold thousands."""


@dataclass(slots=True)
class Book:
    """One folder."""

    label: str
    """Names it in keys and addresses: its name, and a number where two have the same."""
    root: Path
    """Absolute, links resolved."""
    catalog: Catalog
    notes: list[str] = field(default_factory=list)
    """What its opening brought to light."""

    def key(self, path: str) -> str:
        """Return the key of the episode whose sidecar lies there."""
        return f"{self.label}/{path.removesuffix(SIDECAR_SUFFIX)}"


class Shelf:
    """The folders that one gallery shows. May be used from several threads.

    Opening a folder finishes first what dead processes left in it.

    Args:
        folders: Recordings folders.

    Raises:
        StoreError: There is no such folder, or none was given.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]]) -> None:
        self.books: dict[str, Book] = {}
        self._lock = threading.Lock()
        roots = dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders)
        if not roots:
            raise StoreError("no folder was named; say which recordings folder to show")
        try:
            for root in roots:
                self._open(root)
        except BaseException:
            self.close()
            raise

    def _open(self, root: Path) -> None:
        done = recover(root)
        label = base = root.name or "folder"
        n = 1
        while label in self.books:
            n += 1
            label = f"{base}~{n}"
        notes = [f"recovered {episode.name}" for episode in done.recovered]
        notes += [f"{path.name}: {error}" for path, error in done.problems]
        self.books[label] = Book(label, root, Catalog(root), notes)

    def close(self) -> None:
        """Let go of every folder. May be called twice."""
        for book in self.books.values():
            book.catalog.close()

    def refresh(self) -> dict[str, int]:
        """Look what is new; return the generation of each folder, of those that are gone -1."""
        found = {}
        with self._lock:
            for label, book in self.books.items():
                try:
                    found[label] = book.catalog.refresh()
                except RollcamError:
                    found[label] = -1
        return found

    def chosen(self, question: Question) -> list[Book]:
        """Return the folders that a question is about."""
        wanted = question.folders
        return [b for b in self.books.values() if wanted is None or b.label in wanted]

    def count(self, question: Question) -> int:
        """Return how many episodes answer to it."""
        return sum(
            book.catalog.count(text=question.text, where=question.where)
            for book in self.chosen(question)
        )

    def table(
        self, question: Question, columns: Sequence[str], limit: int | None, offset: int
    ) -> list[tuple[Any, ...]]:
        """Return key and columns of the episodes that answer to it, in order."""
        books = self.chosen(question)
        asked = {"text": question.text, "where": question.where, "sort": question.sort}
        if len(books) == 1:
            found = books[0].catalog.table(columns, limit=limit, offset=offset, **asked)
            return [(books[0].key(path), *told) for path, *told in found]
        order = [*question.sort, "started_at", "episode_id"]
        n_each = None if limit is None else offset + limit
        names = [*columns, *(name.removeprefix("-") for name in order)]
        rows = [
            (book.key(path), *told)
            for book in books
            for path, *told in book.catalog.table(names, limit=n_each, **asked)
        ]
        is_newest_first = order[0].startswith("-")
        # Stable sorts, the least important first, as SQLite orders: nothing last, text after numbers.
        for n, name in reversed(list(enumerate(order, start=1 + len(columns)))):
            is_last_resort = n - 1 - len(columns) >= len(question.sort)
            is_down = is_newest_first if is_last_resort else name.startswith("-")
            rows.sort(key=lambda row, n=n, d=is_down: _rank(row[n], d), reverse=is_down)  # type: ignore[misc]
        end = None if limit is None else offset + limit
        return [row[: 1 + len(columns)] for row in rows[offset:end]]

    def distinct(self, question: Question, column: str, limit: int) -> list[tuple[Any, int]]:
        """Return a column's values and how many episodes have each, most frequent first."""
        found: dict[Any, int] = {}
        for book in self.chosen(question):
            asked = {"text": question.text, "where": question.where, "limit": limit}
            for value, n in book.catalog.distinct(column, **asked).items():
                found[value] = found.get(value, 0) + n
        return sorted(found.items(), key=lambda item: -item[1])[:limit]

    def columns(self) -> list[str]:
        """Return the columns of any folder."""
        names = [name for book in self.books.values() for name in book.catalog.columns()]
        return list(dict.fromkeys(names))

    def notes(self) -> list[str]:
        """Return what the user should know: films recovered, sidecars that cannot be read."""
        told = []
        for book in self.books.values():
            found = [*book.notes, *(str(problem) for problem in book.catalog.problems)]
            told += [note.replace(str(book.root), book.label) for note in found[:MAX_PROBLEMS]]
        return told[:MAX_PROBLEMS]

    def book(self, label: str) -> Book:
        """Return a folder by its label.

        Raises:
            EpisodeNotFound: There is none.
        """
        if label not in self.books:
            raise EpisodeNotFound("no folder of that name is shown here")
        return self.books[label]

    def episode(self, key: str) -> tuple[Book, Episode]:
        """Return an episode, read from its sidecar now.

        Raises:
            EpisodeNotFound: There is none at that place, or it would be outside the folders.
            SidecarError: It is none of ours.
        """
        label, _, stem = key.partition("/")
        book = self.book(label)
        path = inside(book.root, stem + SIDECAR_SUFFIX)
        if path is None or not path.is_file():
            raise EpisodeNotFound("there is no such episode; it may have been deleted")
        return book, sidecar.read(path)

    def file(self, key: str, which: str) -> tuple[Episode, Path]:
        """Return one of an episode's own files: `media` or `steps`.

        Raises:
            EpisodeNotFound: There is none, or it would be outside the folders.
            SidecarError: The sidecar is none of ours.
        """
        book, episode = self.episode(key)
        told = episode.media_path if which == "media" else episode.steps_path
        path = None if told is None else within(book.root, told)
        if path is None or not path.is_file():
            raise EpisodeNotFound(f"this episode has no {which} file")
        return episode, path


def inside(root: Path, relative: str) -> Path | None:
    """Return the file of that name in a folder, links resolved; `None` if it would lie elsewhere.

    Args:
        root: Absolute, links resolved.
        relative: Hostile text, with `/`.
    """
    parts = relative.split("/")
    odd = {"", ".", "..", HIDDEN}
    if "\0" in relative or odd.intersection(parts) or len(relative) > 4096:
        return None
    if os.name == "nt" and any(c in relative for c in '\\:*?"<>|'):
        return None
    return within(root, root.joinpath(*parts))


def within(root: Path, path: Path) -> Path | None:
    """Return a path with its links resolved, unless that is outside the folder, or in our corner."""
    try:
        real = Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError):
        return None
    if not real.is_relative_to(root) or HIDDEN in real.relative_to(root).parts:
        return None
    return real


def _rank(value: Any, is_down: bool) -> tuple[bool, bool, Any]:
    is_there = value is not None
    is_text = isinstance(value, str)
    return (is_there if is_down else not is_there, is_text, value if is_there else 0)



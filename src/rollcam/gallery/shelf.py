"""Several recordings folders, opened for reading: an episode by its key, and nothing outside them.

A key is `{label}/{path}`: the folder's label, and where the sidecar lies in it, without extension.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollcam.episode import Episode
from rollcam.errors import EpisodeNotFound, RollcamError, StoreError
from rollcam.gallery.ask import FOLDER, Question
from rollcam.gallery.bounds import inside, within
from rollcam.recovery import recover
from rollcam.store import sidecar
from rollcam.store.catalog import Catalog
from rollcam.store.names import SIDECAR_SUFFIX

MAX_PROBLEMS = 100
"""Sidecars that cannot be read, of which the page is told; an odd folder may hold thousands."""

_OPEN_TIMEOUT_S = 600.0
_LOOK_EVERY_S = 1.0
_N_QUICK = 2000
_N_ORDERS = 6


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


@dataclass(frozen=True, slots=True)
class Order:
    """The episodes that answer to a question, in order."""

    books: list[Book]
    """Those asked."""
    places: list[tuple[int, int]]
    """Of each episode: the number of its book among them, and its number in the catalog."""


class Shelf:
    """The folders that one gallery shows. May be used from several threads.

    They are opened in the background: what dead processes left in them is finished first, and
    whatever is asked waits for that.

    Args:
        folders: Recordings folders.

    Raises:
        StoreError: There is no such folder, or none was given.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]]) -> None:
        self._roots = _labelled(folders)
        self._books: dict[str, Book] = {}
        self._lock = threading.Lock()
        self._orders: OrderedDict[tuple[str, str], Order] = OrderedDict()
        self._generations: dict[str, int] = {}
        self._looked_at = float("-inf")
        self._error: RollcamError | None = None
        self._thread = threading.Thread(target=self._open_all, name="rollcam-shelf", daemon=True)
        self._thread.start()

    @property
    def title(self) -> str:
        """What is shown, in a few words."""
        return ", ".join(self._roots)

    @property
    def books(self) -> dict[str, Book]:
        """The folders by label, opened.

        Raises:
            StoreError: They could not be opened, or not in ten minutes.
        """
        if self._thread.is_alive():
            self._thread.join(_OPEN_TIMEOUT_S)
            if self._thread.is_alive():
                raise StoreError("the folders are still being opened; try again later")
        if self._error is not None:
            raise self._error
        return self._books

    def _open_all(self) -> None:
        try:
            for label, root in self._roots.items():
                done = recover(root)
                notes = [f"recovered {episode.name}" for episode in done.recovered]
                notes += [f"{path.name}: {error}" for path, error in done.problems]
                self._books[label] = Book(label, root, Catalog(root), notes)
        except RollcamError as error:
            self._error = error

    def close(self) -> None:
        """Let go of every folder. May be called twice."""
        self._thread.join(_OPEN_TIMEOUT_S)
        for book in self._books.values():
            book.catalog.close()

    def refresh(self, *, at_once: bool = False) -> dict[str, int]:
        """Look what is new, but not more than once a second.

        Args:
            at_once: Look now.

        Returns:
            The generation of each folder; of those that are gone -1.
        """
        with self._lock:
            if at_once or time.monotonic() - self._looked_at >= _LOOK_EVERY_S:
                for label, book in self.books.items():
                    try:
                        self._generations[label] = book.catalog.refresh()
                    except RollcamError:
                        self._generations[label] = -1
                self._looked_at = time.monotonic()
            return dict(self._generations)

    def generation(self) -> str:
        """Return what is another as soon as anything is different."""
        return "-".join(str(n) for n in self.refresh().values())

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
        """Return label, path and columns of the episodes that answer to it, in order."""
        books = self.chosen(question)
        is_near = limit is not None and offset + limit <= _N_QUICK
        is_plain = not any("." in name for name in question.sort)
        if len(books) == 1 and is_near and is_plain and not self._has_order(question):
            found = books[0].catalog.table(
                columns,
                text=question.text,
                where=question.where,
                sort=_sort_in_one(question),
                limit=limit,
                offset=offset,
            )
            return [(books[0].label, *row) for row in found]
        order = self.order(question)
        end = None if limit is None else offset + limit
        return self._rows(order, order.places[offset:end], columns)

    def values(
        self, question: Question, columns: Sequence[str], limit: int
    ) -> list[tuple[Any, ...]]:
        """Return label and columns, without paths, of the first `limit` that answer, in order."""
        order = self.order(question)
        places = order.places[:limit]
        told: list[tuple[Any, ...]] = [()] * len(places)
        for which, book in enumerate(order.books):
            mine = [n for n, place in enumerate(places) if place[0] == which]
            found = book.catalog.values([places[n][1] for n in mine], columns)
            for n, row in zip(mine, found, strict=True):
                told[n] = (book.label, *row)
        return told

    def place(self, question: Question, key: str) -> int | None:
        """Return where an episode stands among those that answer, from 0; `None`: nowhere."""
        label, _, stem = key.partition("/")
        order = self.order(question)
        for which, book in enumerate(order.books):
            if book.label == label:
                number = book.catalog.number(stem + SIDECAR_SUFFIX)
                if number is not None and (which, number) in order.places:
                    return order.places.index((which, number))
        return None

    def order(self, question: Question) -> Order:
        """Return the order of all that answer to a question; asked again, at once."""
        key = (self.generation(), question.key)
        with self._lock:
            if key in self._orders:
                self._orders.move_to_end(key)
                return self._orders[key]
        books = self.chosen(question)
        if len(books) == 1:
            places = [(0, number) for number in _numbers(books[0], question)]
        else:
            places = _merged(books, question)
        order = Order(books, places)
        with self._lock:
            self._orders[key] = order
            while len(self._orders) > _N_ORDERS:
                self._orders.popitem(last=False)
        return order

    def _has_order(self, question: Question) -> bool:
        key = (self.generation(), question.key)
        with self._lock:
            return key in self._orders

    def _rows(
        self, order: Order, places: Sequence[tuple[int, int]], columns: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        if len(order.books) == 1:
            book = order.books[0]
            found = book.catalog.rows([number for _, number in places], columns)
            return [(book.label, *row) for row in found]
        rows: dict[tuple[int, int], tuple[Any, ...]] = {}
        for n, book in enumerate(order.books):
            numbers = [number for which, number in places if which == n]
            found = book.catalog.rows(numbers, columns)
            if len(found) == len(numbers):
                rows |= {(n, i): (book.label, *row) for i, row in zip(numbers, found, strict=True)}
        return [rows[place] for place in places if place in rows]

    def distinct(self, question: Question, column: str, limit: int) -> list[tuple[Any, int]]:
        """Return a column's values and how many episodes have each, most frequent first."""
        asked: dict[str, Any] = {"text": question.text, "where": question.where}
        if column == FOLDER:
            counts = {b.label: b.catalog.count(**asked) for b in self.chosen(question)}
        else:
            counts = {}
            for book in self.chosen(question):
                for value, n in book.catalog.distinct(column, limit=limit, **asked).items():
                    counts[value] = counts.get(value, 0) + n
        return sorted(counts.items(), key=lambda item: -item[1])[:limit]

    def ranges(self, question: Question, columns: Sequence[str]) -> dict[str, Any]:
        """Return the smallest and the largest value of columns; `None` where there is none."""
        told: dict[str, Any] = dict.fromkeys(columns)
        for book in self.chosen(question):
            found = book.catalog.ranges(columns, text=question.text, where=question.where)
            for name, both in found.items():
                if both is not None:
                    known = told[name] or both
                    told[name] = (min(known[0], both[0]), max(known[1], both[1]))
        return told

    def columns(self) -> list[str]:
        """Return the columns of any folder."""
        names = [name for book in self.books.values() for name in book.catalog.columns()]
        return list(dict.fromkeys(names))

    def notes(self) -> list[str]:
        """Return what the user should know: folders gone, films recovered, sidecars that cannot be read."""
        gone = [label for label, generation in self.refresh().items() if generation == -1]
        told = [f"{label}: the folder is gone, or cannot be read" for label in gone]
        for book in self.books.values():
            found = [*book.notes, *(str(problem) for problem in book.catalog.problems)]
            told += [note.replace(str(book.root), book.label)[:500] for note in found]
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


def _labelled(folders: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    roots = dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders)
    if not roots:
        raise StoreError("no folder was named; say which recordings folder to show")
    labelled: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise StoreError(f"there is no folder {str(root)!r}; name one that was recorded into")
        label = base = root.name or "folder"
        n = 1
        while label in labelled:
            n += 1
            label = f"{base}~{n}"
        labelled[label] = root
    return labelled


def _numbers(book: Book, question: Question) -> list[int]:
    return book.catalog.order(text=question.text, where=question.where, sort=_sort_in_one(question))


def _sort_in_one(question: Question) -> list[str]:
    """Return the order inside one folder: by the folder says nothing there."""
    kept = [name for name in question.sort if name.removeprefix("-") != FOLDER]
    return kept or ["-started_at"]


def _merged(books: list[Book], question: Question) -> list[tuple[int, int]]:
    order = [*question.sort, "started_at", "episode_id"]
    names = [name.removeprefix("-") for name in order]
    told = [name for name in names if name != FOLDER]
    rows = []
    for which, book in enumerate(books):
        numbers = _numbers(book, question)
        found = book.catalog.rows(numbers, told)
        if len(found) != len(numbers):  # something went meanwhile; the next look sorts it out
            continue
        for number, (_, *values) in zip(numbers, found, strict=True):
            rest = iter(values)
            rows.append(
                ((which, number), [book.label if n == FOLDER else next(rest) for n in names])
            )
    is_newest_first = order[0].startswith("-")
    # Stable sorts, the least important first, as SQLite orders: nothing last, text after numbers.
    for n in reversed(range(len(order))):
        is_last_resort = n >= len(question.sort)
        is_down = is_newest_first if is_last_resort else order[n].startswith("-")
        rows.sort(key=lambda row, n=n, d=is_down: _rank(row[1][n], d), reverse=is_down)  # type: ignore[misc]
    return [place for place, _ in rows]


def _rank(value: Any, is_down: bool) -> tuple[bool, bool, Any]:
    is_there = value is not None
    is_text = isinstance(value, str)
    return (is_there if is_down else not is_there, is_text, value if is_there else 0)

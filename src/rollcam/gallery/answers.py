"""What the page is told, as JSON: lists, points, facets, one episode. A server sends it, an export writes it.

Everything in it comes from sidecars, so it is hostile; the page shows all of it as text.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rollcam._version import __version__
from rollcam.episode import Episode
from rollcam.errors import EpisodeNotFound, SettingError
from rollcam.gallery.ask import FOLDER, Question
from rollcam.gallery.bounds import within
from rollcam.gallery.deliveries import deliveries_of, stamp_of
from rollcam.gallery.names import id_of, key_of
from rollcam.gallery.posters import CHOICES
from rollcam.gallery.shelf import Book, Shelf
from rollcam.store import sidecar
from rollcam.store.columns import COLUMNS, fields_of, values_of
from rollcam.store.names import SIDECAR_SUFFIX

MAX_ROWS = 1000
MAX_POINTS = 200_000
MAX_MORE = 20
MAX_TEXT = 500
MAX_STEPS_BYTES = 256 * 2**20
"""A larger file of step columns is not read into memory."""

MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".mov": "video/quicktime",
    ".gif": "image/gif",
    ".cast": "application/x-asciicast",
    ".json": "application/json",
}
"""By the file's extension, never by what a sidecar says; no other file is given out as a film."""

_STORED = (
    "name", "env_id", "run_id", "mode", "kind", "status", "episode_return", "episode_length",
    "n_frames", "duration_s", "seed", "episode_index", "step_index", "iteration", "terminated",
    "truncated", "started_at", "ended_at", "size_bytes", "n_dropped", "codec", "worker",
    "vector_index", "episode_id",
)  # fmt: skip
BASE = ("id", FOLDER, *_STORED)
"""What every row of a list tells."""

_FACETS = (
    "env_id", "run_id", "mode", "status", "kind", "codec", "worker", FOLDER, "terminated",
    "truncated",
)  # fmt: skip
_RANGES = (
    "episode_return", "episode_length", "n_frames", "duration_s", "step_index", "iteration",
    "seed", "size_bytes", "started_at",
)  # fmt: skip
_TIMES = ("started_at", "ended_at")
_STEP_WORDS = (
    "num_env_steps_sampled_lifetime", "num_env_steps_sampled", "num_env_steps", "num_timesteps",
    "total_timesteps", "global_step", "env_steps", "timesteps", "steps", "step",
)  # fmt: skip
_MORE_FIELDS = ("fps", "width", "height", "output_fps", "reason")
_N_FACET = 100
_N_COLORS = 20
_N_PROBED = 100


class Answers:
    """Answers what a page asks. May be used from several threads.

    Args:
        shelf: The folders.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._small = _Kept(32)

    def gallery(self) -> dict[str, Any]:
        """Return what there is to ask for."""
        generation = self.shelf.generation()
        counts = {label: len(book.catalog) for label, book in self.shelf.books.items()}
        more = [name for name in self.shelf.columns() if name not in BASE]
        more += [name for name in _MORE_FIELDS if name not in more]
        numeric = self._small.once((generation, "numeric"), lambda: self._numeric(more))
        return {
            "version": __version__,
            "is_static": False,
            "generation": generation,
            "title": self.shelf.title,
            "folders": [{"label": label, "n": n} for label, n in counts.items()],
            "n": sum(counts.values()),
            "columns": BASE,
            "more": more,
            "numeric": numeric,
            "x": _step_axis(numeric),
            "notes": self._small.once((generation, "notes"), self.shelf.notes),
            "posters": CHOICES,
            "deliveries": self.deliveries_stamp(),
        }

    def deliveries_stamp(self) -> str:
        """Return what is another as soon as any delivery goes on."""
        return stamp_of(book.root for book in self.shelf.books.values())

    def rows(
        self, question: Question, offset: int, limit: int, more: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return a window of the episodes that answer to a question.

        Raises:
            SettingError: That cannot be asked.
        """
        if len(more) > MAX_MORE:
            raise SettingError(f"at most {MAX_MORE} more columns can be asked for")
        generation = self.shelf.generation()
        total = self._small.once(
            (generation, "count", question.key), lambda: self.shelf.count(question)
        )
        rows = self.shelf.table(question, [*_STORED, *more], min(limit, MAX_ROWS), offset)
        return {
            "generation": generation,
            "total": total,
            "offset": offset,
            "columns": [*BASE, *more],
            "rows": [_row(*row) for row in rows],
        }

    def points(
        self, question: Question, x: str, y: str, color: str | None = None
    ) -> dict[str, Any]:
        """Return two columns of every episode that answers, in the order of the list.

        Raises:
            SettingError: That cannot be asked.
        """
        generation = self.shelf.generation()
        names = [x, y, "status", *([color] if color and color != FOLDER else [])]
        rows = self.shelf.values(question, names, MAX_POINTS)
        status, statuses = _numbered([row[3] for row in rows])
        told: dict[str, Any] = {
            "generation": generation, "x": x, "y": y, "n": len(rows),
            "xs": [_number(row[1]) for row in rows],
            "ys": [_number(row[2]) for row in rows],
            "status": status, "statuses": statuses,
        }  # fmt: skip
        if color:
            values = [row[0] if color == FOLDER else row[4] for row in rows]
            told["color"], told["colors"] = _numbered([_cut(value) for value in values])
        return told

    def facets(self, question: Question) -> dict[str, Any]:
        """Return what can be chosen, each column counted as if nothing were chosen in it."""
        generation = self.shelf.generation()
        key = (generation, "facets", question.key)
        return self._small.once(key, lambda: self._facets(generation, question))  # type: ignore[no-any-return]

    def _facets(self, generation: str, question: Question) -> dict[str, Any]:
        values = {}
        for name in _FACETS:
            found = self.shelf.distinct(question.without(name), name, _N_FACET)
            values[name] = [(_cut(value), n) for value, n in found]
        free = [name for name in _RANGES if name not in question.where]
        ranges = self.shelf.ranges(question, free)
        for name in set(_RANGES).difference(free):
            ranges |= self.shelf.ranges(question.without(name), [name])
        return {
            "generation": generation,
            "total": self.shelf.count(question),
            "values": values,
            "ranges": {name: ranges[name] for name in _RANGES},
        }

    def facts(self, handle: str, *, shown_as: str | None = None) -> dict[str, Any]:
        """Return all that is known of one episode, read from its sidecar now.

        Args:
            handle: Of the episode.
            shown_as: The handle that the page is told instead.

        Raises:
            RollcamError: There is none, or it is none of ours.
        """
        book, episode = self.shelf.episode(key_of(handle))
        media = media_of(book, episode)
        shown = shown_as or handle
        base = f"api/e/{shown}/"
        told: dict[str, Any] = {
            "id": shown,
            "folder": book.label,
            "row": row_of(book, episode),
            "sidecar": sidecar.as_dict(episode),
            "media": None,
            "steps": None,
            "poster": None,
            "deliveries": deliveries_of(book.root, episode.episode_id),
        }
        if media is not None:
            suffix = media.suffix.lower()
            told["media"] = {
                "url": f"{base}media{suffix}",
                "type": MEDIA_TYPES[suffix],
                "size_bytes": media.stat().st_size,
                "name": Path(str(episode.media)).name,
            }
            if not episode.is_text:
                told["poster"] = f"{base}poster-middle.jpg"
        steps = None if episode.steps_path is None else within(book.root, episode.steps_path)
        if steps is not None and steps.is_file():
            told["steps"] = f"{base}steps.json"
        return told

    def steps(self, handle: str) -> dict[str, Any]:
        """Return the per-step columns of one episode.

        Raises:
            RollcamError: There are none.
        """
        episode, path = self.shelf.file(key_of(handle), "steps")
        if path.stat().st_size > MAX_STEPS_BYTES:
            raise SettingError("the step columns of this episode are too large to be shown")
        columns = episode.read_steps()
        return {"n": max(map(len, columns.values()), default=0), "columns": columns}

    def neighbours(self, handle: str, question: Question) -> dict[str, Any]:
        """Return the episodes beside one, by return and by time, among those that answer.

        Raises:
            RollcamError: There is none, or it is none of ours.
        """
        key = key_of(handle)
        self.shelf.episode(key)
        worse, better = self._beside(key, question, "-episode_return")
        later, earlier = self._beside(key, question, "started_at")
        return {"worse": worse, "better": better, "earlier": earlier, "later": later}

    def _beside(self, key: str, question: Question, sort: str) -> tuple[Any, Any]:
        """Return the rows after and before an episode, as far as they have what is sorted by."""
        asked = Question(question.where, question.text, (sort,), question.folders)
        place = self.shelf.place(asked, key)
        if place is None:
            return None, None
        column = BASE.index(sort.removeprefix("-"))
        rows = []
        for other in (place + 1, place - 1):
            near = self.shelf.table(asked, _STORED, 1, other) if other >= 0 else []
            row = _row(*near[0]) if near else None
            rows.append(row if row is not None and row[column] is not None else None)
        own = self.shelf.table(asked, _STORED, 1, place)
        has_own = bool(own) and _row(*own[0])[column] is not None
        return (rows[0], rows[1]) if has_own else (None, None)

    def _numeric(self, more: Sequence[str]) -> list[str]:
        """Return the columns that hold numbers in the newest episodes."""
        names = [*(n for n in COLUMNS if COLUMNS[n] != "TEXT"), *more][: 2 * _N_PROBED]
        names += [name for name in _TIMES if name not in names]
        rows = self.shelf.table(Question(), names, _N_PROBED, 0)
        found = []
        for n, name in enumerate(names, start=2):
            values = [row[n] for row in rows if row[n] is not None]
            if name in _TIMES or (values and not any(isinstance(v, str | bool) for v in values)):
                found.append(name)
        return found


class _Kept:
    """Answers that are good until something changes; the generation is part of their keys.

    Args:
        n: The last so many are kept.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def once(self, key: tuple[str, ...], work: Callable[[], Any]) -> Any:
        """Do some work unless its result is at hand."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        done = work()
        with self._lock:
            self._kept[key] = done
            while len(self._kept) > self._n:
                self._kept.popitem(last=False)
        return done


def media_of(book: Book, episode: Episode) -> Path | None:
    """Return where the film lies, links resolved; `None` if there is none that may be shown."""
    told = episode.media_path
    path = None if told is None else within(book.root, told)
    if path is None or not path.is_file() or path.suffix.lower() not in MEDIA_TYPES:
        return None
    return path


def row_of(book: Book, episode: Episode) -> list[Any]:
    """Return the row of an episode that was read from its sidecar."""
    known = dict(zip(COLUMNS, values_of(fields_of(episode)), strict=True))
    path = episode.sidecar_path
    if path is None or not path.is_relative_to(book.root):
        raise EpisodeNotFound("this episode lies in no folder")
    values = [known[name] for name in _STORED]
    # As the index tells it: what is no number is missing.
    values = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
    return _row(book.label, path.relative_to(book.root).as_posix(), *values)


def as_text(told: Any) -> bytes:
    """Return an answer as JSON; numbers that JSON cannot say as words."""
    try:
        text = json.dumps(told, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_sayable(told), separators=(",", ":"), ensure_ascii=False)
    # Half a character, which JSON can say and UTF-8 cannot.
    return text.encode("utf-8", "replace")


def _sayable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {key: _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    return value


def _row(label: str, path: str, *values: Any) -> list[Any]:
    stem = path.removesuffix(SIDECAR_SUFFIX)
    return [id_of(f"{label}/{stem}"), label, *map(_cut, values)]


def _cut(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value


def _number(value: Any) -> float | int | None:
    """Return a value as a place on an axis."""
    if value is None:
        return None
    if type(value) is int:
        return int(value)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            return None
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return value if is_number else None


def _numbered(values: Sequence[Any]) -> tuple[list[int], list[Any]]:
    """Return the number of each value among the most frequent ones, and those."""
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    frequent = sorted(counts, key=lambda value: -counts[value])[:_N_COLORS]
    numbers = {value: n for n, value in enumerate(frequent)}
    return [numbers.get(value, _N_COLORS) for value in values], frequent


def _step_axis(numeric: Sequence[str]) -> str:
    """Guess which column counts the steps of the training."""
    for where in ("context_at_end.", "context_at_start."):
        for word in _STEP_WORDS:
            if where + word in numeric:
                return where + word
    for name in ("step_index", "iteration"):
        if name in numeric:
            return name
    return "started_at"

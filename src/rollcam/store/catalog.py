"""Read a recordings folder: its episodes, and what in it is no sidecar of ours."""

from __future__ import annotations

import importlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rollcam.episode import Episode
from rollcam.errors import (
    EpisodeNotFound,
    SettingError,
    SidecarError,
    StoreError,
    UsageError,
    require,
)
from rollcam.store import sidecar
from rollcam.store.columns import COLUMNS, Query, as_told, record_of
from rollcam.store.files import SUFFIXES, delete, own_files
from rollcam.store.index import Index
from rollcam.store.index_rows import Row
from rollcam.store.retention import Rules, prune
from rollcam.store.scan import stamp_of

_N_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since a generation."""

    generation: int
    """To be asked with next time."""
    is_complete: bool
    """False: too much, or that generation is not remembered; look at everything anew."""
    episodes: list[Episode]
    """New and changed ones."""
    removed: list[str]
    """The `episode_id` of each that is gone."""


def _the_one(found: Sequence[Episode], wanted: str, folder: Path) -> Episode:
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(e.episode_id for e in found[:5])
        raise EpisodeNotFound(f"{wanted!r} names {len(found)} episodes in {folder}: {names}")
    raise EpisodeNotFound(
        f"no episode in {folder} is named {wanted!r}; `rollcam ls {folder}` lists them"
    )


class Catalog:
    """The episodes of a recordings folder, to be asked for by their facts.

    An index makes it quick; each episode given out is read from its own sidecar at that moment, so
    nothing is told that no sidecar tells. Several threads may use one catalog.

    Args:
        folder: The recordings folder.

    Raises:
        StoreError: There is no such folder.

    Example::

        with rollcam.Catalog("videos") as catalog:
            best = catalog.select(env_id="CartPole-v1", sort="-episode_return", limit=5)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._index: Index | None = Index(self.folder)
        self._refresh(all_of_it=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[Episode]:
        for row in self._opened.select(Query({}), None, 0):
            episode = self._read(row, must_match=False)
            if episode is not None:
                yield episode

    def __getitem__(self, wanted: str) -> Episode:
        return self.get(wanted)

    def __repr__(self) -> str:
        return f"Catalog({str(self.folder)!r})"

    def _repr_html_(self) -> str | None:
        """Show itself in a notebook."""
        if self._index is None:
            return None
        # Whoever draws it stands above, and is not loaded before.
        html: str = importlib.import_module("rollcam.notebook").catalog_html(self)
        return html

    def get(self, wanted: str) -> Episode:
        """Return the episode of that name, id, or unique beginning of an id.

        Args:
            wanted: `rl-video-episode-0`, with or without extension, or an `episode_id`.

        Raises:
            EpisodeNotFound: None answers to it, or more than one does.
        """
        found = self._named(wanted)
        if not found:  # it may have come since the last look
            self.refresh()
            found = self._named(wanted)
        return _the_one(found, wanted, self.folder)

    def select(
        self,
        predicate: Callable[[Episode], bool] | None = None,
        *,
        text: str | None = None,
        sort: str | Sequence[str] = "started_at",
        limit: int | None = None,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        **columns: Any,
    ) -> list[Episode]:
        """Return the episodes that meet every condition.

        Args:
            predicate: Called with each episode that meets the others.
            text: Words that must all stand in name, ids, environment, reason, writer or metadata,
                in upper or lower case.
            sort: A column or several, `-` in front for largest first. What lacks the value (or has
                NaN) comes last.
            limit: At most so many.
            offset: Leave out so many at the beginning.
            where: Like `columns`, for names that Python cannot say: `{"context_at_end.iteration":
                (10, 20)}`.
            columns: Column to what it must be: a value (`None`: missing), a list of values, or a
                tuple `(low, high)` with either of them `None`.

        Raises:
            SettingError: There can be no such column, or it is compared with what is no scalar.
        """
        query = self._query(text, sort, where, columns)
        for name, number in (("limit", limit), ("offset", offset)):
            if number is not None and (not isinstance(number, int) or number < 0):
                raise SettingError(f"{name} must be a whole number from 0, not {number!r}")
        if predicate is None:
            return self._select(query, _any, limit, offset)
        end = None if limit is None else offset + limit
        return self._select(query, predicate, None, 0, stop=end)[offset:end]

    def table(
        self,
        columns: Sequence[str],
        *,
        text: str | None = None,
        sort: str | Sequence[str] = "started_at",
        limit: int | None = None,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return some columns of many episodes, without opening a sidecar: for lists and charts.

        They are as the last `refresh` found them; open an episode to be sure of it.

        Args:
            columns: Names as of `select`.
            text: As of `select`.
            sort: As of `select`.
            limit: As of `select`.
            offset: As of `select`.
            where: As of `select`.

        Returns:
            Of each episode: where its sidecar lies in the folder, with `/`; then the columns, long
            text cut.
        """
        numbers = self.order(text=text, sort=sort, limit=limit, offset=offset, where=where)
        return self.rows(numbers, columns)

    def order(
        self,
        *,
        text: str | None = None,
        sort: str | Sequence[str] = "started_at",
        limit: int | None = None,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return numbers for `rows`, in order; good until the `generation` is another.

        Args:
            text: As of `select`.
            sort: As of `select`.
            limit: As of `select`.
            offset: As of `select`.
            where: As of `select`.
        """
        return self._opened.order(self._query(text, sort, where, {}), limit, offset)

    def rows(self, numbers: Sequence[int], columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return what `table` does, for what `order` returned; what is gone by now is left out."""
        found = self._opened.shown(numbers, columns)
        return _as_told(["", *columns], [found[n] for n in numbers if n in found])

    def values(self, numbers: Sequence[int], columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return columns alone, for what `order` returned: quicker than `rows`, for charts.

        Returns:
            A tuple for each number, of `None` for what is gone by now.
        """
        found = self._opened.values(numbers, columns)
        gone = (None,) * len(columns)
        return _as_told(columns, [found.get(n, gone) for n in numbers])

    def number(self, path: str) -> int | None:
        """Return the number, as `order` tells it, of the episode whose sidecar lies there.

        Args:
            path: In the folder, with `/`.
        """
        return self._opened.number(path)

    def count(
        self,
        predicate: Callable[[Episode], bool] | None = None,
        *,
        text: str | None = None,
        where: Mapping[str, Any] | None = None,
        **columns: Any,
    ) -> int:
        """Return how many episodes meet every condition; arguments as of `select`."""
        query = self._query(text, (), where, columns)
        if predicate is None:
            return self._opened.count(query)
        return len(self._select(query, predicate, None, 0))

    def distinct(
        self,
        column: str,
        *,
        text: str | None = None,
        where: Mapping[str, Any] | None = None,
        limit: int = 1000,
        **columns: Any,
    ) -> dict[Any, int]:
        """Return a column's values and how many episodes have each, most frequent first.

        Args:
            column: Any that `select` sorts by.
            text: As of `select`.
            where: As of `select`.
            limit: At most so many values.
            columns: As of `select`.
        """
        query = self._query(text, (), where, columns)
        found = self._opened.distinct(query, column, limit)
        return {as_told(column, value): n for value, n in found}

    def ranges(
        self,
        columns: Sequence[str],
        *,
        text: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> dict[str, tuple[Any, Any] | None]:
        """Return the smallest and the largest value of some columns, as of the last `refresh`.

        Args:
            columns: Names as of `select`.
            text: As of `select`.
            where: As of `select`.

        Returns:
            Of each column: both values, or `None` where no episode has any.
        """
        query = self._query(text, (), where, {})
        found = self._opened.ranges(query, columns)
        return {
            name: None if low is None else (low, high)
            for name, (low, high) in zip(columns, found, strict=True)
        }

    def columns(self) -> list[str]:
        """Return the columns to filter and sort by, with the dotted names that episodes have."""
        names = [*COLUMNS, *self._opened.keys()]
        return list(dict.fromkeys(names))

    @property
    def problems(self) -> list[SidecarError]:
        """One for each sidecar that cannot be read: foreign, broken, hostile or newer."""
        found = [
            SidecarError(f"{error.filename} cannot be listed: {error}")
            for error in self._opened.unreadable
        ]
        for row in self._opened.problems():
            path = self.folder / row.path
            try:
                sidecar.read(path)
            except SidecarError as error:
                if os.path.lexists(path):
                    found.append(error)
        return found

    @property
    def generation(self) -> int:
        """A number that grows whenever an episode comes, changes or goes; see `changes`."""
        return self._opened.generation()

    def refresh(self, *, all_of_it: bool = False) -> int:
        """Take in what happened in the folder since; return the `generation`.

        New and removed sidecars are always found. One that was rewritten in place is found at once
        in folders of up to 30,000 episodes; in larger ones when it is about to be given out, or
        in the course of further calls, 5,000 episodes each.

        Args:
            all_of_it: Ask the disk about every single sidecar, however many there are.

        Raises:
            StoreError: The folder is gone.
        """
        return self._refresh(all_of_it=all_of_it)

    def changes(self, since: int, *, limit: int = 1000) -> Changes:
        """Return what came, changed or went since a `generation`, as far as `refresh` has seen it.

        Args:
            since: A generation of this folder, from this process or another.
            limit: Give up beyond so many episodes: looking at everything is then cheaper.
        """
        found = self._opened.since(since, limit)
        read = [self._read(row, must_match=False) for row in found.rows]
        episodes = [episode for episode in read if episode is not None]
        return Changes(found.generation, found.is_complete, episodes, found.removed)

    def remove(
        self, episodes: Iterable[Episode], *, spare: Callable[[Episode], bool] | None = None
    ) -> list[Episode]:
        """Delete episodes: of each the film first, the sidecar last, and no file but its own.

        An episode goes only if the sidecar at its place, read again, still is of that episode.

        Args:
            episodes: Of this catalog.
            spare: Asked about each again, just before: those that it answers True for stay.

        Returns:
            Those that are gone.
        """
        removed = []
        for episode in episodes:
            now = self._now(episode)
            if now is None or (spare is not None and spare(now)):
                continue
            delete(now)
            removed.append(now)
        self._refresh(all_of_it=False)
        return removed

    def to_prune(
        self, rules: Rules, *, spare: Callable[[Episode], bool] = lambda _: False
    ) -> list[Episode]:
        """Return the episodes that have to go by `rules`, oldest first; nothing is deleted.

        Args:
            rules: What stays.
            spare: Episodes that it answers True for stay: those still in use.
        """
        return prune(self, rules, spare=spare, size=self.size_on_disk)

    def size_on_disk(self, episode: Episode) -> int:
        """Return how many bytes an episode's own files take, whatever its sidecar says."""
        return sum(_size(path) for path in own_files(episode))

    def reindex(self) -> None:
        """Build the index anew from the sidecars."""
        self._opened.rebuild()

    def to_pandas(self, **conditions: Any) -> Any:
        """Return the episodes as a `pandas.DataFrame`, a row each, a column for every scalar.

        Args:
            conditions: As of `select`.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        pandas = require("pandas")
        return pandas.DataFrame.from_records([record_of(e) for e in self.select(**conditions)])

    def close(self) -> None:
        """Let go of the index. May be called twice."""
        if self._index is not None:
            self._index.close()
            self._index = None

    @property
    def _opened(self) -> Index:
        if self._index is None:
            raise UsageError(f"{self!r} was closed; open another one")
        return self._index

    def _refresh(self, *, all_of_it: bool) -> int:
        if not self.folder.is_dir():
            raise StoreError(f"there is no folder {str(self.folder)!r}")
        return self._opened.refresh(all_of_it=all_of_it)

    def _query(
        self,
        text: str | None,
        sort: str | Sequence[str],
        where: Mapping[str, Any] | None,
        columns: Mapping[str, Any],
    ) -> Query:
        return Query({**(where or {}), **columns}, text, sort)

    def _select(
        self,
        query: Query,
        predicate: Callable[[Episode], bool],
        limit: int | None,
        offset: int,
        *,
        stop: int | None = None,
    ) -> list[Episode]:
        """Ask the index, and again when a sidecar turns out to be another by now."""
        for _ in range(_N_ROUNDS):
            found: list[Episode] = []
            stale = []
            for row in self._opened.select(query, limit, offset):
                episode = self._read(row)
                if episode is None:
                    stale.append(row.path)
                elif predicate(episode):
                    found.append(episode)
                if len(found) == stop:
                    break
            if not stale:
                break
            self._opened.renew(stale)
        return found

    def _read(self, row: Row, *, must_match: bool = True) -> Episode | None:
        """Read a row's sidecar; `None` when it is gone, broken, or another than the index knows."""
        path = self.folder / row.path
        try:
            status, data = sidecar.load(path)
            is_same = row.stamp == stamp_of(status) or row.crc == zlib.crc32(data)
            return sidecar.from_json(data, where=path) if is_same or not must_match else None
        except (OSError, SidecarError):
            return None

    def _named(self, wanted: str) -> list[Episode]:
        stems = sorted({wanted, *(wanted.removesuffix(suffix) for suffix in SUFFIXES)} - {""})
        if not stems:
            return []
        marks = ", ".join("?" * len(stems))
        attempts = [
            ("name = ?", [wanted]),
            (f"name IN ({marks}) OR episode_id IN ({marks})", [*stems, *stems]),
            (
                " OR ".join(["substr(name, -length(?1)) = ?1".replace("?1", f"?{i}")
                             for i in range(1, len(stems) + 1)]),
                [f"/{stem}" for stem in stems],
            ),
            ("substr(episode_id, 1, length(?1)) = ?1", [wanted.upper()]),
        ]  # fmt: skip
        for condition, values in attempts:
            found = [self._read(row) for row in self._opened.named(condition, values)]
            if any(found):
                return [episode for episode in found if episode is not None]
        return []

    def _now(self, episode: Episode) -> Episode | None:
        """Read an episode's sidecar again; `None` when it is another's, or outside the folder."""
        path = episode.sidecar_path
        if path is None or not path.is_relative_to(self.folder) or ".." in path.parts:
            return None
        try:
            now = sidecar.read(path)
        except SidecarError:
            return None
        return now if (now.episode_id, now.run_id) == (episode.episode_id, episode.run_id) else None


def _as_told(columns: Sequence[str], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows of the index as sidecars tell them."""
    bools = {n for n, name in enumerate(columns) if as_told(name, 1) is True}
    if not bools:
        return rows
    return [
        tuple(bool(v) if n in bools and v is not None else v for n, v in enumerate(row))
        for row in rows
    ]


def _any(episode: Episode) -> bool:
    return True


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0

"""The index: an SQLite cache of a folder's sidecars, at `.rollcam/index.sqlite`.

It may be deleted, damaged or replaced at any moment, by anybody: then it is built again, and where
no file will do (a folder that cannot be written, a network disk, a damaged disk) it lies in memory.
Nothing that it holds is given out; it only says which sidecars to read, and in which order.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rollcam.errors import SidecarError, StoreError
from rollcam.store import columns, sidecar
from rollcam.store.columns import Query
from rollcam.store.index_file import IndexFile, index_path
from rollcam.store.index_rows import (
    Difference,
    ReadSidecar,
    Row,
    changes_since,
    insert,
    merge,
    row_from,
    selecting,
    state_of,
    trim,
    with_words,
)
from rollcam.store.scan import Scan, is_settled, stamp_of

_BATCH = 500
_MAX_LOSSES = 5
_MAX_SHAPES = 1000
_MAX_CHOSEN = 2000
_MAX_NAMES = 2000

# What SQLite says of a file that cannot be used now, though nothing is wrong with its content:
# BUSY, LOCKED, PERM, READONLY, IOERR, FULL, CANTOPEN, PROTOCOL.
_NOT_ITS_FAULT = frozenset({3, 5, 6, 8, 10, 13, 14, 15})

_T = TypeVar("_T")


class Index:
    """The index of one folder. Safe to use from several threads; a forked child gets its own.

    Args:
        root: The recordings folder.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._prefix = root, os.path.join(root, "")
        self._lock, self._pid = threading.RLock(), os.getpid()
        self._file = IndexFile()
        self._in_memory = False
        self._losses = 0
        self._scan = Scan(str(root))
        self._seen: int | None = None
        self._shapes: set[Any] = set()
        self.unreadable: list[OSError] = []
        """Directories that the last look could not list."""
        self._finalizer = weakref.finalize(self, IndexFile.let_go, self._file)

    @property
    def is_in_memory(self) -> bool:
        """Whether there is no file behind it."""
        return self._in_memory

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        with self._own_lock():
            self._finalizer()

    def refresh(self, *, all_of_it: bool = False) -> int:
        """Bring it up to date with the sidecars; return its generation."""
        with self._own_lock():
            return self._with_database(lambda db: self._refresh(db, all_of_it))

    def renew(self, paths: Iterable[str]) -> None:
        """Read some sidecars again."""
        with self._own_lock():
            wanted = list(paths)
            self._with_database(lambda db: self._take_in(db, wanted, []))

    def rebuild(self) -> None:
        """Throw it away and build it anew."""
        with self._own_lock():
            self._file.remove()
            self._with_database(lambda db: self._refresh(db, all_of_it=True))

    def generation(self) -> int:
        """Return a number that grows whenever the index learns something."""
        return int(self._rows("SELECT generation FROM state")[0][0])

    def select(self, query: Query, limit: int | None, offset: int) -> list[Row]:
        """Return where the sidecars of the episodes asked for lie, in order."""
        where, values = query.conditions()
        order = query.order()
        # Unfiltered, the newest come from an index at once; filtered, one pass over all is quicker.
        whole = " NOT INDEXED" if query.is_filtered else ""
        sql = f"{selecting(where + order, whole)} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        return self._found(sql, [*values, -1 if limit is None else limit, offset])

    def order(self, query: Query, limit: int | None, offset: int) -> list[int]:
        """Return the row numbers of the episodes asked for, in order."""
        where, values = query.conditions()
        order = query.order()
        whole = " NOT INDEXED" if query.is_filtered else ""
        sql = (
            f"SELECT e.id FROM episode e{whole}{with_words(where + order)} WHERE {where}"
            f" ORDER BY {order} LIMIT ? OFFSET ?"
        )
        return [
            int(n) for (n,) in self._rows(sql, [*values, -1 if limit is None else limit, offset])
        ]

    def shown(self, ids: Sequence[int], names: Sequence[str]) -> dict[int, tuple[Any, ...]]:
        """Return where sidecars lie and columns of them as they stand here, by row number."""
        found = self._look_up(["e.id", "e.path", *map(columns.shown, names)], ids)
        return {n: (row_from(path, None, 0).path, *told) for n, path, *told in found}

    def values(self, ids: Sequence[int], names: Sequence[str]) -> dict[int, tuple[Any, ...]]:
        """Return columns alone, by row number."""
        return {row[0]: row[1:] for row in self._look_up(["e.id", *map(columns.shown, names)], ids)}

    def _look_up(self, sqls: Sequence[str], ids: Sequence[int]) -> list[Any]:
        told = ", ".join(sqls)
        sql = f"SELECT {told} FROM episode e{with_words(told)} WHERE "
        if len(ids) > _MAX_CHOSEN:
            return self._rows(sql + "e.problem IS NULL")
        return self._rows(f"{sql} e.id IN ({', '.join('?' * len(ids))})", ids)

    def number(self, path: str) -> int | None:
        """Return the row number of the sidecar that lies there."""
        found = self._rows("SELECT id FROM episode WHERE path = ?", [os.fsencode(path)])
        return int(found[0][0]) if found else None

    def ranges(self, query: Query, names: Sequence[str]) -> list[tuple[Any, Any]]:
        """Return the smallest and the largest value of each column; of nothing, `None` twice."""
        where, values = query.conditions()
        told = ", ".join(f"MIN({sql}), MAX({sql})" for sql in map(columns.shown, names))
        sql = f"SELECT {told} FROM episode e{with_words(where + told)} WHERE {where}"
        found = self._rows(sql, values)[0]
        return list(zip(found[::2], found[1::2], strict=True))

    def count(self, query: Query) -> int:
        """Return how many episodes are asked for."""
        where, values = query.conditions()
        sql = f"SELECT COUNT(*) FROM episode e{with_words(where)} WHERE {where}"
        return int(self._rows(sql, values)[0][0])

    def distinct(self, query: Query, column: str, limit: int) -> list[tuple[Any, int]]:
        """Return the values of a column and how many episodes have each, most frequent first."""
        where, values = query.conditions()
        sql = columns.shown(column)
        found = self._rows(
            f"SELECT {sql}, COUNT(*) FROM episode e{with_words(where + sql)} WHERE {where}"
            " GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
            [*values, limit],
        )
        return [(value, int(n)) for value, n in found]

    def keys(self) -> list[str]:
        """Return the dotted names that any episode has had."""
        return [
            name for (name,) in self._rows(f"SELECT name FROM key ORDER BY name LIMIT {_MAX_NAMES}")
        ]

    def problems(self) -> list[Row]:
        """Return the sidecars that cannot be read."""
        return self._found(f"{selecting('')} WHERE e.problem IS NOT NULL ORDER BY e.path", [])

    def named(self, condition: str, values: Sequence[str]) -> list[Row]:
        """Return the episodes that meet a condition over `COLUMNS`, written by us, never a user."""
        sql = f"{selecting('')} WHERE e.problem IS NULL AND ({condition}) ORDER BY e.started_at, e.path"
        return self._found(sql, [columns.storable(value) for value in values])

    def since(self, generation: int, limit: int) -> Difference:
        """Return what is new, changed or removed since a generation."""
        with self._own_lock():
            return self._with_database(lambda db: changes_since(db, generation, limit), fresh=True)

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._own_lock():
            return self._with_database(lambda db: db.execute(sql, values).fetchall(), fresh=True)

    def _found(self, sql: str, values: Sequence[Any]) -> list[Row]:
        with self._own_lock():
            return self._with_database(
                lambda db: [row_from(*each) for each in db.execute(sql, values)], fresh=True
            )

    # The database, whatever happens to it.

    def _own_lock(self) -> threading.RLock:
        if os.getpid() != self._pid:  # forked, perhaps while another thread held the parent's
            self._lock, self._pid = threading.RLock(), os.getpid()
        return self._lock

    def _with_database(
        self, work: Callable[[sqlite3.Connection], _T], *, fresh: bool = False
    ) -> _T:
        """Do something with the database; where that fails, with a new one.

        Args:
            work: Done once, or again from the start.
            fresh: Whether a new database has to be filled before.
        """
        while not self._in_memory:
            try:
                return self._try(work, fresh)
            except sqlite3.DatabaseError as error:
                self._lose(error)
        try:
            return self._try(work, fresh)
        except sqlite3.Error as error:
            raise StoreError(f"the index of {self._root} failed in memory: {error}") from error

    def _try(self, work: Callable[[sqlite3.Connection], _T], fresh: bool) -> _T:
        database = self._file.database
        if database is None or not self._file.is_sound():
            database = self._open()
        if fresh and self._seen is None:
            self._refresh(database, all_of_it=True)
        return work(database)

    def _lose(self, error: sqlite3.DatabaseError) -> None:
        """Give up a database: for a new file, or, where that will not do either, for memory."""
        self._losses += 1
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _NOT_ITS_FAULT or self._losses > _MAX_LOSSES:
            self._file.let_go()
            self._in_memory = True
        else:
            self._file.remove()

    def _open(self) -> sqlite3.Connection:
        if self._file.database is not None:
            self._losses += 1
            self._file.remove()
        self._seen = None
        self._shapes.clear()
        if not self._in_memory:
            may_be = self._losses <= _MAX_LOSSES and IndexFile.may_be_at(self._root)
            self._in_memory = not may_be
        return self._file.open(None if self._in_memory else index_path(self._root))

    # Taking in what lies in the folder.

    def _refresh(self, db: sqlite3.Connection, all_of_it: bool) -> int:
        # First what others have noted, then the look: what they note meanwhile is not taken for gone.
        self._learn(db)
        found = self._scan.look(all_of_it=all_of_it)
        self.unreadable = found.unreadable
        self._take_in(db, found.changed, found.removed)
        return state_of(db)[0]

    def _learn(self, db: sqlite3.Connection) -> None:
        """Learn which sidecars the index knows by now, since other processes fill it as well."""
        generation, oldest = state_of(db)
        if self._seen is None or not oldest <= self._seen <= generation:
            self._scan = Scan(str(self._root))
            self._seen = -1
        elif self._seen == generation:
            return
        sql = "SELECT path FROM gone WHERE generation > ? AND path IS NOT NULL"
        for (path,) in db.execute(sql, [self._seen]):
            self._scan.forget(os.fsdecode(path))
        sql = "SELECT path, stamp FROM episode WHERE generation > ?"
        for path, stamp in db.execute(sql, [self._seen]):
            self._scan.know(os.fsdecode(path), stamp)
        self._seen = generation

    def _take_in(self, db: sqlite3.Connection, changed: list[str], removed: list[str]) -> None:
        read = (self._read(path) for path in sorted(changed))
        while batch := list(islice(read, _BATCH)):
            rows = [row for row in batch if not isinstance(row, str)]
            self._write(db, rows, [row for row in batch if isinstance(row, str)])
        self._write(db, [], removed)

    def _read(self, path: str) -> ReadSidecar | str:
        """Read a sidecar; return its path where there is none."""
        where = self._prefix + path
        stamp, crc = None, 0
        try:
            status, data = sidecar.load(where)
            stamp, crc = (stamp_of(status) if is_settled(status) else None), zlib.crc32(data)
            return self._told(path, stamp, crc, sidecar.fields_from_json(data, where=where))
        except SidecarError as error:
            return ReadSidecar(path, stamp, crc, str(error))
        except OSError as error:
            if not os.path.lexists(where):  # a link that leads nowhere is a problem, and no gap
                return path
            return ReadSidecar(path, None, 0, f"{where} cannot be read: {error}")

    def _told(self, path: str, stamp: int | None, crc: int, known: dict[str, Any]) -> ReadSidecar:
        # At once: hundreds of sidecars, held until they are written, keep the garbage collector busy.
        fields = {**sidecar.DEFAULTS, **known}
        facts, shape = columns.facts_of(fields), columns.shape_of(fields)
        values = columns.values_of(fields)
        words = (columns.facts_text(facts), columns.search_text(fields))
        keys = () if shape in self._shapes else columns.keys_of(facts)
        return ReadSidecar(path, stamp, crc, None, values, words, shape, keys)

    def _write(self, db: sqlite3.Connection, rows: list[ReadSidecar], removed: list[str]) -> None:
        if not rows and not removed:
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("UPDATE state SET generation = generation + 1")
            generation, _ = state_of(db)
            db.execute("SAVEPOINT batch")
            # Twice as quick, where nobody else can have noted them meanwhile.
            are_new = self._seen == generation - 1 and not any(r.path in self._scan for r in rows)
            put = insert if are_new else merge
            try:
                put(db, rows, generation, lambda values: values)
            except (UnicodeEncodeError, OverflowError, sqlite3.IntegrityError):
                # Half a character, or a number of more than 64 bits, in one; or it is there after all.
                db.execute("ROLLBACK TO batch")
                merge(db, rows, generation, lambda values: list(map(columns.storable, values)))
            self._note_keys(db, rows)
            gone = [path for path in removed if not os.path.lexists(self._root / path)]
            paths = [(os.fsencode(path),) for path in gone]
            db.executemany("DELETE FROM episode WHERE path = ?", paths)
            trim(db)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        for row in rows:
            self._scan.know(row.path, row.stamp)
        for path in gone:
            self._scan.forget(path)
        for path in set(removed).difference(gone):  # it came back meanwhile
            self._scan.know(path, None)
        # Another process's transactions in between have still to be learned.
        if self._seen == generation - 1:
            self._seen = generation

    def _note_keys(self, db: sqlite3.Connection, rows: list[ReadSidecar]) -> None:
        """Note the dotted names for the menus; most episodes bring the same ones."""
        new: set[str] = set()
        for row in rows:
            if row.keys and row.shape not in self._shapes:
                if len(self._shapes) > _MAX_SHAPES:
                    self._shapes.clear()
                self._shapes.add(row.shape)
                new.update(row.keys)
        db.executemany("INSERT OR IGNORE INTO key VALUES (?)", [(name,) for name in new])

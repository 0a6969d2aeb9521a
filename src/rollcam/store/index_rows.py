"""The rows of the index: how a sidecar becomes one, goes in, and is told of again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rollcam.store.columns import COLUMNS

_MAX_GONE = 20_000
_NAMES = ("path", "stamp", "crc", "generation", "problem", *COLUMNS)
_UPSERT = (
    f"INSERT INTO episode ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"
    " ON CONFLICT (path) DO UPDATE SET generation = CASE WHEN crc IS excluded.crc"
    " THEN generation ELSE excluded.generation END, "
    + ", ".join(f"{n} = excluded.{n}" for n in _NAMES if n not in ("path", "generation"))
)
_INSERT = f"INSERT INTO episode (id, {', '.join(_NAMES)}) VALUES (?{', ?' * len(_NAMES)})"
_NOTHING = (None,) * len(COLUMNS)
_MERGE_WORDS = "INSERT OR REPLACE INTO words SELECT id, ?, ? FROM episode WHERE path = ?"


@dataclass(frozen=True, slots=True)
class Row:
    """Where a sidecar lies, and what it looked like when it was read."""

    path: str
    """Relative to the folder, with `/`."""
    stamp: int | None
    """`None`: it was too fresh to be sure of."""
    crc: int
    """Of its bytes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What the index learned since some generation."""

    generation: int
    is_complete: bool
    rows: list[Row]
    removed: list[str]


@dataclass(slots=True)
class ReadSidecar:
    """A sidecar as it was read, in the index's terms."""

    path: str
    stamp: int | None
    crc: int
    problem: str | None
    columns: tuple[Any, ...] = _NOTHING
    words: tuple[str, str] = ("{}", "")
    shape: Any = None
    keys: tuple[str, ...] = ()

    def values(self, generation: int) -> tuple[Any, ...]:
        """Return what stands in its row."""
        return (self.stored_path, self.stamp, self.crc, generation, self.problem, *self.columns)

    @property
    def stored_path(self) -> bytes:
        """Its path as it stands in its row: file names need be no text."""
        return os.fsencode(self.path)


_Storable: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


def insert(
    db: sqlite3.Connection, rows: list[ReadSidecar], generation: int, storable: _Storable
) -> None:
    """Put in sidecars that are not there yet."""
    (last,) = db.execute("SELECT COALESCE(MAX(id), 0) FROM episode").fetchone()
    numbered = list(enumerate(rows, last + 1))
    db.executemany(_INSERT, ([n, *storable(row.values(generation))] for n, row in numbered))
    words = ([n, *storable(row.words)] for n, row in numbered)
    db.executemany("INSERT INTO words VALUES (?, ?, ?)", words)


def merge(
    db: sqlite3.Connection, rows: list[ReadSidecar], generation: int, storable: _Storable
) -> None:
    """Put in sidecars, over those that are there."""
    db.executemany(_UPSERT, (storable(row.values(generation)) for row in rows))
    db.executemany(_MERGE_WORDS, ([*storable(row.words), row.stored_path] for row in rows))


def state_of(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the newest generation, and the oldest whose removals are known."""
    found = db.execute("SELECT generation, oldest FROM state").fetchall()
    if len(found) != 1 or not all(isinstance(value, int) for value in found[0]):
        raise sqlite3.DatabaseError("the index has lost its state")
    generation, oldest = found[0]
    return generation, oldest


def row_from(path: Any, stamp: Any, crc: Any) -> Row:
    """Check a row: a damaged index, or one made up by somebody, leads nowhere outside."""
    is_well = isinstance(path, bytes) and isinstance(stamp, int | None) and isinstance(crc, int)
    if not is_well or path.startswith(b"/") or b".." in path.split(b"/") or b"\0" in path:
        raise sqlite3.DatabaseError("the index holds what we never write")
    return Row(os.fsdecode(path), stamp, crc)


def with_words(sql: str) -> str:
    """Return the join that an expression over the facts needs."""
    return " JOIN words w ON w.id = e.id" if "w." in sql else ""


def selecting(sql: str, hint: str = "") -> str:
    """Return the head of a question for rows, for conditions and an order in `sql`."""
    return f"SELECT e.path, e.stamp, e.crc FROM episode e{hint}{with_words(sql)}"


def changes_since(db: sqlite3.Connection, generation: int, limit: int) -> Difference:
    """Return what is new, changed or removed since a generation."""
    newest, oldest = state_of(db)
    if not oldest <= generation <= newest:
        return Difference(newest, False, [], [])
    # Who asks again with `newest` must get what is committed from here on: that is later.
    sql = f"{selecting('')} WHERE e.problem IS NULL AND e.generation > ? ORDER BY e.generation LIMIT ?"
    rows = [row_from(*each) for each in db.execute(sql, (generation, limit + 1))]
    gone = db.execute(
        "SELECT DISTINCT episode_id FROM gone g WHERE generation > ? AND episode_id IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM episode e WHERE e.episode_id = g.episode_id)",
        [generation],
    )
    if len(rows) > limit:
        return Difference(newest, False, [], [])
    return Difference(newest, True, rows, [str(episode_id) for (episode_id,) in gone])


def trim(db: sqlite3.Connection) -> None:
    """Forget the oldest removals; who asks since before them is told to look at everything."""
    sql = "SELECT generation FROM gone ORDER BY generation DESC LIMIT 1 OFFSET ?"
    found = db.execute(sql, [_MAX_GONE]).fetchone()
    if found is not None:
        db.execute("DELETE FROM gone WHERE generation <= ?", found)
        db.execute("UPDATE state SET oldest = MAX(oldest, ?)", found)

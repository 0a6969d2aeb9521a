"""The ledger: which film is owed to which sink, in SQLite, in the folder, shared by processes.

It is no cache: it alone knows what was handed over a moment ago. Losing it costs questions, not
films: who finds it gone rebuilds it from the sidecars and asks each place what it holds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock, Timeout

from rollcam.errors import StoreError
from rollcam.publish.entry import OWED, Entry, Key, State

FILE_NAME = "ledger.sqlite"

_VERSION = 1
_BUSY_S = 10.0
_BROKEN = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_CHUNK = 500
_SETTLED_NS = 100_000_000

T = TypeVar("T")
_Write = bool | Literal["alone"]

_COLUMNS = tuple(field.name for field in fields(Entry))
_CREATE = f"""
create table if not exists about (ledger_id text not null);
create table if not exists deliveries (
  {", ".join(_COLUMNS)}, primary key (sink, target, episode_id)
);
create index if not exists by_state on deliveries (sink, target, state, due_at);
create index if not exists by_episode on deliveries (episode_id, state);
pragma user_version={_VERSION};
"""
_SELECT = f"select {', '.join(_COLUMNS)} from deliveries"
_UPSERT = (
    f"insert into deliveries ({', '.join(_COLUMNS)}) values ({', '.join('?' * len(_COLUMNS))}) "
    "on conflict (sink, target, episode_id) do update set "
    + ", ".join(f"{name}=excluded.{name}" for name in _COLUMNS[3:])
)
# What is due; and what a clock that was set back would keep waiting for ever.
_IS_DUE = "(due_at <= ? or due_at > ? + 7200)"
_IS_DOUBTFUL = "(state in ('sending', 'handed') or (state = 'queued' and must_ask))"


class Ledger:
    """The deliveries of one folder. Safe to use from many threads and processes.

    Each call opens the file anew: no connection lives across a fork, a deleted file is noticed,
    and the rollback journal works on network file systems, where SQLite's WAL does not.

    Args:
        path: The file; made at the first write. What is no ledger is set aside, as
            `ledger.sqlite.broken-...`, and a new one is begun.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open = threading.local()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Open the file once for the calls in this context, which are to follow each other at once.

        Each opening takes the interpreter from the training several times.
        """
        if getattr(self._open, "is_wanted", False):
            yield
            return
        self._open.is_wanted = True
        try:
            yield
        finally:
            self._open.is_wanted = False
            self._close_shared()

    @property
    def exists(self) -> bool:
        """Whether anything was ever queued here."""
        return self.path.is_file()

    def mark(self) -> tuple[int, ...] | None:
        """Return what changes when anybody writes; `None` when that cannot be told yet.

        Costs one system call. A clock of files ticks every few milliseconds: what was written just
        now may be written once more without a trace (git calls such files "racily clean").
        """
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        if abs(time.time_ns() - status.st_mtime_ns) < _SETTLED_NS:
            return None
        return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)

    def identity(self) -> str:
        """Return what changes when the ledger was lost and begun anew."""
        return str(self._run(lambda db: db.execute("select ledger_id from about").fetchone()[0]))

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries durably, over what stands there. For whoever holds the sink's lock."""
        rows = [_row(entry) for entry in entries]
        if len(rows) == 1:  # the most frequent call: a statement is a transaction of its own
            self._run(lambda db: db.execute(_UPSERT, rows[0]), write="alone")
            return
        self._run(lambda db: db.executemany(_UPSERT, rows), write=True)

    def change(self, changes: Iterable[tuple[Entry | None, Entry]]) -> None:
        """Write entries, each unless it is no longer what it was (`None`: not there)."""

        def work(db: sqlite3.Connection) -> None:
            for old, new in changes:
                sql, values = f"{_UPSERT} where 0", _row(new)
                if old is not None:
                    sql = f"{_UPSERT} where deliveries.state=? and deliveries.sent_at=?"
                    values = (*values, old.state, old.sent_at)
                db.execute(sql, values)

        self._run(work, write=True)

    def find(self, key: Key, episode_ids: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of a sink for these episodes, by id; those that are known."""
        found: dict[str, Entry] = {}
        for start in range(0, len(episode_ids), _CHUNK):
            ids = episode_ids[start : start + _CHUNK]
            marks = ",".join("?" * len(ids))
            where = f"sink=? and target=? and episode_id in ({marks})"
            found |= {e.episode_id: e for e in self._select(where, (*key, *ids))}
        return found

    def next_queued(self, key: Key, now: float, *, oldest: bool = False) -> Entry | None:
        """Return the newest (or oldest) film that may be sent now."""
        # ULIDs sort by the time when the film began.
        order = "asc" if oldest else "desc"
        where = (
            f"sink=? and target=? and state='queued' and not must_ask and {_IS_DUE} "
            f"order by episode_id {order} limit 1"
        )
        return next(iter(self._select(where, (*key, now, now))), None)

    def doubtful(self, key: Key, now: float, limit: int) -> list[Entry]:
        """Return films of which the place has to be asked now, newest first."""
        where = (
            f"sink=? and target=? and {_IS_DOUBTFUL} and {_IS_DUE} order by episode_id desc limit ?"
        )
        return self._select(where, (*key, now, now, limit))

    def handed(self, key: Key, limit: int) -> list[Entry]:
        """Return what was handed over and is not confirmed, newest first."""
        where = "sink=? and target=? and state='handed' order by episode_id desc limit ?"
        return self._select(where, (*key, limit))

    def hurry(self, key: Key) -> None:
        """Let everything that waits after failures be due now, as if it had not failed."""
        sql = (
            "update deliveries set due_at=0, n_failures=0 "
            "where sink=? and target=? and state='queued'"
        )
        if self.exists:
            self._run(lambda db: db.execute(sql, key), write=True)

    def ask_soon(self, key: Key) -> None:
        """Let what was handed over, and was not asked for yet, be due now."""
        sql = "update deliveries set due_at=0 where sink=? and target=? and state='handed' and n_asked=0"
        if self.exists:
            self._run(lambda db: db.execute(sql, key), write=True)

    def next_due(self, key: Key) -> tuple[float | None, float | None]:
        """Return when the next film is to be sent, and when the place is to be asked for one."""
        sql = (
            f"select min(case when not {_IS_DOUBTFUL} then due_at end), "
            f"min(case when {_IS_DOUBTFUL} then due_at end) from deliveries "
            "where sink=? and target=? and state in ('queued', 'sending', 'handed')"
        )
        send_at, ask_at = self._run(lambda db: db.execute(sql, key).fetchone())
        return send_at, ask_at

    def next_due_at(self, key: Key, *states: State) -> float | None:
        """Return when something of this sink is to be done next; `None` when nothing is owed."""
        states = states or OWED
        sql = (
            "select min(due_at) from deliveries where sink=? and target=? "
            f"and state in ({','.join('?' * len(states))})"
        )
        values = (*key, *states)
        due: float | None = self._run(lambda db: db.execute(sql, values).fetchone()[0])
        return due

    def n_pending(
        self,
        key: Key,
        *,
        unsure_from: int,
        states: Sequence[State] = OWED,
        failures_below: int | None = None,
    ) -> int:
        """Count what is owed to a sink, without what was handed to a place that cannot tell.

        Args:
            key: The sink.
            unsure_from: Answers of "cannot tell" after which a film counts as handed for good.
            states: The states to count.
            failures_below: Of those queued, only what failed less often.
        """
        marks = ",".join("?" * len(states))
        sql = (
            f"select count(*) from deliveries where sink=? and target=? and state in ({marks}) "
            "and not (state='handed' and n_unsure >= ?) "
            "and not (state='queued' and n_failures >= ?)"
        )
        most = 2**62 if failures_below is None else failures_below
        values = (*key, *states, unsure_from, most)
        return int(self._run(lambda db: db.execute(sql, values).fetchone()[0]))

    def owes(self, episode_id: str) -> tuple[Key, ...]:
        """Return the sinks to which a film is still owed: it must not be deleted before."""
        if not self.exists:
            return ()
        sql = (
            "select distinct sink, target from deliveries where episode_id=? "
            "and state in ('queued', 'sending', 'handed') order by sink, target"
        )
        rows = self._run(lambda db: db.execute(sql, (episode_id,)).fetchall())
        return tuple((str(sink), str(target)) for sink, target in rows)

    def of_episode(self, episode_id: str) -> list[Entry]:
        """Return the deliveries of one film, to whatever sink."""
        if not self.exists:
            return []
        return self._select("episode_id=? order by sink, target", (episode_id,))

    def owed_sha256s(self) -> set[str]:
        """Return the contents that are still owed to anybody."""
        sql = (
            "select distinct sha256 from deliveries where sha256 is not null "
            "and state in ('queued', 'sending', 'handed')"
        )
        return {str(row[0]) for row in self._run(lambda db: db.execute(sql).fetchall())}

    def counts(self) -> dict[Key, dict[State, int]]:
        """Return how many films are in which state, for each sink; every state is there."""
        if not self.exists:
            return {}
        sql = (
            "select sink, target, state, count(*) from deliveries "
            "group by sink, target, state order by sink, target"
        )
        found: dict[Key, dict[State, int]] = {}
        for sink, target, state, n in self._run(lambda db: db.execute(sql).fetchall()):
            found.setdefault((sink, target), dict.fromkeys(State, 0))[_state(state)] += n
        return found

    def troubled(self, limit: int, key: Key | None = None) -> list[Entry]:
        """Return what has a reason against it and is not stored, newest first."""
        if not self.exists:
            return []
        of_sink = "sink=? and target=? and " if key is not None else ""
        where = (
            f"{of_sink}reason is not null and state != 'stored' order by episode_id desc limit ?"
        )
        return self._select(where, (*(key or ()), limit))

    def _select(self, where: str, values: Sequence[Any]) -> list[Entry]:
        sql = f"{_SELECT} where {where}"
        return [_entry(row) for row in self._run(lambda db: db.execute(sql, values).fetchall())]

    def _run(self, work: Callable[[sqlite3.Connection], T], *, write: _Write = False) -> T:
        try:
            try:
                return self._attempt(work, write=write)
            except sqlite3.DatabaseError as error:
                if not _is_broken(error):
                    raise
            self._set_aside()
            return self._attempt(work, write=write)
        except (sqlite3.Error, OSError, Timeout) as error:
            raise StoreError(
                f"the ledger {self.path} cannot be used: {error}. Is the disk full, or the folder "
                "read-only? Films stay where they are, and `rollcam publish` sends them later."
            ) from error

    def _attempt(self, work: Callable[[sqlite3.Connection], T], *, write: _Write) -> T:
        # Few statements: each one takes the interpreter from the training for a moment.
        db = getattr(self._open, "db", None)
        try:
            if db is None:
                db = self._connect()
                if getattr(self._open, "is_wanted", False):
                    self._open.db = db
                self._check_version(db)
            if not write:
                return work(db)
            # A power cut may not take back what is about to be acted upon.
            db.execute("pragma synchronous=full")
            if write == "alone":
                return work(db)
            db.execute("begin immediate")
            try:
                result = work(db)
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise
            return result
        except BaseException:
            self._close_shared()
            raise
        finally:
            if db is not None and db is not getattr(self._open, "db", None):
                db.close()

    def _close_shared(self) -> None:
        db, self._open.db = getattr(self._open, "db", None), None
        if db is not None:
            db.close()

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        except sqlite3.OperationalError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)

    def _check_version(self, db: sqlite3.Connection) -> None:
        version = db.execute("pragma user_version").fetchone()[0]
        if version > _VERSION:
            raise StoreError(
                f"{self.path} was written by a newer Rollcam; update this one with: "
                "pip install -U rollcam"
            )
        if version == _VERSION:
            return
        db.execute("begin immediate")
        try:
            for statement in filter(str.strip, _CREATE.split(";")):
                db.execute(statement)
            if db.execute("select count(*) from about").fetchone()[0] == 0:
                db.execute("insert into about values (?)", (uuid.uuid4().hex,))
        except BaseException:
            db.execute("rollback")
            raise
        db.execute("commit")

    def _set_aside(self) -> None:
        """Move a broken ledger out of the way; one process does, the others find it done."""
        lock = FileLock(
            f"{self.path}.lock", timeout=_BUSY_S, thread_local=False, fallback_to_soft=False
        )
        with lock:
            if not self._is_broken():
                return
            mark = f".broken-{time.time_ns()}"
            for suffix in ("", "-journal", "-wal", "-shm"):
                old = Path(f"{self.path}{suffix}")
                if old.exists():
                    old.rename(f"{self.path}{mark}{suffix}")

    def _is_broken(self) -> bool:
        def check(db: sqlite3.Connection) -> bool:
            db.execute(f"{_SELECT} limit 1").fetchone()
            db.execute("select ledger_id from about").fetchone()
            return bool(db.execute("pragma quick_check(1)").fetchone()[0] != "ok")

        try:
            return self._attempt(check, write=False)
        except sqlite3.DatabaseError as error:
            return _is_broken(error)


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    name = str(getattr(error, "sqlite_errorname", ""))
    # A file of SQLite's that is not ours lacks our tables.
    return (
        name.startswith(_BROKEN) or "no such table" in str(error) or "no such column" in str(error)
    )


def _row(entry: Entry) -> tuple[Any, ...]:
    # A name may hold what is no Unicode, as file names can; SQLite does not take it.
    values = (getattr(entry, name) for name in _COLUMNS)
    return tuple(
        v.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(v, str) else v
        for v in values
    )


def _entry(row: Sequence[Any]) -> Entry:
    entry = Entry(*row)
    return replace(entry, state=_state(entry.state), must_ask=bool(entry.must_ask))


def _state(value: str) -> State:
    try:
        return State(value)
    except ValueError:
        return State.FAILED

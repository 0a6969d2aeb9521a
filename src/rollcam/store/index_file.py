"""The index's file: opening it, telling whether it is still the one that was opened, letting go."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import ClassVar

from rollcam.errors import SidecarError
from rollcam.store import sidecar
from rollcam.store.columns import COLUMNS
from rollcam.store.names import HIDDEN, SIDECAR_SUFFIX

VERSION = 1
"""Of the tables below; an index of another version is built anew."""

FILE_NAME = "index.sqlite"

_SUFFIXES = ("", "-wal", "-shm")
_BUSY_S = 5.0
_N_TRIES = 100
_BUSY_CODES = (5, 6)
_N_PROBES = 20
_MOUNTS = Path("/proc/self/mountinfo")
# SQLite's WAL is shared memory: on a disk that several hosts write to, it loses and garbles.
_NETWORK_DISKS = (
    "nfs", "cifs", "smb", "fuse.", "lustre", "gpfs", "beegfs", "ceph", "gluster", "afs", "9p",
    "virtiofs", "orangefs", "pvfs", "ocfs", "gfs", "acfs",
)  # fmt: skip

_COLUMNS_SQL = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
_TABLES = (
    "CREATE TABLE state (generation INTEGER NOT NULL, oldest INTEGER NOT NULL)",
    "CREATE TABLE episode (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, stamp INTEGER,"
    f" crc INTEGER NOT NULL, generation INTEGER NOT NULL, problem TEXT, {_COLUMNS_SQL})",
    "CREATE TABLE words (id INTEGER PRIMARY KEY, facts TEXT, search TEXT)",
    "CREATE TABLE key (name TEXT PRIMARY KEY)",
    "CREATE TABLE gone (generation INTEGER NOT NULL, path BLOB, episode_id TEXT)",
    "CREATE INDEX episode_by_id ON episode (episode_id)",
    "CREATE INDEX episode_by_start ON episode (started_at, episode_id)",
    "CREATE INDEX episode_by_generation ON episode (generation)",
    "CREATE INDEX gone_by_generation ON gone (generation)",
    "CREATE TRIGGER episode_gone AFTER DELETE ON episode BEGIN"
    " INSERT INTO gone SELECT generation, old.path, old.episode_id FROM state;"
    " DELETE FROM words WHERE id = old.id; END",
    "CREATE TRIGGER episode_other AFTER UPDATE OF episode_id ON episode"
    " WHEN old.episode_id IS NOT new.episode_id BEGIN"
    " INSERT INTO gone SELECT generation, NULL, old.episode_id FROM state; END",
)


class IndexFile:
    """An open connection, and what keeps it from harming a file that is not its own.

    SQLite removes the `-wal` and `-shm` beside a database by their names when its last connection
    closes. Were the files deleted and made anew by others, it would remove those. So a connection
    whose files are no longer at their paths is never closed: it stays open until the process ends.
    """

    _opened: ClassVar[dict[str, int]] = {}
    """Which process opened a file: a forked child finds its parent's number here."""

    def __init__(self) -> None:
        self.database: sqlite3.Connection | None = None
        self._path: str | None = None
        self._files: tuple[tuple[int, int] | None, ...] = ()
        self._pid = os.getpid()

    @classmethod
    def may_be_at(cls, root: Path) -> bool:
        """Return whether an index may lie in this folder; otherwise it has to lie in memory.

        The folder must be one of ours (whoever looks into some folder leaves nothing in it),
        writable, on a disk of this host, and free of links that lead elsewhere. SQLite must not be
        used across a fork, so a child whose parent has it open gets no file either.
        """
        hidden = root / HIDDEN
        path = index_path(root)
        if cls._opened.get(path, os.getpid()) != os.getpid() or _is_on_network(root):
            return False
        files = [path + suffix for suffix in _SUFFIXES]
        if any(os.path.islink(file) for file in [os.fspath(hidden), *files]):
            return False
        try:
            if not hidden.is_dir():
                if not _has_ours(root):
                    return False
                hidden.mkdir(exist_ok=True)
        except OSError:
            return False
        return os.access(hidden, os.W_OK | os.X_OK)

    def open(self, path: str | None) -> sqlite3.Connection:
        """Open an index, making its tables where it has none.

        Args:
            path: The file; `None` for one in memory.

        Raises:
            sqlite3.DatabaseError: The file is damaged, another version's, or of no use here.
        """
        database = sqlite3.connect(
            path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        self.database, self._path, self._pid = database, path, os.getpid()
        self._files = (_identity(path),) if path else ()
        if path:
            self._opened[path] = self._pid
        # Whatever a damaged file holds, reading it ends in text or in a DatabaseError.
        database.text_factory = _text
        database.execute("PRAGMA trusted_schema = OFF")
        if path:
            _start_wal(database)
        _make_tables(database)
        if path:
            self._files = tuple(_identity(path + suffix) for suffix in _SUFFIXES)
        return database

    def is_sound(self) -> bool:
        """Whether it was opened here, and its files are still those at their paths.

        They are held open, so their inode numbers cannot be given to others meanwhile.
        """
        if os.getpid() != self._pid:
            return False
        suffixes = _SUFFIXES[: len(self._files)]
        return None not in self._files and self._files == tuple(
            _identity((self._path or "") + suffix) for suffix in suffixes
        )

    def let_go(self) -> None:
        """Close it, or, where that would harm another's files, leave it open for good."""
        database, self.database = self.database, None
        if database is None:
            return
        if self.is_sound():
            if self._path is not None:
                self._opened.pop(self._path, None)
            with contextlib.suppress(sqlite3.Error):
                database.close()
        else:
            # One reference too many, so that nothing ever closes it, not even the end of Python.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))

    def remove(self) -> None:
        """Let go of it, and delete its files as far as they are its own."""
        path, files, is_here = self._path, self._files, os.getpid() == self._pid
        is_own = bool(path and files and files[0] and is_here and _identity(path) == files[0])
        self.let_go()
        if path and is_own:
            for suffix in _SUFFIXES:
                with contextlib.suppress(OSError):
                    os.unlink(path + suffix)


def index_path(root: Path) -> str:
    """Return where the index of a folder lies, the same text for each way to write the folder."""
    return os.path.join(os.path.realpath(root), HIDDEN, FILE_NAME)


def is_ours(db: sqlite3.Connection) -> bool:
    """Return whether a database has exactly the tables of this version."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    found = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    return version == VERSION and found == set(_TABLES)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _start_wal(db: sqlite3.Connection) -> None:
    """Turn WAL on.

    Raises:
        sqlite3.DatabaseError: The file is damaged, or this disk cannot do it.
    """
    db.execute("PRAGMA page_size = 8192")
    mode = ""
    for attempt in range(_N_TRIES):
        try:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Two that make the file at once: SQLite does not wait here by itself.
            if error.sqlite_errorcode & 0xFF not in _BUSY_CODES or attempt == _N_TRIES - 1:
                raise
            threading.Event().wait(0.02)
    if mode != "wal":
        unfit = sqlite3.OperationalError(f"this disk allows no WAL, only {mode!r}")
        unfit.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise unfit
    db.execute("PRAGMA synchronous = NORMAL")


def _make_tables(db: sqlite3.Connection) -> None:
    if is_ours(db):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            for sql in _TABLES:
                db.execute(sql)
            # Later than any generation of an index that lay here before.
            start = time.time_ns() // 1000
            db.execute("INSERT INTO state VALUES (?, ?)", (start, start))
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    if not is_ours(db):
        raise sqlite3.DatabaseError("the index is another version's")


def _has_ours(root: Path) -> bool:
    names = (name for name in sorted(os.listdir(root)) if name.endswith(SIDECAR_SUFFIX))
    for _, name in zip(range(_N_PROBES), names, strict=False):
        try:
            sidecar.read(root / name)
        except SidecarError:
            continue
        return True
    return False


def _is_on_network(root: Path) -> bool:
    """Return whether other hosts may write to this disk, as far as the system tells."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return os.path.realpath(root).startswith("\\\\")
    place = os.path.realpath(root)
    best = ""
    kind = ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode().decode("unicode_escape")  # a blank stands there as \040
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind.startswith(_NETWORK_DISKS)

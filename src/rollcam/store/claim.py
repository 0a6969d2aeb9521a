"""Who is writing: a claim is held by a living process, and let go by its death, however it died.

A claim is two files in `.rollcam/claims`: `{claim_id}.lock`, on which the process holds a lock of
the system's, and `{claim_id}.json`, which says who it is. The lock decides, never a process id and
never a time-out: the system lets go of it when the process is gone. A forked child does not keep it
alive: the library closes the child's copy (docs/decisions/0010-claims.md).

A lock is decisive only where the kernel is the same, and the file system is mounted once. For a
claim that was made elsewhere on a shared disk nothing is decided: it stands as unknown until somebody
says that its host is dead.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import stat
import threading
import uuid
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollcam.episode import new_id
from rollcam.errors import StoreError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_MAX_BYTES = 64 * 1024
_ATTEMPTS = 20
_MULTICAST_BIT = 1 << 40
"""Set in what `uuid.getnode` returns when it found no network card and made a number up."""


class Standing(StrEnum):
    """How a claim stands."""

    ALIVE = "alive"
    """Its process lives."""
    DEAD = "dead"
    """Its process is gone."""
    UNKNOWN = "unknown"
    """It was made on another machine, or the disk knows no locks: nothing here can tell."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds, or held, a claim."""

    claim_id: str
    """ULID of the claim."""
    run_id: str
    """The run that its films belong to."""
    host: str
    """Name of the machine."""
    pid: int
    """Process id there; told to people, never relied on."""
    boot_id: str | None = None
    """The kernel's id since it started, where the system has one."""
    machine_id: str | None = None
    """The machine's id, where the system has one."""
    device: int | None = None
    """The system's number of the file system, as it is mounted there."""


class Claim:
    """Says that this process is writing, for as long as it lives or until `release`.

    Args:
        folder: `.rollcam/claims` of the recordings folder.
        run_id: The run that the films belong to.
        pid: Id of this process.

    Raises:
        OSError: It cannot be written.
        StoreError: The disk knows no locks.
    """

    def __init__(self, folder: Path, run_id: str, pid: int) -> None:
        self._folder = folder
        self._renewing = threading.Lock()
        self._old: list[BaseFileLock] = []
        self.claim_id, self._lock = _new_lock(folder)
        try:
            self._file = _identity(_lock_path(folder, self.claim_id))
            self.owner = Owner(
                self.claim_id, run_id, socket.gethostname(), pid,
                boot_id(), machine_id(), _device(self._file),
            )  # fmt: skip
            _introduce(folder, self.owner)
        except BaseException:
            self.release()
            raise

    @property
    def is_in_place(self) -> bool:
        """Whether its file is there still, and not another one of that name."""
        return _identity(_lock_path(self._folder, self.claim_id)) == self._file

    def renew(self) -> None:
        """Put the claim back in place, should somebody have deleted the folder meanwhile.

        Raises:
            OSError: It cannot be written.
            StoreError: The disk knows no locks.
        """
        path = _lock_path(self._folder, self.claim_id)
        with self._renewing:
            # Another file of that name is not the one that is locked.
            if _identity(path) == self._file:
                return
            # The old one stays held: its file's number may not be given to another file, or whoever
            # looks at it just now could take that one for it.
            again = _lock_again(self._folder, self.owner)
            self._old.append(self._lock)
            self._lock = again
            self._file = _identity(path)

    def release(self, *, keep: bool = False) -> None:
        """Let go of the claim. May be called twice.

        Args:
            keep: Leave its files, as a process does that dies.
        """
        for old in self._old:
            old.release(force=True)
        self._old.clear()
        if keep:
            self._lock.release(force=True)
            return
        with contextlib.suppress(OSError):
            _info(self._folder, self.claim_id).unlink(missing_ok=True)
        _remove_lock(self._folder, self.claim_id, self._lock)


def _new_lock(folder: Path) -> tuple[str, BaseFileLock]:
    # Somebody who looks for the dead may hold a new lock for a moment: another id, then.
    for _ in range(_ATTEMPTS):
        claim_id = new_id()
        lock = _try_lock(_lock_path(folder, claim_id))
        if lock is not None:
            return claim_id, lock
    raise StoreError(f"no claim could be locked in {folder}: others took each of {_ATTEMPTS}")


def _lock_again(folder: Path, owner: Owner) -> BaseFileLock:
    """Lock the same claim anew: what grows under it must not seem to be left by somebody dead.

    Nobody may find the lock before it is held, so it gets its name afterwards.
    """
    hidden = folder / f"{owner.claim_id}.again"
    hidden.unlink(missing_ok=True)
    lock = _try_lock(hidden)
    if lock is None:
        raise StoreError(f"{hidden} is locked by somebody else")
    try:
        _introduce(folder, owner)
        os.replace(hidden, _lock_path(folder, owner.claim_id))
    except BaseException:
        lock.release(force=True)
        raise
    return lock


def _introduce(folder: Path, owner: Owner) -> None:
    # In one step, and on the disk: where nothing says who a writer is, nothing says that it is dead.
    scratch = folder / f"{owner.claim_id}.json.tmp"
    with open(scratch, "w", encoding="utf-8") as file:
        json.dump(asdict(owner), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, _info(folder, owner.claim_id))


def claim_ids(folder: Path) -> list[str]:
    """Return the ids of the claims in `.rollcam/claims`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted({p.stem for p in folder.iterdir() if p.suffix in (".lock", ".json")})


def owner_of(folder: Path, claim_id: str) -> Owner | None:
    """Return who made a claim; `None` when it does not say so in our words."""
    try:
        path = _info(folder, claim_id)
        status = path.lstat()
        # To open a pipe would be to wait for ever.
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            return None
        raw: Any = json.loads(path.read_bytes())
        return Owner(
            claim_id, str(raw["run_id"]), str(raw["host"]), int(raw["pid"]),
            raw.get("boot_id"), raw.get("machine_id"), raw.get("device"),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    except (RecursionError, OverflowError):  # nested too deeply; a process id of "Infinity"
        return None


@contextlib.contextmanager
def looking_after(
    folder: Path,
    claim_id: str,
    *,
    dead_hosts: Collection[str] = (),
    has_left: bool = False,
    told: Owner | None = None,
) -> Iterator[Standing]:
    """Say how a claim stands; while it is `DEAD`, nobody else looks after what it left.

    Args:
        folder: `.rollcam/claims` of the recordings folder.
        claim_id: Of the claim.
        dead_hosts: Names of machines whose claims are dead, as somebody who knows says.
        has_left: Something lies under the claim; who wrote that is unknown then, where the claim does
            not say it.
        told: Whom the things that lie there name as their writer, for a claim that is gone.
    """
    lock = before = None
    standing = Standing.UNKNOWN
    path = _lock_path(folder, claim_id)
    owner = owner_of(folder, claim_id) or told
    is_said_dead = owner is not None and owner.host in dead_hosts
    try:
        # A folder that is not ours to write in, or a disk without locks, tells nothing.
        with contextlib.suppress(OSError, StoreError):
            before = _identity(path)
            if before is not None or is_said_dead:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = _try_lock(path)
                standing = Standing.ALIVE
        if lock is not None and before not in (None, _identity(path)):
            # Somebody deleted it meanwhile, and what is locked is a new file of that name.
            standing = Standing.UNKNOWN
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        elif lock is not None:
            owner = owner_of(folder, claim_id) or told
            # The lock comes first: without a word about its owner nothing was written under it yet.
            nobody = Standing.UNKNOWN if has_left else Standing.DEAD
            standing = nobody if owner is None else _of_the_unlocked(owner, path, dead_hosts)
        yield standing
    finally:
        if lock is not None:
            lock.release(force=True)


def standing_of(folder: Path, claim_id: str) -> Standing:
    """Say how a claim stands at this moment."""
    with looking_after(folder, claim_id) as standing:
        return standing


def forget(folder: Path, claim_id: str) -> None:
    """Remove the files of a dead claim; called within `looking_after`."""
    extra = (folder / f"{claim_id}.json.tmp", folder / f"{claim_id}.again")
    for path in (*extra, _info(folder, claim_id), _lock_path(folder, claim_id)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _of_the_unlocked(owner: Owner, path: Path, dead_hosts: Collection[str]) -> Standing:
    if owner.host in dead_hosts:
        return Standing.DEAD
    if owner.boot_id is not None and owner.boot_id == boot_id():
        # The same kernel would know of a holder; not so where containers mount a disk of the net
        # each for itself, and locks end at the mount.
        is_same_mount = owner.device is None or owner.device == _device(_identity(path))
        return Standing.DEAD if is_same_mount else Standing.UNKNOWN
    # The same machine with another boot id was started anew since. Containers and clones may share a
    # machine's id, but then not its name.
    is_here = owner.machine_id is not None and owner.machine_id == machine_id()
    return Standing.DEAD if is_here and owner.host == socket.gethostname() else Standing.UNKNOWN


def _try_lock(path: Path) -> BaseFileLock | None:
    from filelock import FileLock, Timeout

    # Not thread-local: a recorder may be closed on another thread. Not soft: a file that merely
    # exists would outlive its process.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except NotImplementedError as error:
        raise StoreError(f"the disk under {path.parent} knows no locks: {error}") from error
    return lock


def _remove_lock(folder: Path, claim_id: str, lock: BaseFileLock) -> None:
    path = _lock_path(folder, claim_id)
    # Removed while it is held, so that nobody finds it free; Windows removes no open file.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        lock.release(force=True)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from every other; `None` when there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _device(identity: tuple[int, int] | None) -> int | None:
    return None if identity is None else identity[0]


def _lock_path(folder: Path, claim_id: str) -> Path:
    return folder / f"{claim_id}.lock"


def _info(folder: Path, claim_id: str) -> Path:
    return folder / f"{claim_id}.json"


@functools.cache
def boot_id() -> str | None:
    """Return the id that the running kernel gave itself when it started; Linux only."""
    return _first_line("/proc/sys/kernel/random/boot_id")


@functools.cache
def machine_id() -> str | None:
    """Return an id of this machine: the system's, else that of a network card."""
    told = _first_line("/etc/machine-id") or _first_line("/var/lib/dbus/machine-id")
    if told is not None:
        return told
    node = uuid.getnode()
    return None if node & _MULTICAST_BIT else f"{node:012x}"


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None

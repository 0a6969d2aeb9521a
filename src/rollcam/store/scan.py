"""Find what is new, changed or gone among a folder's sidecars, without reading those known."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from itertools import islice

from rollcam.store.names import HIDDEN, SIDECAR_SUFFIX

EXACT = 30_000
"""Up to so many sidecars, each look asks the disk about every one (3 µs each)."""

SLICE = 5_000
"""Above that, one look asks about so many of them, the next look about the next ones."""

YOUNG_NS = 2_000_000_000
"""A file changed so shortly ago may change again under the same time stamp (FAT counts in 2 s)."""


def stamp_of(status: os.stat_result) -> int:
    """Return a number that changes when a file does.

    No single fact would do: inode numbers are given out again at once, `mtime` can be set, and
    clocks go backwards, so nothing is ever "newer": a file is the same, or it is not.
    """
    return hash((status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


def is_settled(status: os.stat_result) -> bool:
    """Return whether a later change is sure to show in the stamp of what is read from now on."""
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    return abs(time.time_ns() - newest) > YOUNG_NS


@dataclass(slots=True)
class _Directory:
    """One directory, as it was listed last."""

    stamp: int | None = None
    """`None`: list it again."""
    sidecars: dict[str, int | None] = field(default_factory=dict)
    """Stamp of each sidecar that is known; `None`: read it again."""
    inner: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What one look brought to light; paths are relative, with `/`."""

    changed: list[str] = field(default_factory=list)
    """New or changed sidecars, to be read."""
    removed: list[str] = field(default_factory=list)
    """Known sidecars that are gone."""
    unreadable: list[OSError] = field(default_factory=list)
    """Directories that could not be listed; what is known of them stays."""


class Scan:
    """What is known of a folder's sidecars; `look` says what is different by now.

    Args:
        root: The recordings folder.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, _Directory] = {}
        self._cursor = 0

    def __len__(self) -> int:
        return sum(len(directory.sidecars) for directory in self._known.values())

    def __contains__(self, path: str) -> bool:
        head, _, name = path.rpartition("/")
        directory = self._known.get(head)
        return directory is not None and name in directory.sidecars

    def know(self, path: str, stamp: int | None) -> None:
        """Note a sidecar that has been read; with `None`, the next look names it again."""
        head, _, name = path.rpartition("/")
        self._known.setdefault(head, _Directory()).sidecars[name] = stamp

    def forget(self, path: str) -> None:
        """Know nothing of a sidecar any more; if it is there, the next look names it."""
        head, _, name = path.rpartition("/")
        directory = self._known.get(head)
        if directory is not None:
            directory.sidecars.pop(name, None)
            directory.stamp = None

    def look(self, *, all_of_it: bool = False) -> Found:
        """Compare the folder with what is known.

        Names are compared completely. A sidecar rewritten in place changes no name; up to `EXACT`
        sidecars, each one's stamp is compared, above that a slice in turn.

        Args:
            all_of_it: Compare every stamp, however many there are.
        """
        found = Found()
        seen = set()
        pending = [""]
        while pending:
            head = pending.pop()
            seen.add(head)
            directory = self._known.setdefault(head, _Directory())
            try:
                self._list(head, directory, found)
            except (FileNotFoundError, NotADirectoryError):
                seen.discard(head)
            except OSError as error:
                found.unreadable.append(error)
            pending += [_joined(head, name) for name in directory.inner]
        for head in self._known.keys() - seen:
            # Below what could not be listed, nothing is known to be gone.
            if not found.unreadable:
                gone = self._known.pop(head)
                found.removed += [_joined(head, name) for name in gone.sidecars]
        self._compare(found, all_of_it)
        return found

    def _list(self, head: str, directory: _Directory, found: Found) -> None:
        place = os.path.join(self._root, head) if head else self._root
        status = os.stat(place)
        stamp = stamp_of(status)
        if stamp == directory.stamp:
            return
        names, inner = set(), []
        with os.scandir(place) as listing:
            for entry in listing:
                name = entry.name
                if name.endswith(SIDECAR_SUFFIX):
                    names.add(name)
                elif entry.is_dir(follow_symlinks=False) and name != HIDDEN:
                    inner.append(name)
        directory.inner = inner
        known = directory.sidecars.keys()
        new = names - known
        # Sets of 100,000 are compared no more often than they must be.
        gone = known - names if len(known) + len(new) > len(names) else set()
        for name in gone:
            del directory.sidecars[name]
        found.removed += [_joined(head, name) for name in gone]
        found.changed += [_joined(head, name) for name in new]
        # Names that are not read in the end must come up again, so only an empty-handed look lasts.
        directory.stamp = stamp if not new and is_settled(status) else None

    def _compare(self, found: Found, all_of_it: bool) -> None:
        n_known = len(self)
        if all_of_it or n_known <= EXACT:
            start, n = 0, n_known
        else:
            start, n = self._cursor % n_known, SLICE
            self._cursor = start + n
        prefix = os.path.join(self._root, "")
        for head, directory in self._known.items():
            known = directory.sidecars
            found.changed += [_joined(head, name) for name, stamp in known.items() if stamp is None]
            for name, stamp in islice(known.items(), start, start + n):
                path = f"{head}/{name}" if head else name
                if stamp is not None and not _is_still(prefix + path, stamp):
                    found.changed.append(path)
            n -= max(0, min(n, len(known) - start))
            start = max(0, start - len(known))


def _is_still(path: str, stamp: int) -> bool:
    try:
        return stamp_of(os.stat(path)) == stamp
    except OSError:
        return False  # reading it says what is the matter


def _joined(head: str, name: str) -> str:
    return f"{head}/{name}" if head else name

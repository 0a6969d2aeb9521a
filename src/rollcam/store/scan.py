"""Find what is new, changed or gone among a folder's sidecars, without reading those known."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rollcam.store.layout import HIDDEN, SIDECAR_SUFFIX

EXACT = 30_000
"""Up to so many sidecars, each look asks the disk about every one (3 µs each)."""

SLICE = 20_000
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
        with os.scandir(place) as listing:
            entries = list(listing)
        names = {entry.name for entry in entries if entry.name.endswith(SIDECAR_SUFFIX)}
        directory.inner = [
            entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and entry.name != HIDDEN
        ]
        gone = directory.sidecars.keys() - names
        for name in gone:
            del directory.sidecars[name]
        found.removed += [_joined(head, name) for name in gone]
        found.changed += [_joined(head, name) for name in names - directory.sidecars.keys()]
        # Names that are not read in the end must come up again, so only an empty-handed look lasts.
        is_quiet = names == directory.sidecars.keys() and is_settled(status)
        directory.stamp = stamp if is_quiet else None

    def _compare(self, found: Found, all_of_it: bool) -> None:
        known = [
            (head, name, stamp)
            for head, directory in self._known.items()
            for name, stamp in directory.sidecars.items()
        ]
        found.changed += [_joined(head, name) for head, name, stamp in known if stamp is None]
        if not all_of_it and len(known) > EXACT:
            start = self._cursor % len(known)
            self._cursor = start + SLICE
            known = known[start : start + SLICE]
        found.changed += self._different(known)

    def _different(self, known: list[tuple[str, str, int | None]]) -> Iterator[str]:
        prefix = os.path.join(self._root, "")
        for head, name, stamp in known:
            if stamp is None:
                continue
            path = f"{head}/{name}" if head else name
            try:
                if stamp_of(os.stat(prefix + path)) != stamp:
                    yield path
            except OSError:
                yield path  # reading it says what is the matter


def _joined(head: str, name: str) -> str:
    return f"{head}/{name}" if head else name

"""The gallery without a server: the page and its answers as files, for any static web host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollcam.errors import EpisodeNotFound, RollcamError, StoreError
from rollcam.gallery.answers import BASE, MAX_POINTS, Answers, as_text, media_of
from rollcam.gallery.ask import Question
from rollcam.gallery.names import id_of
from rollcam.gallery.posters import CHOICES, Posters
from rollcam.gallery.shelf import Shelf
from rollcam.store.columns import fields_of, search_text

STATIC = Path(__file__).with_name("static")
"""The page."""

SERVER_NEEDED = (
    "These are exported episodes. To watch episodes while they are recorded, and to see new ones "
    "arrive, run: rollcam serve DIR"
)

_MAX_MORE = 60
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported."""

    path: Path
    """The folder, or the zip file."""
    n_episodes: int
    """How many episodes are in it."""
    size_bytes: int
    """Of all its files; of the zip file."""
    problems: list[str]
    """What was left out, and why."""


def export(
    folders: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    question: Question | None = None,
    as_zip: bool = False,
    on_episode: Callable[[int, int], None] = lambda n, of: None,
) -> Exported:
    """Write a gallery of some recordings folders that works without Rollcam.

    It appears complete or not at all.

    Args:
        folders: Recordings folders.
        out: The folder to make; with `as_zip` the file to make, `.zip` added where it lacks.
        question: Which episodes; default: all.
        as_zip: Make one zip file of it.
        on_episode: Called after each episode with its number, from 1, and how many there are.

    Raises:
        StoreError: Something lies there already, it cannot be written, or no episode answers.
        SettingError: The question cannot be asked.
    """
    target = _target(Path(out), as_zip)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    shelf = Shelf(folders)
    try:
        site = _Site(shelf, scratch)
        n = site.write(question or Question(), on_episode)
        size = _put_in_place(scratch, target, as_zip)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error}") from error
    finally:
        shelf.close()
        for left in (scratch, _zip_beside(scratch)):
            with contextlib.suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return Exported(target, n, size, site.problems)


class _Site:
    def __init__(self, shelf: Shelf, root: Path) -> None:
        self._shelf = shelf
        self._answers = Answers(shelf)
        self._posters = Posters(shelf)
        self._root = root
        self._taken: set[str] = set()
        self.problems: list[str] = []

    def write(self, question: Question, on_episode: Callable[[int, int], None]) -> int:
        gallery = self._answers.gallery()
        more = list(gallery["more"])[:_MAX_MORE]
        stored = [name for name in BASE if name not in ("id", "folder")]
        found = self._shelf.table(question, [*stored, *more], MAX_POINTS, 0)
        if not found:
            raise StoreError("no episode is asked for, so there is nothing to export")
        total = self._shelf.count(question)
        if total > len(found):
            self.problems.append(
                f"all but the first {len(found):,} of {total:,} episodes; choose fewer by --filter"
            )
        shutil.copytree(STATIC, self._root)
        # What GitHub's pages need to leave names alone that begin with an underscore.
        (self._root / ".nojekyll").touch()
        rows = []
        for n, (label, path, *values) in enumerate(found, start=1):
            key = self._shelf.book(label).key(path)
            try:
                handle, text = self._write_episode(key)
            except (RollcamError, FileNotFoundError) as error:
                self.problems.append(f"{key}: {error}")
            else:
                rows.append([handle, label, *values, text])
            on_episode(n, len(found))
        self._write_lists(gallery, more, rows)
        return len(rows)

    def _write_episode(self, key: str) -> tuple[str, str]:
        book, episode = self._shelf.episode(key)
        handle = self._handle(key)
        place = self._root / "api" / "e" / handle
        place.mkdir(parents=True)
        facts = self._answers.facts(id_of(key), shown_as=handle)
        facts["row"][0] = handle
        if facts["steps"] is not None:
            try:
                _write(place / "steps.json", self._answers.steps(id_of(key)))
            except RollcamError as error:
                facts["steps"] = None
                self.problems.append(f"{key}: {error}")
        media = media_of(book, episode)
        if media is not None and facts["media"] is not None:
            shutil.copyfile(media, self._root / facts["media"]["url"])
        if facts["poster"] is not None:
            facts["poster"] = self._write_posters(key, place, facts["poster"])
        _write(place / "facts.json", facts)
        return handle, search_text(fields_of(episode))

    def _write_posters(self, key: str, place: Path, address: str) -> str | None:
        for at in CHOICES:
            try:
                (place / f"poster-{at}.jpg").write_bytes(self._posters.get(key, at))
            except RollcamError as error:
                self.problems.append(f"{key}: {error}")
                return None
        return address

    def _write_lists(self, gallery: dict[str, Any], more: list[str], rows: list[Any]) -> None:
        columns = [*BASE, *more, "search"]
        counts: dict[str, int] = {}
        for row in rows:
            counts[row[1]] = counts.get(row[1], 0) + 1
        generation = "exported"
        told = {
            **gallery,
            "is_static": True,
            "server_needed": SERVER_NEEDED,
            "generation": generation,
            "folders": [{"label": label, "n": n} for label, n in counts.items()],
            "n": len(rows),
            "more": more,
            "numeric": [name for name in gallery["numeric"] if name in columns],
            "notes": [],
        }
        _write(self._root / "api" / "gallery.json", told)
        listed = {
            "generation": generation,
            "total": len(rows),
            "offset": 0,
            "columns": columns,
            "rows": rows,
        }
        _write(self._root / "api" / "list.json", listed)

    def _handle(self, key: str) -> str:
        """Return a handle that any disk takes as a name, also one that knows no upper case."""
        handle = id_of(key)
        if len(handle) > _MAX_NAME or handle.lower() in self._taken:
            handle = f"{handle[:50]}-{hashlib.sha256(handle.encode()).hexdigest()[:16]}"
        if handle.lower() in self._taken:
            raise EpisodeNotFound("it has the same name as another one")
        self._taken.add(handle.lower())
        return handle


def _write(path: Path, told: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_text(told))


def _target(out: Path, as_zip: bool) -> Path:
    target = Path(os.path.abspath(out))
    if as_zip and target.suffix.lower() != ".zip":
        target = _zip_beside(target)
    is_empty = target.is_dir() and not as_zip and not any(target.iterdir())
    if os.path.lexists(target) and not is_empty:
        raise StoreError(f"{target} is there already; export to a new place, or remove it first")
    if not target.parent.is_dir():
        raise StoreError(f"there is no folder {str(target.parent)!r} to export into")
    return target


def _zip_beside(path: Path) -> Path:
    return path.with_name(path.name + ".zip")


def _put_in_place(scratch: Path, target: Path, as_zip: bool) -> int:
    files = sorted(path for path in scratch.rglob("*") if path.is_file())
    if not as_zip:
        size = sum(path.stat().st_size for path in files)
        if target.is_dir():
            target.rmdir()
        os.replace(scratch, target)
        return size
    packed = _zip_beside(scratch)
    stem = target.stem
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in files:
            is_dense = path.suffix in (".mp4", ".webm", ".jpg", ".gif", ".mkv")
            kind = zipfile.ZIP_STORED if is_dense else zipfile.ZIP_DEFLATED
            name = f"{stem}/{path.relative_to(scratch).as_posix()}"
            archive.write(path, name, compress_type=kind)
    size = packed.stat().st_size
    os.replace(packed, target)
    return size

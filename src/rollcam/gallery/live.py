"""Episodes that are being recorded at this moment: their growing films, and what their journals say."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rollcam.errors import EpisodeNotFound, RollcamError, SidecarError
from rollcam.gallery.names import id_of
from rollcam.gallery.shelf import Book, Shelf
from rollcam.recovery import recover
from rollcam.store import sidecar
from rollcam.store.claim import Standing, standing_of
from rollcam.store.journal import SUFFIX
from rollcam.store.names import claims_of, partials_of

MAX_GROWING = 200
"""Films shown at once; a thousand workers would fill the page."""
MAX_PIECE = 4 * 2**20
"""Bytes of a growing film that are given out at once."""
_MAX_HEAD = 2**20
_MAX_TAIL = 2**20
_NO_MORE = "this episode is not being recorded any more"
_RECOVER_EVERY_S = 30.0
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_FILMS = (".mp4", ".cast")


class Growing:
    """Looks into the corner where films grow. What a dead process left there is finished.

    Args:
        shelf: The folders.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._recovered_at: dict[str, float] = {}

    def list(self) -> list[dict[str, Any]]:
        """Return the facts of each episode that is being recorded, newest first."""
        found = [facts for book in self._shelf.books.values() for facts in self._of(book)]
        found.sort(key=lambda facts: str(facts["episode_id"]), reverse=True)
        return found[:MAX_GROWING]

    def film(self, key: str, start: int) -> bytes:
        """Return what a growing film holds from byte `start` on, in pieces of `MAX_PIECE`.

        Raises:
            EpisodeNotFound: It grows no more.
        """
        stem = self._stem(key)
        for suffix in _FILMS:
            path = stem.with_suffix(suffix)
            if path.is_file() and not path.is_symlink():
                return _piece(path, start, MAX_PIECE)
        raise EpisodeNotFound(_NO_MORE)

    def became(self, key: str) -> str | None:
        """Return the key of the finished episode, if it is there by now."""
        label, _, rest = key.partition("/")
        book = self._shelf.book(label)
        book.catalog.refresh()
        where = {"episode_id": rest.rpartition("/")[2]}
        found = book.catalog.table([], where=where, limit=1)
        return book.key(found[0][0]) if found else None

    def rows(self, key: str, start: int) -> dict[str, Any]:
        """Return what the journal says from byte `start` on, as far as its lines are whole.

        Raises:
            EpisodeNotFound: It grows no more.
        """
        path = self._stem(key).with_suffix(SUFFIX)
        if not path.is_file() or path.is_symlink():
            raise EpisodeNotFound(_NO_MORE)
        data = _piece(path, start, _MAX_TAIL)
        data = data[: data.rfind(b"\n") + 1]
        told: dict[str, Any] = {"next": start + len(data), "rows": [], "context": {}, "end": None}
        for line in data.splitlines():
            for kind, value in _parsed(line).items():
                if kind == "row" and isinstance(value, dict):
                    columns = value.get("columns")
                    told["rows"].append([value.get("i"), columns])
                elif kind in ("context", "end") and isinstance(value, dict):
                    told[kind] = value
        return told

    def _stem(self, key: str) -> Path:
        label, _, rest = key.partition("/")
        claim_id, _, episode_id = rest.partition("/")
        if not _ULID.fullmatch(claim_id) or not _ULID.fullmatch(episode_id):
            raise EpisodeNotFound("there is no such episode")
        growing = partials_of(self._shelf.book(label).root) / claim_id
        if not _is_real(growing):
            raise EpisodeNotFound(_NO_MORE)
        return growing / episode_id

    def _of(self, book: Book) -> Iterator[dict[str, Any]]:
        partials = partials_of(book.root)
        try:
            claims = sorted(p for p in partials.iterdir() if _ULID.fullmatch(p.name))
        except OSError:
            return
        for growing in filter(_is_real, claims[-MAX_GROWING:]):
            journals = sorted(growing.glob(f"*{SUFFIX}"))
            if not journals:
                continue
            if standing_of(claims_of(book.root), growing.name) is Standing.DEAD:
                self._recover(book)
                continue
            for path in journals[-MAX_GROWING:]:
                facts = _facts(path)
                if facts is not None:
                    yield _told(book.label, f"{growing.name}/{path.stem}", facts)

    def _recover(self, book: Book) -> None:
        now = time.monotonic()
        if now - self._recovered_at.get(book.label, -_RECOVER_EVERY_S) < _RECOVER_EVERY_S:
            return
        self._recovered_at[book.label] = now
        try:
            done = recover(book.root)
        except RollcamError:
            return
        book.notes += [f"recovered {episode.name}" for episode in done.recovered]


def _facts(path: Path) -> dict[str, Any] | None:
    """Return the facts at the head of a journal; `None` where there is no film yet, or no head."""
    suffix = next((s for s in _FILMS if path.with_suffix(s).is_file()), None)
    if suffix is None or not path.is_file() or path.is_symlink():
        return None
    try:
        with open(path, "rb") as file:
            head = _parsed(file.readline(_MAX_HEAD)).get("head")
        episode = sidecar.from_json(json.dumps(head["episode"]))  # type: ignore[index]
    except (OSError, SidecarError, LookupError, TypeError):
        return None
    facts = sidecar.as_dict(episode)
    wanted = ("episode_id", "run_id", "name", "env_id", "mode", "kind", "seed", "episode_index",
              "fps", "started_at", "width", "height", "context_at_start", "metadata")  # fmt: skip
    return {
        **{name: facts[name] for name in wanted},
        "codec": "asciicast" if suffix == ".cast" else "h264",
    }


def _told(label: str, rest: str, facts: dict[str, Any]) -> dict[str, Any]:
    handle = id_of(f"{label}/{rest}")
    base = f"api/live/{handle}/"
    return {
        "id": handle,
        "folder": label,
        **facts,
        "media": f"{base}media",
        "steps": f"{base}steps.json",
    }


def _is_real(growing: Path) -> bool:
    """Return whether a folder is where it seems to be: a link could lead out of the recordings."""
    return os.path.realpath(growing) == os.fspath(growing)


def _piece(path: Path, start: int, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(limit)
    except OSError as error:
        raise EpisodeNotFound(_NO_MORE) from error


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

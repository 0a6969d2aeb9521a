"""What a W&B run holds of our films, as the place itself says: its server, or its log on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from rollcam.errors import SinkError
from rollcam.sinks.wandb_api import FileFacts, RunOnServer, facts_of_file
from rollcam.sinks.wandb_log import TransactionLog, VideoRow, videos_of
from rollcam.sinks.wandb_row import MAX_LANES

Film: TypeAlias = tuple[str, str]
"""Episode id and sha256: what makes a film the same film."""

Copies: TypeAlias = Iterable[Path]
"""Files that may hold a film's bytes."""


class Evidence(Protocol):
    """One place to look."""

    def rows(self) -> Mapping[Film, VideoRow]:
        """Return the rows of our films."""

    def arrived(self, rows: Mapping[Film, VideoRow]) -> set[Film]:
        """Return those whose file is there, whole."""

    def repair(self, row: VideoRow, copies: Copies) -> None:
        """Put the file there that a row names.

        Raises:
            SinkError: It did not get there, or no copy holds what the row names.
        """

    def complete(self, name: str, text: Path) -> None:
        """Put a text recording there under the name that its row has, if it is missing.

        Raises:
            SinkError: It did not get there.
        """


class OnServer:
    """An online run: the history and the files that the server lists."""

    def __init__(self, server: RunOnServer, key: str) -> None:
        self._server = server
        self._key = key

    def rows(self) -> Mapping[Film, VideoRow]:
        """Return the rows that the server's history has."""
        found: dict[Film, VideoRow] = {}
        for prefix in _prefixes(self._key):
            keys = [f"{prefix}/{name}" for name in ("video", "episode_id", "sha256")]
            rows = [row for row in self._server.videos(keys) if row.key == f"{prefix}/video"]
            if not rows:  # `key-3` is used beside `key-2` only
                break
            found.update({film_of(row): row for row in rows})
        return found

    def arrived(self, rows: Mapping[Film, VideoRow]) -> set[Film]:
        """Return those that the server lists with the size of the row, and with the MD5 if we can tell."""
        listed = self._server.files(row.path for row in rows.values())
        return {
            film
            for film, row in rows.items()
            if row.path in listed and listed[row.path].size_bytes == row.size_bytes
        }

    def repair(self, row: VideoRow, copies: Copies) -> None:
        """Upload the file again under the name that the row has."""
        copy, facts = _matching(row, copies)
        self._server.upload(copy, row.path)
        listed = self._server.files([row.path])
        if row.path not in listed or not listed[row.path].holds(facts):
            raise SinkError(f"{row.path} was uploaded again, and the server does not list it whole")

    def complete(self, name: str, text: Path) -> None:
        """Upload the text recording, unless the server lists it."""
        if name not in self._server.files([name]):
            self._server.upload(text, name)


class OnDisk:
    """An offline run: its transaction logs and media folders."""

    def __init__(self, find: Callable[[], Iterable[Path]]) -> None:
        self._find = find
        self._logs: dict[Path, TransactionLog] = {}
        self._rows: dict[Film, VideoRow] = {}
        self._media: dict[Film, Path] = {}

    def rows(self) -> Mapping[Film, VideoRow]:
        """Return the rows that the logs have on the disk by now."""
        for path in self._find():
            self._logs.setdefault(path, TransactionLog(path))
        for log in self._logs.values():
            for row in log.rows(containing=b"video-file"):
                for video in videos_of(row):
                    self._rows[film_of(video)] = video
                    self._media[film_of(video)] = log.files_dir / video.path
        return self._rows

    def arrived(self, rows: Mapping[Film, VideoRow]) -> set[Film]:
        """Return those whose copy in the run's folder has the size and sha256 of the row."""
        return {film for film, row in rows.items() if _is_copy(self._media[film], row)}

    def repair(self, row: VideoRow, copies: Copies) -> None:
        """Copy the film to where the run keeps its media."""
        copy, _ = _matching(row, copies)
        media = self._media[film_of(row)]
        try:
            media.parent.mkdir(parents=True, exist_ok=True)
            part = media.with_name(media.name + ".part")
            shutil.copyfile(copy, part)
            part.replace(media)
        except OSError as error:
            raise SinkError(f"{media} could not be written: {error}") from error

    def complete(self, name: str, text: Path) -> None:
        """Nothing is missing: the text recording was copied before the row was written."""


def film_of(row: VideoRow) -> Film:
    """Return which film a row is about; two empty texts when it is none of ours."""
    return str(row.fact("episode_id") or ""), str(row.fact("sha256") or "")


def _prefixes(key: str) -> list[str]:
    return [key, *(f"{key}-{lane}" for lane in range(2, MAX_LANES + 1))]


def _is_copy(path: Path, row: VideoRow) -> bool:
    try:
        if path.stat().st_size != row.size_bytes:
            return False
        return not row.sha256 or facts_of_file(path).sha256 == row.sha256
    except OSError:
        return False


def _matching(row: VideoRow, copies: Copies) -> tuple[Path, FileFacts]:
    for copy in copies:
        if _is_copy(copy, row):
            return copy, facts_of_file(copy)
    raise SinkError(f"{row.path} is missing in the run, and no copy of it is left to send again")

"""Trackio: films on its media page, locally, on a server of one's own, or on a Space.

`trackio.log` never raises, hands over on a thread of its own and numbers each row at random. So this
writes through the layer below, where an answer can be had: the file first, then one row whose number
is the film's. Trackio ignores a row whose number it has, which makes a second attempt harmless.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from rollcam.episode import Episode
from rollcam.errors import SettingError, SinkError, SinkRefused, require
from rollcam.publish.sink import Delivery
from rollcam.sinks.facts import clean_id, facts_of, film_id
from rollcam.sinks.files import copy_whole

T = TypeVar("T")

VIDEO_KEY = "rollout/film"
FACTS_KEY = "rollout/episode"
TIMEOUT_S = 30.0
"""Limit of one request to a server."""

_CHUNK = 200
_RUN_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,128}")
_EXTRA = "trackio"


class TrackioSink:
    """Logs films to a Trackio project.

    Each film is one row at its own step: the video, its return and length as numbers, and a table of
    one line with the caption, since Trackio's page shows none below a video.

    Args:
        project: Name of the project.
        name: Name of the run; the newest of that name is joined. `None`: one run for each run of
            Rollcam's (a recorder).
        server_url: A Trackio server of one's own, as for `trackio.init`; its `write_token` may stand
            in the URL or in `TRACKIO_WRITE_TOKEN`.
        space_id: A Hugging Face Space, `user/name`, that exists and runs Trackio.

    Raises:
        SettingError: The arguments do not go together.
        MissingDependencyError: `trackio` is not installed.
    """

    name = "trackio"

    def __init__(
        self,
        *,
        project: str,
        name: str | None = None,
        server_url: str | None = None,
        space_id: str | None = None,
    ) -> None:
        if not isinstance(project, str) or not project:
            raise SettingError(f"project is {project!r}; expected the name of a project")
        if name is not None and (not _RUN_NAME.fullmatch(name) or set(name) <= {"."}):
            raise SettingError(
                f"name is {name!r}; Trackio makes a folder of it, so it must be 1 to 128 characters "
                "without / and \\"
            )
        if server_url is not None and space_id is not None:
            raise SettingError("server_url and space_id cannot both be given: choose one place")
        require("trackio", extra=_EXTRA)
        self._project, self._run_name = project, name
        self._runs: dict[str, tuple[str, str]] = {}
        self._store: _Store = _Local(project)
        place = str(Path(require("trackio.utils", extra=_EXTRA).TRACKIO_DIR).absolute())
        if server_url is not None:
            self._store, place = _server(project, server_url)
        elif space_id is not None:
            self._store, place = _Remote(project, space_id, None), f"space:{space_id}"
        self._place = place
        self.target = f"{place}/{project}/{name}" if name else f"{place}/{project}"
        given = {
            "project": project,
            "name": name,
            # Without its write token, which is not printed: Trackio reads TRACKIO_WRITE_TOKEN.
            "server-url": place if server_url is not None else None,
            "space-id": space_id,
        }
        told = (
            f"--{key} {shlex.quote(value)}" for key, value in given.items() if value is not None
        )
        self.cli_options = " ".join(("--to trackio", *told))

    def publish(self, delivery: Delivery) -> str:
        """Log a film; return `trackio:...`, where Trackio has its file.

        Raises:
            SinkError: Trackio did not take it this time.
            SinkRefused: The film is gone, or Trackio will never take it.
        """
        if not delivery.media.is_file():
            raise SinkRefused(f"the film {delivery.media} is gone")
        return self._asked(lambda: self._publish(delivery))

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str]:
        """Return the ids of the episodes whose row is in Trackio's database.

        The row is written after the file is there.

        Raises:
            SinkError: Trackio could not be asked.
        """
        by_row = {_row_id(self._run_name, d): d.episode.episode_id for d in deliveries}
        rows = self._asked(lambda: self._store.rows(list(by_row)))
        return {by_row[row] for row in rows if row in by_row}

    def close(self) -> None:
        """Nothing is held open between two films."""

    def _publish(self, delivery: Delivery) -> str:
        row_id = _row_id(self._run_name, delivery)
        if self._store.rows([row_id]):
            return f"trackio:{self._place}/{self._project}#{row_id}"
        run, run_id = self._run_for(delivery.episode)
        facts = facts_of(delivery.episode)
        file = self._store.save(delivery.media, run, run_id, facts.step, f"{film_id(delivery)}.mp4")
        caption = {"episode": facts.caption, "step": facts.step, **facts.scalars}
        metrics = {
            VIDEO_KEY: {"_type": "trackio.video", "file_path": file, "caption": facts.caption},
            FACTS_KEY: {"_type": "trackio.table", "_value": [caption]},
            "rollout/id": delivery.episode.episode_id,
            **{f"rollout/{key}": value for key, value in facts.scalars.items()},
        }
        self._store.log(run, run_id, metrics, facts.step, row_id)
        return f"trackio:{file}"

    def _run_for(self, episode: Episode) -> tuple[str, str]:
        """Return the name and the id of the run that an episode belongs to."""
        ours = clean_id(episode.run_id)
        name = self._run_name or f"rollcam-{ours}"
        if name not in self._runs:
            made = [run for run in self._store.runs() if run.get("name") == name and run.get("id")]
            newest = max(made, key=lambda run: str(run.get("created_at") or ""), default=None)
            if newest is None:
                return name, name
            self._runs[name] = (name, str(newest["id"]))
        return self._runs[name]

    def _asked(self, job: Callable[[], T]) -> T:
        try:
            return job()
        except SinkError:
            raise
        # Below `trackio.log` any error may come: of SQLite, HTTP, files, and Trackio's own.
        except Exception as error:
            kind = SinkRefused if _is_final(error) else SinkError
            said = f"{type(error).__name__}: {error}"
            raise kind(f"Trackio ({self._place}) did not take it: {said:.500}") from error


class _Store(Protocol):
    """Where Trackio keeps things."""

    def rows(self, row_ids: list[str]) -> set[str]:
        """Return those of the rows that exist."""

    def runs(self) -> list[dict[str, Any]]:
        """Return the project's runs: `id`, `name`, `created_at`."""

    def save(self, film: Path, run: str, run_id: str, step: int, name: str) -> str:
        """Put a film in its place; return the path by which a row names it."""

    def log(self, run: str, run_id: str, metrics: dict[str, Any], step: int, row_id: str) -> None:
        """Write a row, unless there is one of that id."""


class _Local:
    def __init__(self, project: str) -> None:
        self._project = project
        self._storage = require("trackio.sqlite_storage", extra=_EXTRA).SQLiteStorage
        try:
            self._storage.validate_project_name(project)
        except ValueError as error:
            raise SettingError(f"project is {project!r}: {error}") from error

    def rows(self, row_ids: list[str]) -> set[str]:
        try:
            return _rows(row_ids, lambda sql: self._storage.query_project(self._project, sql))
        except FileNotFoundError:  # the project does not exist yet
            return set()
        except ValueError as error:
            if "no such table" not in str(error):
                raise
            return set()  # who made the project was killed half-way; `log` makes the rest

    def runs(self) -> list[dict[str, Any]]:
        return list(self._storage.get_run_records(self._project))

    def save(self, film: Path, run: str, run_id: str, step: int, name: str) -> str:
        media = require("trackio.media.utils", extra=_EXTRA)
        folder = Path(media.get_project_media_path(project=self._project, run=run, step=step))
        copy_whole(film, folder / name)
        return (folder / name).relative_to(require("trackio.utils").MEDIA_DIR).as_posix()

    def log(self, run: str, run_id: str, metrics: dict[str, Any], step: int, row_id: str) -> None:
        self._storage.bulk_log(
            project=self._project,
            run=run,
            run_id=run_id,
            metrics_list=[metrics],
            steps=[step],
            log_ids=[row_id],
        )


class _Remote:
    def __init__(self, project: str, place: str, write_token: str | None) -> None:
        self._project, self._place, self._write_token = project, place, write_token
        self._connected: Any = None

    def rows(self, row_ids: list[str]) -> set[str]:
        # Trackio answers an unknown project with an error, and an unknown one has no rows.
        if not self.runs():
            return set()
        return _rows(
            row_ids,
            lambda sql: self._ask("/query_project", project=self._project, query=sql),
        )

    def runs(self) -> list[dict[str, Any]]:
        told = self._ask("/get_runs_for_project", project=self._project)
        return [run for run in told or [] if isinstance(run, dict)]

    def save(self, film: Path, run: str, run_id: str, step: int, name: str) -> str:
        # What the client turns into an upload, and the name that the server files it under.
        file = {"path": str(film), "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        upload = {
            "project": self._project,
            "run": run,
            "run_id": run_id,
            "step": step,
            "relative_path": None,
            "uploaded_file": file,
        }
        self._ask("/bulk_upload_media", uploads=[upload], hf_token=self._hf_token())
        canonical = require("trackio.utils", extra=_EXTRA).canonical_project_name(self._project)
        return f"{canonical}/{run}/{step}/{name}"

    def log(self, run: str, run_id: str, metrics: dict[str, Any], step: int, row_id: str) -> None:
        entry = {
            "project": self._project,
            "run": run,
            "run_id": run_id,
            "metrics": metrics,
            "step": step,
            "config": None,
            "log_id": row_id,
        }
        self._ask("/bulk_log", logs=[entry], hf_token=self._hf_token())

    def _ask(self, api_name: str, **arguments: Any) -> Any:
        try:
            return self._client().predict(api_name=api_name, **arguments)
        except Exception:
            self._connected = None  # the next attempt begins anew
            raise

    def _client(self) -> Any:
        if self._connected is None:
            remote = require("trackio.remote_client", extra=_EXTRA)
            is_server = self._place.startswith(("http://", "https://"))
            if is_server and not _is_alive(self._place):
                raise SinkError(
                    f"Trackio at {_without_secrets(self._place)} does not answer; is it running?"
                )
            self._connected = remote.RemoteClient(
                self._place,
                hf_token=self._hf_token(),
                write_token=self._write_token,
                httpx_kwargs={"timeout": TIMEOUT_S},
            )
        return self._connected

    def _hf_token(self) -> str | None:
        if self._place.startswith(("http://", "https://")):
            return None
        token: str | None = require("huggingface_hub", extra=_EXTRA).get_token()
        return token


def _server(project: str, server_url: str) -> tuple[_Remote, str]:
    if not server_url.startswith(("http://", "https://")):
        raise SettingError(f"server_url is {server_url!r}; expected http://... or https://...")
    base, token = require("trackio.utils", extra=_EXTRA).parse_trackio_server_url(server_url)
    token = token or os.environ.get("TRACKIO_WRITE_TOKEN")
    return _Remote(project, base, token), _without_secrets(base)


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _is_alive(url: str) -> bool:
    """Say whether a server answers; Trackio's client would take no answer for an old server."""
    httpx = require("httpx", extra=_EXTRA)
    with contextlib.suppress(httpx.HTTPError):
        return bool(httpx.get(f"{url.rstrip('/')}/version", timeout=5.0).status_code < 500)
    return False


def _row_id(run_name: str | None, delivery: Delivery) -> str:
    """Return the number of a film's row; the database of a project holds each number once."""
    run = hashlib.sha256((run_name or "").encode()).hexdigest()[:8]
    return f"rollcam-{run}-{film_id(delivery)}"


def _rows(row_ids: list[str], ask: Callable[[str], Any]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(row_ids), _CHUNK):
        # Only letters, digits, `_` and `-` stand in these: see `clean_id`.
        wanted = ", ".join(f"'{row_id}'" for row_id in row_ids[start : start + _CHUNK])
        told = ask(f"SELECT log_id FROM metrics WHERE log_id IN ({wanted})")
        found |= {str(row["log_id"]) for row in told["rows"]}
    return found


def _is_final(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in (404, 405, 413)

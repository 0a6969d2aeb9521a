"""Asks W&B's server what it holds of a run, and sends it what it lacks; every wait has a limit."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rollcam.errors import RollcamError, SinkError, SinkRefused, require
from rollcam.sinks.wandb_log import VideoRow, videos_of

ALIVE_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 30.0
SEND_TIMEOUT_S = 120.0
_AT_ONCE = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as the server lists it."""

    name: str
    size_bytes: int
    md5: str
    """Base64; empty when the server does not say."""

    def holds(self, content: FileFacts) -> bool:
        """Whether it has the bytes of `content`, as far as the listing can tell."""
        return self.size_bytes == content.size_bytes and self.md5 in ("", content.md5)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What tells one content from another."""

    size_bytes: int
    md5: str
    """Base64, as W&B lists it."""
    sha256: str
    """In hex, as W&B's rows have it."""


def facts_of_file(path: Path) -> FileFacts:
    """Read a file once for its size and digests."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            md5.update(block)
            sha256.update(block)
            size += len(block)
    return FileFacts(size, base64.b64encode(md5.digest()).decode(), sha256.hexdigest())


class Bounded:
    """Runs calls that may never return, one at a time, each with a limit.

    wandb's own time limits do not cover all of its calls. A call that outlives its limit is left
    alone on its daemon thread, which does not hold up the end of the process; until it is over,
    every further call is refused, so that threads do not pile up.
    """

    limit_s = ASK_TIMEOUT_S
    """For calls that name no limit of their own."""

    def __init__(self) -> None:
        self._late: threading.Thread | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a call that was given up still runs."""
        return self._late is not None and self._late.is_alive()

    def __call__(self, what: str, call: Callable[[], T], timeout_s: float | None = None) -> T:
        """Return what `call` returns.

        Raises:
            SinkError: It failed, took longer than `timeout_s`, or an earlier call hangs.
        """
        if self.is_waiting:
            raise SinkError(f"{what}: an earlier request to W&B hangs; tried again later")
        timeout_s = self.limit_s if timeout_s is None else timeout_s
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
                errors.append(error)

        thread = threading.Thread(target=run, name="wandb-request", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # from Python 3.12 on, when the interpreter is ending
            raise SinkError(f"{what}: the process is ending; tried again by the next") from error
        thread.join(timeout_s)
        if thread.is_alive():
            self._late = thread
            raise SinkError(f"{what}: W&B did not answer within {timeout_s:g} s; tried again later")
        if errors:
            raise translated(what, errors[0]) from errors[0]
        return results[0]


def check_alive(what: str, base_url: str | None = None) -> None:
    """Ask the server for a sign of life: wandb itself tries for a minute, and holds up the end.

    Args:
        what: What it is wanted for.
        base_url: Its address; default: wandb's own setting.

    Raises:
        SinkError: It does not answer.
    """
    settings = require("wandb", extra="wandb").setup().settings
    if getattr(settings, "http_proxy", None) or getattr(settings, "https_proxy", None):
        return  # wandb finds a way of its own
    requests = require("requests", extra="wandb")
    url = base_url or settings.base_url
    try:
        requests.get(url, timeout=ALIVE_TIMEOUT_S, stream=True, allow_redirects=False).close()
    except requests.exceptions.SSLError:
        return  # certificates are for wandb and its settings to judge
    except requests.exceptions.RequestException as error:
        host = urlsplit(url).netloc.rpartition("@")[2]
        reason = type(error).__name__
        raise SinkError(
            f"{what}: W&B at {host} does not answer ({reason}); tried again later"
        ) from error


def translated(what: str, error: BaseException) -> RollcamError:
    """Return our error for one of wandb's."""
    if isinstance(error, RollcamError):
        return error
    text = " ".join(str(error).split())[:400] or type(error).__name__
    kind = SinkRefused if _is_final(error, text) else SinkError
    return kind(f"{what}: {text}")


def _is_final(error: BaseException, text: str) -> bool:
    """Whether trying again is in vain: the film itself is at fault, or there is no such run."""
    return isinstance(error, FileNotFoundError) or "Could not find run" in text


class RunOnServer:
    """One run as the server has it."""

    def __init__(
        self, path: str, *, base_url: str | None = None, bounded: Bounded | None = None
    ) -> None:
        self.path = path
        self._base_url = base_url
        self._bounded = bounded or Bounded()
        self._found: Any = None

    def videos(
        self, keys: Sequence[str] | None = None, *, timeout_s: float | None = None
    ) -> list[VideoRow]:
        """Return the videos that the run's history names.

        Args:
            keys: Only rows that have all of these; `None`: every row.
            timeout_s: Limit for the whole history.

        Raises:
            SinkError: The server could not be asked.
            SinkRefused: It has no such run.
        """
        return self._bounded(
            f"asking for the history of {self.path}", lambda: list(self._scan(keys)), timeout_s
        )

    def _scan(self, keys: Sequence[str] | None) -> Iterator[VideoRow]:
        wanted = None if keys is None else list(keys)  # wandb adds `_step`
        for row in self._run().scan_history(keys=wanted, use_cache=False):
            if isinstance(row, Mapping):
                yield from videos_of(row)

    def files(self, names: Iterable[str]) -> dict[str, StoredFile]:
        """Return those of the files that the server lists with content, by name.

        Raises:
            SinkError: The server could not be asked.
        """
        todo = sorted(set(names))
        return self._bounded(f"asking for the files of {self.path}", lambda: self._list(todo))

    def _list(self, names: list[str]) -> dict[str, StoredFile]:
        found = {}
        for start in range(0, len(names), _AT_ONCE):
            for file in self._run().files(names=names[start : start + _AT_ONCE]):
                if file.size:  # a file that was announced and never came lists as empty
                    md5 = getattr(file, "md5", None) or ""
                    found[file.name] = StoredFile(file.name, int(file.size), str(md5))
        return found

    def upload(self, media: Path, name: str) -> None:
        """Put a file under `name`, whose row is there already.

        Raises:
            SinkError: It did not get there.
        """
        with tempfile.TemporaryDirectory(prefix="rollcam-wandb-") as root:
            copy = _below(Path(root), name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(media, copy)
            except OSError:
                shutil.copyfile(media, copy)
            self._bounded(
                f"uploading {name} to {self.path}",
                lambda: self._run().upload_file(str(copy), root=root),
                SEND_TIMEOUT_S,
            )

    def download(self, name: str, folder: Path) -> Path:
        """Fetch a file into `folder`; return where it lies.

        Raises:
            SinkError: It could not be fetched.
        """
        copy = _below(folder, name)

        def fetch() -> None:
            for file in self._run().files(names=[name]):
                if file.name == name:
                    file.download(root=str(folder), replace=True).close()
                    return
            raise SinkError(f"{self.path} has no file {name}")

        self._bounded(f"downloading {name} from {self.path}", fetch, SEND_TIMEOUT_S)
        return copy

    def _run(self) -> Any:
        check_alive(f"asking about {self.path}", self._base_url)
        if self._found is None:
            wandb = require("wandb", extra="wandb")
            overrides = {"base_url": self._base_url} if self._base_url else None
            api = wandb.Api(overrides=overrides, timeout=int(ASK_TIMEOUT_S))
            self._found = api.run(self.path)
        return self._found


def _below(folder: Path, name: str) -> Path:
    """Return the path of `name` inside `folder`; names come from a server and are not trusted."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
        raise SinkRefused(f"the run names a file outside its folder: {name!r}")
    return path

"""A real gallery on loopback, asked by raw HTTP, and episodes to put into it."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rollcam.episode import Episode, EpisodeStatus, Writer
from rollcam.gallery.serve import Place, serve
from rollcam.store import sidecar

START_TIMEOUT_S = 30.0
TIMEOUT_S = 20.0


@dataclass
class Reply:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        data = gzip.decompress(self.body) if self.headers.get("content-encoding") else self.body
        return json.loads(data)

    def json_or_none(self, name: str) -> Any:
        """Return what a refusal tells under that name; nothing if it is none, or does not."""
        return None if self.status == 200 else self.json().get(name)


class Served:
    """A gallery in a thread of its own; ends, and its thread with it, when the block does."""

    def __init__(self, *folders: Path, **settings: Any) -> None:
        self._is_ready = threading.Event()
        self._error: BaseException | None = None
        self._server: Any = None
        settings = {"port": 0, **settings}
        self._thread = threading.Thread(target=self._run, args=(folders, settings))
        self.place: Place

    def _run(self, folders: Any, settings: Any) -> None:
        def ready(place: Place) -> None:
            self.place = place
            self._is_ready.set()

        def keep(server: Any) -> None:
            self._server = server

        try:
            serve(folders, ready=ready, keep=keep, **settings)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._error = error
            self._is_ready.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_ready.wait(START_TIMEOUT_S)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the server does not end"
        if self._error is not None:
            raise self._error

    @property
    def port(self) -> int:
        return self.place.port

    def get(
        self, path: str, headers: dict[str, str] | None = None, *, method: str = "GET"
    ) -> Reply:
        """Ask for a path exactly as it is written, and for no encoding unless told."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            told = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in told.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """Ask for a path that must be answered well."""
        reply = self.get(path)
        assert reply.status == 200, (path, reply.status, reply.body[:500])
        return reply.json()

    def events(self) -> EventStream:
        return EventStream(self.port)


class EventStream:
    """Server-sent events, one after another."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._connection.request("GET", "/api/events")
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        assert self._response.getheader("content-type", "").startswith("text/event-stream")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        name = ""
        deadline = time.monotonic() + TIMEOUT_S
        for line in self._response:
            assert time.monotonic() < deadline, "no event came"
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield name, json.loads(line[6:])

    def until(self, wanted: str, is_it: Callable[[Any], Any] = lambda told: True) -> Any:
        """Return what the next event of that name tells that is the one looked for.

        A sidecar written a moment ago is read twice, so it may be told as changed once more.
        """
        for name, told in self:
            if name == wanted and is_it(told):
                return told
        raise AssertionError(f"the stream ended before {wanted!r} came")


def put(folder: Path, name: str, number: int = 0, **fields: Any) -> Episode:
    """Write the sidecar of an episode."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "episode_id": f"01J{number:023d}",
        "run_id": "01JD7Q2Z9A7D3F5G1H2J4K6M8N",
        "status": EpisodeStatus.COMPLETE,
        "env_id": "CartPole-v1",
        "seed": number,
        "step_index": number * 100,
        "episode_return": float(number),
        "episode_length": number + 1,
        "started_at": f"2026-11-21T10:{number // 60 % 60:02d}:{number % 60:02d}.000000+00:00",
        "context_at_end": {"iteration": number // 2, "num_env_steps": number * 100},
        "writer": Writer("here", 1),
        **fields,
    }
    episode = Episode(name=name, folder=folder, **facts)
    assert episode.sidecar_path is not None
    episode.sidecar_path.parent.mkdir(parents=True, exist_ok=True)
    episode.sidecar_path.write_text(sidecar.to_json(episode), encoding="utf-8")
    return episode


def poll(ask: Any, *, timeout_s: float = TIMEOUT_S) -> Any:
    """Ask until the answer is something."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while time.monotonic() < deadline:
        found = ask()
        if found:
            return found
        pause.wait(0.02)
    raise AssertionError("it never came")

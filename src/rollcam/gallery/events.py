"""Tells open pages what came, changed or went, as it happens: server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread

from rollcam.errors import RollcamError
from rollcam.gallery.answers import Answers, as_text, row_of
from rollcam.gallery.live import Growing

MAX_STREAMS = 32
"""Pages that are told at once."""
_EVERY_S = 1.0
_HEARTBEAT_S = 15.0
_MAX_CHANGES = 200
_MAX_WAITING = 100


class Events:
    """Looks at the folders once a second, while anybody listens, and tells all who do.

    Args:
        answers: The folders.
        growing: The films that are being recorded.
    """

    def __init__(self, answers: Answers, growing: Growing) -> None:
        self._answers = answers
        self._growing = growing
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._since: dict[str, int] = {}
        self._last_growing: list[dict[str, Any]] = []
        self._last_stamp = ""
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether no more pages can be told."""
        return len(self._listeners) >= MAX_STREAMS

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield events until the server stops or the page is gone."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_MAX_WAITING)
        if self._is_closed:
            return
        self._listeners.add(queue)
        try:
            yield b"retry: 2000\n\n"
            is_first = self._watcher is None or self._watcher.done()
            yield await anyio.to_thread.run_sync(self._hello, is_first)
            if self._watcher is None or self._watcher.done():
                self._watcher = asyncio.create_task(self._watch())
            else:
                yield _event("growing", {"growing": self._last_growing})
            while True:
                try:
                    told = await asyncio.wait_for(queue.get(), _HEARTBEAT_S)
                except TimeoutError:
                    told = b": still here\n\n"
                if told is None:
                    return
                yield told
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """End every stream."""
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.cancel()
        for queue in list(self._listeners):
            self._end(queue)

    async def _watch(self) -> None:
        is_first = True
        while self._listeners:
            # A folder that fails for a moment must not end the stream of the others.
            with contextlib.suppress(RollcamError, OSError):
                for told in await anyio.to_thread.run_sync(self._look, is_first):
                    self._tell(told)
                is_first = False
            await asyncio.sleep(_EVERY_S)

    def _tell(self, told: bytes) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(told)
            except asyncio.QueueFull:  # it reads no more; EventSource comes back by itself
                self._end(queue)

    def _end(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    def _hello(self, is_first: bool) -> bytes:
        shelf = self._answers.shelf
        generation = shelf.generation()
        n = sum(len(book.catalog) for book in shelf.books.values())
        if is_first:
            self._since = shelf.refresh()
        told = {"generation": generation, "n": n, "deliveries": self._answers.deliveries_stamp()}
        return _event("hello", told)

    def _look(self, is_first: bool) -> list[bytes]:
        told = []
        growing = self._growing.list()
        if is_first or growing != self._last_growing:
            self._last_growing = growing
            told.append(_event("growing", {"growing": growing}))
        stamp = self._answers.deliveries_stamp()
        if is_first or stamp != self._last_stamp:
            self._last_stamp = stamp
            told.append(_event("deliveries", {"deliveries": stamp}))
        change = self._change()
        if change is not None:
            told.append(_event("change", change))
        return told

    def _change(self) -> dict[str, Any] | None:
        shelf = self._answers.shelf
        now = shelf.refresh(at_once=True)
        if now == self._since:
            return None
        since, self._since = self._since, now
        rows: list[Any] = []
        removed: list[str] = []
        is_complete = since.keys() == now.keys() and -1 not in {*since.values(), *now.values()}
        for label, book in shelf.books.items() if is_complete else ():
            if now[label] == since[label]:
                continue
            found = book.catalog.changes(since[label], limit=_MAX_CHANGES)
            is_complete = is_complete and found.is_complete
            rows += [row_of(book, episode) for episode in found.episodes]
            removed += found.removed
        n = sum(len(book.catalog) for book in shelf.books.values())
        return {
            "generation": shelf.generation(),
            "n": n,
            "is_complete": is_complete,
            "rows": rows if is_complete else [],
            "removed": removed if is_complete else [],
        }


def _event(name: str, told: dict[str, Any]) -> bytes:
    data = as_text(told)
    # JSON has no line breaks but those it escapes, so one line holds it.
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"

"""The only background thread class: a queue bounded in bytes, and one thread that empties it."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_ROOM_SHARE = 16
"""Part of the bound that has to be free before a caller who waits for room is woken."""


class Worker(Generic[T]):
    """Hands items, in order, to `handle` on a thread of its own.

    The thread starts with the first item and ends when it had nothing to do for `idle_s`, so that a
    recorder which nobody closes leaves no thread behind. A worker belongs to the process that made
    it: in a forked child it takes nothing and waits for nothing.

    Args:
        name: Name of the thread; `rollcam-` is put before it.
        handle: Called as `handle(item, more)` on the worker's thread; `more` says whether other
            items already wait. What it raises is kept in `error`, and the next item is taken.
        max_bytes: Bound of the queue. One item larger than the bound is taken when nothing waits.
        pace_after: Items that may wait before `submit` pauses its caller for a moment.
        pace_down_to: Items that may still wait when that pause ends: to sleep and wake costs the
            caller more than to hand over a frame, so it sleeps once for several.
        pace_s: How long the pause is at most, in seconds.
            Without it a busy caller keeps the interpreter to itself, and the queue fills up.
        idle_s: Seconds without work after which the thread ends.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[T, bool], None],
        *,
        max_bytes: int,
        pace_after: int = 0,
        pace_down_to: int = 0,
        pace_s: float = 0.0,
        idle_s: float = 2.0,
    ) -> None:
        self.error: BaseException | None = None
        """The first thing that `handle` raised."""
        self.max_bytes = max_bytes
        self._room_from = max_bytes - max_bytes // _ROOM_SHARE
        self._name = f"rollcam-{name}"
        self._handle = handle
        self._pace_after = pace_after
        self._pace_down_to = pace_down_to
        self._pace_s = pace_s
        self._idle_s = idle_s
        self._items: deque[tuple[T, int]] = deque()
        self._waiting_bytes = 0
        self._n_taken = 0
        self._n_done = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._runner: int | None = None
        self._pid = os.getpid()
        # Re-entrant: the garbage collector and signal handlers may close a recorder at any moment,
        # also on a thread that stands between two lines of this file.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._caught_up = threading.Condition(self._lock)
        self._is_idle = False

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the items that wait, the one in hand included."""
        return self._waiting_bytes

    @property
    def n_taken(self) -> int:
        """Items submitted so far."""
        return self._n_taken

    def has_done(self, n_items: int) -> bool:
        """Whether the first `n_items` were handled; waits for nothing."""
        return self._n_done >= n_items

    def submit(self, item: T, size_bytes: int, *, timeout_s: float) -> bool:
        """Queue one item.

        Args:
            item: What `handle` will get.
            size_bytes: What it counts against the bound; 0 always finds room.
            timeout_s: How long to wait for room, in seconds; 0 does not wait.

        Returns:
            Whether it was taken. It is not when there is no room, after `close`, and in a process
            that was forked from the worker's.
        """
        if os.getpid() != self._pid:
            return False
        with self._lock:
            if self._closed or not self._wait_for_room(size_bytes, timeout_s):
                return False
            self._items.append((item, size_bytes))
            self._n_taken += 1
            self._waiting_bytes += size_bytes
            if self._is_idle:
                self._work.notify()
            needs_thread = self._thread is None
            if needs_thread:
                self._thread = threading.Thread(
                    target=self._run, args=(self._idle_s,), name=self._name, daemon=True
                )
            elif size_bytes and self._pace_s and len(self._items) > self._pace_after:
                self._caught_up.wait(self._pace_s)
        if needs_thread:
            self._start_thread()
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything submitted so far was handled; say whether that came in time.

        On the worker's own thread, which would wait for itself, it says at once how it stands.
        """
        if os.getpid() != self._pid:
            return False
        deadline = time.monotonic() + timeout_s
        with self._lock:
            n_wanted = self._n_taken
            while self._n_done < n_wanted:
                if self._runner == threading.get_ident():
                    return False
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._done.wait(left)
        return True

    def close(self, timeout_s: float) -> bool:
        """Take nothing more, handle what waits, end the thread; say whether that came in time.

        On the worker's own thread it does not wait and says yes: what is left is done after it
        returned, and the interpreter's end waits for that.
        """
        if os.getpid() != self._pid:
            return False
        with self._lock:
            self._closed = True
            self._work.notify_all()
            self._room.notify_all()
            self._done.notify_all()
            self._caught_up.notify_all()
            thread = self._thread
        if self._runner == threading.get_ident():
            if thread is threading.current_thread():
                atexit.register(thread.join, timeout_s)
            return True
        done = self.flush(timeout_s)
        if done and thread is not None and thread.is_alive():
            thread.join(timeout_s)
        return done

    def _wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        deadline = None
        while (
            size_bytes and self._waiting_bytes and self._waiting_bytes + size_bytes > self.max_bytes
        ):
            if timeout_s <= 0 or self._closed:
                return False
            now = time.monotonic()
            deadline = now + timeout_s if deadline is None else deadline
            if now >= deadline:
                return False
            self._room.wait(deadline - now)
        return not self._closed

    def _start_thread(self) -> None:
        thread = self._thread
        assert thread is not None
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is shutting down and starts no threads any more (Python >= 3.12), or
            # the system allows no more: the caller does the work itself, so that nothing is lost.
            self._run(idle_s=0)

    def _run(self, idle_s: float) -> None:
        self._runner = threading.get_ident()
        while True:
            with self._lock:
                if not self._items and not self._closed:
                    self._is_idle = True
                    self._work.wait(idle_s)
                    self._is_idle = False
                if not self._items:
                    self._thread = self._runner = None
                    return
                item, size_bytes = self._items.popleft()
                more = bool(self._items)
            try:
                self._handle(item, more)
            except BaseException as error:  # noqa: BLE001 - the thread must go on draining, or the producer waits for ever
                self.error = self.error or error
            finally:
                # Dropped before room is announced, so that memory really is free by then.
                del item
                with self._lock:
                    self._n_done += 1
                    self._waiting_bytes -= size_bytes
                    self._done.notify_all()
                    # Whoever waits for room sleeps once for several items, too.
                    if self._waiting_bytes <= self._room_from:
                        self._room.notify_all()
                    if len(self._items) <= self._pace_down_to:
                        self._caught_up.notify_all()

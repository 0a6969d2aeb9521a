"""A thread of its own for calls that may never come back."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_STOPPED = "stopped ("

_END_S = 5.0
_Call = tuple[Callable[[], Any], "concurrent.futures.Future[Any]"]


class TimedOut(Exception):  # noqa: N818 - says what happened; never leaves this package
    """The call has not come back within its limit, and its thread is of no more use."""


class Aside:
    """Calls functions in a daemon thread, one after the other, and waits for them no longer than told.

    A call that does not come back cannot be ended: its thread stays until the process ends, under the
    name `stopped (...)`. Should it come back after all, it frees what it has and ends.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._calls,), name=name, daemon=True)
        self._is_stopped = False
        self._is_direct = False
        try:
            self._thread.start()
        except RuntimeError:
            # The interpreter ends, or no thread is to be had: then without a limit.
            self._is_direct = True
        # Not at exit, where films that are still open are finished.
        weakref.finalize(self, self._calls.put, None).atexit = False

    @property
    def is_usable(self) -> bool:
        """Whether calls are answered: not in a forked child, nor after one that did not come back."""
        if self._pid != os.getpid() or self._is_stopped:
            return False
        return self._is_direct or self._thread.is_alive()

    def call(self, function: Callable[[], T], limit_s: int) -> T:
        """Call a function there, and return what it returns, or raise what it raises.

        Args:
            function: What to call.
            limit_s: Seconds to wait; those in which this process stood still do not count.

        Raises:
            TimedOut: It has not come back.
        """
        if self._is_direct:
            return function()
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._calls.put((function, answer))
        is_done = False
        try:
            is_done = any(
                concurrent.futures.wait([answer], timeout=1.0).done for _ in range(limit_s)
            )
        finally:  # after Ctrl-C too, nobody is there for the answer
            if not is_done:
                self._give_up()
        if not is_done:
            raise TimedOut
        return answer.result()

    def end(self, last: Callable[[], None] | None = None) -> None:
        """End the thread, once the calls before have come back; wait only if they all have.

        Args:
            last: Called there before the end, to free what is used by that thread only.
        """
        if self._is_direct:
            if last is not None and self.is_usable:
                last()
            return
        if last is not None:
            self._calls.put((last, concurrent.futures.Future()))
        self._calls.put(None)
        if self.is_usable:
            self._thread.join(_END_S)
            if self._thread.is_alive():
                self._give_up()

    def _give_up(self) -> None:
        self._is_stopped = True
        self._thread.name = f"{_STOPPED}{self._thread.name})"


def n_stopped() -> int:
    """Return how many threads of this process are in calls that have not come back."""
    return sum(thread.name.startswith(_STOPPED) for thread in threading.enumerate())


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        function, answer = call
        try:
            answer.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            answer.set_exception(error)
        del call, function, answer  # while it waits, it keeps no picture and no encoder

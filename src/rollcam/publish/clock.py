"""Time, as the publisher sees it; tests bring their own."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, and waiting."""

    def now(self) -> float:
        """Return seconds since 1970: what stands in the ledger, for every process to read."""

    def monotonic(self) -> float:
        """Return seconds that nobody sets back, for deadlines."""

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until `event` is set, or the time is over; return whether it is set."""


class SystemClock:
    """The real time."""

    def now(self) -> float:
        """Return `time.time()`."""
        return time.time()

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait on the event."""
        return event.wait(timeout_s)

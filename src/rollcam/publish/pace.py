"""How fast a line goes: waits after failures, a budget of bytes, and what it did so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
"""Waits after failures: the first one, doubled each time, up to the longest."""

BACKLOG_EVERY = 4
"""Each so many deliveries, the oldest film goes instead of the newest."""

CONFIRM_S = 1.0
"""How long after a hand-over the place is first asked, and how far apart questions are."""

PATIENCE_S = 300.0
"""How long what this process handed over may be on its way before it counts as lost."""

SETTLE_S = 2.0
"""The same for what a process handed over that is dead: it sends nothing any more."""

MAX_LOST = 3
"""Hand-overs that never arrived after which a film has failed."""

UNSURE_FOR_GOOD = 3
"""Answers of "cannot tell" after which no more is asked: handed over is all that can be known."""

PARKED_S = 3600.0
"""When a place that could not tell is asked again, in seconds."""

POLL_S = 1.0
"""How often it is seen whether the ledger's file has changed, or the lock is tried, in seconds."""

LOOK_S = 10.0
"""How often the ledger is read although its file seems the same, in seconds."""

_BUDGET_S = 60.0


@dataclass
class Tally:
    """What a line did since it was made."""

    n_sent: int = 0
    """Hand-overs that the sink took."""
    n_already_there: int = 0
    """Films that were not sent, since the place had them."""
    n_stored: int = 0
    """Films that the place says it has, those already there included."""
    n_failed: int = 0
    """Films that the sink refused, or that never arrived."""
    n_dropped: int = 0
    """Films that were gone, or none."""
    bytes_sent: int = 0
    """Of the media that was handed over."""


class Backoff:
    """Waits that double from `FIRST_WAIT_S` to `LONGEST_WAIT_S`.

    Args:
        jitter: Returns a number in [0, 1), of which a quarter is taken off: retries of many
            processes must not come all at once.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter

    def after(self, n_before: int) -> float:
        """Return the seconds to wait after a failure that had `n_before` others before it."""
        whole = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(n_before, 30))
        return whole * (1 - 0.25 * self._jitter())


class Budget:
    """Bytes that may be sent in any minute.

    Args:
        bytes_per_min: How many; `None` for any number. One larger film goes alone.
    """

    def __init__(self, bytes_per_min: int | None) -> None:
        self._bytes_per_min = bytes_per_min
        self._spent: deque[tuple[float, int]] = deque()

    def spend(self, n_bytes: int, now: float) -> None:
        """Remember what was sent."""
        if self._bytes_per_min is not None:
            self._spent.append((now, n_bytes))

    def wait_s(self, n_bytes: int, now: float) -> float:
        """Return for how many seconds a film of this size has to wait."""
        while self._spent and not 0 <= now - self._spent[0][0] < _BUDGET_S:
            self._spent.popleft()
        if self._bytes_per_min is None or not self._spent:
            return 0.0
        if sum(n for _, n in self._spent) + n_bytes <= self._bytes_per_min:
            return 0.0
        return max(0.05, self._spent[0][0] + _BUDGET_S - now)

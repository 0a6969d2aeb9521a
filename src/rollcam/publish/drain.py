"""Deliver all that is owed, in the foreground: what `rollcam publish` does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rollcam.publish.clock import Clock, SystemClock
from rollcam.publish.entry import State
from rollcam.publish.line import Line
from rollcam.publish.pace import POLL_S

GIVE_UP_AFTER = 5
"""Failures of the sink, one after another, after which the rest is left for later; and of a film."""

STUCK_S = 600.0
"""Seconds in which nothing moved, after which the rest is left for later."""


def drain(
    line: Line,
    *,
    give_up_after: int = GIVE_UP_AFTER,
    stuck_s: float = STUCK_S,
    clock: Clock | None = None,
    progress: Callable[[int], None] = lambda n_pending: None,
) -> int:
    """Deliver until nothing is owed, or nothing moves any more; return how much is still owed.

    Where another living process delivers to the sink, its progress is waited for.

    Args:
        line: The sink.
        give_up_after: See `GIVE_UP_AFTER`.
        stuck_s: See `STUCK_S`.
        clock: The time.
        progress: Called with how many films are still owed, after each step.

    Raises:
        StoreError: The ledger cannot be used.
    """
    clock = clock or SystemClock()
    never = threading.Event()
    line.hurry()
    moved_at, before = clock.monotonic(), None
    while True:
        wait_s = line.step()
        now = clock.monotonic()
        n_pending = line.n_pending()
        progress(n_pending)
        state = (n_pending, line.n_pending(State.QUEUED), line.tally.n_sent)
        if state != before:
            moved_at, before = now, state
        if not n_pending or line.n_failures >= give_up_after or now - moved_at >= stuck_s:
            return n_pending
        if line.is_stalled(give_up_after):
            return n_pending
        if wait_s > 0:
            limit_s = stuck_s if line.is_paused else POLL_S
            clock.wait(never, min(wait_s, limit_s))

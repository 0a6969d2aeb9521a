"""What else runs on the machine: to wait until it is quiet, and to say how quiet it was."""

from __future__ import annotations

import time

import psutil

from benchmarks.lab.meters import children_cpu_s

QUIET_CORES = 0.35
"""Cores that others may keep busy for the machine to count as quiet."""

_LOOK_S = 0.5


class Neighbours:
    """Measures how many cores others keep busy, this process and its children left out."""

    def __init__(self) -> None:
        self._since = _now()

    def cores(self) -> float:
        """Return the mean since this was made."""
        (wall, busy, own), (wall_then, busy_then, own_then) = _now(), self._since
        return max(0.0, (busy - busy_then - (own - own_then)) / max(wall - wall_then, 1e-3))


class Patience:
    """Waits for a quiet machine, but not for ever.

    Args:
        seconds: Limit of all waits together.
    """

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds

    def wait(self) -> None:
        """Wait until the machine is quiet, or patience is at its end."""
        while self.left_s > 0:
            neighbours = Neighbours()
            time.sleep(_LOOK_S)
            if neighbours.cores() <= QUIET_CORES:
                return
            self.left_s -= _LOOK_S


def _now() -> tuple[float, float, float]:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is counted within that of users.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    busy = sum(times) - idle - guests
    return time.monotonic(), busy, children_cpu_s() + time.process_time()

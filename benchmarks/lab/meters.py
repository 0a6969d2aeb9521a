"""What a process has used so far, and what one copy of a frame costs in it."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def children_cpu_s() -> float:
    """Return the CPU seconds of all children that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rss_bytes() -> int:
    """Return the memory that the process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def reset_peak() -> int:
    """Forget the highest memory so far, where the system can, and return what is held now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return rss_bytes()


def peak_bytes() -> int:
    """Return the most memory that the process held at once."""
    # Not `ru_maxrss`, where there is a choice: a child inherits its parent's.
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memcpy_s(n_bytes: int, *, n_buffers: int = 100, n_copies: int = 400) -> float:
    """Measure one copy between buffers that are in no cache, as CPU seconds (median).

    The copies go round, out of order, over twice `n_buffers` buffers: 144 MB for CartPole's frames,
    several times what the caches hold. Every page was touched before.
    """
    import numpy as np

    source = np.ones((n_buffers, n_bytes), np.uint8)
    target = np.ones((n_buffers, n_bytes), np.uint8)
    took = []
    for i in range(n_copies):
        start = time.thread_time()
        np.copyto(target[i % n_buffers], source[i * 7 % n_buffers])
        took.append(time.thread_time() - start)
    return sorted(took)[n_copies // 2]


class Calls:
    """Times the calls of a training loop, less what the environment took within them.

    Args:
        watch: The `envs.Stopwatch` around the environment.
    """

    def __init__(self, watch: Any) -> None:
        self.thread_s = 0.0
        """CPU of this thread in all calls, the environment's left out."""
        self.longest_s = {"step": 0.0, "reset": 0.0, "close": 0.0}
        """Wall time of the longest call of each kind, the environment's left out."""
        self.longest_whole_s = 0.0
        """Wall time of the longest call, all included."""
        self._watch = watch

    def __call__(self, kind: str, call: Callable[..., Any], *args: Any) -> Any:
        watch = self._watch
        env_wall, env_cpu = watch.wall_s, watch.cpu_s
        wall, cpu = time.perf_counter(), time.thread_time()
        result = call(*args)
        whole = time.perf_counter() - wall
        self.thread_s += time.thread_time() - cpu - (watch.cpu_s - env_cpu)
        self.longest_whole_s = max(self.longest_whole_s, whole)
        own = whole - (watch.wall_s - env_wall)
        self.longest_s[kind] = max(self.longest_s[kind], own)
        return result

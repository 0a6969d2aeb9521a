"""Several children in the same seconds: each runs for a slice of time, while the others stand still.

How fast a machine is changes from second to second where others use it too. Runs that follow each
other meet different machines; runs that take turns within each second meet the same.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.lab.child import Child

SLICE_S = 0.3
_LIMIT_S = 900.0
_CELLS = struct.Struct("dd")
_PREPARING, _MEASURED, _DONE = 0.0, 1.0, 2.0


class Clock:
    """Tells a child its own time: the seconds in which it was let run.

    Args:
        path: File shared with whoever hands out the slices.
    """

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _CELLS.size)

    def now(self) -> float:
        """Return the seconds; only differences mean something."""
        while True:
            before = self._stood_s()
            seconds = time.perf_counter() - before
            # It may have been stopped between the two.
            if self._stood_s() == before:
                return seconds

    def ready(self) -> None:
        """Say that what is measured begins, and stand still until the first slice."""
        self._say(_MEASURED)
        os.kill(os.getpid(), signal.SIGSTOP)

    def done(self) -> None:
        """Say that it is over; from here on nothing stops this process."""
        self._say(_DONE)

    def _stood_s(self) -> float:
        stood_s: float = _CELLS.unpack_from(self._memory)[0]
        return stood_s

    def _say(self, phase: float) -> None:
        self._memory[8:16] = struct.pack("d", phase)


class _Sliced:
    """One child, with all that it starts."""

    def __init__(self, module: str, given: Mapping[str, Any], clock: Path) -> None:
        clock.write_bytes(_CELLS.pack(0.0, _PREPARING))
        with open(clock, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _CELLS.size)
        self.child = Child(module, {**given, "clock": str(clock)})
        self._process = psutil.Process(self.child.pid)
        self._stopped_at = 0.0

    @property
    def phase(self) -> float:
        phase: float = _CELLS.unpack_from(self._memory)[1]
        return phase

    def prepare(self) -> None:
        """Wait until it stands still at its beginning, or failed."""
        deadline = time.monotonic() + _LIMIT_S
        while self._process.is_running() and self._process.status() != psutil.STATUS_STOPPED:
            if self._process.status() == psutil.STATUS_ZOMBIE:
                self.child.result()  # says why
            if time.monotonic() > deadline:
                raise RuntimeError("a child was not ready in time")
            time.sleep(0.05)
        self.stop()

    def stop(self) -> None:
        """Have it stand still."""
        self._signal([self._process, *self._process.children(recursive=True)], signal.SIGSTOP)
        self._stopped_at = time.perf_counter()

    def go_on(self) -> None:
        """Let it run."""
        # Looked for before: that takes milliseconds, which the child would count as its own.
        processes = [*self._process.children(recursive=True), self._process]
        stood_s = _CELLS.unpack_from(self._memory)[0] + time.perf_counter() - self._stopped_at
        self._memory[0:8] = struct.pack("d", stood_s)
        self._signal(processes, signal.SIGCONT)

    def _signal(self, processes: list[psutil.Process], number: int) -> None:
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue


def run_in_slices(module: str, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Run children in the same seconds; return what each one's work returned, by its name.

    Args:
        module: Module that calls `child_main`; its work takes a `clock`, the path of a `Clock`.
        given: What each child's work is called with, beside that.
    """
    with tempfile.TemporaryDirectory() as folder:
        children: dict[str, _Sliced] = {}
        results = {}
        for k, (name, arguments) in enumerate(given.items()):
            children[name] = _Sliced(module, arguments, Path(folder, f"clock-{k}"))
            children[name].prepare()
        while children:
            for name, child in list(children.items()):
                child.go_on()
                time.sleep(SLICE_S)
                if child.phase == _DONE:
                    results[name] = child.child.result()
                    del children[name]
                else:
                    child.stop()
        return {name: results[name] for name in given}

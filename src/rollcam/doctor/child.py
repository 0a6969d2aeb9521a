"""Runs one check in a child process: it may hang, crash or print, and nothing happens to us."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_OUTPUT = 20_000
_MAX_RESULT = 200_000
_END_S = 5.0
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended."""

    result: dict[str, Any] | None
    """What the check answered; `None` when it did not come to that."""
    ending: str
    """What became of the process, in words, when there is no result."""
    output: str
    """The end of what it printed."""


class Limit:
    """When a child is ended.

    Args:
        timeout_s: How long it may take, in seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.stop = threading.Event()
        """Set when nobody wants the answer any more."""


def run(check: str, arguments: Any, *, limit: Limit, env: Mapping[str, str]) -> Outcome:
    """Run a check of `rollcam.doctor.inside`.

    Args:
        check: Its name.
        arguments: Its keyword arguments.
        limit: When the child is killed, and what it started with it.
        env: Environment variables beside those of this process.
    """
    with tempfile.TemporaryDirectory(prefix="rollcam-doctor-", ignore_cleanup_errors=True) as own:
        answer, printed = Path(own, "answer.json"), Path(own, "printed.txt")
        # -P: a file of the user's must not stand for a package; `render` adds the folder for envs.
        # -u: what was printed before a crash is there, and in the order in which it was.
        command = [sys.executable, "-P", "-u", "-m", "rollcam.doctor.inside", str(answer), check]
        with printed.open("wb") as sink:  # no pipe: a grandchild could hold it open for ever
            process = subprocess.Popen(
                [*command, json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            )
            try:
                code = _wait(process, limit)
            finally:
                _kill(process)
        output = _read(printed, _MAX_OUTPUT)
        late = f"it did not come to an end within {limit.timeout_s:g} s"
        ending = late if code is None else _ended(code)
        return Outcome(_result(answer), ending, output)


def _wait(process: subprocess.Popen[bytes], limit: Limit) -> int | None:
    """Return the exit status, `None` when the child did not end in time."""
    deadline = time.monotonic() + limit.timeout_s
    while not limit.stop.is_set() and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK_S)
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child, and what it may have started; it may be over."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


def _ended(code: int) -> str:
    if code >= 0:
        return f"it ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"it crashed ({name})"


def _result(path: Path) -> dict[str, Any] | None:
    try:
        result = json.loads(_read(path, _MAX_RESULT))
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def _read(path: Path, limit: int) -> str:
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    return data[-limit:].decode("utf-8", "replace")

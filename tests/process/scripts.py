"""Run a script in a process of its own, with a time limit, and read what it said."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120.0

PRELUDE = """
import os, signal, sys, threading, time, warnings
from pathlib import Path
import numpy as np
import rollcam
from tests import barcode
from tests.envs import CountingEnv, AnsiEnv
from tests.films import wait_until

folder = Path(sys.argv[1])


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Three:
    \"\"\"All three recorders, filming the same environment frame by frame.\"\"\"

    def __init__(self, n):
        self.n = 0
        self.env = CountingEnv(length=1000, fps=25)
        self.wrapped = rollcam.RecordVideo(
            CountingEnv(length=1000, fps=25), folder / "RecordVideo", rollcam.every(1)
        )
        self.recorder = rollcam.Recorder(folder / "Recorder", fps=25)
        self.wrapped.reset(seed=0)
        self.env.reset()
        path = folder / "VideoRecorder" / "rl-video-episode-0.mp4"
        self.by_frame = rollcam.VideoRecorder(self.env, path)
        self.recorder.begin()
        self.recorder.frame(self.env.render())
        self.by_frame.capture_frame()
        self.go_on(n - 1)

    def go_on(self, n):
        for _ in range(n):
            self.wrapped.step(0)
            _, reward, *_ = self.env.step(0)
            self.recorder.frame(self.env.render(), reward=reward)
            self.by_frame.capture_frame()

    def close(self):
        self.wrapped.close()
        self.recorder.close()
        self.by_frame.close()
"""


def run(
    code: str,
    folder: Path,
    *,
    python: tuple[str, ...] = (),
    status: int | None = 0,
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run `PRELUDE` and `code`, whose `folder` is the path given here.

    Args:
        code: Python; may be indented.
        folder: The script's first argument.
        python: Options for the interpreter.
        status: The exit status that is expected; `None` takes any.
        timeout_s: Limit, in seconds.
    """
    command = [*python, "-c", PRELUDE + textwrap.dedent(code), str(folder)]
    return _run(command, status, timeout_s)


def run_file(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script file, which the children of `multiprocessing` can import anew."""
    return _run([str(script), str(folder)], 0, TIMEOUT_S)


def _run(
    command: list[str], status: int | None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
    )  # fmt: skip
    assert status is None or done.returncode == status, f"{done.returncode}\n{done.stderr}"
    return done

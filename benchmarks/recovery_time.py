"""How long does it take to finish what a killed process left, per minute of film?"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lab.answer import Answer, Table
from benchmarks.lab.child import ROOT, child_main, run_child

FPS = 50
MINUTES = (1, 5)
N_TURNS = 3

HOW = """\
A process films 600x400 pixels of CartPole's kind (or text of 24 lines) at 50 frames/s, with its reward column, waits until
all of it is encoded, and kills itself. "Recovery" is one `recover(folder)` in a new process, decoding nothing: it copies
the samples, counts and hashes them, writes the columns and the sidecar, and synchronises all of it. "Reading the file" is
what hashing those bytes alone takes, in the same process right after it. Medians of three turns, wall time with the file
in the page cache."""

_WRITER = """
import os, signal, sys
import numpy as np
import rollcam
folder, kind, n_frames, fps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
recorder = rollcam.Recorder(folder, fps=fps)
recorder.begin("film", seed=1)
picture = np.full((400, 600, 3), 255, np.uint8)
for k in range(n_frames):
    if kind == "text":
        frame = "\\n".join(f"step {k} line {line} " + "." * (k % 60) for line in range(24))
    else:
        frame = picture.copy()
        x = int(280 + 200 * np.sin(k / 40))
        frame[280:310, x : x + 50] = 0
        frame[180:280, x + 20 : x + 30] = (202, 152, 101)
    recorder.frame(frame, reward=1.0)
    if k % 500 == 499:
        assert recorder.flush(120)
assert recorder.flush(120)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    rows = []
    for kind in ("pictures", "text"):
        for minutes in MINUTES[:1] if quick else MINUTES:
            turns = [_turn(kind, minutes) for _ in range(1 if quick else N_TURNS)]
            took, hashed = (
                statistics.median(turn[key] for turn in turns) for key in ("s", "hash_s")
            )
            rows.append([
                f"{kind}, {minutes} min",
                f"{minutes * 60 * FPS:,}",
                f"{turns[0]['n_bytes'] / 1e6:.1f}",
                f"{took * 1e3:,.0f}",
                f"{took * 1e3 / minutes:,.0f}",
                f"{hashed * 1e3:,.1f}",
            ])  # fmt: skip
    columns = [
        "",
        "frames",
        "film, MB",
        "recovery, ms",
        "per minute of film, ms",
        "reading the file, ms",
    ]
    return Answer(
        "Recovery", HOW, [], [Table("What a killed process left", columns, rows)]
    ).as_dict()


def _turn(kind: str, minutes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        n_frames = minutes * 60 * FPS
        done = subprocess.run(
            [sys.executable, "-c", _WRITER, name, kind, str(n_frames), str(FPS)],
            cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        if done.returncode != -9:
            raise RuntimeError(f"the writer did not die as it should: {done.stderr}")
        answer: dict[str, Any] = run_child(
            "benchmarks.recovery_time", {"folder": name, "n_frames": n_frames}
        )
        return answer


def _measure(folder: str, n_frames: int) -> dict[str, Any]:
    import hashlib

    from rollcam.recovery import recover

    start = time.perf_counter()
    done = recover(folder)
    took_s = time.perf_counter() - start
    (episode,) = done.recovered
    assert episode.n_frames == n_frames, episode
    assert episode.media_path is not None
    start = time.perf_counter()
    with open(episode.media_path, "rb") as file:
        hashlib.file_digest(file, "sha256")
    hash_s = time.perf_counter() - start
    return {"s": took_s, "hash_s": hash_s, "n_bytes": Path(episode.media_path).stat().st_size}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child_main(_measure)
    else:
        from benchmarks.lab.report import main

        main(run)

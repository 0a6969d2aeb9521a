"""How fast do 1,000 queued films reach each place, and in how much memory?"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import child_main, run_child
from benchmarks.lab.meters import children_cpu_s, peak_bytes, reset_peak

N_FILMS = 1_000
MAX_GROWTH_MB = 64
SINKS = ("folder", "tensorboard", "mlflow", "trackio", "wandb")

HOW = """\
A folder holds 1,000 finished films of 60 frames of 160x120 pixels (copies of one, each with a sidecar of its own). What
`rollcam publish` does with them is timed from the first line in the ledger until the place itself says that it has them
all: every film is read, hashed, probed, handed over and asked for. MLflow writes to an SQLite file and a folder of
artifacts without a server, Trackio to its local database, TensorBoard gets films and animated previews, W&B is offline.
Its budget of 40 MB per minute holds here as everywhere. Each place in a process of its own, one after another, on the
machine's disk with all the `fsync`s. Memory is the highest resident set above that of just before the first film: the
place's own client, which is imported then, counts."""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    sizes = (10, 30) if quick else (N_FILMS // 10, N_FILMS)
    rows, figures = [], []
    for sink in SINKS:
        few, many = (run_child("benchmarks.drain", {"sink": sink, "n": n}) for n in sizes)
        grown = many["growth_mb"] - few["growth_mb"]
        figures.append(
            Figure(
                f"Memory that {sizes[1]:,} queued films take beyond {sizes[0]:,}, {sink}",
                f"at most {MAX_GROWTH_MB} MB",
                f"{grown:.0f} MB",
                grown <= MAX_GROWTH_MB,
            )
        )
        rows.append(
            [
                sink, f"{many['n_stored'] / many['wall_s']:.1f}", f"{many['wall_s']:.1f}",
                f"{1e3 * many['cpu_s'] / many['n_stored']:.1f}", f"{few['growth_mb']:.0f}",
                f"{many['growth_mb']:.0f}",
            ]
        )  # fmt: skip
        if many["n_stored"] != sizes[1]:
            raise RuntimeError(f"{sink} holds {many['n_stored']} of {sizes[1]} films")
    columns = [
        "place", "films/s", "seconds", "CPU ms per film", f"memory, {sizes[0]:,} films: MB",
        f"{sizes[1]:,} films: MB",
    ]  # fmt: skip
    table = Table(f"{sizes[1]:,} films, delivered by one process", columns, rows)
    return Answer("Delivering a backlog", HOW, figures, [table], NOTES).as_dict()


NOTES = [
    "W&B's own process writes an offline run's log every 15 s, or when the run ends; a film counts once it is in there.",
]


def _run(sink: str, n: int) -> dict[str, Any]:
    from rollcam._outgoing import Outgoing
    from rollcam.publish.drain import drain
    from rollcam.publish.entry import State
    from rollcam.publish.ledger import FILE_NAME, Ledger
    from rollcam.publish.line import Line
    from rollcam.publish.source import queue
    from rollcam.store.files import list_episodes

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder, place = root / "films", root / "place"
        place.mkdir()
        _fill(folder, n)
        made = _sink(sink, place)
        before = reset_peak()
        cpu, wall = time.process_time() + children_cpu_s(), time.perf_counter()
        ledger = Ledger(folder / ".rollcam" / FILE_NAME)
        line = Line(ledger, made, Outgoing(folder), lock_folder=folder / ".rollcam" / "publish")
        queue(ledger, line.key, list_episodes(folder).episodes, time.time(), must_ask=True)
        drain(line)
        made.close()
        line.ask_handed(limit=n)
        line.release()
        wall = time.perf_counter() - wall
        return {
            "n_stored": ledger.counts()[line.key][State.STORED],
            "wall_s": wall,
            "cpu_s": time.process_time() + children_cpu_s() - cpu,
            "growth_mb": (peak_bytes() - before) / 1e6,
        }


def _fill(folder: Path, n: int) -> None:
    """Make one film, and copies of it with facts of their own."""
    import numpy as np
    from ulid import ULID

    import rollcam
    from rollcam.store import sidecar

    with tempfile.TemporaryDirectory() as scratch:
        with rollcam.Recorder(scratch, fps=30, env_id="Noise-v0") as recorder:
            recorder.begin(name="original")
            rng = np.random.default_rng(0)
            picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
            for k in range(60):
                recorder.frame(np.roll(picture, k, axis=1), reward=1.0)
            first = recorder.end(terminated=True).result(timeout=60)
        assert first.media_path is not None
        folder.mkdir()
        for k in range(n):
            episode = replace(
                first,
                episode_id=str(ULID()), name=f"film-{k}", folder=folder, media=f"film-{k}.mp4",
                steps=None, episode_index=k, context_at_end={"num_env_steps": 500 * k},
            )  # fmt: skip
            shutil.copyfile(first.media_path, folder / f"film-{k}.mp4")
            path = episode.sidecar_path
            assert path is not None
            path.write_text(sidecar.to_json(episode), encoding="utf-8")


def _sink(name: str, place: Path) -> Any:
    from rollcam.publish.registry import make

    os.chdir(place)  # MLflow puts artifacts below it
    os.environ.update(
        TRACKIO_DIR=str(place), HF_HUB_OFFLINE="1", MLFLOW_DISABLE_TELEMETRY="true",
        WANDB_DIR=str(place), WANDB_SILENT="true", WANDB_CONSOLE="off",
        WANDB_ERROR_REPORTING="false",
    )  # fmt: skip
    settings: dict[str, dict[str, Any]] = {
        "folder": {"dir": place / "copies"},
        "tensorboard": {"logdir": place / "logs"},
        "mlflow": {"tracking_uri": f"sqlite:///{place}/mlflow.db", "experiment": "drain"},
        "trackio": {"project": "drain"},
        "wandb": {"project": "drain", "mode": "offline"},
    }
    return make(name, **settings[name])


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3 and sys.argv[1].endswith("in.json"):
        child_main(_run)
    else:
        from benchmarks.lab.report import main

        main(run)

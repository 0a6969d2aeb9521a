"""What does filming eight sub-environments cost, tiled and separately?"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import child_main, run_child
from benchmarks.lab.envs import Stopwatch, choose_action, make_env
from benchmarks.lab.meters import Calls, children_cpu_s, peak_bytes, reset_peak

N_ENVS, N_STEPS, N_TIMES = 8, 100, 3

HOW = f"""\
{N_ENVS} CartPoles of {N_STEPS} steps, all of them filmed, in a fresh process for each trial; no learner, so the loop comes
back for the next step at once. Medians of {N_TIMES} trials. Training thread: CPU (`time.thread_time`) around every `reset`,
`step` and `close`, less what the sub-environments themselves take on that thread (SyncVectorEnv) and less what an
unfilmed loop takes, for each vector step. All CPU: of the process and its children, the environments included. Memory:
the most that the process held above what it held before the recorder was made, and the same of its children, added up;
ffmpeg, which Gymnasium's hands its frames to, is left out in its favour. Longest stall: wall time of the longest `step`
or `reset`, less what the sub-environments take on that thread."""

WAYS = {
    "unfilmed": "not filmed",
    "gymnasium": "Gymnasium, tiled",
    "tiled": "Rollcam, tiled",
    "separate": "Rollcam, separate",
    "workers": "Rollcam, separate, in the workers",
}
KINDS = {"sync": "SyncVectorEnv", "async": "AsyncVectorEnv"}


class _Watches:
    """The stopwatches of all sub-environments that run on this thread."""

    def __init__(self, watches: list[Stopwatch]) -> None:
        self._watches = watches

    @property
    def cpu_s(self) -> float:
        return sum(watch.cpu_s for watch in self._watches)

    @property
    def wall_s(self) -> float:
        return sum(watch.wall_s for watch in self._watches)


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    trials = [(kind, way) for kind in KINDS for way in WAYS if (kind, way) != ("sync", "workers")]
    found: dict[tuple[str, str], list[dict[str, float]]] = {trial: [] for trial in trials}
    n_times, n_steps = (1, 30) if quick else (N_TIMES, N_STEPS)
    for _ in range(n_times):  # in turns: all share the machine's good and bad moments
        for kind, way in trials:
            given = {"kind": kind, "way": way, "n_steps": n_steps}
            found[kind, way].append(run_child("benchmarks.vector_cost", given))
    rows, figures = [], []
    for kind, way in trials:
        if way == "unfilmed":
            continue
        costs = _costs(found, kind, way)
        rows.append([f"{KINDS[kind]}: {WAYS[way]}", *(f"{value:.0f}" for value in costs.values())])
        if way != "gymnasium":
            figures += _figures(
                f"{WAYS[way]}, {KINDS[kind]}", costs, _costs(found, kind, "gymnasium")
            )
    columns = [
        "way", "training thread µs/step", "all CPU ms/step", "memory MB", "of it children MB",
        "longest stall ms", "close ms",
    ]  # fmt: skip
    title = f"{N_ENVS} CartPoles, {n_steps} steps"
    return Answer("Vector environments", HOW, figures, [Table(title, columns, rows)]).as_dict()


def _costs(found: dict[tuple[str, str], Any], kind: str, way: str) -> dict[str, float]:
    def median(key: str, of: str = way) -> float:
        return statistics.median(trial[key] for trial in found[kind, of])

    return {
        "thread_us": median("thread_us") - median("thread_us", "unfilmed"),
        "cpu_ms": median("cpu_ms"),
        "memory_mb": median("memory_mb") + median("children_mb"),
        "children_mb": median("children_mb"),
        "stall_ms": median("stall_ms"),
        "close_ms": median("close_ms"),
    }


def _figures(what: str, ours: dict[str, float], theirs: dict[str, float]) -> list[Figure]:
    names = {
        "thread_us": ("CPU of the training thread per step", "µs"),
        "memory_mb": ("peak memory", "MB"),
        "stall_ms": ("longest stall", "ms"),
    }
    return [
        Figure(
            f"{what}: {name}",
            f"below Gymnasium's tiled ({theirs[key]:.0f} {unit})",
            f"{ours[key]:.0f} {unit}",
            ours[key] < theirs[key],
        )
        for key, (name, unit) in names.items()
    ]


def _run(kind: str, way: str, n_steps: int) -> dict[str, float]:
    import numpy as np
    from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

    watches: list[Stopwatch] = []
    if kind == "sync":
        watches = [Stopwatch(make_env("cartpole", n_steps)) for _ in range(N_ENVS)]
        env: Any = SyncVectorEnv([partial(_same, watch) for watch in watches])
    else:
        env = AsyncVectorEnv([partial(make_env, "cartpole", n_steps)] * N_ENVS)
    with tempfile.TemporaryDirectory() as folder:
        env.reset(seed=0)
        if way != "unfilmed":
            env.render()  # pygame makes its screen
        pids = [process.pid for process in getattr(env, "processes", [])]
        children_before = {pid: _peak_of(pid, reset=True) for pid in pids}
        before = reset_peak()
        filmed = _recorded(way)(env, Path(folder))
        for watch in watches:
            watch.cpu_s = watch.wall_s = 0.0
        calls = Calls(_Watches(watches))
        cpu = time.process_time() + children_cpu_s()
        obs, _ = calls("reset", partial(filmed.reset, seed=0))
        for _ in range(n_steps + 2):  # the last ones are the next episode's
            obs, *_ = calls("step", filmed.step, np.array([choose_action(one) for one in obs]))
        children = sum(_peak_of(pid) - children_before[pid] for pid in pids)
        calls("close", filmed.close)
        cpu = time.process_time() + children_cpu_s() - cpu
        peak = peak_bytes()
    return {
        "thread_us": 1e6 * calls.thread_s / (n_steps + 2),
        "cpu_ms": 1e3 * cpu / (n_steps + 2),
        "memory_mb": (peak - before) / 1e6,
        "children_mb": children / 1e6,
        "stall_ms": 1e3 * max(calls.longest_s["step"], calls.longest_s["reset"]),
        "close_ms": 1e3 * calls.longest_s["close"],
    }


def _same(env: Any) -> Any:
    return env


def _peak_of(pid: int, *, reset: bool = False) -> int:
    """Return the most memory that another process held; with `reset`, forget it and return what it holds."""
    root = Path("/proc", str(pid))
    key = "VmHWM:"
    if reset:
        (root / "clear_refs").write_text("5", encoding="ascii")
        key = "VmRSS:"
    lines = (root / "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def _first(number: int) -> bool:
    return number == 0


def _recorded(way: str) -> Callable[[Any, Path], Any]:
    def gymnasium(env: Any, folder: Path) -> Any:
        from gymnasium.wrappers.vector import RecordVideo

        return RecordVideo(env, str(folder / "films"), (16, 9), episode_trigger=_first)

    def rollcam(env: Any, folder: Path) -> Any:
        from rollcam.integrations.vector import RecordVideo

        given: dict[str, Any] = {} if way == "tiled" else {"layout": "separate"}
        if way == "workers":
            given["record_in"] = "workers"
        return RecordVideo(env, folder / "films", (16, 9), episode_trigger=_first, **given)

    if way == "unfilmed":
        return lambda env, folder: env
    return gymnasium if way == "gymnasium" else rollcam


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3 and sys.argv[1].endswith("in.json"):
        child_main(_run)
    else:
        from benchmarks.lab.report import main

        main(run)

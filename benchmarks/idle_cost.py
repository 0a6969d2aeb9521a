"""What does a recorder cost while it films nothing?"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import child_main, run_child

_RECORDERS = {
    "unrecorded": "bare environment",
    "gymnasium": "Gymnasium's RecordVideo",
    "rollcam": "Rollcam",
}

HOW = """\
An environment whose `step` only returns constants is stepped bare and inside each wrapper, with a trigger that never
fires; CPU of the thread for each step. Each wrapper runs in fresh processes that take turns, each gives the median of
several loops, and the median of the processes is shown. What is the wrapper's own is the difference to the bare one."""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    n_turns, n_loops, n_steps = (1, 3, 50_000) if quick else (5, 7, 100_000)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _RECORDERS}
    for _ in range(n_turns):
        for name, results in found.items():
            arguments = {"recorder": name, "n_loops": n_loops, "n_steps": n_steps}
            results.append(run_child("benchmarks.idle_cost", arguments))
    ns = {name: statistics.median(r["ns"] for r in results) for name, results in found.items()}
    renders = {name: int(max(r["renders"] for r in results)) for name, results in found.items()}
    rows = [
        [label, f"{ns[name]:.0f}", f"{ns[name] - ns['unrecorded']:.0f}", str(renders[name])]
        for name, label in _RECORDERS.items()
    ]
    ours, theirs = ns["rollcam"] - ns["unrecorded"], ns["gymnasium"] - ns["unrecorded"]
    figures = [
        Figure(
            "Step of a wrapper that films nothing",
            "",
            f"{ours:.0f} ns; RecordVideo {theirs:.0f} ns",
        ),
        Figure(
            "Frames rendered when no trigger fires",
            "none",
            str(renders["rollcam"]),
            not renders["rollcam"],
        ),
    ]
    columns = ["", "ns for each step", "the wrapper's own ns", "frames rendered"]
    return Answer(
        "Filming nothing",
        HOW,
        figures,
        [Table("Steps without a film", columns, rows)],
    ).as_dict()


def _loop(recorder: str, n_loops: int, n_steps: int) -> dict[str, float]:
    import gymnasium as gym

    import rollcam

    class Constant(gym.Env):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - as in every gym.Env
        render_mode = "rgb_array"
        result = (0, 0.0, False, False, {})
        n_renders = 0

        def reset(self, **_: Any) -> tuple[int, dict]:
            return 0, {}

        def step(self, action: Any) -> tuple[int, float, bool, bool, dict]:
            return self.result

        def render(self) -> None:
            self.n_renders += 1

    wrappers = {"rollcam": rollcam.RecordVideo, "gymnasium": gym.wrappers.RecordVideo}
    inner = Constant()
    with tempfile.TemporaryDirectory() as folder:
        env = inner
        if recorder in wrappers:
            env = wrappers[recorder](inner, folder, episode_trigger=lambda _: False)
        env.reset()
        took = [_time_steps(env, n_steps) for _ in range(n_loops)]
        env.close()
    return {"ns": statistics.median(took), "renders": inner.n_renders}


def _time_steps(env: Any, n_steps: int) -> float:
    """Return the CPU of one step in nanoseconds."""
    start = time.thread_time_ns()
    for _ in range(n_steps):
        env.step(0)
    return (time.thread_time_ns() - start) / n_steps


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3:
        child_main(_loop)
    else:
        from benchmarks.lab.report import main

        main(run)

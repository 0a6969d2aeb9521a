"""One episode, filmed in a process of its own, and what it cost there."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.lab.child import child_main, run_child
from benchmarks.lab.envs import FRAME_BYTES, Stopwatch, choose_action, make_env
from benchmarks.lab.meters import Calls, children_cpu_s, memcpy_s, peak_bytes, reset_peak, rss_bytes
from benchmarks.lab.neighbours import Neighbours
from benchmarks.lab.recorders import RECORDERS


@dataclass(frozen=True)
class Trial:
    """What is measured."""

    recorder: str
    """A key of `recorders.RECORDERS`."""
    source: str = "cartpole"
    """See `envs.make_env`."""
    n_steps: int = 500
    """Length of the episode."""
    ending: str = "close"
    """`close`: `close()` alone; `reset`: `reset()`, then `close()`."""


@dataclass(frozen=True)
class Cost:
    """What one trial cost. "Own" leaves out what the environment itself took."""

    n_frames: int
    """Frames rendered for the film."""
    n_in_file: int
    """Frames that the file holds."""
    file_bytes: int
    """Size of the file."""
    thread_s: float
    """Own CPU of the training thread, from the first `reset` to the end of `close`."""
    children_s: float
    """CPU of child processes in that time."""
    process_s: float
    """Own CPU of the whole process and its children in that time."""
    env_s: float
    """CPU of the environment in that time: stepping and rendering."""
    loop_wall_s: float
    """Wall time of it all, rendering included."""
    step_s: float
    """Own wall time of the longest `step()`."""
    reset_s: float
    """Own wall time of the longest `reset()`."""
    close_s: float
    """Own wall time of `close()`."""
    longest_whole_s: float
    """Wall time of the longest call, rendering included."""
    growth_bytes: int
    """Peak memory above that of just before the recorder was made: its libraries count."""
    growth_filming_bytes: int
    """Peak memory above that of just after the recorder was made."""
    memcpy_s: float
    """CPU of one copy of a frame between buffers that are in no cache, afterwards."""
    others_cores: float = 0.0
    """Cores that others kept busy meanwhile."""

    @property
    def longest_s(self) -> float:
        """Own wall time of the longest call."""
        return max(self.step_s, self.reset_s, self.close_s)


def run_trial(trial: Trial) -> Cost:
    """Run one trial in a fresh process."""
    neighbours = Neighbours()
    cost = Cost(**run_child("benchmarks.lab.trial", asdict(trial)))
    return replace(cost, others_cores=round(neighbours.cores(), 2))


def _run(**given: Any) -> dict[str, Any]:
    trial = Trial(**given)
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch(make_env(trial.source, trial.n_steps))
        watch.reset(seed=0)
        if not trial.recorder.startswith("unrecorded"):
            watch.render()  # pygame makes its screen
        before = reset_peak()
        loop = RECORDERS[trial.recorder](watch, Path(folder), trial.n_steps)
        after = rss_bytes()
        watch.cpu_s = watch.wall_s = 0.0
        calls = Calls(watch)
        children, process, wall = children_cpu_s(), time.process_time(), time.perf_counter()
        _drive(loop, calls, trial)
        wall = time.perf_counter() - wall
        process, children = time.process_time() - process, children_cpu_s() - children
        peak = peak_bytes()
        n_in_file, file_bytes = _inspect(Path(folder))
    cost = Cost(
        n_frames=trial.n_steps + 1,
        n_in_file=n_in_file,
        file_bytes=file_bytes,
        thread_s=calls.thread_s,
        children_s=children,
        process_s=process - watch.cpu_s + children,
        env_s=watch.cpu_s,
        loop_wall_s=wall,
        **{f"{kind}_s": seconds for kind, seconds in calls.longest_s.items()},
        longest_whole_s=calls.longest_whole_s,
        growth_bytes=peak - before,
        growth_filming_bytes=peak - after,
        memcpy_s=memcpy_s(FRAME_BYTES),
    )
    return asdict(cost)


def _drive(loop: Any, calls: Calls, trial: Trial) -> None:
    obs = calls("reset", loop.reset)
    for step in range(1, trial.n_steps + 1):
        obs, done = calls("step", loop.step, choose_action(obs))
        if done != (step == trial.n_steps):
            raise RuntimeError(f"the episode ended at step {step} of {trial.n_steps}")
    if trial.ending == "reset":
        calls("reset", loop.reset)
    calls("close", loop.close)


def _inspect(folder: Path) -> tuple[int, int]:
    """Return the number of frames in the film, and its size in bytes."""
    import av

    films = sorted(folder.glob("*.mp4"))
    if not films:
        return 0, 0
    with av.open(str(films[0])) as container:
        n_frames = sum(1 for packet in container.demux(video=0) if packet.size)
    return n_frames, films[0].stat().st_size


if __name__ == "__main__":
    child_main(_run)

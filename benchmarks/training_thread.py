"""What does a recorded frame cost the training thread?"""

from __future__ import annotations

from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.cases import LONG_HELD, SHORT, SHORT_HELD, Film, films, times, trials
from benchmarks.lab.plan import Plan, measure, median
from benchmarks.lab.trial import Cost, Trial

THEIRS_LIMIT, MEMCPY_LIMIT = 20, 2.5

HOW = """\
CPU time of the thread that runs the training loop (`time.thread_time`) around every `reset`, `step` and `close`, less
the same inside the environment's own `reset`, `step`, `render` and `close`, less what an unrecorded loop shows, divided
by the frames. The encode at the end is included. RecordVideo hands its frames to an ffmpeg process and waits for it, so
that process's CPU is counted as the thread's; "own only" leaves it out. "Frames held" means that the environment keeps
a reference to the frame that it returned, so Rollcam has to copy it; otherwise nobody else holds it and it is used as
it is. The copy of a frame is one `memcpy` of 720 kB between buffers that are in no cache (it goes round over 144 MB),
measured in the same processes, after the film, when nothing else runs in them."""


def _all_films(quick: bool) -> tuple[Film, ...]:
    held = (SHORT_HELD,) if quick else (SHORT_HELD, LONG_HELD)
    return (*films(quick), *held)


def _peer_of(film: Film) -> Film:
    # RecordVideo never copies, so it matters little to it who holds the frames.
    return Film("cartpole", film.n_steps) if film.source == "cartpole-held" else film


def plan(quick: bool = False) -> Plan:
    """Return the trials that this needs."""
    wanted = [t for film in _all_films(quick) for t in trials("rollcam", film)]
    wanted += [t for film in films(quick) for t in trials("gymnasium", film)]
    wanted += [t for film in films(quick) for t in trials("unrecorded", film, ("close",))]
    for recorder in ("sb3", "unrecorded-sb3"):
        wanted += trials(recorder, SHORT, ("close",))
    return times(wanted, quick)


class _Costs:
    """Microseconds for each frame, by recorder and film."""

    def __init__(self, costs: dict[Trial, list[Cost]]) -> None:
        self._costs = costs

    def of(self, recorder: str, film: Film) -> list[Cost]:
        return [
            cost
            for trial, costs in self._costs.items()
            for cost in costs
            if (trial.recorder, trial.source, trial.n_steps)
            == (recorder, film.source, film.n_steps)
        ]

    def own_us(self, recorder: str, film: Film) -> float:
        loop = "unrecorded-sb3" if recorder == "sb3" else "unrecorded"
        return self._us(recorder, film) - self._us(loop, _peer_of(film))

    def with_children_us(self, recorder: str, film: Film) -> float:
        children = median(self.of(recorder, film), lambda cost: cost.children_s / cost.n_frames)
        return self.own_us(recorder, film) + 1e6 * children

    def spread(self, recorder: str, film: Film) -> str:
        each = [1e6 * cost.thread_s / cost.n_frames for cost in self.of(recorder, film)]
        return f"{min(each):.0f} to {max(each):.0f}"

    def memcpy_us(self, film: Film) -> float:
        return 1e6 * median(self.of("rollcam", film), lambda cost: cost.memcpy_s)

    def _us(self, recorder: str, film: Film) -> float:
        return 1e6 * median(self.of(recorder, film), lambda cost: cost.thread_s / cost.n_frames)


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    costs = _Costs(measure(plan(quick)))
    rows, figures = [], []
    for film in _all_films(quick):
        ours, memcpy = costs.own_us("rollcam", film), costs.memcpy_us(film)
        peer = _peer_of(film)
        own, theirs = costs.own_us("gymnasium", peer), costs.with_children_us("gymnasium", peer)
        rows.append(
            [film.label, f"{ours:.0f}", costs.spread("rollcam", film), f"{memcpy:.0f}",
             f"{ours / memcpy:.2f}", f"{theirs:.0f}", f"{own:.0f}", f"{theirs / ours:.0f}",
             f"{own / ours:.1f}"]
        )  # fmt: skip
        figures += _figures(film, ours, theirs, memcpy)
    columns = [
        "film", "Rollcam µs", "lowest to highest", "a copy µs", "Rollcam / copy", "RecordVideo µs",
        "of it own µs", "RecordVideo / Rollcam", "own only / Rollcam",
    ]  # fmt: skip
    return Answer(
        "CPU of the training thread for each recorded frame",
        HOW,
        sorted(figures, key=lambda figure: figure.limit),
        [Table("CPU of the training thread, for each frame", columns, rows)],
        [_about_sb3(costs), _ABOUT_CORES],
    ).as_dict()


_ABOUT_CORES = (
    "Where a frame has to be copied, the copy goes into memory that the encoder's thread has just read. If that thread ran "
    "on a core that shares no cache with this one (another socket, or another part of a large processor), that alone can "
    "cost some 250 µs. A virtual machine is not told, and may be moved while it runs: hence the range."
)


def _figures(film: Film, ours: float, theirs: float, memcpy: float) -> list[Figure]:
    what = f"CPU of the training thread per frame, {film.label}"
    return [
        Figure(
            what, f"at most 1/{THEIRS_LIMIT} of RecordVideo's", f"1/{theirs / ours:.0f}",
            theirs >= THEIRS_LIMIT * ours,
        ),
        Figure(
            what, f"at most {MEMCPY_LIMIT} copies of the frame", f"{ours / memcpy:.2f} copies",
            ours <= MEMCPY_LIMIT * memcpy,
        ),
    ]  # fmt: skip


def _about_sb3(costs: _Costs) -> str:
    own, theirs = costs.own_us("sb3", SHORT), costs.with_children_us("sb3", SHORT)
    return (
        f"Stable-Baselines3's `VecVideoRecorder` over a `DummyVecEnv` of one CartPole, 500 steps: {theirs:.0f} µs for "
        f"each frame, {own:.0f} µs of it on the training thread itself (it copies each frame into a tiled picture and "
        f"draws a progress bar)."
    )


if __name__ == "__main__":
    from benchmarks.lab.report import main

    main(run)

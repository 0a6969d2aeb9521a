"""What does a recorded frame cost the whole machine?"""

from __future__ import annotations

from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.cases import SHORT, SHORT_HELD, Film, films, times, trials
from benchmarks.lab.plan import Plan, measure, median
from benchmarks.lab.trial import Cost

LIMIT = 1.15
_PEERS = ("bare", "gymnasium")

HOW = """\
CPU time of the whole process and its children, less that of the environment (stepping and rendering), divided by the
frames. The bare encode is the plainest loop that PyAV allows (`VideoFrame.from_ndarray`, `stream.encode`, `mux` into an
ordinary MP4) with the same encoder, options and distance of keyframes as Rollcam, on the training thread. CartPole's
frames lie in memory row by row, so neither has to rearrange them. Rollcam's part holds all that it does besides: the
queue, fragments, the finished file, the sidecar and the per-step columns. The recorders take turns; medians."""


def plan(quick: bool = False) -> Plan:
    """Return the trials that this needs."""
    wanted = [
        trial
        for film in (*films(quick), SHORT_HELD)
        for recorder, filmed in (("rollcam", film), *((peer, _peers(film)) for peer in _PEERS))
        for trial in trials(recorder, filmed, ("close",))
    ]
    return times(wanted, quick)


def _peers(film: Film) -> Film:
    # Neither copies a frame to keep it, so it is the same to them who else holds it.
    return SHORT if film == SHORT_HELD else film


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    measured = measure(plan(quick))
    rows, figures = [], []
    for film in (*films(quick), SHORT_HELD):
        (ours,) = (measured[trial] for trial in trials("rollcam", film, ("close",)))
        bare, theirs = (
            measured[trial] for peer in _PEERS for trial in trials(peer, _peers(film), ("close",))
        )
        ratio = _us(ours) / _us(bare)
        figures.append(
            Figure(
                f"Total CPU per frame, {film.label}",
                f"at most {LIMIT} of the bare encode's",
                f"{ratio:.2f}",
                ratio <= LIMIT,
            )
        )
        rows.append(
            [film.label, f"{_us(ours):.0f}", f"{_us(bare):.0f}", f"{ratio:.2f}", _spread(ours, bare),
             f"{_us(theirs):.0f}", *(f"{_env_us(costs):.0f}" for costs in (ours, bare, theirs)),
             *(f"{costs[0].file_bytes / 1e3:.0f}" for costs in (ours, bare, theirs))]
        )  # fmt: skip
    columns = [
        "film", "Rollcam µs", "bare µs", "Rollcam / bare", "lowest to highest", "RecordVideo µs",
        "rendering: Rollcam µs", "rendering: bare µs", "rendering: RecordVideo µs",
        "file: Rollcam kB", "file: bare kB", "file: RecordVideo kB",
    ]  # fmt: skip
    table = Table("CPU of the whole process and its children, for each frame", columns, rows)
    return Answer("Total CPU for each recorded frame", HOW, figures, [table], NOTES).as_dict()


NOTES = [
    "The rendering is not part of the other columns. It stands there because filming can make it dearer: RecordVideo "
    "keeps every frame, so each is rendered into memory that the kernel has to map and clear first.",
    '"Lowest to highest" are the ratios of the runs that followed each other.',
]


def _us(costs: list[Cost]) -> float:
    return 1e6 * median(costs, lambda cost: cost.process_s / cost.n_frames)


def _env_us(costs: list[Cost]) -> float:
    return 1e6 * median(costs, lambda cost: cost.env_s / cost.n_frames)


def _spread(ours: list[Cost], bare: list[Cost]) -> str:
    # The others may have been run more often, for the sake of another question.
    ratios = sorted(o.process_s / b.process_s for o, b in zip(ours, bare, strict=False))
    return f"{ratios[0]:.2f} to {ratios[-1]:.2f}"


if __name__ == "__main__":
    from benchmarks.lab.report import main

    main(run)

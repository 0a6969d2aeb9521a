"""How long does recording hold up the training loop at most?"""

from __future__ import annotations

from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.cases import ENDINGS, SHORT, Film, films, times, trials
from benchmarks.lab.plan import Plan, measure, median
from benchmarks.lab.trial import Cost, Trial

LIMIT = 50
_RECORDERS = ("rollcam", "gymnasium")
_NAMES = {
    "rollcam": "Rollcam",
    "gymnasium": "RecordVideo",
    "sb3": "VecVideoRecorder",
    "unrecorded": "none",
}

HOW = """\
Wall time of the longest single `step()`, `reset()` or `close()` of an episode, less the time inside the environment's
own calls. The episode ends by `reset()` and then `close()`, or by `close()` alone. Each column is the median over the
repetitions; "worst" is the worst of them. Wall time shows what else ran on the machine: in the unrecorded loop, where
nothing at all is to be done, the longest call tells how large that part is. Stable-Baselines3's recorder ends its film
by length, inside a `step()`."""

NOTES = [
    "Waits that fall into the environment's own calls are not seen here, such as that for the interpreter lock while "
    '`render` runs. "With rendering" is the longest call with everything in it, to show that nothing hides there.'
]


def plan(quick: bool = False) -> Plan:
    """Return the trials that this needs."""
    wanted = [
        trial
        for film in films(quick)
        for recorder in _RECORDERS
        for trial in trials(recorder, film)
    ]
    for film in films(quick):
        wanted += trials("unrecorded", film, ("close",)) + _sb3(film)
    return times(wanted, quick)


def _sb3(film: Film) -> list[Trial]:
    return trials("sb3", film, ("close",)) if film == SHORT else []


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    measured = measure(plan(quick))
    rows, figures = [], []
    for film in films(quick):
        for trial in trials("unrecorded", film, ("close",)) + _sb3(film):
            ending = "length" if trial.recorder == "sb3" else trial.ending
            rows.append(_row(film, ending, trial.recorder, measured[trial]))
        for ending in ENDINGS:
            ours, theirs = (
                measured[trial]
                for recorder in _RECORDERS
                for trial in trials(recorder, film, (ending,))
            )
            rows += [
                _row(film, ending, recorder, costs)
                for recorder, costs in zip(_RECORDERS, (ours, theirs), strict=True)
            ]
            figures.append(_figure(film, ending, ours, theirs))
    columns = [
        "film", "ended by", "recorder", "longest ms", "worst ms", "step ms", "reset ms", "close ms",
        "with rendering ms", "repetitions",
    ]  # fmt: skip
    table = Table("The longest calls", columns, rows)
    return Answer(
        "The longest single call because of recording", HOW, figures, [table], NOTES
    ).as_dict()


def _figure(film: Film, ending: str, ours: list[Cost], theirs: list[Cost]) -> Figure:
    our, their = (median(costs, lambda cost: cost.longest_s) for costs in (ours, theirs))
    worst = max(cost.longest_s for cost in ours)
    return Figure(
        f"Longest call, {film.label}, ended by `{ending}()`",
        f"at most 1/{LIMIT} of RecordVideo's",
        f"1/{their / our:.0f} ({1e3 * our:.1f} ms to {1e3 * their:.0f} ms; worst 1/{their / worst:.0f})",
        LIMIT * our <= their,
    )


def _row(film: Film, ending: str, recorder: str, costs: list[Cost]) -> list[str]:
    keys = ("step_s", "reset_s", "close_s", "longest_whole_s")
    each = [median(costs, lambda cost, key=key: getattr(cost, key)) for key in keys]
    longest = median(costs, lambda cost: cost.longest_s)
    worst = max(cost.longest_s for cost in costs)
    numbers = [f"{1e3 * seconds:.1f}" for seconds in (longest, worst, *each)]
    ended_by = ending if ending == "length" else f"`{ending}()`"
    return [film.label, ended_by, _NAMES[recorder], *numbers, str(len(costs))]


if __name__ == "__main__":
    from benchmarks.lab.report import main

    main(run)

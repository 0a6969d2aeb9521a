"""How much memory does filming 5000 steps take?"""

from __future__ import annotations

from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.cases import ENDINGS, LONG, LONG_HELD, NOISE, SHORT, Film, times, trials
from benchmarks.lab.plan import Plan, measure
from benchmarks.lab.trial import Cost, Trial

LIMIT_MB = 120

HOW = """\
The most memory (resident set) that the process held at once during the film, less what it held just before the recorder
was made, when the environment had been made, reset and rendered once. So the libraries that the recorder loads count;
the second column leaves them out. The ffmpeg process of moviepy is left out altogether, in its favour. The highest of
all repetitions is given."""

NAMES = {
    "rollcam": "Rollcam",
    "bare": "bare PyAV encode",
    "gymnasium": "Gymnasium's RecordVideo",
    "sb3": "SB3's VecVideoRecorder",
}


def _films(quick: bool) -> dict[str, tuple[Film, ...]]:
    if quick:
        return dict.fromkeys(NAMES, (SHORT,))
    return {
        "rollcam": (LONG, LONG_HELD, NOISE),
        "bare": (LONG,),
        "gymnasium": (SHORT, LONG, NOISE),
        "sb3": (SHORT,),
    }


def _trials(recorder: str, film: Film) -> list[Trial]:
    return trials(recorder, film, ENDINGS if recorder in ("rollcam", "gymnasium") else ("close",))


def plan(quick: bool = False) -> Plan:
    """Return the trials that this needs."""
    wanted = [
        trial
        for recorder, films in _films(quick).items()
        for film in films
        for trial in _trials(recorder, film)
    ]
    return times(wanted, quick)


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    measured = measure(plan(quick))
    rows, figures = [], []
    for recorder, films in _films(quick).items():
        for film in films:
            costs = [cost for trial in _trials(recorder, film) for cost in measured[trial]]
            rows.append(_row(NAMES[recorder], film, costs))
            if recorder == "rollcam":
                worst = _mb(costs, "growth_bytes")
                figures.append(
                    Figure(
                        f"Growth of memory, {film.label}",
                        f"at most {LIMIT_MB} MB",
                        f"{worst:.0f} MB",
                        worst <= LIMIT_MB,
                    )
                )
    columns = ["recorder", "film", "growth MB", "without its libraries MB", "repetitions"]
    return Answer(
        "Memory", HOW, figures, [Table("Growth of the process while filming", columns, rows)]
    ).as_dict()


def _row(name: str, film: Film, costs: list[Cost]) -> list[str]:
    growths = [f"{_mb(costs, key):.0f}" for key in ("growth_bytes", "growth_filming_bytes")]
    return [name, film.label, *growths, str(len(costs))]


def _mb(costs: list[Cost], key: str) -> float:
    return max(getattr(cost, key) for cost in costs) / 1e6


if __name__ == "__main__":
    from benchmarks.lab.report import main

    main(run)

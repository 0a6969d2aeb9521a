"""Which trials are run how often: in turns, so that all share the machine's good and bad moments."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.lab.trial import Cost, Trial, run_trial

Plan = Mapping[Trial, int]
"""How often each trial is run."""

_done: dict[Trial, list[Cost]] = {}


def united(plans: Iterable[Plan]) -> dict[Trial, int]:
    """Join plans: trials that several questions want are run once for all."""
    union: dict[Trial, int] = {}
    for plan in plans:
        for trial, times in plan.items():
            union[trial] = max(times, union.get(trial, 0))
    return union


def measure(
    plan: Plan, on_trial: Callable[[Trial], None] = lambda _: None
) -> dict[Trial, list[Cost]]:
    """Run what of the plan was not run yet, turn by turn.

    Args:
        plan: Trials and times.
        on_trial: Called before each trial.
    """
    for turn in range(max(plan.values(), default=0)):
        for trial, times in plan.items():
            costs = _done.setdefault(trial, [])
            if len(costs) <= turn < times:
                on_trial(trial)
                costs.append(run_trial(trial))
    return {trial: list(_done[trial]) for trial in plan}


def others_cores() -> str:
    """Say how many cores others kept busy while films were made."""
    found = sorted(cost.others_cores for costs in _done.values() for cost in costs)
    if not found:
        return "not measured"
    return f"median {statistics.median(found):.1f}, at most {found[-1]:.1f}"


def raw() -> list[dict[str, Any]]:
    """Return everything measured so far."""
    return [
        {"trial": asdict(trial), "costs": [asdict(cost) for cost in costs]}
        for trial, costs in _done.items()
    ]


def median(costs: Iterable[Cost], of: Callable[[Cost], float]) -> float:
    """Return the median of one property."""
    return statistics.median(of(cost) for cost in costs)

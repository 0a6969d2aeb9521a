"""The films that are measured, and how often each recorder makes them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.lab.plan import Plan
from benchmarks.lab.trial import Trial

ENDINGS = ("close", "reset")


@dataclass(frozen=True)
class Film:
    """An episode to be filmed."""

    source: str
    """See `envs.make_env`."""
    n_steps: int
    """Its length."""

    @property
    def label(self) -> str:
        """What it is called in tables."""
        name = {"cartpole": "CartPole", "cartpole-held": "CartPole, frames held", "noise": "noise"}
        return f"{name[self.source]}, {self.n_steps} steps"


SHORT, LONG = Film("cartpole", 500), Film("cartpole", 5000)
SHORT_HELD, LONG_HELD = Film("cartpole-held", 500), Film("cartpole-held", 5000)
NOISE = Film("noise", 500)

_TIMES = {
    SHORT: {
        "rollcam": 7, "bare": 7, "gymnasium": 3, "sb3": 2, "unrecorded": 3, "unrecorded-sb3": 2,
    },
    SHORT_HELD: {"rollcam": 6},
    LONG: {"rollcam": 3, "bare": 3, "gymnasium": 1, "unrecorded": 1},
    LONG_HELD: {"rollcam": 1},
    NOISE: {"rollcam": 3, "bare": 3, "gymnasium": 1, "unrecorded": 1},
}  # fmt: skip


def films(quick: bool) -> tuple[Film, ...]:
    """Return the films that every recorder makes."""
    return (SHORT,) if quick else (SHORT, LONG, NOISE)


def trials(recorder: str, film: Film, endings: tuple[str, ...] = ENDINGS) -> list[Trial]:
    """Return the trials of one recorder and one film."""
    return [Trial(recorder, film.source, film.n_steps, ending) for ending in endings]


def times(wanted: list[Trial], quick: bool) -> Plan:
    """Say how often each trial is run."""
    return {
        trial: 1 if quick else _TIMES[Film(trial.source, trial.n_steps)][trial.recorder]
        for trial in wanted
    }

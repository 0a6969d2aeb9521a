"""What every tracker is told of a film: its step, its caption, its numbers, a name to file it under.

One rule for all sinks, so that a film stands at the same step under the same words everywhere, also
when it arrives long after the trainer has moved on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollcam.episode import Episode, EpisodeStatus, Scalar
from rollcam.publish.sink import Delivery

STEP_COUNTERS = (
    "num_env_steps", "num_env_steps_sampled_lifetime", "global_step", "num_timesteps", "iteration",
)  # fmt: skip
"""Counters of the trainer that can be a film's step; the first one that its context holds is."""

MAX_STEP = 2**53 - 1
"""Larger steps are not taken: a browser cannot tell them apart."""

_MAX_CAPTION = 300
_MAX_ID = 64
_SHA_DIGITS = 12
_STEP_DIGITS = 12
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+"
)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a tracker is told of a film."""

    step: int
    """Where on the tracker's axis the film belongs; see `step_of`."""
    caption: str
    """One line for people; see `caption_of`. Text, whatever it looks like."""
    scalars: dict[str, float]
    """What can be drawn as a curve: `return` and `length`, as far as they are known and finite."""
    context: dict[str, float]
    """The trainer's counters at the end of the episode, those that are finite numbers."""


def facts_of(episode: Episode) -> Facts:
    """Return what a tracker is told of an episode's film."""
    told = {"return": episode.episode_return, "length": episode.episode_length}
    return Facts(
        step=step_of(episode),
        caption=caption_of(episode),
        scalars=_numbers(told),
        context=_numbers(episode.context_at_end),
    )


def step_of(episode: Episode) -> int:
    """Return the step at which a film stands in every tracker.

    The first of these that is a whole number from 0 to `MAX_STEP`: a counter of `STEP_COUNTERS` in
    the context at the episode's end, then in the one at its start, `step_index` (steps of the
    environment before the film), `episode_index`; else 0.
    """
    candidates: list[Any] = [
        context.get(key)
        for context in (episode.context_at_end, episode.context_at_start)
        for key in STEP_COUNTERS
    ]
    told = (*candidates, episode.step_index, episode.episode_index)
    return next((int(value) for value in told if _is_step(value)), 0)


def caption_of(episode: Episode) -> str:
    """Return one line that says which episode a film shows and how it went.

    Such as `CartPole-v1 · episode 12 · return 37.5 · 120 steps · truncated`; at most 300 characters
    and no control characters.
    """
    parts = [episode.env_id or episode.name]
    if episode.episode_index is not None:
        parts.append(f"{episode.kind} {episode.episode_index}")
    if episode.episode_return is not None:
        parts.append(f"return {episode.episode_return:g}")
    if episode.episode_length is not None:
        parts.append(f"{episode.episode_length} steps")
    if episode.seed is not None:
        parts.append(f"seed {episode.seed}")
    if episode.mode != "train":
        parts.append(episode.mode)
    parts += [word for word in ("terminated", "truncated") if getattr(episode, word)]
    if episode.status is EpisodeStatus.TRUNCATED_BY_CRASH:
        parts.append("ended by a crash")
    line = _UNPRINTABLE.sub(" ", " · ".join(parts)).strip()
    return line if len(line) <= _MAX_CAPTION else line[: _MAX_CAPTION - 1] + "…"


def film_id(delivery: Delivery) -> str:
    """Return the name of this very film: which episode, and which content.

    Only letters, digits, `_` and `-`. A film whose content changed has another one; the same film
    has the same one in every process.
    """
    return f"{clean_id(delivery.episode.episode_id)}_{clean_id(delivery.sha256)[:_SHA_DIGITS]}"


def file_stem(delivery: Delivery) -> str:
    """Return `film_id` with the step before it, zero-padded: a name that sorts by step."""
    return f"step{step_of(delivery.episode):0{_STEP_DIGITS}d}_{film_id(delivery)}"


def clean_id(text: str) -> str:
    """Return an id from a sidecar as a name that no file system, URL or query takes amiss."""
    return _UNSAFE.sub("_", text)[:_MAX_ID] or "_"


def _is_step(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= MAX_STEP and value == int(value)


def _numbers(values: Mapping[str, Scalar]) -> dict[str, float]:
    return {
        str(key): float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and _is_finite(value)
    }


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False

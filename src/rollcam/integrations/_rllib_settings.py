"""What `RollcamCallback` was told, and what passes between the trainer and the environments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rollcam.capture.triggers import capped_cubic
from rollcam.encode.codecs import Quality
from rollcam.episode import EncodeIn, Mode, OnFull

UNKNOWN = "unknown"
"""Stands for a number of the trainer's that nobody here knows; never 0."""

_SHORT = {"steps": "num_env_steps_sampled_lifetime", "episode": "runner_episode"}
"""Short names of fields in templates. The number of an episode in its environment would not tell the
films of one process apart."""

Film: TypeAlias = Literal["eval", "train", "all"]

PLAIN_NAME = "{prefix}-{iteration:06d}-{steps:09d}.{episode:06d}.{pid}"
"""Names of films, by default."""

RECIPE_NAME = "{prefix}-{iteration:06d}-{steps:09d}.{percentage_complete:03d}.{episode:06d}.{pid}"
"""Names of films as in the flatland recipe."""


@dataclass(frozen=True, slots=True)
class EpisodeStart:
    """What a trigger is asked about: an episode that begins."""

    mode: Mode
    """Training or evaluation."""
    worker_index: int
    """RLlib's number of the env runner: 0 is the local one, remote ones count from 1."""
    vector_index: int
    """Number of the sub-environment in its runner, from 0."""
    episode_index: int
    """Number of the episode in its sub-environment, from 0."""
    iteration: int | str
    """Number of the training iteration that goes on, from 1; "unknown" where it is."""
    num_env_steps: int | str
    """Environment steps of the whole training so far; "unknown" where they are."""


EpisodeTrigger: TypeAlias = Callable[[EpisodeStart], bool]


def default_trigger(start: EpisodeStart) -> bool:
    """Film every evaluation episode; in training the numbers 0, 1, 8, 27, ... of each environment."""
    return start.mode == "eval" or capped_cubic(start.episode_index)


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """What an environment has to know to film. Plain values: it travels into other processes."""

    folder: str
    """The recordings folder, absolute."""
    template: str
    """Template of the names."""
    fps: float | None = None
    """See `rollcam.Recorder`, as for all that follow."""
    output_fps: float | None = None
    codec: str = "h264"
    quality: Quality = "standard"
    on_full: OnFull = "block"
    encode_in: EncodeIn = "thread"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    info_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """Tells an environment to film the episode that has just begun."""

    run_id: str
    mode: Mode
    worker: str
    vector_index: int
    episode_index: int
    env_id: str | None
    context: Mapping[str, Any]
    metadata: Mapping[str, Any]
    facts: Mapping[str, Any]
    is_optional: bool = False
    """Whether it only counts where the environment's own `episode_trigger` wants the film."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Tells it that the episode is over, in RLlib's own numbers."""

    context: Mapping[str, Any]
    facts: Mapping[str, Any]


def filled_in(template: str, prefix: str) -> str:
    """Return a template with the recipe's field names turned into those of contexts."""
    safe = prefix.replace("{", "{{").replace("}", "}}")
    template = re.sub(r"(?<!\{)\{prefix\}", lambda _: safe, template)
    for short, field_name in _SHORT.items():
        template = re.sub(rf"(?<!\{{)\{{{short}(?=[:}}])", f"{{{field_name}", template)
    return template

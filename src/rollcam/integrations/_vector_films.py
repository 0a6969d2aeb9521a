"""Which films of one sub-environment begin and end, here or inside a child process."""

from __future__ import annotations

import gc
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rollcam.errors import SettingError

if TYPE_CHECKING:
    from rollcam._camera import Camera

_MAX_THREADS = 4

EnvTrigger = Callable[[int, int], bool]
"""Called with the index of a sub-environment and a number."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is filmed, and how it is called; sent to the children as it is."""

    prefix: str
    """Beginning of the names."""
    is_named_by_env: bool
    """Names say which sub-environment it is."""
    has_template: bool
    """The recorder has a template for names."""
    episode_trigger: EnvTrigger | None
    """Films an episode."""
    step_trigger: EnvTrigger | None
    """Begins a film at a step."""
    video_length: float
    """Length of a film in steps; infinite for whole episodes."""
    in_pieces: bool
    """Everything is filmed, in pieces of that length."""
    ends_when_done: bool
    """A film ends with the step that ends its episode; otherwise at the reset after it."""
    gc_trigger: Callable[[int], bool] | None
    """Collects garbage when a film ends."""

    @property
    def is_whole(self) -> bool:
        """Whole episodes are filmed."""
        return self.video_length == math.inf


class EnvFilms:
    """The films of one sub-environment, one after another.

    Args:
        camera: Films it.
        index: Its index.
        plan: What is filmed.
    """

    def __init__(self, camera: Camera, index: int, plan: Plan) -> None:
        self.index = index
        self.plan = plan
        self.episode_id = -1
        """Number of its episode."""
        self.seed: int | None = None
        """What its newest reset was given."""
        self.n_begun = 0
        """Films begun so far."""
        self._camera = camera

    @property
    def is_filming(self) -> bool:
        """Whether a film is open."""
        return self._camera.is_filming

    @property
    def wants_frames(self) -> bool:
        """Whether a film is open that has not failed."""
        return self._camera.is_filming and self._camera.error is None

    @property
    def n_frames(self) -> int:
        """Frames captured in the open film."""
        return self._camera.n_frames

    def next_episode(self, seed: int | None, step_id: int) -> None:
        """Count an episode: end the film of the one before, and perhaps begin one.

        Args:
            seed: What `reset` was given.
            step_id: Number of the newest step.
        """
        self.episode_id += 1
        self.seed = seed
        if self.plan.is_whole:
            self.end()
        trigger = self.plan.episode_trigger
        if trigger is not None and trigger(self.index, self.episode_id):
            self.begin(self._named("episode", self.episode_id), step_id)
        if self.plan.in_pieces and not self.is_filming:
            self.begin(self._named("step", step_id + 1), step_id)

    def next_step(self, step_id: int) -> None:
        """Begin a film at this step, if one is wanted."""
        trigger = self.plan.step_trigger
        wanted = trigger is not None and trigger(self.index, step_id)
        if wanted or (self.plan.in_pieces and not self.is_filming):
            self.begin(self._named("step", step_id), step_id)

    def begin(self, name: str | None, step_id: int) -> None:
        """Begin a film; one that is open ends before."""
        self.end()
        self.n_begun += 1
        self._camera.begin(
            name,
            seed=self.seed,
            episode_index=max(self.episode_id, 0),
            step_index=step_id + 1,
            kind="episode" if self.plan.is_whole else "clip",
            extra=self._fields(),
        )

    def add(self, render: Callable[[], Any], **facts: Any) -> None:
        """Film one frame.

        Args:
            render: Returns it.
            facts: Of the step that led to it, for `Camera.capture`.
        """
        if not self.is_filming:
            return
        ends = bool(facts.get("terminated") or facts.get("truncated"))
        if not self.plan.is_whole:  # a clip goes on over the end of an episode
            facts.update(terminated=False, truncated=False)
        self._camera.capture(render, **facts)
        has_length = self.n_frames > self.plan.video_length
        if has_length or (ends and self.plan.is_whole and self.plan.ends_when_done):
            self.end()

    def end(self) -> None:
        """End the open film, if there is one."""
        if not self.is_filming:
            return
        self._camera.end()
        if self.plan.gc_trigger is not None and self.plan.gc_trigger(self.episode_id):
            gc.collect()

    def by_env(self, name: str) -> str:
        """Return a name that says which sub-environment it is, where that is needed."""
        return f"{name}-env-{self.index}" if self.plan.is_named_by_env else name

    def _fields(self) -> Mapping[str, Any] | None:
        """Return fields for the sidecar of a film that begins; read when it is written."""
        return None

    def _named(self, kind: str, number: int) -> str | None:
        """Return Gymnasium's name, or `None` for the user's template."""
        if self.plan.has_template:
            return None
        return f"{self.by_env(self.plan.prefix)}-{kind}-{number}"


def per_env(
    trigger: Callable[..., bool] | None, name: str, *, takes_index: bool
) -> EnvTrigger | None:
    """Return a trigger as one on (index of the sub-environment, number).

    Args:
        trigger: Takes the number; or, when it needs two arguments, index and number.
        name: Of the argument, for the message.
        takes_index: Whether there is an index to be told.

    Raises:
        SettingError: It is no callable on one or two numbers.
    """
    if trigger is None:
        return None
    wants = "a callable on a number" + (", or on index and number" if takes_index else "")
    if not callable(trigger):
        raise SettingError(f"{name} must be {wants}, not {trigger!r}")
    n = _n_needed(trigger)
    if n > (2 if takes_index else 1):
        raise SettingError(f"{name} must be {wants}; {trigger!r} needs {n} arguments")
    return trigger if n == 2 else ByNumber(trigger)


class ByNumber:
    """A trigger on the number alone.

    Args:
        trigger: The user's.
    """

    def __init__(self, trigger: Callable[[int], bool]) -> None:
        self._trigger = trigger

    def __call__(self, index: int, number: int) -> bool:
        """Ask it about `number`."""
        return self._trigger(number)


def _n_needed(function: Callable[..., Any]) -> int:
    """Count the positional arguments that a callable cannot do without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in ones do not say
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)


def n_threads(indices: Sequence[int], *, is_tiled: bool) -> int:
    """Return how many background threads films of these sub-environments are worth."""
    return 1 if is_tiled else min(len(indices), _MAX_THREADS, os.cpu_count() or 1)

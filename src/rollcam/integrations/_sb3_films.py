"""Films of Stable-Baselines3's vector environments, with the bookkeeping of Gymnasium's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from rollcam.capture.rates import file_fps, input_fps
from rollcam.integrations._sb3_frames import WholePictures, innermost, metadata_of, source_of
from rollcam.integrations._settings import FilmSettings
from rollcam.integrations._tiles import Tiles
from rollcam.integrations._vector_films import EnvFilms, Plan, n_threads
from rollcam.integrations._vector_frames import FrameSource
from rollcam.integrations._vector_given import seeds_of
from rollcam.integrations._vector_layouts import Filming, VectorStep, View, info_of
from rollcam.integrations._vector_tap import Hooks
from rollcam.recorder import Recorder

if TYPE_CHECKING:
    from rollcam._camera import Camera

MakeFilms = Callable[["Camera", int], "Sb3Films"]
"""Makes the films of one sub-environment, from its camera and its index."""


class Sb3Films(EnvFilms):
    """Films of a sub-environment that is reset within its last step, and sometimes by hand."""

    newest_name = ""
    """Name of the newest clip, without extension."""

    def by_hand(self, n_steps: int) -> None:
        """Be told that `reset` was called after `n_steps` steps, before it is filmed."""

    def before_step(self) -> None:
        """Be told that a step was made, before anything of it is filmed."""


class ClipFilms(Sb3Films):
    """Clips as SB3 makes them: one picture for each step, over the ends of episodes.

    The trigger is asked at each step while nothing is filmed, and at each reset by hand. At the step
    that ends an episode the clip shows its last frame, where SB3's shows the first one of the next.

    Args:
        camera: Films.
        index: Of the sub-environment.
        plan: `step_trigger` and `video_length` are followed.
    """

    def __init__(self, camera: Camera, index: int, plan: Plan) -> None:
        super().__init__(camera, index, plan)
        self._reset_at: int | None = None
        self._was_filming = False
        self._is_fresh = False

    def by_hand(self, n_steps: int) -> None:
        """Ask the trigger when the next episode is counted."""
        self._reset_at = n_steps

    def before_step(self) -> None:
        """Remember whether a clip was open: the trigger is asked otherwise."""
        self._was_filming = self.is_filming

    def next_episode(self, seed: int | None, step_id: int) -> None:
        """Count an episode; a clip goes on, unless a reset by hand begins another."""
        self.episode_id += 1
        self.seed = seed
        n_steps, self._reset_at = self._reset_at, None
        if n_steps is not None:
            self._begin_if_wanted(n_steps)

    def next_step(self, step_id: int) -> None:
        """Begin a clip at this step, if one is wanted and none was open."""
        if not self._was_filming:
            self._begin_if_wanted(step_id + 1)

    def begin(self, name: str | None, step_id: int) -> None:
        """Begin a clip, with what the step before it has led to."""
        super().begin(name, step_id)
        self._is_fresh = True

    def add(self, render: Callable[[], Any], **facts: Any) -> None:
        """Film one frame, but for that of a reset within the clip."""
        if self._is_fresh:
            self._is_fresh, facts = False, {"is_reset": True}
        elif facts.get("is_reset"):
            return
        super().add(render, **facts)

    def _begin_if_wanted(self, n_steps: int) -> None:
        trigger = self.plan.step_trigger
        if trigger is None or not trigger(self.index, n_steps):
            return
        last = n_steps + int(self.plan.video_length)
        self.newest_name = f"{self.by_env(self.plan.prefix)}-step-{n_steps}-to-step-{last}"
        self.begin(None if self.plan.has_template else self.newest_name, n_steps - 1)


class EvalFilms(Sb3Films):
    """Films of the first episodes of each evaluation, which begins with a reset by hand.

    Args:
        camera: Films.
        index: Of the sub-environment.
        plan: Its prefix, and whether there is a template.
        n_films: Films of each evaluation.
        steps: Returns the trainer's steps, for the names.
    """

    def __init__(
        self, camera: Camera, index: int, plan: Plan, n_films: int, steps: Callable[[], int]
    ) -> None:
        super().__init__(camera, index, plan)
        self._n_films = n_films
        self._steps = steps
        self._n_since = -1

    def by_hand(self, n_steps: int) -> None:
        """Begin to count anew: this is another evaluation."""
        self._n_since = -1

    def next_episode(self, seed: int | None, step_id: int) -> None:
        """End the film of the episode before, and begin one of this, if it is among the first."""
        self.episode_id += 1
        self._n_since += 1
        self.seed = seed
        self.end()
        if self._n_since < self._n_films:
            name = self.by_env(f"{self.plan.prefix}-step-{self._steps()}")
            name = f"{name}-episode-{self._n_since}"
            self.begin(None if self.plan.has_template else name, step_id)


class SquareTiles(Tiles):
    """Tiles in SB3's order: as many rows as columns, or one more, and black where none is left."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def join(self, frames: Sequence[Any]) -> Any:
        """Return one picture; see `Tiles.join`."""
        rows, columns = _square(len(frames))
        return super().join([*frames, *[None] * (rows * columns - len(frames))])

    def _shape(self, n: int) -> tuple[int, int]:
        return _square(n)


def _square(n: int) -> tuple[int, int]:
    rows = math.isqrt(n - 1) + 1
    return rows, math.ceil(n / rows)


class VecFilms:
    """All films of a `VecEnv`; is told of its resets and steps.

    Args:
        venv: What is filmed; its wrappers stay as they are.
        recorder: Films.
        source: Gives the frames.
        make_films: Makes the films of a sub-environment.
        indices: The sub-environments that are filmed.
        is_tiled: In one picture, whose clock is the first of them.
    """

    def __init__(
        self,
        venv: VecEnv,
        recorder: Recorder,
        source: FrameSource,
        make_films: MakeFilms,
        indices: Sequence[int],
        *,
        is_tiled: bool,
    ) -> None:
        self.n_steps = 0
        """Steps of the vector environment so far."""
        self._n_envs = venv.num_envs
        self._base = innermost(venv)
        self._seeds: list[int | None] = [None] * venv.num_envs
        self._actions: Any = None
        if is_tiled:
            only = indices[0] if len(indices) == 1 else None
            self.films = [make_films(recorder.camera(vector_index=only), indices[0])]
            # What is one picture already needs no tiles.
            shown = (indices[0],) if isinstance(source, WholePictures) else tuple(indices)
            views = [View(self.films[0], shown, SquareTiles())]
        else:
            self.films = [make_films(recorder.camera(vector_index=i), i) for i in indices]
            views = [View(films, (films.index,), None) for films in self.films]
        self.filming = Filming(views, source, AutoresetMode.SAME_STEP)

    def before_reset(self) -> None:
        """Remember the seeds, which `reset` uses up."""
        self._seeds = seeds_of(getattr(self._base, "_seeds", None), self._n_envs)

    def after_reset(self) -> None:
        """Begin and end films, and film what a reset by hand shows."""
        for films in self.films:
            films.by_hand(self.n_steps)
        self.filming.after_reset(None, self._seeds, self.n_steps - 1)

    def go_on_from(self, earlier: VecFilms) -> None:
        """Count on where earlier films of the same environment have stopped."""
        self.n_steps = earlier.n_steps
        numbers = {films.index: films.episode_id for films in earlier.films}
        for films in self.films:
            films.episode_id = numbers.get(films.index, films.episode_id)

    def was_reset(self) -> None:
        """Film what a reset shows that nobody saw: all sub-environments stand where it left them."""
        self.filming.after_reset(None, self._seeds, self.n_steps - 1)

    def before_step(self, actions: Any) -> None:
        """Remember the actions."""
        self._actions = actions

    def after_step(self, rewards: Any, dones: Any, infos: Any) -> None:
        """Begin and end films, and film what a step shows."""
        self.n_steps += 1
        for films in self.films:
            films.before_step()
        truncated = [
            bool(done) and bool(info_of(infos, index).get("TimeLimit.truncated"))
            for index, done in enumerate(dones)
        ]
        terminated = [bool(done) and not cut for done, cut in zip(dones, truncated, strict=True)]
        step = VectorStep(self.n_steps - 1, self._actions, rewards, terminated, truncated, infos)
        self.filming.after_step(step)


class VecTap:
    """Tells films of the resets and steps of a `VecEnv`, whoever calls them, and wraps nothing.

    It sits on the innermost environment, so that rewards are those of the sub-environments, and not
    what `VecNormalize` makes of them.

    Args:
        venv: With its wrappers.
        films: Are told.
    """

    def __init__(self, venv: VecEnv, films: VecFilms) -> None:
        base = innermost(venv)
        self._films = films
        self._reset, self._step_async = base.reset, base.step_async
        self._step_wait = base.step_wait
        self._hooks = Hooks(base)
        self._hooks.put("reset", self._watch_reset)
        self._hooks.put("step_async", self._watch_step_async)
        self._hooks.put("step_wait", self._watch_step_wait)

    def remove(self) -> None:
        """End the films, and leave the environment as it was."""
        self._hooks.remove()
        self._films.filming.close()

    def _watch_reset(self, *args: Any, **kwargs: Any) -> Any:
        self._films.before_reset()
        obs = self._reset(*args, **kwargs)
        self._films.after_reset()
        return obs

    def _watch_step_async(self, actions: Any) -> None:
        self._step_async(actions)
        self._films.before_step(actions)

    def _watch_step_wait(self) -> Any:
        result = self._step_wait()
        self._films.after_step(*result[1:])
        return result


class Opened:
    """A recorder and what it will film.

    Args:
        folder: Recordings folder.
        venv: With its wrappers.
        indices: The sub-environments that are filmed.
        is_tiled: In one picture.
        fps: What the user gave.
        settings: The recorder's.
    """

    def __init__(
        self,
        folder: str,
        venv: VecEnv,
        indices: tuple[int, ...],
        is_tiled: bool,
        fps: float | None,
        settings: FilmSettings,
    ) -> None:
        metadata = metadata_of(venv)
        rate = input_fps(fps, metadata)
        self._venv, self._indices, self._is_tiled = venv, indices, is_tiled
        self._source = source_of(venv, indices, is_tiled=is_tiled)
        given: Mapping[str, Any] = {
            **settings,
            "output_fps": file_fps(settings.get("output_fps"), metadata, rate),
            "threads": n_threads(indices, is_tiled=is_tiled),
        }
        try:
            self.recorder = Recorder(folder, fps=rate, **self._source.about(), **given)
        except BaseException:
            self._source.close()
            raise

    def films(self, make: Callable[[Any, int], Sb3Films]) -> VecFilms:
        """Return the films of the sub-environments."""
        return VecFilms(
            self._venv, self.recorder, self._source, make, self._indices, is_tiled=self._is_tiled
        )

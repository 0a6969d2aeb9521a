"""What a vector step means for each film: the bookkeeping of autoreset, tiled and separate.

A film has a clock, the sub-environment whose episodes it follows, and shows one or more of them. One
film for all, with sub-environment 0 as its clock, is Gymnasium's way; one for each is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from rollcam.episode import as_scalar
from rollcam.integrations._tiles import Tiles
from rollcam.integrations._vector_films import EnvFilms
from rollcam.integrations._vector_frames import FrameSource, Render, Shown, Want


@dataclass(frozen=True, slots=True)
class VectorStep:
    """What `step` of a vector environment was given and returned."""

    step_id: int
    """Its number."""
    actions: Any
    """What was done."""
    rewards: Any
    """One for each sub-environment."""
    terminated: Sequence[bool]
    """For each sub-environment."""
    truncated: Sequence[bool]
    """For each sub-environment."""
    infos: Any
    """Gymnasium's dict of arrays with masks, or a list of dicts."""

    def is_done(self, index: int) -> bool:
        """Whether the step ended the episode of a sub-environment."""
        return bool(self.terminated[index] or self.truncated[index])

    def facts(self, index: int) -> dict[str, Any]:
        """Return the step as one sub-environment saw it."""
        is_batch = isinstance(self.actions, np.ndarray | list) or hasattr(self.actions, "shape")
        return {
            "reward": self.rewards[index],
            "action": self.actions[index] if is_batch else None,
            "info": info_of(self.infos, index),
            "terminated": bool(self.terminated[index]),
            "truncated": bool(self.truncated[index]),
        }


class View:
    """The films that follow one clock.

    Args:
        films: Begins and ends them.
        indices: The sub-environments that they show.
        tiles: Joins their frames; `None` for separate films.
    """

    def __init__(self, films: EnvFilms, indices: tuple[int, ...], tiles: Tiles | None) -> None:
        self.films = films
        self.indices = indices
        self.tiles = tiles
        self.is_resetting = False
        """The next step resets the clock (NEXT_STEP)."""

    @property
    def clock(self) -> int:
        """The sub-environment whose episodes are followed."""
        return self.films.index

    def renderer(self, shown: Mapping[int, Shown]) -> Render:
        """Return what makes this view's picture."""
        renders = [shown[index].render for index in self.indices]
        tiles = self.tiles
        if tiles is None:
            return renders[0]
        if len(renders) == 1:  # the frame as it is
            tiles.rows = tiles.columns = 1
            return renders[0]
        return lambda: tiles.join([render() for render in renders])


_RESET: dict[str, Any] = {"is_reset": True}

Shot = tuple[View, dict[str, Any], dict[int, Want]]
"""A view, the facts of its frame, and the frames that it takes."""


class Filming:
    """All views on a vector environment.

    Args:
        views: Their clocks differ.
        source: Gives the frames.
        mode: How episodes are reset.
    """

    def __init__(self, views: Sequence[View], source: FrameSource, mode: AutoresetMode) -> None:
        self.views = tuple(views)
        self._source = source
        self._mode = mode

    @property
    def is_filming(self) -> bool:
        """Whether a film is open."""
        return any(view.films.is_filming for view in self.views)

    @property
    def n_frames(self) -> int:
        """Frames captured in the open films."""
        return sum(view.films.n_frames for view in self.views)

    def after_reset(
        self, mask: Sequence[bool] | None, seeds: Sequence[int | None], step_id: int
    ) -> None:
        """Begin and end films, and take the frames of a reset.

        Args:
            mask: The sub-environments that were reset; `None` for all.
            seeds: What each of them was given.
            step_id: Number of the newest step.
        """
        shots: list[Shot] = []
        for view in self.views:
            if mask is None or mask[view.clock]:
                view.is_resetting = False
                view.films.next_episode(seeds[view.clock], step_id)
                shots.append(self._now(view, _RESET))
            elif len(view.indices) > 1:  # Gymnasium films every reset
                shots.append(self._now(view, _RESET))
        self._shoot(shots)

    def after_step(self, step: VectorStep) -> None:
        """Begin and end films, and take the frames of a step."""
        shots, reset = [], []
        for view in self.views:
            if self._mode is AutoresetMode.NEXT_STEP and view.is_resetting:
                # This step was none: it reset the clock.
                view.is_resetting = False
                view.films.next_episode(None, step.step_id)
                view.films.next_step(step.step_id)
                shots.append(self._now(view, _RESET))
            elif self._mode is AutoresetMode.SAME_STEP and step.is_done(view.clock):
                shots.append(self._last(view, step))
                reset.append(view)
            else:
                view.is_resetting = step.is_done(view.clock)
                # For a film that begins here, nobody kept what other tiles showed before their reset.
                has_kept = view.films.wants_frames
                view.films.next_step(step.step_id)
                now = self._now(view, step.facts(view.clock))
                shots.append(self._last(view, step) if has_kept else now)
        self._shoot(shots)
        self._shoot([shot for view in reset for shot in self._after_same_step(view, step.step_id)])

    def start(self, name: str, step_id: int) -> None:
        """Begin a film of every view by hand."""
        for view in self.views:
            view.films.begin(view.films.by_env(name), step_id)
        self._source.arm([index for view in self.views for index in view.indices])

    def stop(self) -> None:
        """End all films."""
        for view in self.views:
            view.films.end()

    def close(self) -> None:
        """End all films, and leave the sub-environments as they were."""
        self.stop()
        self._source.close()

    def _after_same_step(self, view: View, step_id: int) -> list[Shot]:
        """The clock was reset within the step: what it shows now belongs to its next episode."""
        films = view.films
        n_before = films.n_begun
        films.next_episode(None, step_id)
        films.next_step(step_id)
        is_new = films.n_begun > n_before
        # A clip in tiles goes on with one picture for each step, as Gymnasium's do.
        return [self._now(view, _RESET)] if is_new or len(view.indices) == 1 else []

    def _now(self, view: View, facts: dict[str, Any]) -> Shot:
        return view, facts, dict.fromkeys(view.indices, Want())

    def _last(self, view: View, step: VectorStep) -> Shot:
        """Take what each sub-environment showed before it was reset, where it was."""
        if self._mode is not AutoresetMode.SAME_STEP:
            return self._now(view, step.facts(view.clock))
        wants = {
            # Where last frames cannot be had, a tile shows the next best thing.
            index: Want(last=step.is_done(index) and (self._source.has_last or index == view.clock))
            for index in view.indices
        }
        return view, step.facts(view.clock), wants

    def _shoot(self, shots: Sequence[Shot]) -> None:
        """Fetch what the open films of these views need, all at once, and film it."""
        wants = {
            index: want
            for view, _, wanted in shots
            if view.films.wants_frames
            for index, want in wanted.items()
        }
        shown = self._source.fetch(wants) if wants else {}
        for view, facts, wanted in shots:
            if not view.films.is_filming:
                continue
            if view.clock not in shown:  # the film has failed; the step counts
                view.films.add(_nothing, **facts)
                continue
            is_unexpected = not facts.get("is_reset") and shown[view.clock].was_reset
            if is_unexpected and self._mode is not AutoresetMode.SAME_STEP:
                # AsyncVectorEnv without shared memory resets once more after a reset by hand.
                facts = _RESET
                if len(view.indices) == 1:
                    continue
            has_none = wanted[view.clock].last and not self._source.has_last
            view.films.add(_nothing if has_none else view.renderer(shown), **facts)


def _nothing() -> None:
    """Show nothing."""


class SubInfo(Mapping[str, Any]):
    """The `info` of one sub-environment, read from Gymnasium's dict of arrays when it is asked for.

    Args:
        infos: Values under their keys, and masks under `_` and the key.
        index: Of the sub-environment.
    """

    def __init__(self, infos: Mapping[str, Any], index: int) -> None:
        self._infos = infos
        self._index = index

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key that this sub-environment has told, or that holds for all."""
        values = self._infos[key]
        if not self._has_told(key):
            raise KeyError(key)
        if isinstance(values, Mapping):
            return SubInfo(values, self._index)
        is_scalar, plain = as_scalar(values)
        if is_scalar:
            return plain
        try:
            return values[self._index]
        except Exception as error:  # whatever a wrapper has put there
            raise KeyError(key) from error

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that this sub-environment has told."""
        for key in self._infos:
            is_mask = isinstance(key, str) and key.startswith("_") and key[1:] in self._infos
            if not is_mask and self._has_told(key):
                yield key

    def __len__(self) -> int:
        """Count them."""
        return sum(1 for _ in self)

    def _has_told(self, key: Any) -> bool:
        mask = self._infos.get(f"_{key}")
        try:
            return mask is None or bool(mask[self._index])
        except Exception:  # noqa: BLE001 - then it is none
            return True


def info_of(infos: Any, index: int) -> Mapping[str, Any]:
    """Return the `info` of one sub-environment; of an episode that was reset in its last step, its last."""
    try:
        if isinstance(infos, Mapping):
            info: Mapping[str, Any] = SubInfo(infos, index)
        else:
            info = infos[index]
        final = info.get("final_info")
    except Exception:  # noqa: BLE001 - whatever a foreign environment calls infos
        return {}
    return final if isinstance(final, Mapping) else info

"""PettingZoo: `RecordVideo` for AEC environments and `RecordVideoParallel`, drop-in for those of 1.27."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Unpack

from rollcam._checks import checked_length
from rollcam.capture.rates import file_fps, input_fps
from rollcam.capture.triggers import Trigger, capped_cubic
from rollcam.episode import new_id
from rollcam.errors import SettingError, require
from rollcam.integrations._env import ListModes, check_render_mode
from rollcam.integrations._settings import FilmSettings
from rollcam.recorder import Recorder

require("pettingzoo.utils.wrappers", extra="pettingzoo")

from pettingzoo.utils.env import AECEnv, ParallelEnv  # noqa: E402 - only after `require`
from pettingzoo.utils.wrappers import BaseParallelWrapper, BaseWrapper  # noqa: E402

from rollcam.integrations._agents import AgentFilms, AgentStep  # noqa: E402
from rollcam.integrations._vector_films import Plan, per_env  # noqa: E402


class _Filmed(ListModes):
    """What both wrappers have in common: PettingZoo's attributes, on a `Recorder`."""

    _films: AgentFilms
    _recorder: Recorder | None

    def _set_up(
        self,
        video_folder: str | os.PathLike[str],
        episode_trigger: Trigger | None,
        step_trigger: Trigger | None,
        video_length: int,
        name_prefix: str,
        fps: float | None,
        disable_logger: bool,
        gc_trigger: Callable[[int], bool] | None,
        settings: FilmSettings,
    ) -> None:
        check_render_mode(self.env)
        metadata = dict(getattr(self.env, "metadata", None) or {})
        if episode_trigger is None and step_trigger is None:
            episode_trigger = capped_cubic
        settings = {"run_id": new_id(), **settings}
        self._given = {
            "video_folder": video_folder,
            "episode_trigger": episode_trigger,
            "step_trigger": step_trigger,
            "video_length": video_length,
            "name_prefix": name_prefix,
            "fps": fps,
            "disable_logger": disable_logger,
            "gc_trigger": gc_trigger,
            **settings,
        }
        self.episode_trigger, self.step_trigger = episode_trigger, step_trigger
        self.disable_logger, self.gc_trigger = disable_logger, gc_trigger
        self.video_folder = os.path.abspath(video_folder)
        self.name_prefix = name_prefix
        self.video_length: float = checked_length(video_length) or math.inf
        self.frames_per_sec = input_fps(fps, metadata)
        self.render_history: list[Any] = []
        self.step_id = -1
        plan = self._plan(settings)
        self._recorder = self._opened(settings, metadata)
        self._films = AgentFilms(self._recorder, 0, plan)

    def _plan(self, settings: FilmSettings) -> Plan:
        return Plan(
            prefix=self.name_prefix,
            is_named_by_env=False,
            has_template=settings.get("name") is not None,
            episode_trigger=per_env(self.episode_trigger, "episode_trigger", takes_index=False),
            step_trigger=per_env(self.step_trigger, "step_trigger", takes_index=False),
            video_length=self.video_length,
            in_pieces=False,
            ends_when_done=False,
            gc_trigger=self.gc_trigger,
        )

    def _opened(self, settings: FilmSettings, metadata: Mapping[str, Any]) -> Recorder:
        name = metadata.get("name")
        output_fps = file_fps(settings.get("output_fps"), metadata, self.frames_per_sec)
        given: FilmSettings = {**settings, "output_fps": output_fps}
        return Recorder(
            self.video_folder,
            fps=self.frames_per_sec,
            env_id=name if isinstance(name, str) else type(self.env.unwrapped).__name__,
            **given,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # SuperSuit copies what it vectorises: each copy has a recorder of its own, in the same run.
        return _rebuilt, (type(self), self.env, self._given)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy to plan with is the environment alone: what happens in it has not happened.
        return copy.deepcopy(self.env, memo)

    @property
    def recording(self) -> bool:
        """Whether a film is open."""
        return self._recorder is not None and self._films.is_filming

    @property
    def recorded_frames(self) -> range:
        """Stands for PettingZoo's list of frames: its length is right, the frames are on the disk."""
        return range(self._films.n_frames if self._recorder is not None else 0)

    @property
    def episode_id(self) -> int:
        """Number of the episode; -1 before the first `reset`."""
        return self._films.episode_id

    def set_context(self, **values: Any) -> None:
        """Tell this recorder the trainer's counters; `rollcam.set_context` tells them to all."""
        if self._recorder is not None:
            self._recorder.set_context(**values)

    def start_recording(self, video_name: str) -> None:
        """Begin a film, with the next step; one that is open ends before.

        Args:
            video_name: Name of its files, without extension.
        """
        if self._recorder is not None:
            self._films.begin(video_name, self.step_id)

    def stop_recording(self) -> None:
        """End the open film, and wait until its file is there."""
        assert self.recording, "stop_recording was called, but no recording was started"
        self._films.end()
        if self._recorder is not None:
            self._recorder.flush()

    def close(self) -> None:
        """Finish the films, then close the environment; nothing is filmed afterwards."""
        recorder, self._recorder = self._recorder, None
        try:
            if recorder is not None:
                try:
                    self._films.end()
                finally:
                    recorder.close()
        finally:
            self.env.close()

    def _after_reset(self, seed: int | None) -> None:
        if self._recorder is None:
            return
        self._films.next_episode(seed, self.step_id)
        self._films.add(self._render_newest, is_reset=True)

    def _after_step(self, step: AgentStep) -> None:
        self.step_id += 1
        if self._recorder is None:
            return
        self._films.next_step(self.step_id)
        self._films.add_step(self._render_newest, step)


class RecordVideo(_Filmed, BaseWrapper[Any, Any, Any]):
    """Films an AEC environment into files that every browser plays: one frame for each agent's move.

    Arguments, names of files and attributes are PettingZoo's; only the import changes. Beyond it:
    frames are encoded while the episode runs, the last frame is in the film, nothing is overwritten,
    an error of the renderer or the disk never reaches the training, text (`render_mode="ansi"`) is
    filmed too, and each film has its facts beside it: `agent_returns` holds the return of each agent,
    `episode_return` their sum.

    The moves of agents that are at their end (`step(None)`) are filmed and counted, as PettingZoo's
    own recorder does.

    Args:
        env: With a `render_mode` of `rgb_array`, `ansi`, or a list of these.
        video_folder: Recordings folder.
        episode_trigger: Called with the number of each episode; `True` films it. Default, when neither
            trigger is given: 0, 1, 8, 27, ... 1000, 2000, ...
        step_trigger: Called with the number of each step, over all episodes; `True` begins a film.
        video_length: Length of each film in steps; 0 films whole episodes.
        name_prefix: Files are named `{name_prefix}-episode-{n}` or `{name_prefix}-step-{n}`.
        fps: Frames per second; default `metadata["render_fps"]`, else 30.
        disable_logger: Accepted for PettingZoo's sake; nothing is printed either way.
        gc_trigger: Called with the number of the episode when a film ends; `True` collects garbage.
            Default: never, as films leave none.
        **settings: Those of `rollcam.Recorder`: `keep`, `sinks`, `context`, `codec`, `quality`,
            `output_fps`, `metadata`, `name`, `mode`, `resume`, `run_id`, `max_bytes`, `info_keys` (as
            `"agent.key"`), `on_error`, `on_full`, `on_finished`, `encode_in`.

    Raises:
        RenderModeError: The render mode gives nothing that can be filmed.
        SettingError: An argument, or the environment's `render_fps`, cannot work.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        env: AECEnv[Any, Any, Any],
        video_folder: str | os.PathLike[str],
        episode_trigger: Trigger | None = None,
        step_trigger: Trigger | None = None,
        video_length: int = 0,
        name_prefix: str = "rl-video",
        fps: float | None = None,
        disable_logger: bool = True,
        gc_trigger: Callable[[int], bool] | None = None,
        **settings: Unpack[FilmSettings],
    ) -> None:
        if not isinstance(env, AECEnv):
            raise SettingError(
                f"RecordVideo films AEC environments, and {env} is none; for a parallel one there is "
                f"RecordVideoParallel"
            )
        BaseWrapper.__init__(self, env)
        self._set_up(
            video_folder, episode_trigger, step_trigger, video_length, name_prefix, fps,
            disable_logger, gc_trigger, settings,
        )  # fmt: skip

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Reset the environment; end the film of the last episode, and perhaps begin one."""
        self.env.reset(seed=seed, options=options)
        self._after_reset(seed)

    def step(self, action: Any) -> None:
        """Make the move of the agent whose turn it is, and film what it has led to."""
        self.env.step(action)
        env = self.env
        self._after_step(
            AgentStep(action, env.rewards, env.terminations, env.truncations, env.infos)
        )


class RecordVideoParallel(_Filmed, BaseParallelWrapper[Any, Any, Any]):
    """Films a parallel environment: one frame for each step of all agents; else as `RecordVideo`.

    Args:
        env: See `RecordVideo`, as for all that follow.
        video_folder: Recordings folder.
        episode_trigger: On the number of an episode.
        step_trigger: On the number of a step.
        video_length: In steps; 0 films whole episodes.
        name_prefix: Beginning of the names.
        fps: Frames per second.
        disable_logger: Nothing is printed either way.
        gc_trigger: Collects garbage.
        **settings: Those of `rollcam.Recorder`.

    Raises:
        RenderModeError: The render mode gives nothing that can be filmed.
        SettingError: An argument, or the environment's `render_fps`, cannot work.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        env: ParallelEnv[Any, Any, Any],
        video_folder: str | os.PathLike[str],
        episode_trigger: Trigger | None = None,
        step_trigger: Trigger | None = None,
        video_length: int = 0,
        name_prefix: str = "rl-video",
        fps: float | None = None,
        disable_logger: bool = True,
        gc_trigger: Callable[[int], bool] | None = None,
        **settings: Unpack[FilmSettings],
    ) -> None:
        if not isinstance(env, ParallelEnv):
            raise SettingError(
                f"RecordVideoParallel films parallel environments, and {env} is none; for an AEC one "
                f"there is RecordVideo"
            )
        BaseParallelWrapper.__init__(self, env)
        self._set_up(
            video_folder, episode_trigger, step_trigger, video_length, name_prefix, fps,
            disable_logger, gc_trigger, settings,
        )  # fmt: skip

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, dict[str, Any]]]:
        """Reset the environment; end the film of the last episode, and perhaps begin one."""
        obs, infos = self.env.reset(seed=seed, options=options)
        self._after_reset(seed)
        return obs, infos

    def step(self, actions: dict[Any, Any]) -> Any:
        """Step all agents, and film what it has led to."""
        result = self.env.step(actions)
        _, rewards, terminated, truncated, infos = result
        self._after_step(AgentStep(None, rewards, terminated, truncated, infos))
        return result


def _rebuilt(kind: Callable[..., Any], env: Any, given: dict[str, Any]) -> Any:
    return kind(env, **given)

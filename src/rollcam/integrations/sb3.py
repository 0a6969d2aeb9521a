"""Stable-Baselines3: `VecVideoRecorder`, drop-in for its own, and `RecordCallback` for `learn`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

from rollcam._checks import check_choice, checked_length
from rollcam.errors import SettingError, require
from rollcam.integrations._settings import FilmSettings
from rollcam.recorder import Recorder

require("stable_baselines3.common.vec_env", extra="sb3")

from stable_baselines3.common.vec_env import (  # noqa: E402 - only after `require` said what to install
    VecEnv,
    VecEnvWrapper,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn  # noqa: E402

from rollcam.integrations._sb3_callback import RecordCallback  # noqa: E402
from rollcam.integrations._sb3_films import ClipFilms, Opened, Sb3Films  # noqa: E402
from rollcam.integrations._vector_films import Plan, per_env  # noqa: E402
from rollcam.integrations._vector_given import check_render_mode, checked_indices  # noqa: E402

__all__ = ["RecordCallback", "VecVideoRecorder"]

Layout = Literal["tiled", "separate"]


class VecVideoRecorder(VecEnvWrapper):
    """Films a `VecEnv` into files that every browser plays.

    Arguments, names of files and attributes are SB3's; only the import changes. Beyond it: a clip
    shows the last frame of an episode where SB3's shows the first one of the next, frames are encoded
    while the clip runs, nothing is overwritten or printed, an error of a renderer or the disk never
    reaches the training, and each film has its facts beside it.

    Only the sub-environments that are filmed are rendered, and only while they are.

    Args:
        venv: With a `render_mode` of `rgb_array` (or, separately, `ansi`).
        video_folder: Recordings folder.
        record_video_trigger: Called with the number of steps so far, at each step while nothing is
            filmed and at each `reset`; `True` begins a clip. With `layout="separate"` called for each
            sub-environment; with (index, steps) when it needs two arguments.
        video_length: Length of each clip in steps.
        name_prefix: Clips are named `{name_prefix}-step-{from}-to-step-{to}`, separately
            `{name_prefix}-env-{i}-step-...`.
        layout: `"tiled"`: one film shows all sub-environments, in SB3's order. `"separate"`: each has
            films of its own.
        episode_trigger: Films whole episodes instead of clips, named `{name_prefix}-episode-{n}`:
            called with the number of each episode (tiled: of the first sub-environment). Instead of
            `record_video_trigger`.
        env_indices: The sub-environments that may be filmed; default all.
        fps: Frames per second; default `metadata["render_fps"]`, else 30.
        **settings: Those of `rollcam.Recorder`: `keep`, `sinks`, `context`, `codec`, `quality`,
            `output_fps`, `metadata`, `name`, `mode`, `resume`, `run_id`, `max_bytes`, `info_keys`,
            `on_error`, `on_full`, `on_finished`, `encode_in`.

    Raises:
        RenderModeError: The render mode gives nothing that can be filmed.
        SettingError: An argument, or the environment's `render_fps`, cannot work.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        venv: VecEnv,
        video_folder: str | os.PathLike[str],
        record_video_trigger: Callable[..., bool] | None = None,
        video_length: int = 200,
        name_prefix: str = "rl-video",
        *,
        layout: Layout = "tiled",
        episode_trigger: Callable[..., bool] | None = None,
        env_indices: Sequence[int] | None = None,
        fps: float | None = None,
        **settings: Unpack[FilmSettings],
    ) -> None:
        VecEnvWrapper.__init__(self, venv)
        check_choice("layout", layout, ("tiled", "separate"))
        check_render_mode(venv, layout)
        if (record_video_trigger is None) == (episode_trigger is None):
            raise SettingError(
                "VecVideoRecorder needs a record_video_trigger, called with the number of steps, or "
                "an episode_trigger, called with the number of each episode; and not both"
            )
        if not checked_length(video_length):
            raise SettingError("video_length must be at least 1 step, not 0")
        is_tiled = layout == "tiled"
        indices = checked_indices(env_indices, False, venv.num_envs)
        plan = Plan(
            prefix=name_prefix,
            is_named_by_env=not is_tiled,
            has_template=settings.get("name") is not None,
            episode_trigger=per_env(episode_trigger, "episode_trigger", takes_index=not is_tiled),
            step_trigger=per_env(
                record_video_trigger, "record_video_trigger", takes_index=not is_tiled
            ),
            video_length=checked_length(video_length) if episode_trigger is None else math.inf,
            in_pieces=False,
            ends_when_done=True,
            gc_trigger=None,
        )
        self.env = venv
        self.record_video_trigger = record_video_trigger
        self.video_folder = os.path.abspath(video_folder)
        self.name_prefix = name_prefix
        self.video_length = video_length
        opened = Opened(self.video_folder, venv, indices, is_tiled, fps, settings)
        self.frames_per_sec = opened.recorder.fps
        kind = ClipFilms if episode_trigger is None else Sb3Films
        self._films = opened.films(lambda camera, index: kind(camera, index, plan))
        self._recorder: Recorder | None = opened.recorder

    @property
    def step_id(self) -> int:
        """Steps of the vector environment so far."""
        return self._films.n_steps

    @property
    def recording(self) -> bool:
        """Whether a film is open."""
        return self._films.filming.is_filming

    @property
    def recorded_frames(self) -> range:
        """Stands for SB3's list of frames: its length is right, the frames are on the disk."""
        return range(self._films.filming.n_frames)

    @property
    def video_name(self) -> str:
        """File name of the newest clip; without one, or without clips, it is `.mp4` alone."""
        return f"{self._films.films[0].newest_name}.mp4"

    @property
    def video_path(self) -> str:
        """Where the newest clip will be, unless a file of that name was there before."""
        return os.path.join(self.video_folder, self.video_name)

    def set_context(self, **values: Any) -> None:
        """Tell this recorder the trainer's counters; `rollcam.set_context` tells them to all."""
        if self._recorder is not None:
            self._recorder.set_context(**values)

    def reset(self) -> VecEnvObs:
        """Reset all sub-environments, and film what they show."""
        if self._recorder is None:
            return self.venv.reset()
        self._films.before_reset()
        obs = self.venv.reset()
        self._films.after_reset()
        return obs

    def step_async(self, actions: Any) -> None:
        """Begin a step."""
        self.venv.step_async(actions)
        self._films.before_step(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step, and film what it shows."""
        obs, rewards, dones, infos = self.venv.step_wait()
        if self._recorder is not None:
            self._films.after_step(rewards, dones, infos)
        return obs, rewards, dones, infos

    def close(self) -> None:
        """Finish the films, then close the environment."""
        recorder, self._recorder = self._recorder, None
        try:
            if recorder is not None:
                try:
                    self._films.filming.close()
                finally:
                    recorder.close()
        finally:
            VecEnvWrapper.close(self)

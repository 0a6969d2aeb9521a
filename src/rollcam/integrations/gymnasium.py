"""`RecordVideo`: drop-in for `gymnasium.wrappers.RecordVideo` of Gymnasium 1.4."""

from __future__ import annotations

import gc
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

from rollcam._checks import check_callable, checked_length
from rollcam.capture.keep import KeepPolicy
from rollcam.capture.rates import file_fps, input_fps
from rollcam.capture.triggers import Trigger, capped_cubic
from rollcam.encode.codecs import DEFAULT_QUALITY, Quality
from rollcam.episode import Context, EncodeIn, EpisodeCallback, Mode, OnError, OnFull
from rollcam.errors import RecordingFailedWarning, RollcamError, SettingError, require
from rollcam.integrations._env import ListModes, about, check_render_mode
from rollcam.integrations._settings import FilmSettings, for_spec
from rollcam.publish.sink import Sink
from rollcam.recorder import Recorder

require("gymnasium.core", extra="gymnasium")

import gymnasium as gym  # noqa: E402 - only after `require` said what to install
from gymnasium.core import ActType, ObsType, RenderFrame  # noqa: E402

from rollcam.integrations._rllib_env import Directed  # noqa: E402


class RecordVideo(ListModes, Directed[ObsType, ActType], gym.utils.RecordConstructorArgs):
    """Films episodes of an environment into files that every browser plays.

    Arguments, names of files and attributes are Gymnasium's; only the import changes. Beyond it:
    frames are encoded while the episode runs, the last frame is in the film, nothing is
    overwritten, an error of the renderer or the disk never reaches the training, each film has its
    facts beside it, and text environments (`render_mode="ansi"`) are filmed too. With
    `video_length` alone, everything is filmed, in pieces of that length.

    A film ends where Gymnasium's does: at the next `reset`, at `close`, or by its length.

    In RLlib's `env_creator`, with `RollcamCallback`: the callback has the films made, into its folder
    and by its settings, whole episodes with the training's state at both ends. `episode_trigger`
    counts where the callback has no trigger.

    Args:
        env: Environment with a `render_mode` of `rgb_array`, `ansi`, or a list of these.
        video_folder: Recordings folder.
        episode_trigger: Called with the number of each episode; `True` films it. Default, when
            neither trigger nor `video_length` is given: 0, 1, 8, 27, ... 1000, 2000, ...
        step_trigger: Called with the number of each step, over all episodes; `True` begins a film.
        video_length: Length of each film in steps; 0 films whole episodes.
        name_prefix: Files are named `{name_prefix}-episode-{n}` or `{name_prefix}-step-{n}`.
        fps: Frames per second; default `metadata["render_fps"]`, else 30.
        disable_logger: Accepted for Gymnasium's sake; nothing is printed either way.
        gc_trigger: Called with the number of the episode when a film ends; `True` collects garbage.
            Default: never, as films leave none.
        output_fps: See `rollcam.Recorder`, as for all that follow.
        keep: Decides after an episode which films stay.
        codec: `"h264"`, `"vp9"`, `"av1"`, or FFmpeg's name of a hardware encoder.
        quality: `"small"`, `"standard"`, `"high"`, or a CRF.
        on_error: `"warn"` or `"raise"`.
        on_full: `"block"` or `"drop"`.
        encode_in: `"thread"` or `"process"`.
        metadata: Facts of your own for every sidecar.
        context: The trainer's counters: a mapping, or a callable that returns one.
        name: Template for the names of the files; replaces Gymnasium's.
        resume: `False` clears what Rollcam wrote in the folder, before the first film.
        mode: `"train"` or `"eval"`.
        info_keys: Keys of `info` that become columns of the per-step file.
        on_finished: Called with each finished `Episode`, on a background thread.
        max_bytes: Bound of this run's files; the oldest films go first.
        run_id: The run that the films belong to; default: a new one.
        sinks: Where finished films are published: `["wandb"]`, for instance.

    Raises:
        RenderModeError: The render mode gives nothing that can be filmed.
        SettingError: An argument, or the environment's `render_fps`, cannot work.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        env: gym.Env[ObsType, ActType],
        video_folder: str | os.PathLike[str],
        episode_trigger: Trigger | None = None,
        step_trigger: Trigger | None = None,
        video_length: int = 0,
        name_prefix: str = "rl-video",
        fps: float | None = None,
        disable_logger: bool = True,
        gc_trigger: Callable[[int], bool] | None = None,
        *,
        output_fps: float | None = None,
        keep: KeepPolicy | None = None,
        codec: str = "h264",
        quality: Quality = DEFAULT_QUALITY,
        on_error: OnError = "warn",
        on_full: OnFull = "block",
        encode_in: EncodeIn = "thread",
        metadata: Mapping[str, Any] | None = None,
        context: Context | Callable[[], Context] | None = None,
        name: str | None = None,
        resume: bool = True,
        mode: Mode = "train",
        info_keys: tuple[str, ...] = (),
        on_finished: EpisodeCallback | None = None,
        max_bytes: int | None = None,
        run_id: str | None = None,
        sinks: Sequence[str | Sink] = (),
    ) -> None:
        settings: FilmSettings = {
            "output_fps": output_fps,
            "keep": keep,
            "codec": codec,
            "quality": quality,
            "on_error": on_error,
            "on_full": on_full,
            "encode_in": encode_in,
            "metadata": metadata,
            "context": context,
            "name": name,
            "resume": resume,
            "mode": mode,
            "info_keys": info_keys,
            "on_finished": on_finished,
            "max_bytes": max_bytes,
            "run_id": run_id,
            "sinks": sinks,
        }
        # Nothing is copied: a bound method would bring a copy of its whole object.
        gym.utils.RecordConstructorArgs.__init__(
            self,
            _disable_deepcopy=True,
            video_folder=video_folder,
            episode_trigger=episode_trigger,
            step_trigger=step_trigger,
            video_length=video_length,
            name_prefix=name_prefix,
            fps=fps,
            disable_logger=disable_logger,
            gc_trigger=gc_trigger,
            **for_spec(settings),
        )
        gym.Wrapper.__init__(self, env)
        _check_agents(env)
        check_render_mode(env)
        check_callable("episode_trigger", episode_trigger, "on a number")
        check_callable("step_trigger", step_trigger, "on a number")
        length = checked_length(video_length)
        has_trigger = episode_trigger is not None or step_trigger is not None
        self.rollcam_own_trigger = episode_trigger
        self._is_directed = False
        self._in_pieces = length > 0 and not has_trigger
        if not has_trigger and not self._in_pieces:
            episode_trigger = capped_cubic
        self.episode_trigger = episode_trigger
        self.step_trigger = step_trigger
        self.disable_logger = disable_logger
        self.gc_trigger = gc_trigger
        self.video_folder = os.path.abspath(video_folder)
        self.name_prefix = name_prefix
        self.video_length: float = length or math.inf
        self.frames_per_sec = input_fps(fps, self.metadata)
        self.recording = False
        self.render_history: list[RenderFrame] = []
        self.step_id = -1
        self.episode_id = -1
        self._seed: int | None = None
        self._settings: dict[str, Any] = {
            **settings,
            "fps": self.frames_per_sec,
            "output_fps": file_fps(output_fps, self.metadata, self.frames_per_sec),
            **about(env),
        }
        self._recorder: Recorder | None = Recorder(self.video_folder, **self._settings)
        self._settings["run_id"] = self._recorder.run_id  # also of one that is made after `close`

    @property
    def recorded_frames(self) -> range:
        """Stands for Gymnasium's list of frames: its length is right, the frames are on the disk."""
        return range(self._recorder.n_frames if self._recorder else 0)

    @recorded_frames.setter
    def recorded_frames(self, value: object) -> None:
        # Scripts set it to `[]` before the first reset, for the sake of an old defect.
        pass

    def set_context(self, **values: Any) -> None:
        """Tell this recorder the trainer's counters; `rollcam.set_context` tells them to all."""
        if self._recorder is not None:
            self._recorder.set_context(**values)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Reset the environment; end the film of the last episode, and perhaps begin one."""
        obs, info = super().reset(seed=seed, options=options)
        self.episode_id += 1
        if self._is_directed:
            return obs, info
        self._seed = seed
        if self.recording and self.video_length == math.inf:
            self._stop()
        if self._cleans_list_at_reset():
            self.render_history = []
        if self.episode_trigger and self.episode_trigger(self.episode_id):
            self._start(self._named(f"{self.name_prefix}-episode-{self.episode_id}"))
        if self._in_pieces and not self.recording:
            self._start(self._named(f"{self.name_prefix}-step-{self.step_id + 1}"))
        if self.recording and self._recorder is not None:
            self._recorder.capture(self._render_newest, is_reset=True)
            if self._recorder.n_frames > self.video_length:
                self._stop()
        return obs, info

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment, and film what it shows afterwards."""
        if self._is_directed:
            return super().step(action)
        result: tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]] = self.env.step(action)
        self.step_id += 1
        if self.step_trigger and self.step_trigger(self.step_id):
            self._start(self._named(f"{self.name_prefix}-step-{self.step_id}"))
        if self._in_pieces and not self.recording:
            self._start(self._named(f"{self.name_prefix}-step-{self.step_id}"))
        if self.recording:
            self._capture_step(action, *result)
        return result

    def start_recording(self, video_name: str) -> None:
        """Begin a film; one that is open ends before.

        Args:
            video_name: Name of its files, without extension.
        """
        self._start(video_name)

    def stop_recording(self) -> None:
        """End the open film, and wait until its file is there."""
        if self._is_directed:
            return
        assert self.recording, "stop_recording was called, but no recording was started"
        self._stop()
        if self._recorder is not None:
            self._recorder.flush()

    def rollcam_stand_down(self) -> None:
        """Film no more by oneself: RLlib's `RollcamCallback` directs from now on."""
        self._is_directed = True
        if self.recording:
            self._stop()
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()

    def _start(self, video_name: str | None) -> None:
        if self._is_directed:
            return
        if self.recording:
            self._stop()
        recorder = self._recorder or self._reopened()
        if recorder is None:
            return
        if recorder.is_filming:  # somebody set `recording` to False
            recorder.end()
        recorder.begin(
            video_name,
            seed=self._seed,
            episode_index=max(self.episode_id, 0),
            step_index=self.step_id + 1,
            kind="episode" if self.video_length == math.inf else "clip",
        )
        self.recording = True

    def _stop(self) -> None:
        self.recording = False
        if self._recorder is not None and self._recorder.is_filming:
            self._recorder.end()
        if self.gc_trigger and self.gc_trigger(self.episode_id):
            gc.collect()

    def _reopened(self) -> Recorder | None:
        """Return a new recorder after `close`; `None` when that fails, which must not stop a reset."""
        try:
            self._recorder = Recorder(self.video_folder, **{**self._settings, "resume": True})
        except RollcamError as error:
            if self._settings["on_error"] == "raise":
                raise
            warnings.warn(f"no film: {error}", RecordingFailedWarning, stacklevel=4)
        return self._recorder

    def _named(self, video_name: str) -> str | None:
        """Return Gymnasium's name, or `None` for the user's template."""
        return video_name if self._settings["name"] is None else None

    def close(self) -> None:
        """Finish the films, then close the environment."""
        try:
            if self.recording:
                self._stop()
        finally:
            recorder, self._recorder = self._recorder, None
            try:
                if recorder is not None:
                    recorder.close()
            finally:
                super().close()

    def _capture_step(
        self, action: Any, _obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any
    ) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        if self.video_length == math.inf:
            recorder.capture(
                self._render_newest,
                reward=reward,
                action=action,
                info=info,
                terminated=bool(terminated),
                truncated=bool(truncated),
            )
            return
        # How the episode ends is not how a film of some steps of it does.
        recorder.capture(self._render_newest, reward=reward, action=action, info=info)
        if recorder.n_frames > self.video_length:
            self._stop()

    def _cleans_list_at_reset(self) -> bool:
        if not self.render_history:
            return False
        has_say = self.env.has_wrapper_attr("reset_clean")
        return bool(self.env.get_wrapper_attr("reset_clean")) if has_say else True


def _check_agents(env: gym.Env[Any, Any]) -> None:
    # By name: RLlib takes seconds to import, and nobody else has one.
    kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(env.unwrapped).__mro__]
    if any(kind.startswith("ray.rllib.") and kind.endswith(".MultiAgentEnv") for kind in kinds):
        raise SettingError(
            f"{type(env.unwrapped).__name__} has many agents, and RecordVideo films environments of "
            f"one; put rollcam.integrations.rllib.FilmedEnv around it, and give RollcamCallback to "
            f"config.callbacks()"
        )

"""`RecordVideo` for vector environments: drop-in for `gymnasium.wrappers.vector.RecordVideo`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal

from rollcam._checks import check_choice, checked_length
from rollcam.capture.keep import KeepPolicy
from rollcam.capture.rates import file_fps, input_fps
from rollcam.capture.triggers import capped_cubic
from rollcam.encode.codecs import DEFAULT_QUALITY, Quality
from rollcam.episode import Context, EncodeIn, EpisodeCallback, Mode, OnError, OnFull
from rollcam.errors import MissingDependencyError, require
from rollcam.publish.sink import Sink
from rollcam.recorder import Recorder

require("gymnasium.vector", extra="gymnasium")

import gymnasium as gym  # noqa: E402 - only after `require` said what to install

if not hasattr(gym.vector, "AutoresetMode"):
    raise MissingDependencyError(
        f"vector environments are filmed with Gymnasium 1.1 or newer; this is {gym.__version__}. "
        f'Install it with: pip install "gymnasium>=1.1"'
    )

import numpy as np  # noqa: E402
from gymnasium.core import ActType, ObsType, RenderFrame  # noqa: E402
from gymnasium.vector import (  # noqa: E402
    AutoresetMode,
    VectorEnv,
    VectorWrapper,
)

from rollcam.integrations._settings import FilmSettings, for_spec  # noqa: E402
from rollcam.integrations._tiles import Tiles  # noqa: E402
from rollcam.integrations._vector_films import Plan, per_env  # noqa: E402
from rollcam.integrations._vector_given import (  # noqa: E402
    autoreset_mode_of,
    bools,
    check_render_mode,
    checked_aspect,
    checked_indices,
    mask_of,
    seeds_of,
)
from rollcam.integrations._vector_layouts import Filming, VectorStep  # noqa: E402
from rollcam.integrations._vector_start import film_in_parent, film_in_workers  # noqa: E402
from rollcam.integrations._vector_worker import InWorkers  # noqa: E402

Layout = Literal["tiled", "separate"]
RecordIn = Literal["parent", "workers"]

if TYPE_CHECKING:
    _Wrapper = VectorWrapper[ObsType, ActType, ObsType, ActType, np.ndarray]
else:

    class _Wrapper(VectorWrapper, Generic[ObsType, ActType]):
        """Takes types in brackets, as Gymnasium's takes from 1.4 on."""


class RecordVideo(_Wrapper[ObsType, ActType], gym.utils.RecordConstructorArgs):
    """Films a vector environment into files that every browser plays.

    Arguments, names of files and attributes are Gymnasium's; only the import changes. One film shows
    all sub-environments, and sub-environment 0 says when an episode begins and ends. Beyond
    Gymnasium's: its last frame is in the film in every autoreset mode, frames are encoded while the
    episode runs, nothing is overwritten, an error of a renderer or the disk never reaches the
    training, and each film has its facts beside it (those of sub-environment 0).

    With `layout="separate"` each sub-environment has films of its own, one for each of its episodes,
    named `{name_prefix}-env-{i}-episode-{n}`, with its own return, seed and length. Such a film ends
    with the step that ends the episode.

    Only the sub-environments that are filmed are rendered, and only while they are.

    Args:
        env: Vector environment with a `render_mode` of `rgb_array` (or, separately, `ansi`).
        video_folder: Recordings folder.
        video_aspect_ratio: Width and height that the tiled picture should come close to.
        record_first_only: Film sub-environment 0 alone.
        episode_trigger: Called with the number of each episode of sub-environment 0; `True` films it.
            Default, when neither trigger nor `video_length` is given: 0, 1, 8, 27, ... 1000, 2000, ...
            With `layout="separate"`: called for each sub-environment with the number of its own
            episode, or with (index, number) when it needs two arguments.
        step_trigger: The same with the number of each step; `True` begins a film.
        video_length: Length of each film in steps; 0 films whole episodes.
        name_prefix: Files are named `{name_prefix}-episode-{n}` or `{name_prefix}-step-{n}`.
        fps: Frames per second; default `metadata["render_fps"]`, else 30.
        disable_logger: Accepted for Gymnasium's sake; nothing is printed either way.
        gc_trigger: Called with the number of the episode when a film ends; `True` collects garbage.
            Default: never, as films leave none.
        layout: `"tiled"` or `"separate"`.
        env_indices: The sub-environments that may be filmed; default all. Tiled, the first of them
            takes the part of sub-environment 0.
        record_in: `"parent"`, or `"workers"`: with `AsyncVectorEnv` and `layout="separate"`, each
            child films itself, so that no frame crosses a pipe. `keep`, `on_finished` and the
            triggers are sent to the children (by cloudpickle) and run there, a copy in each: a
            `keep_best(5)` keeps five films of each sub-environment, and `max_bytes` is the bound of
            each. Warnings of the children go to their stderr, and a `context` that is a callable is
            asked here, before each step.
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
        sinks: Where finished films are published: `["wandb"]`, for instance. Not with
            `record_in="workers"`: there, `rollcam publish` does it afterwards.

    Raises:
        RenderModeError: The render mode gives nothing that can be filmed.
        SettingError: An argument, or the environment's `render_fps`, cannot work.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        env: VectorEnv[ObsType, ActType, np.ndarray],
        video_folder: str | os.PathLike[str],
        video_aspect_ratio: tuple[int, int] = (1, 1),
        record_first_only: bool = False,
        episode_trigger: Callable[..., bool] | None = None,
        step_trigger: Callable[..., bool] | None = None,
        video_length: int = 0,
        name_prefix: str = "rl-video",
        fps: float | None = None,
        disable_logger: bool = True,
        gc_trigger: Callable[[int], bool] | None = None,
        *,
        layout: Layout = "tiled",
        env_indices: Sequence[int] | None = None,
        record_in: RecordIn = "parent",
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
        sinks: Sequence[str | Sink] = (),
    ) -> None:
        settings: FilmSettings = {
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
            "sinks": sinks,
        }
        # Nothing is copied: a bound method would bring a copy of its whole object.
        gym.utils.RecordConstructorArgs.__init__(
            self,
            _disable_deepcopy=True,
            video_folder=video_folder,
            video_aspect_ratio=video_aspect_ratio,
            record_first_only=record_first_only,
            episode_trigger=episode_trigger,
            step_trigger=step_trigger,
            video_length=video_length,
            name_prefix=name_prefix,
            fps=fps,
            disable_logger=disable_logger,
            gc_trigger=gc_trigger,
            layout=layout,
            env_indices=env_indices,
            record_in=record_in,
            output_fps=output_fps,
            **for_spec(settings),
        )
        _Wrapper.__init__(self, env)
        check_choice("layout", layout, ("tiled", "separate"))
        check_choice("record_in", record_in, ("parent", "workers"))
        check_render_mode(env, layout)
        self.autoreset_mode = autoreset_mode_of(env)
        is_tiled = layout == "tiled"
        indices = checked_indices(env_indices, record_first_only, env.num_envs)
        self.episode_trigger, self.step_trigger = episode_trigger, step_trigger
        has_trigger = episode_trigger is not None or step_trigger is not None
        in_pieces = checked_length(video_length) > 0 and not has_trigger
        if not has_trigger and not in_pieces:
            self.episode_trigger = capped_cubic
        self.disable_logger = disable_logger
        self.gc_trigger = gc_trigger
        self.record_first_only = record_first_only
        self.video_aspect_ratio = video_aspect_ratio
        self._tiles = Tiles(checked_aspect(video_aspect_ratio))
        self.video_folder = os.path.abspath(video_folder)
        self.name_prefix = name_prefix
        self.video_length: float = int(video_length) or math.inf
        self.frames_per_sec = input_fps(fps, self.metadata)
        self.render_history: list[RenderFrame] = []
        """Always empty: list modes are not filmed."""
        self._clock = indices[0] if is_tiled else 0
        self.has_autoreset = False
        self.step_id = -1
        self.episode_id = -1
        plan = self._plan(is_tiled=is_tiled, in_pieces=in_pieces, has_template=name is not None)
        given = {
            **settings,
            "folder": self.video_folder,
            "fps": self.frames_per_sec,
            "output_fps": file_fps(output_fps, self.metadata, self.frames_per_sec),
        }
        self._recorder: Recorder | None = None
        self._filming: Filming | InWorkers | None
        if record_in == "workers":
            self._filming = film_in_workers(env, given, plan, indices, self.autoreset_mode)
        else:
            self._recorder, self._filming = film_in_parent(
                env, given, plan, indices, self._tiles, self.autoreset_mode
            )

    def _plan(self, *, is_tiled: bool, in_pieces: bool, has_template: bool) -> Plan:
        is_separate = not is_tiled
        return Plan(
            prefix=self.name_prefix,
            is_named_by_env=is_separate,
            has_template=has_template,
            episode_trigger=per_env(
                self.episode_trigger, "episode_trigger", takes_index=is_separate
            ),
            step_trigger=per_env(self.step_trigger, "step_trigger", takes_index=is_separate),
            video_length=self.video_length,
            in_pieces=in_pieces,
            ends_when_done=is_separate,
            gc_trigger=self.gc_trigger,
        )

    @property
    def recording(self) -> bool:
        """Whether a film is open; with `record_in="workers"` only the children know."""
        return self._filming is not None and self._filming.is_filming

    @recording.setter
    def recording(self, value: bool) -> None:
        if not value and self._filming is not None:
            self._filming.stop()

    @property
    def recorded_frames(self) -> range:
        """Stands for Gymnasium's list of frames: its length is right, the frames are on the disk."""
        return range(self._filming.n_frames if self._filming is not None else 0)

    @recorded_frames.setter
    def recorded_frames(self, value: object) -> None:
        # Scripts set it to `[]` before the first reset, for the sake of an old defect.
        pass

    @property
    def frame_rows(self) -> int:
        """Rows of the tiled picture; -1 before the first one."""
        return self._tiles.rows

    @property
    def frame_cols(self) -> int:
        """Columns of the tiled picture; -1 before the first one."""
        return self._tiles.columns

    def set_context(self, **values: Any) -> None:
        """Tell the trainer's counters as they stand now; see `Recorder.set_context`."""
        if self._recorder is not None:
            self._recorder.set_context(**values)
        elif isinstance(self._filming, InWorkers):
            self._filming.set_context(**values)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Reset the sub-environments (those of `options["reset_mask"]`); end films and begin some."""
        mask = mask_of(options, self.num_envs)
        self._before()
        obs, infos = self.env.reset(seed=seed, options=options)
        if mask is None or mask[self._clock]:
            self.episode_id += 1
            # Gymnasium forgets it at any reset, and then miscounts episodes.
            self.has_autoreset = False
        if self._filming is not None:
            seeds = seeds_of(seed, self.num_envs)
            self._filming.after_reset(mask, seeds, self.step_id)
        return obs, infos

    def step(
        self, actions: ActType
    ) -> tuple[ObsType, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the sub-environments, and film what they show afterwards."""
        self._before()
        obs, rewards, terminations, truncations, infos = self.env.step(actions)
        self.step_id += 1
        terminated, truncated = bools(terminations), bools(truncations)
        is_done = terminated[self._clock] or truncated[self._clock]
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self.episode_id += self.has_autoreset
            self.has_autoreset = is_done
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            self.episode_id += is_done
        if self._filming is not None:
            self._filming.after_step(
                VectorStep(self.step_id, actions, rewards, terminated, truncated, infos)
            )
        return obs, rewards, terminations, truncations, infos

    def start_recording(self, video_name: str) -> None:
        """Begin a film (of each sub-environment, when they are filmed separately); open ones end.

        Args:
            video_name: Name of its files, without extension; separately, `-env-{i}` is added.
        """
        if self._filming is not None:
            self._filming.start(video_name, self.step_id)

    def stop_recording(self) -> None:
        """End the open films, and wait until their files are there."""
        if not isinstance(self._filming, InWorkers):
            assert self.recording, "stop_recording was called, but no recording was started"
        if self._filming is not None:
            self._filming.stop()
        if self._recorder is not None:
            self._recorder.flush()

    def close(self, **kwargs: Any) -> None:
        """Finish the films, then close the environment.

        Args:
            kwargs: For the vector environment: `timeout`, `terminate`.
        """
        filming, self._filming = self._filming, None
        recorder, self._recorder = self._recorder, None
        try:
            if isinstance(filming, InWorkers):
                filming.close(is_terminating=bool(kwargs.get("terminate")))
            elif filming is not None:
                filming.close()
        finally:
            try:
                if recorder is not None:
                    recorder.close()
            finally:
                super().close(**kwargs)

    def _before(self) -> None:
        if isinstance(self._filming, InWorkers):
            self._filming.before()

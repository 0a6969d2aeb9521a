"""Stable-Baselines3: `VecVideoRecorder`, drop-in for its own, and `RecordCallback` for `learn`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Unpack

from ulid import ULID

from rollcam._checks import check_choice, check_count, checked_length
from rollcam._context import set_context
from rollcam.capture.rates import file_fps, input_fps
from rollcam.capture.triggers import capped_cubic
from rollcam.episode import Context
from rollcam.errors import SettingError, require
from rollcam.integrations._settings import FilmSettings
from rollcam.recorder import Recorder

require("stable_baselines3.common.vec_env", extra="sb3")

import gymnasium as gym  # noqa: E402 - only after `require` said what to install
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.vec_env import (  # noqa: E402
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecNormalize,
    is_vecenv_wrapped,
    sync_envs_normalization,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn  # noqa: E402

from rollcam.integrations._sb3_films import (  # noqa: E402
    ClipFilms,
    EvalFilms,
    Sb3Films,
    VecFilms,
    VecTap,
    n_threads,
)
from rollcam.integrations._sb3_frames import metadata_of, source_of  # noqa: E402
from rollcam.integrations._vector_films import Plan, per_env  # noqa: E402
from rollcam.integrations._vector_given import (  # noqa: E402
    check_render_mode,
    checked_indices,
)

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
            `on_error`, `on_full`, `on_finished`.

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
        opened = _Opened(self.video_folder, venv, indices, is_tiled, fps, settings)
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


class RecordCallback(BaseCallback):
    """Films what happens during `model.learn`, with the model's counters beside each film.

    Without `eval_env` it films episodes of the training itself, one film for each, and needs nothing
    but an environment that renders (`make_vec_env(..., env_kwargs={"render_mode": "rgb_array"})`; SB3
    makes those that it is given by name so). With `eval_env` it films evaluations: those of an
    `EvalCallback` beside it, or its own, every `eval_freq` calls.

    While it is at work, `num_timesteps` and `iteration` (the rollout, counted from 1 as SB3 logs it)
    reach every recorder of the process and of its workers: `VecVideoRecorder`, `RecordVideo` in a
    sub-environment. Films are finished and published when `learn` ends. Where this callback does not
    hear of it, because `learn` was interrupted or it hangs under an `EventCallback`, that is done by
    `close()`, by the next `learn`, or at the end of the process.

    Args:
        video_folder: Recordings folder.
        eval_env: An `EvalCallback`, whose evaluations are filmed; a `VecEnv` that something else
            evaluates; or, with `eval_freq`, the environment of this callback's own evaluations.
        eval_freq: Evaluate every so many calls of the callback (one for each step of the vector
            environment); default: films what others evaluate.
        n_eval_episodes: Episodes of each evaluation of its own.
        deterministic: Its evaluations use deterministic actions.
        n_films: Films of each evaluation; default 1, or all of its own.
        episode_trigger: Called with the number of each training episode; with (index, number), when
            it needs two arguments, of each sub-environment. Default: 0, 1, 8, 27, ... 1000, 2000, ...
        env_indices: The sub-environments that may be filmed; default all.
        name_prefix: Default `"rl-video"` and `"eval"`. Films are named
            `{name_prefix}-env-{i}-episode-{n}`, and those of evaluations
            `{name_prefix}-step-{num_timesteps}-episode-{n}`; with several sub-environments, `-env-{i}`
            stands before `-episode`.
        fps: Frames per second; default `metadata["render_fps"]`, else 30.
        verbose: SB3's.
        **settings: Those of `rollcam.Recorder`: `sinks`, `keep`, `name`, `context`, ... The sink
            `"tensorboard"` alone means the model's own log directory.

    Raises:
        SettingError: An argument cannot work.
    """

    def __init__(
        self,
        video_folder: str | os.PathLike[str],
        eval_env: EvalCallback | VecEnv | gym.Env[Any, Any] | None = None,
        *,
        eval_freq: int | None = None,
        n_eval_episodes: int = 1,
        deterministic: bool = True,
        n_films: int | None = None,
        episode_trigger: Callable[..., bool] | None = None,
        env_indices: Sequence[int] | None = None,
        name_prefix: str | None = None,
        fps: float | None = None,
        verbose: int = 0,
        **settings: Unpack[FilmSettings],
    ) -> None:
        super().__init__(verbose)
        check_count("n_eval_episodes", n_eval_episodes, "a number of episodes")
        if eval_freq is not None:
            check_count("eval_freq", eval_freq, "a number of calls")
        if n_films is not None:
            check_count("n_films", n_films, "a number of films")
        self._eval_env = _eval_env_of(eval_env, eval_freq)
        if episode_trigger is not None and eval_env is not None:
            raise SettingError(
                "episode_trigger is for films of the training; with eval_env, n_films says how many "
                "episodes of each evaluation are filmed. For both, use two callbacks"
            )
        if self._eval_env is not None:
            check_render_mode(self._eval_env, "separate")
        self.video_folder = os.path.abspath(video_folder)
        self.eval_freq = eval_freq
        self.n_eval_episodes = n_eval_episodes
        self.deterministic = deterministic
        self.iteration = 0
        """Rollouts begun since `learn` was called."""
        self._n_films = n_films or (n_eval_episodes if eval_freq else 1)
        self._trigger = per_env(
            episode_trigger or capped_cubic, "episode_trigger", takes_index=True
        )
        self._env_indices = env_indices
        is_eval = self._eval_env is not None
        self._prefix = name_prefix or ("eval" if is_eval else "rl-video")
        self._fps = fps
        self._settings: FilmSettings = {
            "mode": "eval" if is_eval else "train",
            "run_id": str(ULID()),
            **settings,
        }
        self._films: VecFilms | None = None
        self._tap: VecTap | None = None
        self._recorder: Recorder | None = None

    def close(self) -> None:
        """Finish the films, and leave the environment as it was; `learn` does it when it ends."""
        tap, self._tap = self._tap, None
        recorder, self._recorder = self._recorder, None
        try:
            if tap is not None:
                tap.remove()
        finally:
            if recorder is not None:
                recorder.close()

    def _on_training_start(self) -> None:
        self.close()  # of a training that was interrupted
        self.iteration = 0
        venv = self._eval_env or self.training_env
        check_render_mode(venv, "separate")
        self._check_normalized()
        indices = checked_indices(self._env_indices, False, venv.num_envs)
        opened = _Opened(self.video_folder, venv, indices, False, self._fps, self._settings_now())
        self._recorder = opened.recorder
        self._settings["resume"] = True  # cleared once is enough
        films = opened.films(self._make_films)
        if self._films is not None:
            films.go_on_from(self._films)
        self._films = films
        self._tap = VecTap(venv, films)
        self._tell()
        # SB3 resets the training's environment before it calls any callback.
        is_fresh = self.locals.get("reset_num_timesteps", True) or self.model.num_timesteps == 0
        if self._eval_env is None and is_fresh:
            films.was_reset()

    def _on_rollout_start(self) -> None:
        self.iteration += 1
        self._tell()

    def _on_step(self) -> bool:
        self._tell()
        if self.eval_freq is not None and self.n_calls % self.eval_freq == 0:
            self._evaluate()
        return True

    def _on_training_end(self) -> None:
        self._tell()
        self.close()

    def _evaluate(self) -> None:
        assert self._eval_env is not None
        if self.model.get_vec_normalize_env() is not None:
            sync_envs_normalization(self.training_env, self._eval_env)
        evaluate_policy(
            self.model,
            self._eval_env,
            n_eval_episodes=self.n_eval_episodes,
            deterministic=self.deterministic,
            warn=False,
        )

    def _tell(self) -> None:
        set_context(**self._counters())

    def _counters(self) -> Context:
        counters: Context = {"num_timesteps": int(self.model.num_timesteps)}
        # Under an EventCallback nothing is heard of rollouts.
        return counters if self.parent else {**counters, "iteration": self.iteration}

    def _context(self) -> Context:
        """Return the counters of this very moment, and the user's own."""
        given = self._settings.get("context")
        told = given() if callable(given) else given
        return {**self._counters(), **(told or {})}

    def _settings_now(self) -> FilmSettings:
        sinks: Any = self._settings.get("sinks", ())
        logdir = self.model.logger.dir
        if logdir is not None and not isinstance(sinks, str):
            sinks = [f"tensorboard:{logdir}" if sink == "tensorboard" else sink for sink in sinks]
        return {**self._settings, "context": self._context, "sinks": sinks}

    def _make_films(self, camera: Any, index: int) -> Sb3Films:
        n_envs = (self._eval_env or self.training_env).num_envs
        is_eval = self._eval_env is not None
        plan = Plan(
            prefix=self._prefix,
            is_named_by_env=n_envs > 1 or not is_eval,
            has_template=self._settings.get("name") is not None,
            episode_trigger=None if is_eval else self._trigger,
            step_trigger=None,
            video_length=math.inf,
            in_pieces=False,
            ends_when_done=True,
            gc_trigger=None,
        )
        if not is_eval:
            return Sb3Films(camera, index, plan)
        # As `evaluate_policy` spreads its episodes over sub-environments.
        n_films = (self._n_films + index) // n_envs
        return EvalFilms(camera, index, plan, n_films, lambda: int(self.model.num_timesteps))

    def _check_normalized(self) -> None:
        if self.eval_freq is None or self.model.get_vec_normalize_env() is None:
            return
        assert self._eval_env is not None
        if not is_vecenv_wrapped(self._eval_env, VecNormalize):
            raise SettingError(
                "the model is trained with VecNormalize, so its evaluations need it too; wrap eval_env "
                "in VecNormalize(..., training=False, norm_reward=False)"
            )


class _Opened:
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


def _eval_env_of(given: Any, eval_freq: int | None) -> VecEnv | None:
    if given is None:
        if eval_freq is not None:
            raise SettingError("eval_freq says how often eval_env is evaluated, and there is none")
        return None
    if isinstance(given, EvalCallback):
        if eval_freq is not None:
            raise SettingError(
                "an EvalCallback evaluates by itself; leave eval_freq to it, or give its environment"
            )
        return given.eval_env
    if isinstance(given, VecEnv):
        return given
    if isinstance(given, gym.Env):
        if eval_freq is None:
            raise SettingError(
                "with an environment as eval_env, say how often it is evaluated (eval_freq=), or give "
                "the EvalCallback that does it"
            )
        return DummyVecEnv([lambda: given])
    raise SettingError(f"eval_env must be an EvalCallback, a VecEnv or an Env, not {given!r}")

"""`RecordCallback`: films what happens during `learn` of a Stable-Baselines3 model."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecNormalize,
    is_vecenv_wrapped,
    sync_envs_normalization,
)

from rollcam._checks import check_count
from rollcam._context import set_context
from rollcam.capture.triggers import capped_cubic
from rollcam.episode import Context, new_id
from rollcam.errors import SettingError
from rollcam.integrations._sb3_films import EvalFilms, Opened, Sb3Films, VecFilms, VecTap
from rollcam.integrations._settings import FilmSettings
from rollcam.integrations._vector_films import Plan, per_env
from rollcam.integrations._vector_given import check_render_mode, checked_indices
from rollcam.recorder import Recorder


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
            "run_id": new_id(),
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
        opened = Opened(self.video_folder, venv, indices, False, self._fps, self._settings_now())
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

"""RLlib (new API stack): `RollcamCallback` films episodes of training and evaluation.

The callback knows who plays and where the training stands; `FilmedEnv` films, in whichever process
the environment lives. `wrap_env` puts it around an environment that is named by its id.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from rollcam._checks import (
    check_callable,
    check_choice,
    check_count,
    check_encode_in,
    check_type,
)
from rollcam.capture.keep import KeepPolicy
from rollcam.capture.rates import checked_fps
from rollcam.encode.codecs import DEFAULT_QUALITY, Quality, choose_codec
from rollcam.episode import EncodeIn, EpisodeCallback, OnFull, new_id
from rollcam.errors import SettingError, require
from rollcam.publish.sink import Sink
from rollcam.store.layout import NameTemplate

require("gymnasium", extra="rllib")
require("ray.rllib", extra="rllib", package="ray[rllib]")

import gymnasium as gym  # noqa: E402 - only after `require` said what to install
from ray.rllib.callbacks.callbacks import RLlibCallback  # noqa: E402
from ray.tune.registry import ENV_CREATOR, _global_registry, register_env  # noqa: E402

from rollcam.integrations._rllib_driver import Driver, Plan  # noqa: E402
from rollcam.integrations._rllib_env import FilmedEnv  # noqa: E402
from rollcam.integrations._rllib_runner import Runner  # noqa: E402
from rollcam.integrations._rllib_settings import (  # noqa: E402
    PLAIN_NAME,
    RECIPE_NAME,
    UNKNOWN,
    EpisodeStart,
    EpisodeTrigger,
    Film,
    FilmSettings,
    default_trigger,
    filled_in,
)

__all__ = [
    "PLAIN_NAME",
    "RECIPE_NAME",
    "UNKNOWN",
    "EpisodeStart",
    "FilmedEnv",
    "RollcamCallback",
    "wrap_env",
]

CLOSE_S = 8.0
"""Default limit of publishing at the end, in seconds. Tune kills a trial that takes 10."""

_HERE: dict[str, dict[str, Any]] = {}
"""What cannot travel (sinks and functions that hold connections, locks or the script), by session,
for copies of a callback in the process that made it."""

_UNTRAVELLED = ("sinks", "keep", "on_finished")


class RollcamCallback(RLlibCallback):  # type: ignore[misc]  # Ray is absent where types are checked
    """Films episodes, with the state of the training at both ends of each.

    Given to `config.callbacks(...)` as it is, alone or in a list with other callbacks. Environments
    are filmed where they live, by `FilmedEnv`: put there by `wrap_env`, or by the callback itself
    where the sub-environments live in the env runner (all but async vectorisation). One process of
    each trial, that of the algorithm, follows the folder: it publishes, applies `keep`, and adds
    `rollcam/recorded`, `rollcam/failed` and `rollcam/dropped_frames` to the results.

    After construction nothing of it raises in an env runner.

    Args:
        video_dir: Recordings folder; a relative one lies in the working directory of the process
            that makes this object, wherever the workers run.
        film: Episodes of `"eval"`, of `"train"`, or `"all"`. With `"eval"`, training is not
            touched: its environments are neither wrapped nor rendered.
        trigger: Called, in the env runner, with the `EpisodeStart` of each episode; `True` films it.
            Default: every evaluation episode, and in training 0, 1, 8, 27, ... of each environment.
        sinks: Where films are published, by the algorithm's process: names, or objects. Under Tune
            objects must be picklable.
        keep: Decides which films of the trial stay; see `keep_best` and its kin.
        max_bytes: Bound of the trial's files, in bytes.
        on_finished: Called with each finished `Episode`, on a thread of the algorithm's process.
        name: Template for the names of the files; see `rollcam.Recorder`. `{prefix}`,
            `{iteration}`, `{steps}`, `{episode}`, `{pid}` and fields of the sidecar stand for the
            numbers of that very episode.
        name_prefix: `{prefix}` in the template.
        resume: `False` clears, before any worker writes, what Rollcam wrote in the folder; once for
            this object, however many trials it is given to.
        fps: See `rollcam.Recorder`, as for all that follow.
        output_fps: See there.
        codec: See there.
        quality: See there.
        on_full: See there.
        encode_in: See there; each env runner that films gets a process of its own.
        metadata: See there.
        info_keys: See there.
        close_s: How long the end of the algorithm waits for sinks, in seconds.

    Raises:
        SettingError: An argument cannot work.
        CodecUnavailable: The codec does not open on this machine.

    Example:
        >>> RollcamCallback("films", film="eval")  # doctest: +ELLIPSIS
        RollcamCallback('...films', film='eval')
    """

    def __init__(
        self,
        video_dir: str | os.PathLike[str] = "videos",
        *,
        film: Film = "all",
        trigger: EpisodeTrigger | None = None,
        sinks: Sequence[str | Sink] = (),
        keep: KeepPolicy | None = None,
        max_bytes: int | None = None,
        on_finished: EpisodeCallback | None = None,
        name: str | None = None,
        name_prefix: str = "rl-video",
        resume: bool = True,
        fps: float | None = None,
        output_fps: float | None = None,
        codec: str = "h264",
        quality: Quality = DEFAULT_QUALITY,
        on_full: OnFull = "block",
        encode_in: EncodeIn = "thread",
        metadata: Mapping[str, Any] | None = None,
        info_keys: Sequence[str] = (),
        close_s: float = CLOSE_S,
    ) -> None:
        check_choice("film", film, ("eval", "train", "all"))
        check_choice("on_full", on_full, ("block", "drop"))
        check_encode_in(encode_in)
        check_callable("trigger", trigger, "on the EpisodeStart")
        check_callable("keep", keep, "on the finished Episode")
        check_callable("on_finished", on_finished, "on the finished Episode")
        check_type("metadata", metadata, (Mapping, NoneType), "a mapping")
        check_type("name", name, (str, NoneType), "text")
        check_type("name_prefix", name_prefix, (str,), "text")
        check_type("resume", resume, (bool,), "True or False")
        check_type("close_s", close_s, (int, float), "a number of seconds")
        check_type("info_keys", info_keys, (tuple, list), "a list of keys")
        if max_bytes is not None:
            check_count("max_bytes", max_bytes, "a number of bytes, or None")
        if isinstance(sinks, str) or not isinstance(sinks, Sequence):
            raise SettingError(f"sinks must be a list of names or sinks, not {sinks!r}")
        for label, rate in (("fps", fps), ("output_fps", output_fps)):
            if rate is not None:
                checked_fps(rate, label)
        choose_codec(codec, quality)
        template = filled_in(PLAIN_NAME if name is None else name, name_prefix)
        NameTemplate(template)
        folder = os.path.abspath(video_dir)
        self._trigger: EpisodeTrigger = trigger or default_trigger
        self._settings = FilmSettings(
            folder, template, fps=fps, output_fps=output_fps, codec=codec, quality=quality,
            on_full=on_full, encode_in=encode_in, metadata=_travelling(metadata), info_keys=tuple(info_keys),
        )  # fmt: skip
        self._session = new_id()
        self._plan: dict[str, Any] = {
            "film": film, "resume": resume, "close_s": float(close_s), "max_bytes": max_bytes,
            "sinks": tuple(sinks), "keep": keep, "on_finished": on_finished,
        }  # fmt: skip
        _HERE[self._session] = {key: self._plan[key] for key in _UNTRAVELLED}
        self._start()

    def _start(self) -> None:
        """Begin as a copy that has seen nothing yet."""
        # RLlib names callbacks in checkpoints as it names classes.
        self.__qualname__ = type(self).__qualname__
        self._driver: Driver | None = None
        self._runner = Runner(self._session, self._settings, self._plan["film"], self._trigger)

    @property
    def folder(self) -> Path:
        """The recordings folder."""
        return Path(self._settings.folder)

    def __call__(self) -> RollcamCallback:
        """Return a copy: RLlib makes a callback of its own for the algorithm and each env runner."""
        copy = object.__new__(type(self))
        copy.__setstate__(self.__getstate__())
        return copy

    def __deepcopy__(self, memo: dict[int, Any]) -> RollcamCallback:
        """Return itself: RLlib copies configurations, and what a sink holds cannot be copied."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings, without what cannot be sent to another process."""
        plan = {
            key: _if_it_travels(value) if key in _UNTRAVELLED else value
            for key, value in self._plan.items()
        }
        return {
            "session": self._session,
            "settings": self._settings,
            "plan": plan,
            "trigger": self._trigger,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the settings, and what did not travel, if this is still the same process."""
        self._session = state["session"]
        self._settings = state["settings"]
        self._trigger = state["trigger"]
        self._plan = {**state["plan"], **_HERE.get(self._session, {})}
        self._start()

    def __repr__(self) -> str:
        return f"RollcamCallback({self._settings.folder!r}, film={self._plan['film']!r})"

    def on_algorithm_init(self, *, algorithm: Any, **kwargs: Any) -> None:
        """Open the folder, clear it if asked to, and begin to follow it."""
        lost = [key for key in _UNTRAVELLED if isinstance(self._plan[key], _LeftBehind)]
        if lost:
            raise SettingError(
                f"RollcamCallback's {', '.join(lost)} cannot be sent to the process of the trial "
                f"({self._plan[lost[0]].why}); give sinks by name, such as 'wandb', and functions "
                f"that are importable"
            )
        plan = Plan(
            session=self._session,
            folder=self._settings.folder,
            metadata=self._settings.metadata,
            **self._plan,
        )
        self._driver = Driver(algorithm, plan)

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Add what was filmed to the results."""
        if (driver := self._driver) is not None:
            driver.safely(lambda: driver.add_metrics(result))

    def on_evaluate_start(self, *, algorithm: Any, **kwargs: Any) -> None:
        """Tell the runners that evaluate where the training stands."""
        if (driver := self._driver) is not None:
            driver.safely(lambda: driver.evaluation_starts(algorithm))

    def on_evaluate_end(self, *, algorithm: Any, **kwargs: Any) -> None:
        """Tell a runner that does both that it trains again."""
        if (driver := self._driver) is not None:
            driver.safely(lambda: driver.evaluation_ends(algorithm))

    def on_env_runners_recreated(
        self, *, algorithm: Any, env_runner_group: Any, **kwargs: Any
    ) -> None:
        """Tell new runners what the old ones knew, and save what those left."""
        if (driver := self._driver) is not None:
            driver.safely(lambda: driver.runners_recreated(algorithm, env_runner_group))

    def on_environment_created(self, *, env_runner: Any, env: Any, **kwargs: Any) -> None:
        """Find the environments that can be told to film."""
        runner = self._runner
        runner.safely(lambda: runner.environment_created(env_runner, env))

    def on_episode_start(
        self, *, episode: Any, env_runner: Any, env_index: int, **kwargs: Any
    ) -> None:
        """Have the episode filmed, if it is to be."""
        runner = self._runner
        runner.safely(lambda: runner.episode_started(env_runner, episode, env_index))

    def on_episode_end(
        self,
        *,
        episode: Any,
        env_runner: Any,
        env_index: int,
        prev_episode_chunks: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """End its film, before the environment is reset."""
        runner = self._runner
        earlier = prev_episode_chunks or ()
        runner.safely(lambda: runner.episode_ended(env_runner, episode, env_index, earlier))

    def on_sample_end(self, *, metrics_logger: Any = None, **kwargs: Any) -> None:
        """Hand the count of failures to RLlib's metrics."""
        runner = self._runner
        runner.safely(lambda: runner.log_failures(metrics_logger))


def wrap_env(env_id: str, **make_kwargs: Any) -> str:
    """Register an environment again, with `FilmedEnv` around it, and return its name for `environment()`.

    Args:
        env_id: An id that was registered with RLlib, or else with Gymnasium; those of Gymnasium are
            made with `render_mode="rgb_array"` and RLlib's `env_config`.
        **make_kwargs: Defaults for `gymnasium.make`.

    Raises:
        SettingError: It is no text.

    Example:
        >>> wrap_env("CartPole-v1")
        'rollcam/CartPole-v1'
    """
    check_type("env_id", env_id, (str,), "the id of an environment")
    name = f"rollcam/{env_id}"
    if _global_registry.contains(ENV_CREATOR, env_id):
        make = _global_registry.get(ENV_CREATOR, env_id)
        register_env(name, lambda config: FilmedEnv(make(config)))
        return name
    defaults = {"render_mode": "rgb_array", **make_kwargs}
    register_env(name, lambda config: FilmedEnv(gym.make(env_id, **{**defaults, **config})))
    return name


class _LeftBehind:
    """Stands for what could not be sent to another process."""

    def __init__(self, why: str) -> None:
        self.why = why


def _if_it_travels(value: Any) -> Any:
    from ray import cloudpickle

    try:
        cloudpickle.loads(cloudpickle.dumps(value))
    except Exception as error:  # noqa: BLE001 - anything may be raised there
        return _LeftBehind(f"{type(error).__name__}: {error}")
    return value


def _travelling(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(metadata or {})
    try:
        pickle.dumps(given)
    except Exception as error:
        raise SettingError(f"metadata cannot be sent to other processes: {error}") from error
    return given

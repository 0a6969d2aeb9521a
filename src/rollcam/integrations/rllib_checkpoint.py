"""Films the policy of an RLlib checkpoint: what `rollcam film` does."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rollcam._checks import check_count
from rollcam.encode.codecs import DEFAULT_QUALITY, Quality
from rollcam.episode import Episode
from rollcam.errors import RollcamError, SettingError, require
from rollcam.integrations.rllib import RollcamCallback, wrap_env

CONSTRUCTOR_FILE = "class_and_ctor_args.pkl"
"""File of a checkpoint that says which algorithm it is of, and how it was configured."""

_WRAPPED = "rollcam/"


def film_checkpoint(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    episodes: int = 1,
    env: str | None = None,
    env_config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    explore: bool = False,
    fps: float | None = None,
    codec: str = "h264",
    quality: Quality = DEFAULT_QUALITY,
    name: str | None = None,
) -> list[Episode]:
    """Play the policy of a checkpoint, with the connectors that it was trained with, and film it.

    The algorithm is built in this process, without remote workers, and evaluates. A checkpoint is
    a pickle, which runs code when it is read: only read those that you trust.

    Args:
        checkpoint: Folder of an `Algorithm`'s checkpoint, of the new API stack.
        out: Recordings folder.
        episodes: How many to play.
        env: The environment: an id of Gymnasium's, or `module:callable`, which gets the
            `env_config` and returns the environment. Default: the one of the checkpoint; what a
            script registered under a name of its own has to be told.
        env_config: Keys that are put over those of the checkpoint.
        seed: Seed of the first episode.
        explore: Whether actions are drawn from the policy's distribution, not its best ones.
        fps: See `rollcam.Recorder`, as for what follows.
        codec: The same.
        quality: The same.
        name: The same.

    Returns:
        The finished episodes, in the order in which they ended.

    Raises:
        SettingError: It is no such checkpoint, or its environment cannot be made.
        RollcamError: RLlib could not build the algorithm, or the policy failed.
        MissingDependencyError: Ray is not installed.
    """
    check_count("episodes", episodes, "a number of episodes")
    path = Path(checkpoint).absolute()
    config = _config_of(path)
    kept = {**_env_config_of(config), **(env_config or {})}
    finished: list[Episode] = []
    films = RollcamCallback(
        out,
        film="eval",
        trigger=_always,
        on_finished=finished.append,
        fps=fps,
        codec=codec,
        quality=quality,
        name=name,
        name_prefix=path.name,
        metadata={"checkpoint": str(path)},
    )
    _evaluate_here(config, episodes, explore=explore, env_config=kept)
    config.debugging(seed=seed, log_level="ERROR")
    config.callbacks(films)
    config.environment(_registered(env, config), env_config=kept)
    with _ray_at_work():
        _play(config, path)
    return finished


def _evaluate_here(
    config: Any, episodes: int, *, explore: bool, env_config: Mapping[str, Any]
) -> None:
    """Have whole episodes played in this process: what the training needed, one process does not have."""
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=1)
    config.learners(num_learners=0, num_gpus_per_learner=0)
    config.evaluation(
        evaluation_interval=1,
        evaluation_num_env_runners=0,
        evaluation_parallel_to_training=False,
        evaluation_duration=episodes,
        evaluation_duration_unit="episodes",
        evaluation_config={"explore": explore, "env_config": env_config},
    )


@contextlib.contextmanager
def _ray_at_work() -> Iterator[None]:
    """Start Ray on this machine, unless it runs already, and end it again."""
    ray = require("ray", extra="rllib")
    is_ours = not ray.is_initialized()
    if is_ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        if is_ours:
            ray.shutdown()


def _always(start: object) -> bool:
    return True


def _config_of(path: Path) -> Any:
    """Read how the algorithm of a checkpoint was configured; a copy that may be changed."""
    require("ray.rllib", extra="rllib")
    told = path / CONSTRUCTOR_FILE
    if not told.is_file():
        raise SettingError(
            f"{path} is no checkpoint of an RLlib algorithm: it has no {CONSTRUCTOR_FILE}. Give the "
            f"folder that `Algorithm.save_to_path` or Tune wrote, with learner_group in it"
        )
    try:
        with told.open("rb") as file:
            (state, *_), _ = pickle.load(file)["ctor_args_and_kwargs"]
        config = state["class"].from_state(state)
    except Exception as error:  # a pickle may raise whatever its classes do
        raise SettingError(
            f"{told} cannot be read: {type(error).__name__}: {error}. Modules that the training "
            f"script imported must be importable here, too"
        ) from error
    return config.copy(copy_frozen=False)


def _env_config_of(config: Any) -> dict[str, Any]:
    """Return what the environments of the evaluation were given: there the training filmed, if at all."""
    evaluation = config.evaluation_config or {}
    own = evaluation.get("env_config") if isinstance(evaluation, Mapping) else None
    return {**(config.env_config or {}), **(own or {})}


def _registered(env: str | None, config: Any) -> Any:
    """Return the environment, ready to be filmed: a name that RLlib knows."""
    wanted = config.env if env is None else env
    if not isinstance(wanted, str):
        return wrap_env(_known_as(wanted))
    if env is not None and ":" in env:
        return wrap_env(_known_as(_creator(env)))
    wanted = wanted.removeprefix(_WRAPPED)
    if not _is_known(wanted):
        raise SettingError(
            f"neither RLlib nor Gymnasium knows the environment {wanted!r} here. If the training "
            f"script registered it, name what makes it: --env module:callable, which is called with "
            f"the env_config"
        )
    return wrap_env(wanted)


def _is_known(env_id: str) -> bool:
    import gymnasium as gym
    from ray.tune.registry import ENV_CREATOR, _global_registry

    return _global_registry.contains(ENV_CREATOR, env_id) or env_id in gym.registry


def _known_as(creator: Any) -> str:
    from ray.tune.registry import register_env

    name = f"rollcam-film-{getattr(creator, '__name__', 'env')}"
    register_env(name, creator)
    return name


def _creator(named: str) -> Any:
    module, _, attribute = named.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        creator = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(f"the environment {named!r} cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(creator):
        raise SettingError(f"the environment {named!r} is no callable but {creator!r}")
    return creator


def _play(config: Any, path: Path) -> None:
    algorithm = None
    try:
        algorithm = config.build_algo()
        algorithm.restore_from_path(path)
        algorithm.evaluate()
    except RollcamError:
        raise
    except Exception as error:  # RLlib's, the policy's, or the environment's
        raise RollcamError(
            f"the checkpoint {path} could not be played: {type(error).__name__}: {error}"
        ) from error
    finally:
        if algorithm is not None:
            algorithm.stop()

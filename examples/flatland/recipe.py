"""An experiment file in RLlib's old style, read into today's `AlgorithmConfig`.

    my-experiment:
        run: PPO
        env: flatland
        stop: {training_iteration: 6}
        checkpoint_freq: 2
        config:
            num_workers: 1
            train_batch_size: 400
            env_config: {n_agents: 2, render: human}

What a key is called today is taken, too. What has no meaning any more, and what nobody knows, is an
error that says what to write; nothing is passed over in silence.
"""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from rollcam.errors import SettingError

NUMBER, TEXT, SWITCH, MAPPING = (int, float), (str,), (bool,), (dict,)

EXPERIMENT_KEYS = {
    "run": TEXT,
    "env": TEXT,
    "stop": MAPPING,
    "checkpoint_freq": NUMBER,
    "checkpoint_at_end": SWITCH,
    "local_dir": TEXT,
    "config": MAPPING,
}

STOPS = {
    "training_iteration": ("training_iteration",),
    "time_total_s": ("time_total_s",),
    "timesteps_total": ("num_env_steps_sampled_lifetime",),
    "num_env_steps_sampled_lifetime": ("num_env_steps_sampled_lifetime",),
    "episode_reward_mean": ("env_runners", "episode_return_mean"),
    "episode_return_mean": ("env_runners", "episode_return_mean"),
}
"""Criteria of `stop`, and where they stand in a result today."""

RENAMED = {
    "num_workers": "num_env_runners",
    "num_rollout_workers": "num_env_runners",
    "num_envs_per_worker": "num_envs_per_env_runner",
    "num_cpus_per_worker": "num_cpus_per_env_runner",
    "num_gpus_per_worker": "num_gpus_per_env_runner",
    "num_gpus": "num_gpus_per_learner",
    "train_batch_size": "train_batch_size_per_learner",
    "sgd_minibatch_size": "minibatch_size",
    "num_sgd_iter": "num_epochs",
    "lambda": "lambda_",
    "model": "model_config",
    "evaluation_num_workers": "evaluation_num_env_runners",
    "evaluation_num_episodes": "evaluation_duration",
    "recreate_failed_workers": "restart_failed_env_runners",
}
"""Keys of old, and what they are called today."""

GONE = {
    "framework": "the new API stack is torch's; leave it out",
    "horizon": "let the environment truncate its episodes",
    "soft_horizon": "let the environment truncate its episodes",
    "no_done_at_end": "let the environment truncate its episodes",
    "monitor": "write `render: human` in env_config",
    "record_env": "write `render: human` in env_config",
    "render_env": "write `render: human` in env_config",
    "ignore_worker_failures": "write `restart_failed_env_runners: true`",
    "simple_optimizer": "it has no meaning any more; leave it out",
    "observation_filter": "use a connector of RLlib's",
    "callbacks": "an experiment file cannot name callbacks; change train.py",
    "multiagent": "train.py gives all agents one policy; change it there",
    "num_envs": "write `num_envs_per_worker`",
}
"""Keys of old that today's RLlib has no place for, and what to do instead."""

METHODS = (
    "training",
    "env_runners",
    "learners",
    "evaluation",
    "rl_module",
    "debugging",
    "fault_tolerance",
    "reporting",
)
"""Methods of `AlgorithmConfig` whose arguments a file may name, in this order."""

FILM_KEYS = {"render": (str, bool), "video_dir": TEXT, "resume": SWITCH, "wandb": MAPPING}
"""Keys of `env_config` that are the recorder's."""

FLATLAND = "flatland"
"""The environment that takes `render` as well: only one that was made for pixels has them."""

Film = Literal["train", "eval", "all"]


@dataclass(frozen=True)
class Filming:
    """What an experiment says of its films."""

    film: Film | None
    """Whose episodes are filmed; `None`: nobody's."""
    video_dir: str = "flatland"
    """Recordings folder."""
    resume: bool = False
    """Join what lies there; otherwise it is cleared first."""
    wandb: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for `wandb.init`."""


@dataclass(frozen=True)
class Experiment:
    """One experiment of a file."""

    name: str
    run: str
    env: str
    stop: Mapping[str, float]
    filming: Filming
    config: Mapping[str, Any]
    """Settings under today's names, `env_config` and `evaluation_config` without the film's keys."""
    checkpoint_freq: int = 0
    checkpoint_at_end: bool = False
    local_dir: str = "~/ray_results"

    def is_done(self, result: Mapping[str, Any]) -> bool:
        """Return whether a training result meets one of the criteria of `stop`."""
        values = {name: number_in(result, STOPS[name]) for name in self.stop}
        return any(value is not None and value >= self.stop[name] for name, value in values.items())


def number_in(result: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    """Return a number of a result, or `None` where it does not stand."""
    value: Any = result
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def read_file(path: Path, *, changes: Mapping[str, Any] | None = None) -> list[Experiment]:
    """Read the experiments of a file.

    Args:
        path: The file.
        changes: A `config` that is merged over that of each experiment.

    Raises:
        SettingError: It cannot be read, or a key or a value in it cannot work.
    """
    told = read_yaml(path)
    return [
        _experiment(str(name), _mapping(f"{path.name}: {name}", body), changes or {})
        for name, body in told.items()
    ]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file that holds a mapping.

    Raises:
        SettingError: It cannot be read, or holds something else.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from error
    if not isinstance(told, dict) or not told:
        raise SettingError(f"{path} holds no experiments: a name, and below it run, env and config")
    return told


def configured(experiment: Experiment, config: Any) -> Any:
    """Put an experiment's settings into an `AlgorithmConfig`.

    Raises:
        SettingError: A key is none that this algorithm takes, or RLlib refuses its value.
    """
    homes = _homes(config)
    calls: dict[str, dict[str, Any]] = {}
    for key, value in experiment.config.items():
        if key == "env_config":
            continue
        if key not in homes:
            raise _unknown(f"{experiment.name}: config", key, [*homes, *RENAMED, "env_config"])
        calls.setdefault(homes[key], {})[key] = copy.deepcopy(value)
    # RLlib itself takes any key there, and does nothing with it.
    for key in experiment.config.get("evaluation_config") or {}:
        if key != "env_config" and key not in homes:
            raise _unknown(f"{experiment.name}: evaluation_config", key, [*homes, "env_config"])
    for method, arguments in calls.items():
        try:
            getattr(config, method)(**arguments)
        except Exception as error:  # whatever RLlib says of a value
            told = f"{type(error).__name__}: {error}"
            raise SettingError(f"{experiment.name}: {arguments} does not work: {told}") from error
    return config


def _homes(config: Any) -> dict[str, str]:
    """Return which method takes which argument, over all classes that the configuration inherits."""
    homes: dict[str, str] = {}
    for method in METHODS:
        for owner in type(config).__mro__:
            function = owner.__dict__.get(method)
            for name, argument in (
                inspect.signature(function).parameters.items() if function else ()
            ):
                if argument.kind is argument.KEYWORD_ONLY and name not in (*RENAMED, *GONE):
                    homes.setdefault(name, method)
    return homes


def _experiment(name: str, body: dict[str, Any], changes: Mapping[str, Any]) -> Experiment:
    for key, value in body.items():
        if key not in EXPERIMENT_KEYS:
            raise _unknown(name, key, EXPERIMENT_KEYS)
        _check(f"{name}: {key}", value, EXPERIMENT_KEYS[key])
    for key in ("run", "env", "stop"):
        if key not in body:
            raise SettingError(f"{name} has no {key!r}; an experiment needs run, env and stop")
    for criterion, limit in body["stop"].items():
        if criterion not in STOPS:
            raise _unknown(f"{name}: stop", criterion, STOPS)
        _check(f"{name}: stop: {criterion}", limit, NUMBER)
    # Copied before they are merged: evaluation and training must not share a mapping.
    config = _today(name, _merged(copy.deepcopy(body.get("config") or {}), changes))
    config, filming = _without_films(name, body["env"], config)
    facts = {k: v for k, v in body.items() if k not in ("config", "stop")}
    return Experiment(name=name, stop=body["stop"], filming=filming, config=config, **facts)


def _merged(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        is_inner = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if is_inner else copy.deepcopy(value)
    return merged


def _today(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under today's names."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in GONE:
            raise SettingError(f"{name}: config has {key!r}: {GONE[key]}")
        today = RENAMED.get(key, key)
        if today in found:
            raise SettingError(f"{name}: config has {key!r} and {today!r}, which are the same")
        if today == "evaluation_config":
            value = _today(name, _mapping(f"{name}: evaluation_config", value))
        found[today] = value
    return found


def _without_films(name: str, env: str, config: dict[str, Any]) -> tuple[dict[str, Any], Filming]:
    """Take the recorder's keys out of both `env_config`s."""
    where = f"{name}: env_config"
    training = _mapping(where, config.get("env_config") or {})
    evaluation = dict(_mapping(f"{name}: evaluation_config", config.get("evaluation_config") or {}))
    evaluating = _mapping(f"{name}: its env_config", evaluation.get("env_config") or {})
    for told in (training, evaluating):
        for key, kinds in FILM_KEYS.items():
            if told.get(key) is not None:
                _check(f"{where}: {key}", told[key], kinds)
    told = {**evaluating, **training}
    given = {
        key: told[key] for key in ("video_dir", "resume", "wandb") if told.get(key) is not None
    }
    films_eval = bool(evaluating.get("render", training.get("render")))
    # Without evaluation there is nobody to film there.
    films_eval = films_eval and bool(config.get("evaluation_interval"))
    film = _film(bool(training.get("render")), films_eval)
    config = {**config, "env_config": _of_the_env(env, training)}
    if evaluation:
        evaluation["env_config"] = _of_the_env(env, evaluating)
        config["evaluation_config"] = evaluation
    return config, Filming(film, **given)


def _film(training: bool, evaluation: bool) -> Film | None:
    if training:
        return "all" if evaluation else "train"
    return "eval" if evaluation else None


def _of_the_env(env: str, env_config: Mapping[str, Any]) -> dict[str, Any]:
    takes_render = env == FLATLAND
    return {
        key: value
        for key, value in env_config.items()
        if key not in FILM_KEYS or (key == "render" and takes_render)
    }


def _mapping(where: str, value: Any) -> dict[str, Any]:
    _check(where, value, MAPPING)
    return dict(value)


def _check(where: str, value: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join(kind.__name__ for kind in kinds)
        raise SettingError(f"{where} is {value!r}; {words} was expected")


def _unknown(where: str, key: object, known: Any) -> SettingError:
    near = difflib.get_close_matches(str(key), [str(k) for k in known], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(known))}"
    return SettingError(f"{where} has the key {key!r}, which nobody takes; {hint}")

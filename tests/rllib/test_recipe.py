"""`examples/flatland/recipe.py`: old experiment files, read into today's configuration."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.rllib.algorithms.ppo import PPOConfig

from rollcam.errors import SettingError

EXAMPLE = Path(__file__).parents[2] / "examples/flatland"

OLD = {
    "run": "PPO",
    "env": "flatland",
    "stop": {"timesteps_total": 1000},
    "checkpoint_freq": 50,
    "checkpoint_at_end": True,
    "config": {
        "num_workers": 3,
        "num_envs_per_worker": 5,
        "num_gpus": 1,
        "gamma": 0.9,
        "lambda": 0.8,
        "train_batch_size": 1000,
        "num_sgd_iter": 10,
        "sgd_minibatch_size": 500,
        "rollout_fragment_length": 50,
        "clip_param": 0.2,
        "model": {"fcnet_hiddens": [256, 256], "fcnet_activation": "relu"},
        "env_config": {
            "n_agents": 5,
            "render": "human",
            "video_dir": "films",
            "resume": True,
            "wandb": {"project": "flatland"},
        },
    },
}


@contextmanager
def load_recipe() -> Iterator[Any]:
    # The example's folder has a module of a common name, so it is not put onto the path.
    spec = importlib.util.spec_from_file_location("rollcam_example_recipe", EXAMPLE / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    with load_recipe() as module:
        yield module


@pytest.fixture
def read(recipe, tmp_path: Path) -> Any:
    def read_one(body: Any, changes: Any = None) -> Any:
        path = tmp_path / "experiments.yaml"
        path.write_text(yaml.safe_dump({"mine": body}))
        (experiment,) = recipe.read_file(path, changes=changes)
        return experiment

    return read_one


def with_config(**settings: Any) -> dict[str, Any]:
    return {**OLD, "config": {**OLD["config"], **settings}}


def test_an_old_experiment_becomes_todays_configuration(recipe, read) -> None:
    experiment = read(OLD)
    config = recipe.configured(experiment, PPOConfig())
    assert config.num_env_runners == 3
    assert config.num_envs_per_env_runner == 5
    assert config.num_gpus_per_learner == 1
    assert config.gamma == 0.9
    assert config.lambda_ == 0.8
    assert config.train_batch_size_per_learner == 1000
    assert config.num_epochs == 10
    assert config.minibatch_size == 500
    assert config.rollout_fragment_length == 50
    assert config.clip_param == 0.2
    assert config.model_config["fcnet_hiddens"] == [256, 256]
    assert (experiment.checkpoint_freq, experiment.checkpoint_at_end) == (50, True)


def test_todays_names_are_taken_too(recipe, read) -> None:
    body = with_config(num_epochs=4, seed=3, num_learners=0)
    del body["config"]["num_sgd_iter"]
    config = recipe.configured(read(body), PPOConfig())
    assert (config.num_epochs, config.seed, config.num_learners) == (4, 3, 0)


def test_the_recorders_keys_do_not_reach_the_environment(read) -> None:
    experiment = read(OLD)
    filming = experiment.filming
    assert (filming.film, filming.video_dir, filming.resume) == ("train", "films", True)
    assert filming.wandb == {"project": "flatland"}
    assert experiment.config["env_config"] == {"n_agents": 5, "render": "human"}
    cartpole = read({**OLD, "env": "CartPole-v1"})
    assert cartpole.config["env_config"] == {"n_agents": 5}


@pytest.mark.parametrize(
    ("train", "evaluate", "interval", "film"),
    [
        ("human", None, None, "train"),
        ("human", None, 1, "all"),
        ("human", False, 1, "train"),
        (None, "human", 1, "eval"),
        (None, "human", None, None),
        (None, None, 1, None),
    ],
)
def test_whose_episodes_are_filmed(read, train, evaluate, interval, film) -> None:
    body = with_config(env_config={"render": train}, evaluation_interval=interval)
    if evaluate is not None:
        body["config"]["evaluation_config"] = {"env_config": {"render": evaluate}}
    assert read(body).filming.film == film


def test_evaluation_shares_nothing_with_training(recipe, read) -> None:
    """In the original both had one mapping, so that the training was seeded and filmed as well."""
    changes = recipe.read_yaml(EXAMPLE / "recording/eval_render.yaml")
    body = with_config(env_config={"n_agents": 5, "wandb": {"project": "flatland"}})
    experiment = read(body, changes)
    assert experiment.filming.film == "eval"
    assert experiment.filming.wandb == {"project": "flatland"}
    assert experiment.config["env_config"] == {"n_agents": 5}
    config = recipe.configured(experiment, PPOConfig().environment("x", env_config={"n_agents": 5}))
    assert config.seed is None
    evaluation = config.copy(copy_frozen=False).get_evaluation_config_object()
    assert config.env_config == {"n_agents": 5}
    assert evaluation.seed == 100
    assert evaluation.env_config == {"n_agents": 5, "render": "human"}
    # The file that is merged is the same for the next experiment.
    assert changes == recipe.read_yaml(EXAMPLE / "recording/eval_render.yaml")


def test_stop(read) -> None:
    result = {
        "training_iteration": 3,
        "num_env_steps_sampled_lifetime": 900,
        "env_runners": {"episode_return_mean": 20.0},
    }
    for stop, is_done in (
        ({"training_iteration": 3}, True),
        ({"training_iteration": 4}, False),
        ({"timesteps_total": 901}, False),
        ({"timesteps_total": 901, "episode_reward_mean": 19}, True),
        ({"time_total_s": 1}, False),  # not in the result: not met
    ):
        assert read({**OLD, "stop": stop}).is_done(result) is is_done, stop


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({**OLD, "num_sample": 3}, "mine has the key 'num_sample', which nobody takes"),
        ({k: v for k, v in OLD.items() if k != "run"}, "mine has no 'run'"),
        ({**OLD, "stop": {"iterations": 3}}, "stop has the key 'iterations'"),
        ({**OLD, "stop": {"training_iteration": "6"}}, "is '6'; int or float was expected"),
        ({**OLD, "checkpoint_at_end": 1}, "checkpoint_at_end is 1; bool was expected"),
        (with_config(num_epochs=3), "'num_epochs', which are the same|'num_sgd_iter' and"),
        (with_config(horizon=50), "'horizon': let the environment truncate"),
        (with_config(monitor=True), "write `render: human` in env_config"),
        (with_config(env_config=[1]), "env_config is \\[1\\]; dict was expected"),
        (with_config(env_config={"video_dir": 3}), "video_dir is 3; str was expected"),
        (with_config(evaluation_config={"horizon": 3}), "'horizon'"),
        (["PPO"], "dict was expected"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_told(read, body, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        read(body)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clip_parm": 0.2}, "'clip_parm', which nobody takes; did you mean 'clip_param'"),
        ({"evaluation_config": {"exlore": True}}, "'exlore', .* did you mean 'explore'"),
        ({"rollout_fragment_length": "often"}, "does not work|rollout_fragment_length"),
    ],
    ids=["unknown", "evaluation", "value"],
)
def test_what_the_algorithm_does_not_take_is_told(recipe, read, settings, words: str) -> None:
    experiment = read(with_config(**settings))
    with pytest.raises(SettingError, match=words):
        recipe.configured(experiment, PPOConfig())


def test_files_that_are_none(recipe, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        recipe.read_file(tmp_path / "absent.yaml")
    for text in ("", "- a\n- b\n", "a: [", "\0"):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(SettingError, match=r"odd\.yaml"):
            recipe.read_file(tmp_path / "odd.yaml")


@pytest.mark.parametrize("name", ["ppo.yaml", "cartpole.yaml"])
def test_the_examples_own_files(recipe, name: str) -> None:
    for changes in ({}, recipe.read_yaml(EXAMPLE / "recording/eval.yaml")):
        (experiment,) = recipe.read_file(EXAMPLE / "recording" / name, changes=changes)
        recipe.configured(experiment, PPOConfig())
        assert experiment.filming.film is not None

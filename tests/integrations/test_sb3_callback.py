"""`rollcam.integrations.sb3.RecordCallback` in real trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, EveryNTimesteps
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

import rollcam
from rollcam.integrations.sb3 import RecordCallback, VecVideoRecorder
from rollcam.sinks.tensorboard import TensorBoardSink
from tests.envs import CountingEnv
from tests.integrations.sb3_films import FPS, LENGTHS, make, numbers
from tests.integrations.vector_films import always, episodes, shown


def ppo(env: VecEnv | gym.Env[Any, Any] | str, n_steps: int = 16, **settings: Any) -> PPO:
    given = {"batch_size": 16, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}, **settings}
    return PPO("MlpPolicy", env, n_steps=n_steps, **given)


@pytest.mark.parametrize("kind", ["dummy", "subproc"])
def test_films_of_the_training_from_its_first_episode_on(kind: str, tmp_path: Path) -> None:
    venv = make(kind)
    ppo(venv).learn(64, callback=RecordCallback(tmp_path, episode_trigger=lambda n: n in (0, 4)))
    venv.close()
    found = shown(tmp_path)
    assert found == {
        f"rl-video-env-{i}-episode-{n}": numbers(length, 32)[n]
        for i, length in enumerate(LENGTHS)
        for n in (0, 4)
    }
    films = episodes(tmp_path)
    first, later = (films[f"rl-video-env-0-episode-{n}"] for n in (0, 4))
    assert first.context_at_start == {"num_timesteps": 0, "iteration": 0}
    assert first.context_at_end == {"num_timesteps": 4, "iteration": 1}
    assert (first.mode, first.episode_return, first.terminated) == ("train", 6.0, True)
    assert (later.episode_index, later.run_id) == (4, first.run_id)


@pytest.mark.parametrize("kind", ["dummy", "subproc"])
@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
def test_films_of_evaluations_beside_an_eval_callback(kind: str, tmp_path: Path) -> None:
    evaluations = EvalCallback(make(kind), n_eval_episodes=3, eval_freq=16, verbose=0, warn=False)
    films = RecordCallback(tmp_path, evaluations, n_films=2, context={"who": "me"})
    ppo(make()).learn(64, callback=[evaluations, films])
    evaluations.eval_env.close()
    assert shown(tmp_path) == {
        f"eval-step-{steps}-env-{i}-episode-0": list(range(length + 1))
        for steps in (32, 64)
        for i, length in enumerate(LENGTHS)
    }
    for name, episode in episodes(tmp_path).items():
        steps = int(name.split("-")[2])
        wanted = {"num_timesteps": steps, "iteration": steps // 32, "who": "me"}
        assert episode.context_at_start == episode.context_at_end == wanted
        assert (episode.mode, episode.status) == ("eval", "complete")


def test_evaluations_of_its_own(tmp_path: Path) -> None:
    env = CountingEnv(length=4, fps=FPS)
    films = RecordCallback(tmp_path, env, eval_freq=10, n_eval_episodes=2)
    ppo(make()).learn(32, callback=films)
    assert shown(tmp_path) == {f"eval-step-20-episode-{n}": [0, 1, 2, 3, 4] for n in (0, 1)}
    assert not env.is_closed


def test_off_policy_and_nested_under_another_callback(tmp_path: Path) -> None:
    films = RecordCallback(tmp_path, CountingEnv(length=2, fps=FPS), eval_freq=1)
    model = DQN("MlpPolicy", make(), learning_starts=1000, buffer_size=100)
    model.learn(40, callback=EveryNTimesteps(20, films))
    films.close()  # such a callback does not tell it that the training has ended
    assert sorted(shown(tmp_path)) == ["eval-step-20-episode-0", "eval-step-40-episode-0"]
    assert episodes(tmp_path)["eval-step-40-episode-0"].context_at_start == {"num_timesteps": 40}


def test_evaluations_with_normalized_observations(tmp_path: Path) -> None:
    venv = VecNormalize(make())
    with pytest.raises(rollcam.SettingError, match="VecNormalize"):
        ppo(venv).learn(32, callback=RecordCallback(tmp_path, make(), eval_freq=16))
    theirs = VecNormalize(make(), training=False, norm_reward=False)
    ppo(venv).learn(32, callback=RecordCallback(tmp_path, theirs, eval_freq=16))
    assert (theirs.obs_rms.mean == venv.obs_rms.mean).all()
    # The return is that of the environment, whatever stands around it.
    assert {e.episode_return for e in episodes(tmp_path).values()} == {15.0}


def test_training_returns_are_not_normalized(tmp_path: Path) -> None:
    films = RecordCallback(tmp_path, episode_trigger=lambda index, n: (index, n) == (1, 1))
    ppo(VecNormalize(make())).learn(32, callback=films)
    (episode,) = episodes(tmp_path).values()
    assert episode.episode_return == 15.0


def test_counters_reach_every_recorder_of_the_process_and_its_workers(tmp_path: Path) -> None:
    venv = VecVideoRecorder(make("subproc"), tmp_path / "a", lambda n: n == 20, video_length=5)
    ppo(venv).learn(64, callback=RecordCallback(tmp_path / "b", episode_trigger=lambda n: False))
    venv.close()
    (clip,) = episodes(tmp_path / "a").values()
    assert clip.context_at_start == {"num_timesteps": 38, "iteration": 2}
    assert not shown(tmp_path / "b")


class Interrupts(BaseCallback):
    def _on_step(self) -> bool:
        if self.n_calls == 5:
            raise KeyboardInterrupt
        return True


def test_a_training_that_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    venv = make(lengths=(50,))
    model = ppo(venv)
    films = RecordCallback(tmp_path, episode_trigger=always)
    with pytest.raises(KeyboardInterrupt):
        model.learn(32, callback=[films, Interrupts()])
    films.close()
    films.close()
    assert shown(tmp_path) == {"rl-video-env-0-episode-0": list(range(6))}
    assert "step_wait" not in vars(venv)
    # It goes on in the middle of that episode: the next film is one of the next episode.
    model.learn(80, callback=films, reset_num_timesteps=False)
    films_found = shown(tmp_path)
    assert list(films_found) == ["rl-video-env-0-episode-0", "rl-video-env-0-episode-1"]
    assert films_found["rl-video-env-0-episode-1"] == list(
        range(36)
    )  # 5 + 80 - 50, in rollouts of 16
    assert len({episode.run_id for episode in episodes(tmp_path).values()}) == 1


def test_a_callback_that_is_used_twice(tmp_path: Path) -> None:
    films = RecordCallback(tmp_path, CountingEnv(length=2, fps=FPS), eval_freq=8, resume=False)
    model = ppo(make())
    for _ in range(2):
        model.learn(32, callback=films, reset_num_timesteps=False)
    assert len(shown(tmp_path)) == 4


def test_what_the_callback_filmed_can_be_evaluated_by_others(tmp_path: Path) -> None:
    venv = make()
    films = RecordCallback(tmp_path, venv)

    class Evaluates(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 3:
                evaluate_policy(self.model, venv, n_eval_episodes=4, warn=False)
            return True

    ppo(make()).learn(32, callback=[films, Evaluates()])
    assert shown(tmp_path) == {"eval-step-6-env-1-episode-0": [0, 1, 2, 3, 4, 5]}
    assert "reset" not in vars(venv)


def test_training_goes_as_it_goes_without(tmp_path: Path) -> None:
    def trained(callback: Any) -> BaseAlgorithm:
        return ppo("CartPole-v1", 32, seed=3).learn(128, callback=callback)

    evaluations = EvalCallback(
        gym.make("CartPole-v1", render_mode="rgb_array"), eval_freq=50, verbose=0, warn=False
    )
    filmed = trained([RecordCallback(tmp_path), RecordCallback(tmp_path, evaluations), evaluations])
    plain = trained(None)
    for ours, theirs in zip(filmed.policy.parameters(), plain.policy.parameters(), strict=True):
        assert bool((ours == theirs).all())
    assert {e.mode for e in episodes(tmp_path).values()} == {"train", "eval"}


def test_tensorboard_alone_means_the_models_own_log_directory(tmp_path: Path) -> None:
    logs = tmp_path / "runs"
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    model = ppo("CartPole-v1", 32, tensorboard_log=str(logs))
    model.learn(64, callback=RecordCallback(
        tmp_path / "films", env, eval_freq=32, sinks=["tensorboard"]
    ))  # fmt: skip
    films = sorted((logs / "PPO_1" / "rollcam").glob("*.mp4"))
    assert len(films) == 2
    assert TensorBoardSink(logs / "PPO_1").target == str(logs / "PPO_1")
    assert [e.context_at_end["num_timesteps"] for e in episodes(tmp_path / "films").values()]


@pytest.mark.filterwarnings("ignore::rollcam.errors.RecordingFailedWarning")
def test_a_renderer_that_raises_does_not_stop_the_training(tmp_path: Path) -> None:
    venv = make(raise_at=[1])
    model = ppo(venv).learn(32, callback=RecordCallback(tmp_path, episode_trigger=lambda n: n == 0))
    assert model.num_timesteps == 32
    assert {e.status for e in episodes(tmp_path).values()} == {"failed"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, {"eval_freq": 3}), "there is none"),
        (("env", {}), "eval_freq="),
        (("env", {"eval_freq": 0}), "at least 1"),
        (("env", {"eval_freq": 3, "episode_trigger": always}), "two callbacks"),
        (("callback", {"eval_freq": 3}), "evaluates by itself"),
        (("nothing", {}), "not 'nothing'"),
        ((None, {"episode_trigger": 5}), "callable"),
        (("env", {"eval_freq": 3, "n_films": 0}), "n_films"),
    ],
)
def test_arguments_that_cannot_work(given: Any, message: str, tmp_path: Path) -> None:
    kind, settings = given
    env: Any = CountingEnv() if kind == "env" else kind
    if kind == "callback":
        env = EvalCallback(make())
    with pytest.raises(rollcam.SettingError, match=message):
        RecordCallback(tmp_path, env, **settings)


def test_an_environment_that_shows_nothing_is_refused_before_the_training(tmp_path: Path) -> None:
    blind = gym.make("CartPole-v1")
    with pytest.raises(rollcam.RenderModeError, match="render_mode=None"):
        RecordCallback(tmp_path, blind, eval_freq=10)
    with pytest.raises(rollcam.RenderModeError, match="render_mode=None"):
        ppo(blind).learn(16, callback=RecordCallback(tmp_path))


def test_frames_of_the_observation_are_not_needed(tmp_path: Path) -> None:
    callback = RecordCallback(tmp_path)
    ppo("CartPole-v1", 16).learn(16, callback=callback)  # SB3 made it with rgb_array
    film = episodes(tmp_path)["rl-video-env-0-episode-0"]
    assert (film.env_id, film.fps) == ("CartPole-v1", 50)
    assert np.isclose(film.n_frames, (film.episode_length or 0) + 1)

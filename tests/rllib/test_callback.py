"""The callback among others: failures as metrics, restores, folders that are shared or cleared."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle, tune
from ray.rllib.algorithms.algorithm import Algorithm

import rollcam
from rollcam.errors import SettingError
from rollcam.integrations._rllib_settings import filled_in
from rollcam.integrations.rllib import UNKNOWN, EpisodeStart, RollcamCallback, wrap_env
from rollcam.publish.sink import Delivery
from tests.rllib.rollouts import (
    Broken,
    Training,
    config,
    films_of,
    finished,
    training,
)


def test_renderer_that_breaks_is_a_metric_and_a_warning_and_no_more(
    cluster: None, tmp_path: Path
) -> None:
    run = training(tmp_path, runners=1, make=Broken)
    with pytest.warns(rollcam.RollcamWarning, match="renderer broke"):
        _train_until(run, lambda result: result["rollcam"]["failed"] > 0)
    assert run.iterations[-1].result["env_runners"]["num_env_steps_sampled"] > 0
    run.algorithm.stop()
    assert all(film.status == "failed" for film in films_of(run.films))


def test_environment_that_cannot_be_filmed_is_told_of(cluster: None, tmp_path: Path) -> None:
    made = config(tmp_path).environment(wrap_env("CartPole-v1"), env_config={"render_mode": None})
    algorithm = made.build_algo()
    with pytest.warns(rollcam.RollcamWarning, match="their logs say why"):
        result = algorithm.train()
    algorithm.stop()
    assert result["rollcam"]["recorded"] == 0
    assert result["rollcam"]["failed"] > 0
    assert result["env_runners"]["num_env_steps_sampled"] > 0
    assert not films_of(tmp_path / "films")


def test_trigger_that_raises_costs_films_and_nothing_else(cluster: None, tmp_path: Path) -> None:
    run = training(tmp_path, trigger=_raises)
    with pytest.warns(rollcam.RollcamWarning):
        run.train(1)
    run.algorithm.stop()
    assert run.iterations[0].result["rollcam"]["failed"] > 0


def test_restored_checkpoint_goes_on_counting(cluster: None, tmp_path: Path) -> None:
    run = training(tmp_path)
    run.train(2)
    checkpoint = run.algorithm.save_to_path(str(tmp_path / "checkpoint"))
    run.algorithm.stop()
    before = {film.episode_id for film in films_of(run.films)}

    again = Algorithm.from_checkpoint(checkpoint)
    result = again.train()
    again.stop()
    assert result["training_iteration"] == 3
    new = [film for film in films_of(run.films) if film.episode_id not in before]
    assert new
    for film in new:
        assert film.context_at_start["iteration"] == 3
        assert film.context_at_start["policy_version"] == 2
        steps = film.context_at_start["num_env_steps_sampled_lifetime"]
        assert steps == run.iterations[-1].steps_after


@pytest.mark.parametrize("runners", [0, 1])
def test_algorithm_that_is_dropped_leaves_all_its_films(
    runners: int, cluster: None, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    run = training(tmp_path, runners=runners, sinks=[f"folder:{copies}"])
    run.train(1)
    run.algorithm = None
    gc.collect()
    begun = sorted(line["id"] for line in run.events("start"))
    deadline = time.monotonic() + 60
    # Its env runners end by themselves, and what they leave is still followed.
    while len(list(copies.rglob("*.mp4"))) < len(begun):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    films = films_of(run.films)
    assert sorted(str(film.extra["rllib"]["episode_id"]) for film in films) == begun
    assert {film.status for film in films} == {"complete"}


def test_what_is_not_known_reads_unknown(cluster: None, tmp_path: Path) -> None:
    run = training(tmp_path)
    run.algorithm.env_runner.sample(num_episodes=1)  # not in an iteration of anybody's
    run.algorithm.stop()
    [film] = finished(films_of(run.films)).values()
    for context in (film.context_at_start, film.context_at_end):
        assert context["iteration"] == UNKNOWN
        assert context["num_env_steps_sampled_lifetime"] == UNKNOWN
    assert film.name.startswith("rl-video-unknown-unknown.")


def test_keep_is_asked_once_for_the_trial(cluster: None, tmp_path: Path) -> None:
    told: list[rollcam.Episode] = []
    run = training(
        tmp_path, runners=2, keep=rollcam.keep_best(2), on_finished=told.append, sinks=[Deaf()]
    )
    run.train(1)
    run.algorithm.stop()
    left = [film for film in films_of(run.films) if film.media is not None]
    assert len(left) == 2
    best = sorted(line["episode_return"] for line in run.events("end"))[-2:]
    assert sorted(film.episode_return or 0.0 for film in left) == best
    assert {film.episode_id for film in left} <= {film.episode_id for film in told}


def test_trials_of_one_experiment_clear_once_and_share_the_folder(
    cluster: None, tmp_path: Path
) -> None:
    films = tmp_path / "films"
    with rollcam.Recorder(films) as recorder:
        recorder.begin("old")
        recorder.frame(_picture())
        recorder.end()
    (films / "mine.txt").write_text("not Rollcam's")
    space = config(tmp_path, resume=False, film="eval", evaluation={}).training(
        lr=tune.grid_search([1e-4, 1e-3])
    )
    tuner = tune.Tuner(
        "PPO",
        param_space=space,
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(
            stop={"training_iteration": 1}, storage_path=str(tmp_path / "tune"), verbose=0
        ),
    )
    results = tuner.fit()
    assert not results.errors
    found = films_of(films)
    assert "old" not in {film.name for film in found}
    assert (films / "mine.txt").exists()
    # The second trial began when the first was over, and left its films alone.
    assert len({film.run_id for film in found}) == 2
    assert len({film.metadata["trial"] for film in found}) == 2
    assert {film.mode for film in found} == {"eval"}
    # The stop criterion ended them: all episodes are there, those that were open as well.
    lines = Training(None, films, tmp_path / "journal").events("start")
    begun = [str(film.extra["rllib"]["episode_id"]) for film in found]
    assert sorted(begun) == sorted(line["id"] for line in lines if line["mode"] == "eval")
    assert {film.status for film in found} == {"complete"}
    for result in results:
        assert result.metrics is not None
        assert result.metrics["rollcam"]["failed"] == 0


def test_arguments_are_checked_where_they_are_given(tmp_path: Path) -> None:
    for wrong in (
        {"film": "evaluation"},
        {"trigger": 3},
        {"sinks": "wandb"},
        {"name": "{a.b}"},
        {"fps": 0},
        {"resume": "no"},
        {"metadata": {"lock": _raises.__globals__}},
    ):
        with pytest.raises(SettingError):
            RollcamCallback(tmp_path, **wrong)  # type: ignore[arg-type]


def test_travels_without_what_cannot(tmp_path: Path) -> None:
    sink = Deaf()
    callback = RollcamCallback(tmp_path, sinks=[sink])
    there = cloudpickle.loads(cloudpickle.dumps(callback))
    assert there.folder == callback.folder
    # In the process that made it, a copy finds the very objects.
    assert there._plan["sinks"] == (sink,)
    assert isinstance(callback(), RollcamCallback)
    assert callback() is not callback


def test_relative_folder_is_that_of_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    callback = RollcamCallback("films")
    monkeypatch.chdir("/")
    assert callback().folder == tmp_path / "films"


def test_short_names_in_templates() -> None:
    filled = filled_in("{prefix}-{iteration:06d}-{steps:09d}.{episode:06d}.{episode_index}", "a{b")
    assert filled == (
        "a{{b-{iteration:06d}-{num_env_steps_sampled_lifetime:09d}.{runner_episode:06d}"
        ".{episode_index}"
    )


class Deaf:
    """A sink that takes everything, and cannot be pickled."""

    name, target = "deaf", "here"

    def __init__(self) -> None:
        self.generator = (n for n in ())

    def publish(self, delivery: Delivery) -> str:
        return "there"

    def stored(self, deliveries: Any) -> list[str]:
        return [delivery.episode.episode_id for delivery in deliveries]

    def close(self) -> None: ...


def _raises(start: EpisodeStart) -> bool:
    raise RuntimeError("the user's own")


def _picture() -> Any:
    import numpy as np

    return np.zeros((48, 64, 3), np.uint8)


def _train_until(run: Any, is_there: Any) -> None:
    """Train on: what a thread finds in the folder is in the result after the next at the latest."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run.train(1)
        if is_there(run.iterations[-1].result):
            return
    pytest.fail("it did not come")

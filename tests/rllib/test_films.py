"""Every finished episode has one film, which shows it whole and says what RLlib says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.rllib.rollouts import (
    Training,
    check_film,
    every_episode,
    films_of,
    finished,
    training,
    wrappers,
)

pytestmark = pytest.mark.usefixtures("cluster")

REMOTE_EVALUATION = {"evaluation_num_env_runners": 1}
SETUPS: dict[str, dict[str, Any]] = {
    "local": {"evaluation": {"evaluation_num_env_runners": 0}},
    "two-runners": {"runners": 2, "envs": 2, "evaluation": REMOTE_EVALUATION},
    "async": {"runners": 1, "envs": 2, "mode": "async"},
    "multi-agent": {
        "runners": 1,
        "envs": 2,
        "multi_agent": True,
        "evaluation": REMOTE_EVALUATION,
    },
    "parallel-evaluation": {
        "runners": 1,
        "evaluation": {**REMOTE_EVALUATION, "evaluation_parallel_to_training": True},
    },
    "not-wrapped": {"runners": 1, "envs": 2, "wrapped": False},
    "darkroom": {"runners": 1, "envs": 2, "encode_in": "process"},
}


@pytest.mark.parametrize("setup", SETUPS)
def test_each_finished_episode_has_one_film_that_tells_the_truth(
    setup: str, tmp_path: Path
) -> None:
    run = training(tmp_path, **SETUPS[setup])
    run.train(2)
    run.algorithm.stop()

    films = films_of(run.films)
    by_id, ended = finished(films), run.events("end")
    assert {line["id"] for line in ended} == set(by_id)
    assert len(ended) > 8
    modes = {"train", "eval"} if "evaluation" in SETUPS[setup] else {"train"}
    assert {line["mode"] for line in ended} == modes
    workers, indices = ({line[key] for line in ended} for key in ("worker", "index"))
    assert len(workers) >= SETUPS[setup].get("runners", 1)
    assert indices == set(range(SETUPS[setup].get("envs", 1)))
    for line in ended:
        check_film(by_id[line["id"]], line)
    _check_state(run, by_id, is_parallel="parallel" in setup)
    # Those that were open at the end are there as well, to their last frame.
    begun = {line["id"] for line in run.events("start")}
    assert begun == {str(f.extra["rllib"]["episode_id"]) for f in films}
    assert all(f.n_frames == (f.episode_length or 0) + 1 for f in films)
    result = run.iterations[-1].result["rollcam"]
    assert result["failed"] == result["dropped_frames"] == 0
    assert 0 < result["recorded"] <= len(films)


def _check_state(run: Training, films: dict[str, Any], *, is_parallel: bool) -> None:
    lines = {(e, line["id"]): line for e in ("start", "end") for line in run.events(e)}
    for episode_id, film in films.items():
        for event, context in (("start", film.context_at_start), ("end", film.context_at_end)):
            line = lines[event, episode_id]
            now = run.iteration_at(line["at"])
            assert now is not None
            assert context["iteration"] == now.number
            assert context["policy_version"] == line["version"]
            steps = context["num_env_steps_sampled_lifetime"]
            if film.mode == "train":
                assert context["policy_version"] == now.number - 1
                assert steps == now.steps_before
            elif is_parallel:
                assert context["policy_version"] == now.number - 1
                assert steps in (now.steps_before, now.steps_after)
            else:
                assert context["policy_version"] == now.number
                assert steps == now.steps_after
        end = film.context_at_end
        parts = (end["iteration"], end["num_env_steps_sampled_lifetime"])
        assert film.name.startswith("rl-video-{:06d}-{:09d}.".format(*parts))


def test_evaluation_only_leaves_training_alone(tmp_path: Path) -> None:
    run = training(
        tmp_path, runners=1, film="eval", wrapped=False, name_prefix="eval",
        evaluation=REMOTE_EVALUATION,
    )  # fmt: skip
    run.train(2)
    kinds = run.algorithm.env_runner_group.foreach_env_runner(wrappers, local_env_runner=False)
    run.algorithm.evaluate()
    run.algorithm.stop()

    assert kinds == [["VaryingEnv"]]
    films = finished(films_of(run.films))
    ended = [line["id"] for line in run.events("end") if line["mode"] == "eval"]
    assert set(films) == set(ended)
    assert len(films) == 6
    # An evaluation of its own belongs to the iteration that is over.
    assert sorted(f.context_at_start["iteration"] for f in films.values()) == [1, 1, 2, 2, 2, 2]
    assert all(f.mode == "eval" and f.name.startswith("eval-") for f in films.values())


def test_local_runner_that_also_evaluates(tmp_path: Path) -> None:
    run = training(tmp_path, film="eval")
    run.train(1)
    run.algorithm.evaluate()
    run.train(1)
    run.algorithm.stop()
    films = finished(films_of(run.films)).values()
    assert films
    assert {film.mode for film in films} == {"eval"}
    assert {film.context_at_start["iteration"] for film in films} == {1}


def test_trigger_is_asked_about_runner_environment_and_number(tmp_path: Path) -> None:
    asked: list[Any] = []

    def trigger(start: Any) -> bool:
        asked.append(start)
        return bool(start.vector_index == 1 and start.episode_index % 2)

    # Of a callback in the process that made it, the trigger is the very function.
    run = training(tmp_path, envs=2, trigger=trigger)
    run.train(1)
    run.algorithm.stop()
    assert {(start.worker_index, start.mode, start.iteration) for start in asked} == {
        (0, "train", 1)
    }
    for index in (0, 1):
        numbers = [start.episode_index for start in asked if start.vector_index == index]
        assert numbers == list(range(len(numbers)))
    films = films_of(run.films)
    assert films
    for film in films:
        assert film.writer is not None
        assert (film.writer.worker, film.writer.vector_index) == ("runner-0", 1)
        assert film.episode_index is not None
        assert film.episode_index % 2 == 1


def test_multi_agent_sidecar_has_what_the_environment_says_of_itself(tmp_path: Path) -> None:
    run = training(
        tmp_path, multi_agent=True, trigger=every_episode,
        name="{prefix}.{percentage_complete:03d}.{episode:06d}",
    )  # fmt: skip
    run.train(1)
    run.algorithm.stop()
    for film in finished(films_of(run.films)).values():
        assert film.final_info["percentage_complete"] == film.episode_length
        assert film.final_info["a.step"] == film.final_info["b.step"] == film.episode_length
        assert film.name.startswith(f"rl-video.{film.episode_length:03d}.")

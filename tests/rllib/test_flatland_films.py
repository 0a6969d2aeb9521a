"""Flatland's episodes in RLlib: one film each, with RLlib's own numbers and flatland's."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from rollcam.encode.probe import probe
from rollcam.integrations.flatland import make_flatland_env
from tests.rllib.rollouts import Training, check_numbers, config, films_of, finished

pytestmark = pytest.mark.usefixtures("cluster")

SMALL = {
    "n_agents": 2, "x_dim": 25, "y_dim": 25, "speed_ratios": {1.0: 1.0}, "seed": 1,
    "width": 200, "height": 200, "render": "human",
}  # fmt: skip


def test_each_episode_has_one_film_with_the_numbers_of_rllib_and_of_flatland(
    tmp_path: Path,
) -> None:
    make = functools.partial(make_flatland_env, SMALL)
    made = config(tmp_path, runners=1, envs=2, multi_agent=True, make=make)
    made = made.training(train_batch_size_per_learner=300)
    run = Training(made.build_algo(), tmp_path / "films", tmp_path / "journal")
    run.train(1)
    run.algorithm.stop()

    films = films_of(run.films)
    by_id, ended = finished(films), run.events("end")
    assert {line["id"] for line in ended} == set(by_id)
    assert {line["index"] for line in ended} == {0, 1}
    assert any(line["length"] > 20 for line in ended)
    for line in ended:
        film = by_id[line["id"]]
        check_numbers(film, line)
        assert film.final_info["elapsed_steps"] == line["length"]
        assert film.media_path is not None
        assert probe(film.media_path).plays
    begun = {line["id"] for line in run.events("start")}
    assert begun == {str(film.extra["rllib"]["episode_id"]) for film in films}
    assert len(begun) == len(films)

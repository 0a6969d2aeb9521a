"""`rollcam.RecordVideo` in the env creator: `RollcamCallback` has it film, with RLlib's own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rollcam
from rollcam.errors import SettingError
from rollcam.integrations.rllib import FilmedEnv, RollcamCallback
from tests.rllib.rollouts import (
    Twins,
    VaryingEnv,
    check_film,
    config,
    every_episode,
    films_of,
    finished,
    training,
)

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_it_films_for_the_callback(mode: str, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    run = training(
        tmp_path, runners=int(mode == "async"), envs=2, mode=mode, wrapped=False,
        make=lambda: rollcam.RecordVideo(VaryingEnv(), aside, lambda _: True, resume=False),
    )  # fmt: skip
    run.train(2)
    run.algorithm.stop()

    films, ended = finished(films_of(run.films)), run.events("end")
    assert ended
    assert {line["id"] for line in ended} == set(films)
    for line in ended:
        check_film(films[line["id"]], line)
    assert {film.context_at_end["iteration"] for film in films.values()} == {1, 2}
    assert run.iterations[-1].result["rollcam"]["recorded"] > 0
    # It does not film the same episodes once more by itself.
    assert not films_of(aside)


def test_its_own_trigger_counts_where_the_callback_has_none(tmp_path: Path) -> None:
    def creator() -> Any:
        filmed = rollcam.RecordVideo(VaryingEnv(), tmp_path / "aside", lambda n: n % 3 == 2)
        return FilmedEnv(filmed)  # as wrap_env does: it films once all the same

    run = training(tmp_path, envs=2, wrapped=False, trigger=None, make=creator)
    run.train(1)
    run.algorithm.stop()
    numbers = [film.episode_index for film in films_of(run.films)]
    assert set(numbers) == {2, 5} | set(range(8, max(numbers) + 1, 3))
    assert not films_of(tmp_path / "aside")


def test_one_of_many_agents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"Twins has many agents.*FilmedEnv"):
        rollcam.RecordVideo(Twins(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_callbacks_do_not_share_an_environment(tmp_path: Path) -> None:
    algorithm = _with_another(tmp_path, trigger=every_episode).build_algo()
    with pytest.warns(rollcam.RollcamWarning, match="their logs say why"):
        result = algorithm.train()
    algorithm.stop()
    assert result["env_runners"]["num_env_steps_sampled"] > 0
    films = films_of(tmp_path / "films")
    assert [f for f in films if f.extra["rllib"]["outcome"] == "finished"]
    assert not [f for f in films if f.extra["rllib"]["outcome"] == "abandoned"]
    assert not films_of(tmp_path / "others")


def test_one_callback_for_training_and_one_for_evaluation(tmp_path: Path) -> None:
    copies = [tmp_path / "copies", tmp_path / "copies-of-others"]
    made = _with_another(
        tmp_path, film="eval", sinks=[f"folder:{copies[1]}"],
        first={"film": "train", "sinks": [f"folder:{copies[0]}"]},
    ).evaluation(evaluation_interval=1, evaluation_duration=2)  # fmt: skip
    algorithm = made.build_algo()
    algorithm.train()
    algorithm.stop()
    folders = [tmp_path / "films", tmp_path / "others"]
    for folder, mode, copied in zip(folders, ("train", "eval"), copies, strict=True):
        films = films_of(folder)
        assert {film.mode for film in films} == {mode}
        # Each one's end was waited for: the last films are published, too.
        assert len(list(copied.rglob("*.mp4"))) == len(films)
        assert {f.context_at_start["iteration"] for f in films} == {1}


def _with_another(folder: Path, first: Any = None, **film: Any) -> Any:
    made = config(folder, **(first or {}))
    other = RollcamCallback(folder / "others", **film)
    return made.callbacks([*made.callbacks_class, other])

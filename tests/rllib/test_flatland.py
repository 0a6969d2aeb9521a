"""`rollcam.integrations.flatland` with the real flatland: pictures, films, and its own numbers."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flatland.envs.rail_env_policies import ShortestPathPolicy
from flatland.envs.step_utils.states import TrainState

from rollcam import Recorder
from rollcam.encode.probe import probe
from rollcam.errors import RenderModeError, SettingError
from rollcam.integrations.flatland import FPS, RailRenderer, make_flatland_env, progress_of
from tests.barcode import decode

SMALL = {
    "n_agents": 2, "x_dim": 25, "y_dim": 25, "speed_ratios": {1.0: 1.0}, "seed": 1,
    "width": 400, "height": 300, "render": "human",
}  # fmt: skip


@pytest.fixture(scope="module")
def env() -> Any:
    """One whose renderer is warm: making one takes seconds."""
    return make_flatland_env(SMALL)


@pytest.fixture(scope="module")
def played(env: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One episode in which flatland's own policy brings all trains home, filmed."""
    pictures, infos, trains = [], [], []
    with Recorder(tmp_path_factory.mktemp("films"), fps=FPS, quality="high") as recorder:
        env.reset(seed=3)
        pictures.append(env.render())
        recorder.begin()
        recorder.frame(pictures[-1])
        for rewards, info in play(env):
            pictures.append(env.render())
            infos.append(info["__common__"])
            trains.append(
                [(a.current_configuration, a.old_configuration) for a in env.wrap().agents]
            )
            recorder.frame(pictures[-1], reward=sum(rewards.values()), info=info["__common__"])
        episode = recorder.end(terminated=True).result(timeout=60)
    agents = copy.deepcopy(env.wrap().agents)
    return SimpleNamespace(
        pictures=pictures, infos=infos, trains=trains, episode=episode, agents=agents
    )


def play(env: Any):
    """Step until the episode ends, each train along its shortest path."""
    policy, rail_env = ShortestPathPolicy(), env.wrap()
    handles = rail_env.get_agent_handles()
    ended = False
    while not ended:
        actions = policy.act_many(handles, [rail_env] * len(handles))
        waiting = {str(h): a for h, a in actions.items() if not rail_env.dones[h]}
        _, rewards, terminateds, _, infos = env.step(waiting)
        ended = terminateds["__all__"]
        yield rewards, infos


def test_pictures_are_pixels_without_a_display(played) -> None:
    first = played.pictures[0]
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert first.flags.c_contiguous
    assert len({picture.ctypes.data for picture in played.pictures}) == len(played.pictures)


def test_the_film_holds_every_picture_and_plays(played) -> None:
    episode, pictures = played.episode, played.pictures
    assert episode.n_frames == episode.episode_length + 1 == len(pictures)
    assert episode.fps == FPS
    assert probe(episode.media_path).plays
    shown = [frame for _, frame in decode(episode.media_path)]
    assert len(shown) >= len(pictures)
    height, width = pictures[0].shape[:2]
    for index in (0, len(pictures) // 2, len(pictures) - 1):
        off = np.abs(shown[index][:height, :width].astype(int) - pictures[index].astype(int))
        assert off.mean() < 6, index


def cells_that_changed(before: Any, after: Any) -> set[tuple[int, int]]:
    cell = after.shape[0] / SMALL["y_dim"]
    changed = np.argwhere((before != after).any(axis=2)) // cell
    return {(int(row), int(column)) for row, column in changed}


def test_the_last_frame_shows_the_last_train_in_its_station(played) -> None:
    arriving = [a for a in played.agents if a.arrival_time == len(played.infos)]
    assert arriving
    changed = cells_that_changed(*played.pictures[-2:])
    for agent in arriving:
        # Flatland has taken it off the map; the picture shows it in its station.
        assert agent.current_configuration is None
        assert agent.target_configuration[0] in changed


def test_a_train_is_drawn_where_it_is(played) -> None:
    n_moves = 0
    for step, trains in enumerate(played.trains, start=1):
        changed = cells_that_changed(*played.pictures[step - 1 : step + 1])
        for now, before in trains:
            if now is not None and now != before:
                assert now[0] in changed
                n_moves += 1
    assert n_moves > 10


def test_numbers_are_flatlands_own(played) -> None:
    last = played.infos[-1]
    arrived = [agent.state == TrainState.DONE for agent in played.agents]
    assert all(arrived), "the policy did not bring them home; choose another seed"
    assert last["percentage_complete"] == 100 * sum(arrived) / len(arrived)
    assert last["elapsed_steps"] == len(played.infos) == played.episode.episode_length
    for agent in played.agents:
        assert last[f"arrived_at/{agent.handle}"] == agent.arrival_time
    # On the way there: a train counts from the step in which it arrives.
    for step, info in enumerate(played.infos, start=1):
        expected = sum(agent.arrival_time <= step for agent in played.agents)
        assert info["n_arrived"] == expected
        assert info["percentage_complete"] == 100 * expected // 2


def test_numbers_are_in_the_sidecar(played) -> None:
    told = json.loads(played.episode.sidecar_path.read_text())
    assert told["final_info"] == played.infos[-1]


def test_rendering_changes_nothing(env, played) -> None:
    def trajectory(is_rendered: bool) -> tuple[list[Any], Any]:
        random.seed(5)
        np.random.seed(5)
        env.reset(seed=5)
        steps = []
        for rewards, _ in play(env):
            if is_rendered:
                env.render()
            steps.append((rewards, [str(a.current_configuration) for a in env.wrap().agents]))
        return steps, (random.random(), np.random.random())

    assert trajectory(True) == trajectory(False)


def test_a_new_map_is_drawn_anew(env, played) -> None:
    env.reset(seed=2)
    fresh = RailRenderer(env.wrap(), width=SMALL["width"], height=SMALL["height"]).render()
    assert (env.render() == fresh).all()
    assert (played.pictures[0] != fresh).any()


def test_without_regeneration_the_map_stays() -> None:
    env = make_flatland_env({**SMALL, "regenerate": False})
    rail_env = env.wrap()
    env.reset(seed=1)
    old, journeys = rail_env.rail.grid.copy(), [agent.targets for agent in rail_env.agents]
    env.reset()
    assert (rail_env.rail.grid == old).all()
    assert [agent.targets for agent in rail_env.agents] == journeys


def test_an_environment_that_is_not_to_be_filmed_draws_nothing() -> None:
    env = make_flatland_env({**SMALL, "render": None})
    env.reset(seed=1)
    assert env.render_mode is None
    assert env.render() is None
    assert env._renderer._tool is None


def test_progress_of_any_rail_env() -> None:
    env = make_flatland_env({**SMALL, "n_agents": 3})
    env.reset(seed=1)
    told = progress_of(env.wrap())
    assert told["n_agents"] == 3
    assert told["percentage_complete"] == 0
    assert [told[f"arrived_at/{handle}"] for handle in range(3)] == [None] * 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n_agent": 2}, "did you mean 'n_agents'"),
        ({"quux": 2}, "It takes grid_mode"),
        ({"n_agents": "2"}, "whole number above 0, not '2'"),
        ({"n_agents": 0}, "at least 1"),
        ({"regenerate": 1}, "true or false"),
        ({"speed_ratios": {1.0: 0.3}}, "flatland makes no map"),
        ({"x_dim": 3, "y_dim": 3}, "flatland makes no map"),
    ],
    ids=["near", "unknown", "text", "zero", "number", "ratios", "tiny"],
)
def test_settings_that_cannot_work(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make_flatland_env({**SMALL, **wrong})


def test_a_render_mode_that_cannot_be_filmed() -> None:
    with pytest.raises(RenderModeError, match="'window'"):
        make_flatland_env({**SMALL, "render": "window"})


def test_the_recorders_keys_are_passed_over(tmp_path: Path) -> None:
    env = make_flatland_env({**SMALL, "video_dir": str(tmp_path / "films"), "resume": True})
    assert env.render_mode == "rgb_array"
    assert list(tmp_path.iterdir()) == []

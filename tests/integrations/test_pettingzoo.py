"""`rollcam.integrations.pettingzoo`: every frame, the returns of the agents, and its drop-in tests."""

from __future__ import annotations

import copy
import gc
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pettingzoo
import pytest
import supersuit
from pettingzoo.utils import parallel_to_aec
from pettingzoo.utils.wrappers import CaptureStdoutWrapper, OrderEnforcingWrapper
from pettingzoo.utils.wrappers import RecordVideo as ZooRecordVideo
from pettingzoo.utils.wrappers import RecordVideoParallel as ZooRecordVideoParallel

import rollcam
from rollcam.integrations.pettingzoo import RecordVideo, RecordVideoParallel
from tests import barcode
from tests.films import wait_until
from tests.integrations.agent_envs import DrawnAEC, DrawnParallel, play_aec, play_parallel
from tests.integrations.dropin import check_signature
from tests.integrations.vector_films import always, episodes, shown

APIS: dict[str, Any] = {
    "aec": (DrawnAEC, RecordVideo, ZooRecordVideo, play_aec),
    "parallel": (DrawnParallel, RecordVideoParallel, ZooRecordVideoParallel, play_parallel),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*Overwriting existing videos:UserWarning")


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("truncates", [False, True])
def test_every_frame_and_the_facts(api: str, truncates: bool, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    env = record(made(truncates=truncates), tmp_path, episode_trigger=always)
    counts = play(env, 2, seed=4)
    env.close()
    assert shown(tmp_path) == {
        f"rl-video-episode-{n}": list(range(count + 1)) for n, count in enumerate(counts)
    }
    # Of the five steps Ann makes three; in parallel Bob leaves before the last one.
    returns = {"ann": 3.0, "bob": -4.0} if api == "aec" else {"ann": 5.0, "bob": -8.0}
    for number, episode in enumerate(episodes(tmp_path).values()):
        assert episode.extra["agent_returns"] == returns
        assert episode.episode_return == sum(returns.values())
        assert (episode.terminated, episode.truncated) == (not truncates, truncates)
        assert (episode.episode_length, episode.episode_index) == (counts[number], number)
        assert (episode.env_id, episode.seed) == ("drawn_v0", 4)
        assert episode.final_info["ann.moves"] == 5


@pytest.mark.parametrize(
    ("reward", "counted"),
    [(np.array([2.0]), 2.0), (np.float32(2), 2.0), (True, 1.0), (None, 0.0), ("much", 0.0)],
    ids=["array", "scalar", "bool", "none", "text"],
)
def test_rewards_of_any_kind(reward: Any, counted: float, tmp_path: Path) -> None:
    class Generous(DrawnParallel):
        def step(self, actions: Any) -> Any:
            obs, rewards, *others = super().step(actions)
            return obs, dict.fromkeys(rewards, reward), *others

    env = RecordVideoParallel(Generous(), tmp_path, episode_trigger=always)
    play_parallel(env, 1)
    env.close()
    (film,) = episodes(tmp_path).values()
    assert film.extra["agent_returns"] == {"ann": 5 * counted, "bob": 4 * counted}
    assert film.episode_return == 9 * counted


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"episode_trigger": lambda n: n % 2 == 1},
        {"step_trigger": lambda n: n in (2, 11)},
        {"step_trigger": lambda n: n in (2, 11), "video_length": 4},
        {"episode_trigger": lambda n: n == 1, "video_length": 6, "name_prefix": "mine"},
        {"video_length": 3},
        {"episode_trigger": lambda n: n == 0, "step_trigger": lambda n: n == 9},
    ],
    ids=["default", "episodes", "steps", "clips", "length", "default-length", "both"],
)
def test_names_counts_and_attributes_are_pettingzoos(
    api: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    made, record, theirs_record, _ = APIS[api]
    # At 4 fps moviepy drops no frame; from 24 on ours shows the last one once.
    theirs = theirs_record(made(fps=4), str(tmp_path / "theirs"), **settings)
    ours = record(made(fps=25), str(tmp_path / "ours"), **settings)
    names = (
        "recording", "step_id", "episode_id", "video_length", "name_prefix", "render_history",
    )  # fmt: skip

    def state(env: Any) -> tuple[Any, ...]:
        return (len(env.recorded_frames), *(getattr(env, name) for name in names))

    for _ in range(4):
        ours.reset()
        theirs.reset()
        assert state(ours) == state(theirs)
        while theirs.agents:
            for env in (ours, theirs):
                if api == "aec":
                    *_, terminated, truncated, _ = env.last()
                    env.step(None if terminated or truncated else 0)
                else:
                    env.step(dict.fromkeys(env.agents, 0))
            assert state(ours) == state(theirs)
        assert not ours.agents
    theirs.close()
    ours.close()
    assert shown(tmp_path / "ours") == shown(tmp_path / "theirs") != {}


@pytest.mark.parametrize("api", APIS)
def test_the_signature_and_the_attributes_are_pettingzoos(api: str, tmp_path: Path) -> None:
    made, record, theirs_record, _ = APIS[api]
    check_signature(record, theirs_record)
    of_theirs = theirs_record(made(), str(tmp_path / "theirs"))
    of_ours = record(made(), tmp_path / "ours")
    wanted = {name for name in vars(of_theirs) if not name.startswith("_")}
    assert wanted <= {name for name in dir(of_ours) if not name.startswith("_")}
    assert str(of_ours) == str(of_theirs)
    of_theirs.close()
    of_ours.close()


@pytest.mark.parametrize("api", APIS)
def test_started_and_stopped_by_hand(api: str, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    env = record(made(), tmp_path, episode_trigger=lambda n: False)
    play(env, 1)
    env.start_recording("in vain")
    env.reset()  # ends it, before a frame was there: as in PettingZoo's
    assert not env.recording
    env.start_recording("by-hand")
    play_one = {"aec": lambda: env.step(0), "parallel": lambda: env.step({"ann": 0, "bob": 0})}
    play_one[api]()
    env.stop_recording()
    assert shown(tmp_path) == {"by-hand": [1]}
    env.close()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("order", ["recorder", "environment", "neither"])
def test_whatever_is_closed_first_the_film_is_whole(api: str, order: str, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    inner = made()
    env = record(inner, tmp_path)
    (count,) = play(env, 1)
    if order == "environment":
        inner.close()
    if order == "neither":
        del env
        gc.collect()
        wait_until(lambda: bool(list(tmp_path.glob("*.mp4"))), "the dropped film is finished")
        assert not inner.is_closed
    else:
        env.close()
        env.close()
        assert inner.is_closed
    assert shown(tmp_path) == {"rl-video-episode-0": list(range(count + 1))}


@pytest.mark.parametrize("api", APIS)
def test_after_close_the_environment_goes_on_without_films(api: str, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    env = record(made(), tmp_path, episode_trigger=always)
    env.close()
    assert play(env, 1)
    assert not env.recording
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.filterwarnings("ignore::rollcam.errors.RecordingFailedWarning")
def test_a_renderer_that_raises_costs_the_film_and_nothing_else(api: str, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    env = record(made(raise_at=[2]), tmp_path, episode_trigger=always)
    plain = play(made(), 2)
    assert play(env, 2) == plain
    env.close()
    for episode in episodes(tmp_path).values():
        assert episode.status == "failed"
        assert "renderer broke at 2" in (episode.reason or "")


@pytest.mark.parametrize("api", APIS)
def test_text(api: str, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    env = record(made(mode="ansi"), tmp_path)
    (count,) = play(env, 1)
    env.close()
    film = (tmp_path / "rl-video-episode-0.cast").read_text()
    assert all(f"step {number}" in film for number in range(count + 1))


@pytest.mark.parametrize("api", APIS)
def test_a_deep_copy_films_nothing(api: str, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    env = record(made(), tmp_path, episode_trigger=always)
    env.reset()
    thought = copy.deepcopy(env)
    play(thought, 2)
    assert env.step_number == 0
    (count,) = play(env, 1)
    env.close()
    assert {len(film) for film in shown(tmp_path).values()} == {1, count + 1}


KILLED = """
import os, signal, sys
from rollcam.integrations.pettingzoo import RecordVideo
from tests.integrations.agent_envs import DrawnAEC
env = RecordVideo(DrawnAEC(50), sys.argv[1])
env.reset()
for _ in range(20):
    env.step(0)
env._recorder.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_film_of_a_killed_process_says_nothing_that_is_not_so(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60, check=False)
    rollcam.recover(tmp_path)
    (film,) = episodes(tmp_path).values()
    assert (film.status, film.n_frames) == ("truncated_by_crash", 21)
    assert (film.episode_return, film.extra["agent_returns"]) == (-10.0, None)


class Printed(DrawnAEC):
    """Prints, as games do whose `human` mode is text."""

    def render(self) -> None:
        print(f"board {self.step_number}")


def test_a_game_that_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = RecordVideo(CaptureStdoutWrapper(Printed(mode="human")), tmp_path)
    (count,) = play_aec(env, 1)
    env.close()
    film = (tmp_path / "rl-video-episode-0.cast").read_text()
    assert all(f"board {number}" in film for number in range(count + 1))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("api", APIS)
def test_list_modes_give_the_frames_back(api: str, tmp_path: Path) -> None:
    made, record, _, play = APIS[api]
    env = record(made(mode="rgb_array_list"), tmp_path)
    (count,) = play(env, 1)
    assert [barcode.read(frame) for frame in env.render()] == [*range(count + 1), count]
    env.close()
    assert shown(tmp_path) == {"rl-video-episode-0": list(range(count + 1))}


@pytest.mark.parametrize(
    ("name", "settings"), [("tictactoe-v3", {}), ("connect_four-v3", {}), ("rps-v2", {"max_cycles": 3})]
)  # fmt: skip
def test_real_games(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    env = RecordVideo(
        pettingzoo.make("aec", f"classic/{name}", render_mode="rgb_array", **settings), tmp_path
    )
    counts = play_aec(env, 2, seed=3)
    env.close()
    for number, count in enumerate(counts):
        film = episodes(tmp_path)[f"rl-video-episode-{number}"]
        assert (film.status, film.n_frames, film.episode_length) == ("complete", count + 1, count)
        returns = film.extra["agent_returns"]
        assert sum(returns.values()) == film.episode_return == 0  # what one wins the other loses
        if name != "rps-v2":
            assert sorted(returns.values()) in ([-1, 1], [0, 0])
        assert film.terminated or film.truncated


def test_returns_are_those_that_the_agents_see(tmp_path: Path) -> None:
    env = RecordVideo(parallel_to_aec(DrawnParallel()), tmp_path)
    env.reset()
    seen = dict.fromkeys(env.possible_agents, 0.0)
    for agent in env.agent_iter():
        _, reward, terminated, truncated, _ = env.last()
        seen[agent] += reward
        env.step(None if terminated or truncated else 0)
    env.close()
    (film,) = episodes(tmp_path).values()
    assert film.extra["agent_returns"] == seen == {"ann": 5.0, "bob": -8.0}


def test_supersuit_on_both_sides(tmp_path: Path) -> None:
    inside = supersuit.frame_stack_v1(RecordVideo(DrawnAEC(), tmp_path / "inside"), 2)
    around = RecordVideo(supersuit.clip_reward_v0(DrawnAEC(), -1, 1), tmp_path / "around")
    for env, folder, returns in (
        (inside, "inside", {"ann": 3.0, "bob": -4.0}),
        (around, "around", {"ann": 3.0, "bob": -2.0}),
    ):
        (count,) = play_aec(env, 1)
        env.close()
        assert shown(tmp_path / folder) == {"rl-video-episode-0": list(range(count + 1))}
        (film,) = episodes(tmp_path / folder).values()
        assert film.extra["agent_returns"] == returns
    parallel = supersuit.color_reduction_v0(
        RecordVideoParallel(DrawnParallel(), tmp_path / "p"), "full"
    )
    (count,) = play_parallel(parallel, 1)
    parallel.close()
    assert shown(tmp_path / "p") == {"rl-video-episode-0": list(range(count + 1))}


@pytest.mark.filterwarnings("ignore::rollcam.errors.NameTakenWarning")
def test_what_supersuit_copies_into_a_vector_environment(tmp_path: Path) -> None:
    filmed = RecordVideoParallel(DrawnParallel(truncates=True), tmp_path)
    venv = supersuit.pettingzoo_env_to_vec_env_v1(supersuit.black_death_v3(filmed))
    venv = supersuit.concat_vec_envs_v1(venv, 2, num_cpus=0, base_class="gymnasium")
    venv.reset()
    for _ in range(5):
        venv.step(np.zeros(venv.num_envs, np.int64))
    venv.reset()
    venv.close()
    filmed.close()
    found = episodes(tmp_path)
    assert len(found) >= 2
    whole = [film for film in found.values() if film.episode_length == 5]
    assert len(whole) == 2
    assert len({film.run_id for film in found.values()}) == 1
    assert all(film.status in ("complete", "empty") for film in found.values())


@pytest.mark.parametrize("api", APIS)
def test_arguments_that_cannot_work(api: str, tmp_path: Path) -> None:
    made, record, _, _ = APIS[api]
    with pytest.raises(rollcam.RenderModeError, match="rgb_array"):
        record(made(mode="human"), tmp_path)
    with pytest.raises(rollcam.SettingError, match="callable"):
        record(made(), tmp_path, episode_trigger=3)
    with pytest.raises(rollcam.SettingError, match="video_length"):
        record(made(), tmp_path, video_length=-1)
    with pytest.raises(rollcam.SettingError, match="fps"):
        record(made(fps=0), tmp_path)
    other = {"aec": DrawnParallel, "parallel": DrawnAEC}[api]
    with pytest.raises(rollcam.SettingError, match="RecordVideo"):
        record(other(), tmp_path)
    with pytest.raises(TypeError, match="unheard"):
        record(made(), tmp_path, unheard=1)


def test_order_enforcing_says_what_it_always_says(tmp_path: Path) -> None:
    env = RecordVideo(OrderEnforcingWrapper(DrawnAEC()), tmp_path)
    with pytest.raises(AttributeError, match="before reset"):
        _ = env.agents
    play_aec(env, 1)
    env.close()


@pytest.mark.filterwarnings("ignore:PettingZoo environments do not take:UserWarning")
@pytest.mark.filterwarnings("ignore:The `render_mode` attribute is not defined:UserWarning")
def test_sb3s_recorder_over_what_supersuit_vectorised(tmp_path: Path) -> None:
    from rollcam.integrations.sb3 import VecVideoRecorder

    venv = supersuit.pettingzoo_env_to_vec_env_v1(
        supersuit.black_death_v3(DrawnParallel(truncates=True))
    )
    venv = supersuit.concat_vec_envs_v1(venv, 1, num_cpus=0, base_class="stable_baselines3")
    with pytest.warns(rollcam.RollcamWarning, match="neither a DummyVecEnv nor"):
        env = VecVideoRecorder(venv, tmp_path, lambda n: n == 0, video_length=4)
    env.reset()
    for _ in range(6):
        env.step(np.zeros(env.num_envs, np.int64))
    env.close()
    assert shown(tmp_path) == {"rl-video-step-0-to-step-4": [0, 1, 2, 3, 4]}

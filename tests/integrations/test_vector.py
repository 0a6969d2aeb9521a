"""`rollcam.integrations.vector.RecordVideo`: every frame of every sub-environment, in every mode."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import ClipReward, DictInfoToList, RecordEpisodeStatistics

import rollcam
from rollcam.integrations.vector import RecordVideo
from tests import barcode
from tests.envs import AnsiEnv, CountingEnv
from tests.films import said_by_rollcam, wait_until
from tests.integrations.vector_films import (
    FPS,
    LENGTHS,
    MODES,
    always,
    counted,
    episodes,
    film_separately,
    make,
    play,
    separate_films,
    shown,
    tiles,
)

N_STEPS = 11
SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("kind", ["sync", "async", "async-copied"])
def test_separate_films_hold_every_frame_of_each_episode(
    kind: str, mode: AutoresetMode, tmp_path: Path
) -> None:
    env = film_separately(tmp_path, make(kind, mode))
    play(env, N_STEPS, mode, seed=7)
    env.close()
    wanted = separate_films(N_STEPS, mode)
    assert shown(tmp_path) == wanted
    for name, episode in episodes(tmp_path).items():
        index, number, frames = int(name[13]), int(name[-1]), wanted[name]
        assert (episode.status, episode.n_frames) == ("complete", len(frames))
        n_steps = len(frames) - 1
        assert episode.episode_length == n_steps
        assert episode.episode_return == (sum(frames) if n_steps else None)
        assert episode.seed == (7 + index if number == 0 else None)
        assert episode.terminated == (frames[-1] == LENGTHS[index])
        assert episode.writer is not None
        assert episode.writer.vector_index == index
        assert episode.episode_index == number
        if n_steps:
            assert episode.final_info == {"step": frames[-1]}


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tiled_films_follow_sub_environment_0_to_its_last_frame(
    kind: str, mode: AutoresetMode, tmp_path: Path
) -> None:
    env = RecordVideo(make(kind, mode), tmp_path, (3, 1), episode_trigger=always)
    play(env, N_STEPS, mode, seed=7)
    assert (env.frame_rows, env.frame_cols) == (1, 3)
    env.close()
    clock = counted(LENGTHS[0], N_STEPS, mode)
    found = {path.stem: tiles(path, 3) for path in tmp_path.glob("*.mp4")}
    seen = {name: [row[0] for row in rows] for name, rows in found.items()}
    if mode is DISABLED:  # there, a reset of the others is a picture too, as in Gymnasium's
        seen = {name: list(dict.fromkeys(numbers)) for name, numbers in seen.items()}
    assert seen == {f"rl-video-episode-{n}": frames for n, frames in enumerate(clock)}
    assert found["rl-video-episode-0"] == [(i, i, i) for i in range(4)]
    first = episodes(tmp_path)["rl-video-episode-0"]
    assert (first.episode_return, first.episode_length, first.seed) == (6.0, 3, 7)


def test_a_tile_shows_the_last_frame_where_a_sub_environment_was_reset(tmp_path: Path) -> None:
    env = RecordVideo(make("sync", SAME), tmp_path, (3, 1), episode_trigger=always)
    play(env, N_STEPS, SAME)
    env.close()
    assert tiles(tmp_path / "rl-video-episode-0.mp4", 3) == [(i, i, i) for i in range(4)]
    # Sub-environment 2 ends at its 4th step, 1 at its 5th; what they show is their last frame.
    assert tiles(tmp_path / "rl-video-episode-1.mp4", 3) == [
        (0, 3, 3),
        (1, 4, 4),
        (2, 5, 1),
        (3, 1, 2),
    ]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_film_that_begins_as_a_tile_is_reset_has_no_black_tile(kind: str, tmp_path: Path) -> None:
    """The last frame of that tile was not kept, as nobody filmed; it shows what it shows now."""
    env = RecordVideo(
        make(kind, SAME), tmp_path, step_trigger=lambda step: step in (3, 4), video_length=1
    )
    play(env, 6, SAME)
    env.close()
    assert tiles(tmp_path / "rl-video-step-3.mp4", 3)[0] == (1, 4, 0)
    assert tiles(tmp_path / "rl-video-step-4.mp4", 3)[0] == (2, 5, 1)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_only_what_is_filmed_is_rendered(kind: str, mode: AutoresetMode, tmp_path: Path) -> None:
    vector = make(kind, mode)
    env = film_separately(
        tmp_path,
        vector,
        env_indices=[0, 2],
        episode_trigger=lambda i, n: (i, n) in {(0, 1), (2, 0)},
    )
    play(env, N_STEPS, mode)
    n_renders = vector.get_attr("n_renders")
    env.close()
    assert n_renders == (LENGTHS[0] + 1, 0, LENGTHS[2] + 1)
    assert sorted(shown(tmp_path)) == ["rl-video-env-0-episode-1", "rl-video-env-2-episode-0"]


def test_nothing_is_rendered_while_nothing_is_filmed(tmp_path: Path) -> None:
    for kind in ("sync", "async"):
        vector = make(kind, SAME)
        env = RecordVideo(vector, tmp_path / kind, episode_trigger=lambda n: False)
        play(env, N_STEPS, SAME)
        assert vector.get_attr("n_renders") == (0, 0, 0)
        env.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_a_renderer_that_raises_costs_one_film_and_no_step(
    kind: str, mode: AutoresetMode, tmp_path: Path
) -> None:
    vector = make(kind, mode)
    # Frame 4 is sub-environment 2's last one: under SAME_STEP it is rendered inside `step`.
    vector.set_attr("raise_at", [(), (4,), (4,)])
    env = film_separately(tmp_path, vector, episode_trigger=lambda n: n == 0)
    with pytest.warns(rollcam.RollcamWarning, match="renderer broke at 4"):
        play(env, N_STEPS, mode)
        env.close()
    found = episodes(tmp_path)
    assert {name: episode.status.value for name, episode in found.items()} == {
        "rl-video-env-0-episode-0": "complete",
        "rl-video-env-1-episode-0": "failed",
        "rl-video-env-2-episode-0": "failed",
    }
    assert (found["rl-video-env-1-episode-0"].episode_return) == 15.0, "its steps still count"


def test_other_wrappers_may_stand_below_and_above(tmp_path: Path) -> None:
    below = ClipReward(make("async", SAME), max_reward=2.0)
    env = RecordEpisodeStatistics(
        film_separately(tmp_path, below, episode_trigger=lambda n: n == 0)
    )
    play(env, N_STEPS, SAME)
    env.close()
    assert shown(tmp_path)["rl-video-env-1-episode-0"] == list(range(6))
    assert episodes(tmp_path)["rl-video-env-1-episode-0"].episode_return == 9.0  # 1 + 2 + 2 + 2 + 2


def test_infos_may_be_a_list(tmp_path: Path) -> None:
    env = film_separately(tmp_path, DictInfoToList(make("sync", NEXT)), info_keys=("step",))
    play(env, 6, NEXT)
    env.close()
    episode = episodes(tmp_path)["rl-video-env-1-episode-0"]
    assert episode.final_info == {"step": 5}
    assert episode.read_steps()["info.step"] == [None, 1, 2, 3, 4, 5]


class OddInfos(gym.vector.VectorWrapper):
    """Puts into infos what is no array with a place for each sub-environment."""

    def step(self, actions: Any) -> Any:
        *result, infos = self.env.step(actions)
        odd = {
            "phase": "warm-up",
            "total": 5,
            "short": np.zeros(1),
            "_step": 7,
            3: 4,
            "_short": ...,
        }
        return *result, {**infos, **odd, "step": infos["step"]}


@pytest.mark.parametrize("layout", ["separate", "tiled"])
def test_infos_may_hold_anything(layout: Any, tmp_path: Path) -> None:
    env = RecordVideo(OddInfos(make("sync", NEXT)), tmp_path, layout=layout, episode_trigger=always)
    play(env, 7, NEXT)
    env.close()
    found = episodes(tmp_path)
    assert {episode.status for episode in found.values()} == {"complete"}
    name = "rl-video-env-1-episode-0" if layout == "separate" else "rl-video-episode-0"
    info = found[name].final_info
    assert (info["phase"], info["total"], info["3"]) == ("warm-up", 5, 4)
    assert info["step"] == (5 if layout == "separate" else 3)
    assert ("short" in info) == (layout == "tiled")  # it has a place for the first of them


def test_seeds_and_masks(tmp_path: Path) -> None:
    env = film_separately(tmp_path, make("sync", DISABLED))
    env.reset(seed=[3, None, 9])
    env.step(np.zeros(3, np.int64))
    env.reset(seed=[30, 31, 32], options={"reset_mask": np.array([False, True, False])})
    env.step(np.zeros(3, np.int64))
    env.close()
    assert {name: e.seed for name, e in episodes(tmp_path).items()} == {
        "rl-video-env-0-episode-0": 3,
        "rl-video-env-1-episode-0": None,
        "rl-video-env-1-episode-1": 31,
        "rl-video-env-2-episode-0": 9,
    }
    assert shown(tmp_path)["rl-video-env-0-episode-0"] == [0, 1, 2]
    assert shown(tmp_path)["rl-video-env-1-episode-1"] == [0, 1]


@pytest.mark.parametrize("kind", ["sync", "async", "async-copied"])
def test_a_reset_by_hand_right_after_an_end(kind: str, tmp_path: Path) -> None:
    env = film_separately(tmp_path, make(kind, NEXT, (2, 9)))
    for _ in range(2):
        play(env, 2, NEXT)
    play(env, 4, NEXT)
    env.close()
    found = shown(tmp_path)
    # Without shared memory Gymnasium resets once more, in the first step after such a reset.
    length = 2 if kind == "async-copied" else 3
    assert found["rl-video-env-0-episode-0"] == [0, 1, 2]
    assert found["rl-video-env-0-episode-1"] == [0, 1, 2][:length]
    numbers = [e.n_frames - 1 == e.episode_length for e in episodes(tmp_path).values()]
    assert all(numbers)


def test_clips_of_each_sub_environment_hold_resets_too(tmp_path: Path) -> None:
    env = film_separately(
        tmp_path, make("sync", SAME, (3, 5)), episode_trigger=None, step_trigger=lambda n: n == 1,
        video_length=6,
    )  # fmt: skip
    play(env, 9, SAME)
    env.close()
    assert shown(tmp_path) == {
        "rl-video-env-0-step-1": [2, 3, 0, 1, 2, 3, 0],
        "rl-video-env-1-step-1": [2, 3, 4, 5, 0, 1, 2],
    }
    assert {e.kind for e in episodes(tmp_path).values()} == {"clip"}


def test_length_alone_films_everything_in_pieces(tmp_path: Path) -> None:
    env = RecordVideo(make("sync", NEXT, (3, 5)), tmp_path, (2, 1), video_length=4)
    play(env, 9, NEXT)
    env.close()
    rows = [tiles(path, 2) for path in sorted(tmp_path.glob("*.mp4"))]
    assert [len(film) for film in rows] == [5, 5]
    assert [row[0] for film in rows for row in film] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_by_hand_and_the_last_frame_of_a_film_of_one(tmp_path: Path) -> None:
    for kind in ("sync", "async"):
        env = film_separately(
            tmp_path / kind, make(kind, SAME, (3, 5)), episode_trigger=lambda n: False
        )
        play(env, 2, SAME)
        with pytest.raises(AssertionError, match="no recording was started"):
            env.stop_recording()
        env.start_recording("mine")
        env.step(np.zeros(2, np.int64))
        env.step(np.zeros(2, np.int64))
        env.stop_recording()
        assert not env.recording
        assert shown(tmp_path / kind) == {"mine-env-0": [3], "mine-env-1": [3, 4]}
        env.close()


def test_text_is_filmed_separately(tmp_path: Path) -> None:
    env = film_separately(
        tmp_path, SyncVectorEnv([lambda: AnsiEnv(length=3, fps=FPS)] * 2), env_indices=[1]
    )
    play(env, 3, NEXT)
    env.close()
    assert [path.name for path in tmp_path.glob("*.cast")] == ["rl-video-env-1-episode-0.cast"]


class AllAtOnce(VectorEnv):
    """Renders all of its sub-environments in one call, as environments on a GPU do."""

    def __init__(self, mode: AutoresetMode) -> None:
        self.inner = make("sync", mode)
        self.num_envs, self.render_mode = 3, "rgb_array"
        self.metadata = self.inner.metadata
        self.action_space = self.inner.action_space
        self.n_renders = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.inner.reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:
        return self.inner.step(actions)

    def render(self) -> Any:
        self.n_renders += 1
        return np.stack(self.inner.render())


@pytest.mark.parametrize("mode", [NEXT, DISABLED], ids=lambda mode: mode.name)
def test_any_vector_environment_that_gives_a_sequence_of_frames(
    mode: AutoresetMode, tmp_path: Path
) -> None:
    vector = AllAtOnce(mode)
    env = film_separately(tmp_path, vector, episode_trigger=lambda n: n == 0)
    play(env, 5, mode)
    env.close()
    assert shown(tmp_path) == {
        f"rl-video-env-{i}-episode-0": list(range(n + 1)) for i, n in enumerate(LENGTHS)
    }
    assert vector.n_renders == 6, "once for each step, whatever is filmed"


def test_where_last_frames_cannot_be_had_one_warning_says_so(tmp_path: Path) -> None:
    with pytest.warns(rollcam.RollcamWarning, match="last frame of each episode cannot") as said:
        env = film_separately(tmp_path, AllAtOnce(SAME))
        play(env, 4, SAME)
        env.close()
    assert len(said_by_rollcam(said)) == 1
    assert shown(tmp_path)["rl-video-env-0-episode-0"] == [0, 1, 2]
    assert episodes(tmp_path)["rl-video-env-0-episode-0"].episode_return == 6.0


def test_gymnasiums_own_vector_cartpole(tmp_path: Path) -> None:
    vector = gym.make_vec(
        "CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point", render_mode="rgb_array"
    )
    env = RecordVideo(vector, tmp_path, episode_trigger=lambda n: n == 0)
    play(env, 5, NEXT, seed=1)
    env.close()
    assert episodes(tmp_path)["rl-video-episode-0"].n_frames == 6


def test_sub_environments_are_left_as_they_were(tmp_path: Path) -> None:
    vector = make("sync", SAME)
    before = [dict(vars(env)) for env in vector.envs]
    env = RecordVideo(vector, tmp_path, episode_trigger=lambda n: False)
    assert "step" in vars(vector.envs[0])
    env.close()
    for sub, was in zip(vector.envs, before, strict=True):
        assert vars(sub).keys() == was.keys()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"layout": "mosaic"}, "layout must be one of"),
        ({"record_in": "workers"}, "AsyncVectorEnv and layout"),
        ({"record_in": "elsewhere"}, "record_in must be one of"),
        ({"env_indices": [3]}, "from 0 to 2"),
        ({"env_indices": []}, "from 0 to 2"),
        ({"env_indices": 1}, "from 0 to 2"),
        ({"video_aspect_ratio": (0, 1)}, "width, height"),
        ({"video_aspect_ratio": "wide"}, "width, height"),
        ({"episode_trigger": 3}, "callable on a number"),
        ({"episode_trigger": lambda i, n: True}, "needs 2 arguments"),
        ({"video_length": -1}, "number of steps"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    settings: dict[str, Any], match: str, tmp_path: Path
) -> None:
    vector = make("sync", NEXT)
    with pytest.raises(rollcam.SettingError, match=match):
        RecordVideo(vector, tmp_path, **settings)
    vector.close()


def test_render_modes_that_give_nothing(tmp_path: Path) -> None:
    vector = SyncVectorEnv([lambda: AnsiEnv()])
    with pytest.raises(rollcam.RenderModeError, match='layout="separate"'):
        RecordVideo(vector, tmp_path)
    vector.close()


def test_frames_of_different_sizes_share_a_picture(tmp_path: Path) -> None:
    sizes = [(64, 48), (32, 24)]
    vector = SyncVectorEnv([lambda s=s: CountingEnv(length=3, size=s, fps=FPS) for s in sizes])
    env = RecordVideo(vector, tmp_path, (2, 1), episode_trigger=always)
    play(env, 3, NEXT)
    env.close()
    assert tiles(tmp_path / "rl-video-episode-0.mp4", 2) == [(i, i) for i in range(4)]


def test_turned_frames_are_not_turned_in_the_tiles(tmp_path: Path) -> None:
    class Turned(CountingEnv):
        def render(self) -> Any:
            return np.ascontiguousarray(super().render().transpose(1, 0, 2)).transpose(1, 0, 2)

    vector = SyncVectorEnv([lambda: Turned(length=3, fps=FPS, size=(64, 48))] * 6)
    env = RecordVideo(vector, tmp_path, (4, 3), episode_trigger=always)
    play(env, 3, NEXT)
    assert (env.frame_rows, env.frame_cols) == (2, 3)
    env.close()
    found = tiles(tmp_path / "rl-video-episode-0.mp4", 3, 2)
    assert found == [(i,) * 6 for i in range(4)]
    assert barcode.decode(tmp_path / "rl-video-episode-0.mp4")[0][1].shape == (96, 192, 3)


def test_what_is_dropped_without_close_is_finished(tmp_path: Path) -> None:
    env = film_separately(tmp_path, make("sync", SAME))
    play(env, 2, SAME)
    del env
    gc.collect()
    wait_until(lambda: len(list(tmp_path.glob("*.meta.json"))) == 3, "the films are finished")
    assert shown(tmp_path)["rl-video-env-0-episode-0"] == [0, 1, 2]

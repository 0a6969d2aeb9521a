"""`rollcam.integrations.sb3.VecVideoRecorder`: every frame, from every kind of `VecEnv`."""

from __future__ import annotations

import gc
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

import rollcam
from rollcam.integrations.sb3 import VecVideoRecorder
from tests import barcode
from tests.envs import AnsiEnv, CountingEnv
from tests.films import wait_until
from tests.integrations.sb3_films import KINDS, LENGTHS, last_frames, make, numbers, play
from tests.integrations.vector_films import FPS, always, episodes, shown, tiles

N_STEPS = 11


def first(n_steps: int) -> bool:
    return n_steps == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiled_clip_has_one_picture_for_each_step_and_shows_last_frames(
    kind: str, tmp_path: Path
) -> None:
    env = VecVideoRecorder(make(kind), tmp_path, first, video_length=9)
    play(env, N_STEPS, seed=7)
    env.close()
    columns = zip(*(last_frames(length, 9) for length in LENGTHS), strict=True)
    name = "rl-video-step-0-to-step-9"
    assert tiles(tmp_path / f"{name}.mp4", 1, rows=2) == list(columns)
    clip = episodes(tmp_path)[name]
    assert (clip.status, clip.kind, clip.seed, clip.n_frames) == ("complete", "clip", 7, 10)
    assert clip.episode_return == sum(last_frames(LENGTHS[0], 9))
    assert clip.env_id == "CountingEnv"


@pytest.mark.parametrize("kind", KINDS)
def test_separate_films_hold_every_frame_of_each_episode(kind: str, tmp_path: Path) -> None:
    env = VecVideoRecorder(make(kind), tmp_path, layout="separate", episode_trigger=always)
    play(env, N_STEPS, seed=7)
    env.close()
    wanted = {
        f"rl-video-env-{i}-episode-{n}": frames
        for i, length in enumerate(LENGTHS)
        for n, frames in enumerate(numbers(length, N_STEPS))
    }
    assert shown(tmp_path) == wanted
    for name, episode in episodes(tmp_path).items():
        index, number, frames = int(name[13]), int(name[-1]), wanted[name]
        assert (episode.status, episode.n_frames) == ("complete", len(frames))
        assert episode.episode_length == len(frames) - 1
        assert episode.terminated == (frames[-1] == LENGTHS[index])
        assert not episode.truncated
        assert episode.seed == (7 + index if number == 0 else None)
        assert episode.writer is not None
        assert (episode.writer.vector_index, episode.episode_index) == (index, number)
        if len(frames) > 1:
            assert episode.episode_return == sum(frames)
            assert episode.final_info["step"] == frames[-1]


def test_separate_clips(tmp_path: Path) -> None:
    env = VecVideoRecorder(
        make(), tmp_path, lambda index, n: n == 2 * index, video_length=4, layout="separate"
    )
    play(env, N_STEPS)
    env.close()
    assert shown(tmp_path) == {
        "rl-video-env-0-step-0-to-step-4": last_frames(3, 4),
        "rl-video-env-1-step-2-to-step-6": last_frames(5, 6)[2:],
    }


def test_whole_episodes_tiled_follow_the_first_sub_environment(tmp_path: Path) -> None:
    env = VecVideoRecorder(make(), tmp_path, episode_trigger=lambda n: n == 1)
    play(env, N_STEPS)
    env.close()
    film = tmp_path / "rl-video-episode-1.mp4"
    assert tiles(film, 1, rows=2) == [(0, 3), (1, 4), (2, 5), (3, 1)]


def test_truncated_episodes(tmp_path: Path) -> None:
    env = VecVideoRecorder(
        make(truncates=True), tmp_path, layout="separate", episode_trigger=lambda n: n == 0
    )
    play(env, 5)
    env.close()
    assert [(e.terminated, e.truncated) for e in episodes(tmp_path).values()] == [(False, True)] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_filmed_is_rendered(kind: str, tmp_path: Path) -> None:
    venv = make(kind)
    env = VecVideoRecorder(
        venv,
        tmp_path,
        layout="separate",
        env_indices=[1],
        episode_trigger=lambda n: n == 1,
    )
    play(env, N_STEPS)
    n_renders = venv.get_attr("n_renders")
    env.close()
    assert n_renders == [0, LENGTHS[1] + 1]


def test_a_tile_of_a_clip_that_begins_where_an_episode_ended_is_not_black(tmp_path: Path) -> None:
    env = VecVideoRecorder(make(), tmp_path, lambda n: n == 5, video_length=2)
    play(env, 8)
    env.close()
    # The film begins at the very step that ended and reset sub-environment 1.
    assert tiles(tmp_path / "rl-video-step-5-to-step-7.mp4", 1, rows=2) == [(2, 0), (3, 1), (1, 2)]


@pytest.mark.parametrize("order", ["recorder", "environment", "neither"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_closed_first_the_film_is_whole(kind: str, order: str, tmp_path: Path) -> None:
    venv = make(kind)
    env = VecVideoRecorder(venv, tmp_path, first, video_length=100)
    play(env, 7)
    if order == "environment":
        venv.close()
        env.close()
    elif order == "recorder":
        env.close()
        env.close()
    else:
        del env
        gc.collect()
        wait_until(lambda: bool(list(tmp_path.glob("*.mp4"))), "the dropped film is finished")
        venv.close()
    columns = zip(*(last_frames(length, 7) for length in LENGTHS), strict=True)
    assert tiles(tmp_path / "rl-video-step-0-to-step-100.mp4", 1, rows=2) == list(columns)


def test_sub_environments_are_left_as_they_were(tmp_path: Path) -> None:
    venv = make()
    before = [vars(sub).copy().keys() for sub in venv.envs]
    env = VecVideoRecorder(venv, tmp_path, first)
    play(env, 2)
    env.close()
    assert [vars(sub).keys() - {"_np_random", "_np_random_seed"} for sub in venv.envs] == [
        keys - {"_np_random", "_np_random_seed"} for keys in before
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::rollcam.errors.RecordingFailedWarning")
def test_a_renderer_that_raises_costs_the_film_and_nothing_else(kind: str, tmp_path: Path) -> None:
    env = VecVideoRecorder(
        make(kind, raise_at=[2]), tmp_path, layout="separate", episode_trigger=lambda n: n < 2
    )
    play(env, N_STEPS)
    env.close()
    for episode in episodes(tmp_path).values():
        assert episode.status == "failed"
        assert "renderer broke at 2" in (episode.reason or "")


def test_wrappers_in_between(tmp_path: Path) -> None:
    inner = VecVideoRecorder(make(), tmp_path / "inner", first, video_length=4)
    stacked = VecFrameStack(VecNormalize(VecMonitor(inner)), 2)
    env = VecVideoRecorder(stacked, tmp_path / "outer", first, video_length=4)
    play(env, 6)
    env.close()
    found = [
        tiles(tmp_path / who / "rl-video-step-0-to-step-4.mp4", 1, rows=2)
        for who in ("inner", "outer")
    ]
    assert found[0] == found[1]
    returns = [episodes(tmp_path / who).popitem()[1].episode_return for who in ("inner", "outer")]
    assert returns[0] == sum(last_frames(3, 4)) != returns[1]  # the outer one's are normalized


def test_text(tmp_path: Path) -> None:
    env = VecVideoRecorder(
        DummyVecEnv([lambda: AnsiEnv(length=2)]),
        tmp_path,
        layout="separate",
        episode_trigger=lambda n: n == 0,
    )
    play(env, 3)
    env.close()
    (film,) = tmp_path.glob("*.cast")
    assert all(f"step {number}" in film.read_text() for number in range(3))


class Overlay(VecEnvWrapper):
    """Shows something of its own."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()

    def render(self, mode: str | None = None) -> Any:
        return 255 - np.asarray(self.venv.render(mode))


def test_what_a_wrapper_shows_is_what_is_filmed(tmp_path: Path) -> None:
    with pytest.warns(rollcam.RollcamWarning, match="beginning of the next one"):
        env = VecVideoRecorder(Overlay(make(lengths=(3, 3))), tmp_path, first, video_length=2)
    play(env, 3)
    env.close()
    (clip,) = episodes(tmp_path).values()
    assert (clip.status, clip.n_frames) == ("complete", 3)
    assert clip.media_path is not None
    pictures = [255 - frame for _, frame in barcode.decode(clip.media_path)]
    height = pictures[0].shape[0] // 2
    assert [barcode.read(picture[:height]) for picture in pictures] == [0, 1, 2]


def test_children_that_were_spawned(tmp_path: Path) -> None:
    venv = SubprocVecEnv([partial(CountingEnv, length=3, fps=FPS)], start_method="spawn")
    env = VecVideoRecorder(venv, tmp_path, layout="separate", episode_trigger=always)
    play(env, 4)
    env.close()
    assert shown(tmp_path) == {
        "rl-video-env-0-episode-0": [0, 1, 2, 3],
        "rl-video-env-0-episode-1": [0, 1],
    }


@pytest.mark.filterwarnings("ignore::rollcam.errors.RecordingFailedWarning")
def test_a_child_that_was_killed_costs_its_film_and_close_ends(tmp_path: Path) -> None:
    venv = make("subproc")
    env = VecVideoRecorder(venv, tmp_path, layout="separate", episode_trigger=always)
    play(env, 2)
    os.kill(venv.processes[0].pid, signal.SIGKILL)
    venv.processes[0].join(20)
    with pytest.raises((EOFError, OSError)):
        env.step(np.zeros(2, np.int64))
    with pytest.raises((EOFError, OSError)):
        env.close()  # of SB3's: it wants to speak to the dead child
    venv.processes[1].kill()
    films = shown(tmp_path)
    assert films["rl-video-env-0-episode-0"] == films["rl-video-env-1-episode-0"] == [0, 1, 2]


def test_settings_of_the_recorder(tmp_path: Path) -> None:
    done: list[str] = []
    env = VecVideoRecorder(
        make(),
        tmp_path,
        layout="separate",
        episode_trigger=always,
        keep=rollcam.keep_best(1),
        context=lambda: {"iteration": 3},
        name="{iteration}/{vector_index}-{episode_index}",
        metadata={"who": "me"},
        on_finished=lambda episode: done.append(episode.name),
        mode="eval",
    )
    play(env, 10)
    env.close()
    (path,) = tmp_path.rglob("*.mp4")
    assert path.parent.name == "3"
    (kept,) = [e for e in episodes(tmp_path).values() if e.media]
    assert (kept.mode, kept.metadata["who"], kept.episode_return) == ("eval", "me", 15.0)
    assert len(done) >= 1

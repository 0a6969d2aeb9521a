"""The peers' documented examples, with the import changed: their films are complete, and they play."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pettingzoo
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics
from stable_baselines3.common.vec_env import DummyVecEnv

import rollcam
from rollcam.integrations.pettingzoo import RecordVideo as RecordAgents
from rollcam.integrations.sb3 import VecVideoRecorder
from tests import barcode
from tests.browser import Browser
from tests.integrations.agent_envs import play_aec
from tests.integrations.vector_films import episodes


def check_plays(folder: Path, browser: Browser, n_films: int) -> dict[str, rollcam.Episode]:
    """Every film is complete to its last frame; a browser plays the longest one to its end."""
    found = episodes(folder)
    assert len(found) == n_films
    for film in found.values():
        assert film.status == "complete"
        assert film.media_path is not None
        assert film.n_frames == (film.episode_length or 0) + 1
        n_pictures = len(barcode.decode(film.media_path))
        # At low rates the last picture stands twice in the file, so that players show it.
        assert n_pictures - film.n_frames in (0, 1)
    longest = max(found.values(), key=lambda film: film.n_frames)
    report = browser.probe(longest.media_path, fps=longest.fps, seek_to=[0, longest.n_frames - 1])
    assert (report.first, report.ended) == ("loadeddata", True), report.error_message
    return found


def run_episodes(env: Any, n: int) -> list[int]:
    counts = []
    for episode in range(n):
        env.reset(seed=episode)
        counts.append(0)
        over = False
        while not over:
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            counts[-1] += 1
            over = terminated or truncated
    return counts


def test_gymnasiums_recording_of_every_evaluation(tmp_path: Path, browser: Browser) -> None:
    env: Any = gym.make("CartPole-v1", render_mode="rgb_array")
    env = rollcam.RecordVideo(
        env, video_folder=str(tmp_path), name_prefix="eval", episode_trigger=lambda x: True
    )
    env = RecordEpisodeStatistics(env, buffer_length=4)
    counts = run_episodes(env, 4)
    env.close()
    found = check_plays(tmp_path, browser, 4)
    assert [found[f"eval-episode-{n}"].episode_length for n in range(4)] == counts
    assert [found[f"eval-episode-{n}"].episode_return for n in range(4)] == list(env.return_queue)


def test_gymnasiums_recording_of_a_training(tmp_path: Path, browser: Browser) -> None:
    period = 5
    env: Any = gym.make("CartPole-v1", render_mode="rgb_array")
    env = rollcam.RecordVideo(
        env,
        video_folder=str(tmp_path),
        name_prefix="training",
        episode_trigger=lambda episode: episode % period == 0,
    )
    env = RecordEpisodeStatistics(env)
    run_episodes(env, 11)
    env.close()
    assert sorted(check_plays(tmp_path, browser, 3)) == [
        f"training-episode-{n}" for n in (0, 10, 5)
    ]


def test_sb3s_record_a_video(tmp_path: Path, browser: Browser) -> None:
    env_id, video_length = "CartPole-v1", 100
    vec_env: Any = DummyVecEnv([lambda: gym.make(env_id, render_mode="rgb_array")])
    vec_env.reset()
    vec_env = VecVideoRecorder(
        vec_env,
        str(tmp_path),
        record_video_trigger=lambda x: x == 0,
        video_length=video_length,
        name_prefix=f"random-agent-{env_id}",
    )
    vec_env.reset()
    for _ in range(video_length + 1):
        vec_env.step([vec_env.action_space.sample()])
    vec_env.close()
    (clip,) = check_plays(tmp_path, browser, 1).values()
    assert clip.name == "random-agent-CartPole-v1-step-0-to-step-100"
    assert clip.n_frames == video_length + 1


def test_pettingzoos_loop_over_agents(tmp_path: Path, browser: Browser) -> None:
    env: Any = pettingzoo.make("aec", "classic/connect_four-v3", render_mode="rgb_array")
    env = RecordAgents(env, str(tmp_path), episode_trigger=lambda x: True, fps=30)
    counts = play_aec(env, 2, seed=42)
    env.close()
    found = check_plays(tmp_path, browser, 2)
    assert [found[f"rl-video-episode-{n}"].episode_length for n in range(2)] == counts


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_cleanrls_capture_video(kind: str, tmp_path: Path, browser: Browser) -> None:
    def make_env(env_id: str, idx: int, capture_video: bool, run_name: str) -> Any:
        def thunk() -> Any:
            env: Any
            if capture_video and idx == 0:
                env = gym.make(env_id, render_mode="rgb_array")
                env = rollcam.RecordVideo(env, f"{tmp_path}/{run_name}")
            else:
                env = gym.make(env_id)
            return RecordEpisodeStatistics(env)

        return thunk

    vector = gym.vector.SyncVectorEnv if kind == "sync" else gym.vector.AsyncVectorEnv
    envs: Any = vector([make_env("CartPole-v1", i, True, "run") for i in range(2)])
    envs.reset(seed=1)
    global_step = 0
    for _ in range(120):
        global_step += 2
        rollcam.set_context(global_step=global_step)
        envs.step(np.zeros(2, np.int64))  # episodes of about ten steps
    envs.close()
    found = check_plays(tmp_path / "run", browser, 3)
    assert sorted(found) == [f"rl-video-episode-{n}" for n in (0, 1, 8)]
    steps = [film.context_at_end["global_step"] for film in found.values()]
    assert all(0 < int(step) <= 240 for step in steps)  # type: ignore[arg-type]


WANDB_RECIPE = """
import gymnasium as gym
import wandb
from rollcam.integrations.sb3 import RecordCallback, VecVideoRecorder
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from wandb.integration.sb3 import WandbCallback

config = {"policy_type": "MlpPolicy", "total_timesteps": 256, "env_name": "CartPole-v1"}
run = wandb.init(
    project="sb3", config=config, sync_tensorboard=True, monitor_gym=True, save_code=True,
    mode="offline", dir="home",
)

def make_env():
    return Monitor(gym.make(config["env_name"], render_mode="rgb_array"))

env = DummyVecEnv([make_env])
env = VecVideoRecorder(
    env, "videos", record_video_trigger=lambda x: x % 100 == 0, video_length=40, sinks=["wandb"]
)
model = PPO(config["policy_type"], env, n_steps=64, tensorboard_log=f"runs/{run.id}")
model.learn(
    total_timesteps=config["total_timesteps"],
    callback=[
        WandbCallback(gradient_save_freq=100, model_save_path=f"models/{run.id}", verbose=2),
        RecordCallback("videos", episode_trigger=lambda episode: False),
    ],
)
env.close()
run.finish()
"""


def test_wandbs_recipe_for_sb3(tmp_path: Path, browser: Browser) -> None:
    (tmp_path / "script.py").write_text(WANDB_RECIPE)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = check_plays(tmp_path / "videos", browser, 3)
    assert sorted(found) == [f"rl-video-step-{n}-to-step-{n + 40}" for n in (0, 100, 200)]
    assert [int(f.context_at_start.get("num_timesteps", 0)) for f in found.values()] == [0, 99, 199]  # type: ignore[arg-type]
    # What lies in the run are these films, byte for byte.
    sent = {path.read_bytes() for path in (tmp_path / "home").rglob("media/**/*.mp4")}
    assert sent == {f.media_path.read_bytes() for f in found.values() if f.media_path}

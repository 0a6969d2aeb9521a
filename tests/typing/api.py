"""Type-checked, never run: what users write against the public API has the types they expect."""

from concurrent.futures import Future
from typing import assert_type

import gymnasium as gym
import numpy as np

import rollcam

env: gym.Env[np.ndarray, int] = gym.make("CartPole-v1", render_mode="rgb_array")
filmed = rollcam.RecordVideo(
    env,
    "videos",
    episode_trigger=rollcam.every(10),
    keep=rollcam.keep_best(5),
    context=lambda: {"iteration": 1},
)
assert_type(filmed.recording, bool)
filmed.set_context(num_env_steps=3)

with rollcam.Recorder("videos", fps=30, keep=lambda episode: episode.terminated) as recorder:
    recorder.begin(seed=1)
    assert_type(recorder.frame(np.zeros((4, 4, 3), np.uint8), reward=1.0), bool)
    assert_type(recorder.end(terminated=True), Future[rollcam.Episode])

old = rollcam.VideoRecorder(env, "a.mp4", enabled=True)
assert_type(old.functional, bool)

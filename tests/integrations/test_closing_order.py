"""Recorder closed before the environment, after it, or never: no film is lost or black."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rollcam
from rollcam.integrations.legacy_gym import Monitor, VideoRecorder
from rollcam.integrations.legacy_gym import RecordVideo as OldRecordVideo
from rollcam.integrations.vector import RecordVideo as RecordVector
from tests import barcode
from tests.envs import CountingEnv
from tests.films import wait_until
from tests.integrations.vector_films import FPS, always

ORDERS = ["recorder", "environment", "neither"]
WRAPPERS: dict[str, Any] = {
    "RecordVideo": rollcam.RecordVideo,
    "Monitor": Monitor,
    "legacy RecordVideo": OldRecordVideo,
}


def pictures(folder: Path) -> list[list[np.ndarray[Any, Any]]]:
    found = [path for path in sorted(folder.rglob("*.mp4")) if ".rollcam" not in path.parts]
    return [[picture for _, picture in barcode.decode(path)] for path in found]


def end(env: Any, inner: Any, order: str) -> None:
    if order == "recorder":
        env.close()
        inner.close()
    elif order == "environment":
        inner.close()
        env.close()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_real_renderer(kind: str, order: str, tmp_path: Path) -> None:
    inner: Any = gym.make("CartPole-v1", render_mode="rgb_array")
    env = WRAPPERS[kind](inner, tmp_path)
    env.reset(seed=1)
    for _ in range(4):
        env.step(0)
    if order == "neither":
        del env
        gc.collect()
        wait_until(lambda: bool(pictures(tmp_path)), "the dropped film is finished")
        assert inner.render().any()  # the renderer is still the user's
        inner.close()
    else:
        end(env, inner, order)
    (film,) = pictures(tmp_path)
    assert len(film) == 5
    assert all(picture.any() for picture in film)


@pytest.mark.parametrize("order", ORDERS)
def test_gyms_recorder_of_a_path(order: str, tmp_path: Path) -> None:
    env: Any = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=1)
    recorder = VideoRecorder(env, tmp_path / "film.mp4")
    for _ in range(3):
        env.step(0)
        recorder.capture_frame()
    if order == "neither":
        del recorder
        gc.collect()
    elif order == "recorder":
        recorder.close()
    else:
        env.close()
        recorder.close()
    if order != "environment":
        assert env.render().any()
        env.close()
    (film,) = pictures(tmp_path)
    assert len(film) == 3
    assert all(picture.any() for picture in film)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layout", ["tiled", "separate"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_vector_environments(kind: str, layout: Any, order: str, tmp_path: Path) -> None:
    made = gym.vector.SyncVectorEnv if kind == "sync" else gym.vector.AsyncVectorEnv
    inner = made([lambda: CountingEnv(length=9, fps=FPS)] * 2)
    env = RecordVector(inner, tmp_path, episode_trigger=always, layout=layout)
    env.reset(seed=1)
    for _ in range(3):
        env.step(np.zeros(2, np.int64))
    n_films = 1 if layout == "tiled" else 2
    if order == "neither":
        del env
        gc.collect()
        wait_until(lambda: len(pictures(tmp_path)) == n_films, "the dropped films are finished")
        inner.step(np.zeros(2, np.int64))
        inner.close()
    else:
        end(env, inner, order)
    found = pictures(tmp_path)
    assert [len(film) for film in found] == [4] * n_films
    assert all(picture.any() for film in found for picture in film)


@pytest.mark.parametrize("order", ORDERS)
def test_a_recorder_of_ones_own_loop(order: str, tmp_path: Path) -> None:
    env: Any = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=1)
    recorder = rollcam.Recorder(tmp_path, fps=50)
    recorder.begin()
    for _ in range(3):
        recorder.capture(env.render)
        env.step(0)
    if order == "environment":
        env.close()
    if order == "neither":
        del recorder
        gc.collect()
        wait_until(lambda: bool(pictures(tmp_path)), "the dropped film is finished")
    else:
        recorder.close()
    if order != "environment":
        assert env.render().any()
        env.close()
    (film,) = pictures(tmp_path)
    assert len(film) == 3
    assert all(picture.any() for picture in film)

"""`rollcam.integrations.dm_env` with real dm_env and dm_control; run by tests/integrations."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import dm_env
import numpy as np
import pytest
from dm_control import composer, suite
from dm_control.composer.variation import distributions
from dm_control.locomotion.arenas import floors
from dm_env import specs

from rollcam.errors import RecordingFailedWarning, RenderModeError, SettingError
from rollcam.integrations.dm_env import RecordVideo
from rollcam.store.files import list_episodes
from tests import barcode


class Counting(dm_env.Environment):
    """Shows how many steps were made; each episode ends after `length`, with `discount`."""

    def __init__(self, length: int = 4, discount: float = 0.0) -> None:
        self.length, self.discount, self.count, self.is_over = length, discount, 0, True
        self.is_closed = False

    def reset(self) -> dm_env.TimeStep:
        self.count, self.is_over = 0, False
        return dm_env.restart(self._observation())

    def step(self, action: Any) -> dm_env.TimeStep:
        if self.is_over:
            return self.reset()
        self.count += 1
        if self.count < self.length:
            return dm_env.transition(1.5, self._observation())
        self.is_over = True
        return dm_env.TimeStep(dm_env.StepType.LAST, 1.5, self.discount, self._observation())

    def observation_spec(self) -> Any:
        return {"pixels": specs.Array((192, 256, 3), np.uint8)}

    def action_spec(self) -> Any:
        return specs.DiscreteArray(2)

    def close(self) -> None:
        self.is_closed = True

    def _observation(self) -> dict[str, np.ndarray]:
        return {"pixels": barcode.draw(self.count)}


def pixels(step: dm_env.TimeStep) -> np.ndarray:
    return step.observation["pixels"]


def films(folder: Path) -> dict[str, list[int]]:
    return {path.stem: barcode.indices(path) for path in sorted(folder.glob("*.mp4"))}


def test_episodes_go_by_their_time_steps(tmp_path: Path) -> None:
    inner = Counting()
    env = RecordVideo(inner, tmp_path, lambda i: i != 1, render=pixels, fps=30)
    assert isinstance(env, dm_env.Environment)
    env.reset()
    for _ in range(14):  # 4 steps and a reset, three times over
        env.step(0)
    assert env.action_spec().num_values == 2
    assert env.length == 4
    env.close()
    assert inner.is_closed
    assert films(tmp_path) == {
        "rl-video-episode-0": [0, 1, 2, 3, 4], "rl-video-episode-2": [0, 1, 2, 3, 4],
    }  # fmt: skip
    first, last = list_episodes(tmp_path).episodes
    assert (first.episode_return, first.episode_length, first.env_id) == (6.0, 4, "Counting")
    assert (first.terminated, first.truncated) == (True, False)
    assert (last.episode_index, last.step_index) == (2, 8)


@pytest.mark.parametrize("discount", [1.0, np.ones(2), 0.9], ids=["one", "array", "part"])
def test_a_discount_that_is_not_zero_is_a_cut(tmp_path: Path, discount: Any) -> None:
    with RecordVideo(Counting(discount=discount), tmp_path, render=pixels) as env:
        env.reset()
        for _ in range(4):
            env.step(0)
    episode = list_episodes(tmp_path).episodes[0]
    assert (episode.terminated, episode.truncated) == (False, True)


def test_an_episode_that_is_given_up(tmp_path: Path) -> None:
    with RecordVideo(Counting(), tmp_path, render=pixels, fps=30) as env:
        env.reset()
        env.step(0)
        env.reset()
    assert films(tmp_path) == {"rl-video-episode-0": [0, 1], "rl-video-episode-1": [0]}


def test_the_control_suite(tmp_path: Path) -> None:
    inner = suite.load("cartpole", "swingup", task_kwargs={"random": 0, "time_limit": 0.2})
    env = RecordVideo(inner, tmp_path, height=120, width=160)
    step = env.reset()
    rng = np.random.default_rng(0)
    n_steps = 0
    while not step.last():
        step = env.step(rng.uniform(-1, 1, env.action_spec().shape))
        n_steps += 1
    expected = env.physics.render(height=120, width=160, camera_id=0)
    env.close()
    episode = list_episodes(tmp_path).episodes[0]
    assert (episode.n_frames, episode.episode_length) == (n_steps + 1, n_steps)
    assert (episode.fps, episode.width, episode.height) == (100, 160, 120)
    assert (episode.env_id, episode.truncated) == ("cartpole-Balance", True)
    shown = barcode.decode(episode.media_path)[-1][1]
    assert np.abs(shown.astype(int) - expected).mean() < 4, "the last frame, the right way up"


def test_a_composer_environment_and_a_named_camera(tmp_path: Path) -> None:
    class Empty(composer.Task):
        def __init__(self) -> None:
            self._arena = floors.Floor(size=(2, 2))
            self._arena.mjcf_model.worldbody.add("camera", name="top", pos=(0, 0, 5))
            self.height = distributions.Uniform(0, 1)

        @property
        def root_entity(self) -> Any:
            return self._arena

        def get_reward(self, physics: Any) -> float:
            return 1.0

        def action_spec(self, physics: Any) -> Any:
            return specs.BoundedArray((0,), float, 0, 1)

    inner = composer.Environment(Empty(), time_limit=0.1, random_state=0)
    with RecordVideo(inner, tmp_path, camera_id="top", height=64, width=64) as env:
        for _ in range(2):
            step = env.reset()
            while not step.last():
                step = env.step(np.zeros(0))
    episodes = list_episodes(tmp_path).episodes
    assert [(e.status, e.n_frames == e.episode_length + 1) for e in episodes] == (
        [("complete", True)] * 2
    )


def test_a_camera_that_is_not_there_costs_the_film_alone(tmp_path: Path) -> None:
    inner = suite.load("cartpole", "balance", task_kwargs={"random": 0})
    env = RecordVideo(inner, tmp_path, camera_id=99)
    with pytest.warns(RecordingFailedWarning, match="99"):
        env.reset()
        env.step(np.zeros(1))
        env.close()
    assert [e.status for e in list_episodes(tmp_path).episodes] == ["failed"]


def test_what_cannot_be_filmed(tmp_path: Path) -> None:
    with pytest.raises(RenderModeError, match=r'render=lambda step: step.observation\["pixels"\]'):
        RecordVideo(Counting(), tmp_path)
    with pytest.raises(SettingError, match=r"a dm_env.Environment was expected"):
        RecordVideo(object(), tmp_path)
    with pytest.raises(SettingError, match="render must be a callable"):
        RecordVideo(Counting(), tmp_path, render=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 0}, "height must be at least 1"),
        ({"width": "wide"}, "width must be a number of pixels"),
        ({"camera_id": 1.5}, "camera_id must be a number or a name"),
    ],
)
def test_views_that_cannot_be(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message):
        RecordVideo(Counting(), tmp_path, render=pixels, **settings)


@pytest.mark.parametrize("order", ["recorder", "environment", "neither"])
def test_whatever_is_closed_first_the_film_is_whole(order: str, tmp_path: Path) -> None:
    inner = Counting()
    env = RecordVideo(inner, tmp_path, render=pixels)
    env.reset()
    env.step(0)
    env.step(0)
    if order == "environment":
        inner.close()
    if order == "neither":
        del env
        gc.collect()
        assert not inner.is_closed
    else:
        env.close()
        env.close()
        assert inner.is_closed
    assert films(tmp_path) == {"rl-video-episode-0": [0, 1, 2]}


def test_physics_that_was_closed_first_costs_no_film(tmp_path: Path) -> None:
    inner = suite.load("cartpole", "balance")
    env = RecordVideo(inner, tmp_path)
    env.reset()
    for _ in range(3):
        env.step([0.0])
    inner.close()
    env.close()
    (film,) = list_episodes(tmp_path).episodes
    assert (film.status, film.n_frames) == ("complete", 4)
    assert all(picture.any() for _, picture in barcode.decode(film.media_path))


def test_an_environment_that_has_nothing_to_close(tmp_path: Path) -> None:
    class Bare:
        reset, step = Counting().reset, Counting().step

    RecordVideo(Bare(), tmp_path, render=pixels).close()


def test_after_close_the_environment_goes_on(tmp_path: Path) -> None:
    env = RecordVideo(Counting(), tmp_path, lambda i: True, render=pixels)
    env.close()
    env.reset()
    env.step(0)
    assert not films(tmp_path)

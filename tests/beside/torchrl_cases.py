"""`rollcam.integrations.torchrl` with the real TorchRL; run by tests/integrations/test_torchrl.py."""

from __future__ import annotations

import copy
import functools
import gc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Binary, Composite, OneHot, Unbounded
from torchrl.envs import (
    Compose,
    EnvBase,
    GymEnv,
    ParallelEnv,
    RewardSum,
    SerialEnv,
    StepCounter,
    ToTensorImage,
    TransformedEnv,
)

from rollcam.errors import FrameMendedWarning, RecordingFailedWarning, SettingError
from rollcam.integrations.torchrl import VideoRecorder
from rollcam.store.files import list_episodes
from tests import barcode


class Counting(EnvBase):
    """Shows how many steps were made since its reset; an episode lasts `length` steps."""

    def __init__(self, length: int = 4) -> None:
        super().__init__()
        self.length, self.count = length, 0
        self.was_closed = False
        self.observation_spec = Composite(pixels=Unbounded((192, 256, 3), dtype=torch.uint8))
        self.action_spec = OneHot(2)
        self.reward_spec = Unbounded((1,))
        self.full_done_spec = Composite(
            {
                key: Binary(1, shape=(1,), dtype=torch.bool)
                for key in ("done", "terminated", "truncated")
            }
        )

    def _reset(self, tensordict: Any = None, **kwargs: Any) -> TensorDict:
        self.count = 0
        return self._told()

    def _step(self, tensordict: Any) -> TensorDict:
        self.count += 1
        return self._told().set("reward", torch.tensor([0.5]))

    def close(self, **kwargs: Any) -> None:
        self.was_closed = True
        super().close(**kwargs)

    def _set_seed(self, seed: int | None) -> None:
        pass

    def _told(self) -> TensorDict:
        ends = torch.tensor([self.count >= self.length])
        return TensorDict(
            {
                "pixels": torch.from_numpy(barcode.draw(self.count)),
                "done": ends, "terminated": ends, "truncated": torch.zeros(1, dtype=torch.bool),
            },
            [],
        )  # fmt: skip


def films(folder: Path) -> dict[str, list[int]]:
    return {path.stem: barcode.indices(path) for path in sorted(folder.glob("*.mp4"))}


def test_a_rollout_is_its_episodes(tmp_path: Path) -> None:
    env = TransformedEnv(Counting(), VideoRecorder(tmp_path, "run"))
    data = env.rollout(10, break_when_any_done=False)
    assert data["pixels"].shape == (10, 192, 256, 3)
    env.close()
    assert films(tmp_path) == {
        "run-episode-0": [0, 1, 2, 3, 4],
        "run-episode-1": [0, 1, 2, 3, 4],
        "run-episode-2": [0, 1, 2],
    }
    first, _, last = list_episodes(tmp_path).episodes
    assert (first.episode_return, first.episode_length, first.env_id) == (2.0, 4, "Counting")
    assert (first.terminated, first.truncated, last.terminated) == (True, False, False)
    assert first.writer.vector_index is None
    assert len(first.read_steps()["reward"]) == 5


def test_a_batch_is_the_episodes_of_each(tmp_path: Path) -> None:
    makers = [functools.partial(Counting, length) for length in (2, 5, 5)]
    recorder = VideoRecorder(tmp_path, env_indices=[0, 1], episode_trigger=lambda i: i < 2)
    env = TransformedEnv(SerialEnv(3, makers), Compose(RewardSum(), recorder, StepCounter()))
    env.rollout(7, break_when_any_done=False)
    env.close()
    assert films(tmp_path) == {
        "rl-video-env-0-episode-0": [0, 1, 2],
        "rl-video-env-0-episode-1": [0, 1, 2],
        "rl-video-env-1-episode-0": [0, 1, 2, 3, 4, 5],
        "rl-video-env-1-episode-1": [0, 1, 2],
    }
    assert {e.writer.vector_index for e in list_episodes(tmp_path).episodes} == {0, 1}


def test_workers_film_into_one_folder(tmp_path: Path) -> None:
    def make() -> TransformedEnv:
        return TransformedEnv(Counting(), VideoRecorder(tmp_path))

    env = ParallelEnv(2, make, mp_start_method="fork")  # each would import torch anew
    env.rollout(3)
    env.close()
    assert list(films(tmp_path).values()) == [[0, 1, 2, 3]] * 2


def test_dump_writes_what_is_open(tmp_path: Path) -> None:
    env = TransformedEnv(Counting(), VideoRecorder(tmp_path))
    env.rollout(2)
    env.transform.dump()
    assert films(tmp_path) == {"rl-video-episode-0": [0, 1, 2]}
    env.rollout(1)
    env.close()
    assert len(films(tmp_path)) == 2


def test_channels_first_and_floats(tmp_path: Path) -> None:
    pixels = ToTensorImage(in_keys=["pixels"], out_keys=[("agent", "view")])
    recorder = VideoRecorder(tmp_path, in_keys=[("agent", "view")])
    env = TransformedEnv(Counting(), Compose(pixels, recorder))
    with warnings.catch_warnings():  # that they are mended
        warnings.simplefilter("ignore", FrameMendedWarning)
        env.rollout(2)
        env.close()
    assert films(tmp_path) == {"rl-video-episode-0": [0, 1, 2]}


def test_gymnasium_through_torchrl(tmp_path: Path) -> None:
    base = GymEnv("CartPole-v1", from_pixels=True, pixels_only=False)
    env = TransformedEnv(base, VideoRecorder(tmp_path))
    env.set_seed(0)
    n_steps = len(env.rollout(30))
    env.close()
    episode = list_episodes(tmp_path).episodes[0]
    assert (episode.env_id, episode.fps) == ("CartPole-v1", 50)
    assert (episode.n_frames, episode.episode_return) == (n_steps + 1, float(n_steps))
    assert np.any(barcode.decode(episode.media_path)[0][1] != 255)


def test_a_key_that_is_not_there_costs_the_film_alone(tmp_path: Path) -> None:
    env = TransformedEnv(Counting(), VideoRecorder(tmp_path, in_keys=["view"]))
    with pytest.warns(RecordingFailedWarning, match="view"):
        assert len(env.rollout(3)) == 3
        env.close()
    assert [e.status for e in list_episodes(tmp_path).episodes] == ["failed"]


def test_a_copy_films_on_its_own(tmp_path: Path) -> None:
    env = TransformedEnv(Counting(), VideoRecorder(tmp_path / "a"))
    env.rollout(1)
    other = copy.deepcopy(env.transform)
    assert other._recorder is None
    env.close()


def test_a_clone_films_on_its_own(tmp_path: Path) -> None:
    env = TransformedEnv(Counting(), VideoRecorder(tmp_path, tag="a"))
    env.rollout(2)
    recorder = env.transform.clone()
    recorder.tag = "b"
    other = TransformedEnv(Counting(), recorder)
    other.rollout(3)
    env.step(env.rand_step()["next"].exclude("reward"))
    other.close()
    env.close()
    assert films(tmp_path) == {"a-episode-0": [0, 1, 2, 3, 4], "b-episode-0": [0, 1, 2, 3]}


@pytest.mark.parametrize("order", ["recorder", "environment", "neither"])
def test_whatever_is_closed_first_the_films_are_whole(order: str, tmp_path: Path) -> None:
    base, recorder = Counting(), VideoRecorder(tmp_path)
    env = TransformedEnv(base, recorder)
    env.rollout(6, break_when_any_done=False)
    if order == "recorder":
        recorder.close()
        assert not base.was_closed
        env.close()
    elif order == "environment":
        base.close()
        recorder.close()
    else:
        del env, recorder
        gc.collect()
        assert not base.was_closed
    assert films(tmp_path) == {
        "rl-video-episode-0": [0, 1, 2, 3, 4],
        "rl-video-episode-1": [0, 1, 2],
    }


@pytest.mark.parametrize("keys", [[], ["pixels", "depth"]])
def test_keys_that_cannot_be_filmed(keys: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="in_keys must name the one key"):
        VideoRecorder(tmp_path, in_keys=keys)


def test_a_key_without_its_list(tmp_path: Path) -> None:
    assert VideoRecorder(tmp_path, in_keys="view").in_keys == ["view"]


def test_settings_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="folder must be a path"):
        VideoRecorder(None)
    with pytest.raises(SettingError, match="env_indices must lie between 0 and 0"):
        TransformedEnv(SerialEnv(1, Counting), VideoRecorder(tmp_path, env_indices=[1])).rollout(1)

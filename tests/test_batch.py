"""Batches of frames: `(N, H, W, 3)` arrays and tensors of environments that are rendered together."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rollcam
from tests import barcode

FILM = 100
"""Environment i shows `i * FILM + step`."""


def shown(n: int, step: int) -> np.ndarray:
    return np.stack([barcode.draw(i * FILM + step) for i in range(n)])


class OnDevice:
    """Stands for a CUDA tensor, which no machine of ours has: counts what is brought to the host."""

    def __init__(self, tensor: torch.Tensor, log: list[tuple[int, ...]]) -> None:
        self.tensor, self.log = tensor, log
        self.shape = tensor.shape
        self.device = torch.device("cuda", 0)

    def __getitem__(self, indices: list[int]) -> OnDevice:
        return OnDevice(self.tensor[indices], self.log)

    def detach(self) -> OnDevice:
        return self

    def cpu(self) -> torch.Tensor:
        self.log.append(tuple(self.shape))
        return self.tensor.clone()


def films(folder: Path) -> dict[str, list[int]]:
    return {path.stem: barcode.indices(path) for path in sorted(folder.glob("*.mp4"))}


KINDS: dict[str, Any] = {
    "array": lambda batch: batch,
    "tensor": torch.from_numpy,
    "channels-first": lambda batch: torch.from_numpy(batch).permute(0, 3, 1, 2),
    "floats": lambda batch: torch.from_numpy(batch).float() / 255,
    "list": list,
    "jax": lambda batch: importlib.import_module("jax.numpy").asarray(batch),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_environment_gets_its_own_frames(tmp_path: Path, kind: str) -> None:
    with rollcam.Recorder(tmp_path, fps=30) as recorder:
        batch = recorder.batch(3)
        batch.begin(seeds=[7, 8, 9])
        with warnings.catch_warnings():  # that floats and channels first are mended
            warnings.simplefilter("ignore", rollcam.RollcamWarning)
            assert batch.frame(KINDS[kind](shown(3, 0)), is_reset=True) == 3
            for step in range(1, 5):
                batch.frame(
                    KINDS[kind](shown(3, step)),
                    rewards=torch.full((3, 1), float(step)),
                    actions=np.zeros((3, 2)),
                    infos=[{"env": i} for i in range(3)],
                    terminated=torch.tensor([step == 4, False, False]),
                )
            futures = batch.end(truncated=[False, True, True])
            episodes = [futures[i].result(60) for i in range(3)]
    assert films(tmp_path) == {
        f"rl-video-env-{i}-episode-0": [i * FILM + step for step in range(5)] for i in range(3)
    }
    assert [(e.seed, e.writer.vector_index, e.final_info["env"]) for e in episodes] == [
        (7, 0, 0), (8, 1, 1), (9, 2, 2),
    ]  # fmt: skip
    assert [(e.terminated, e.truncated) for e in episodes] == [
        (True, False), (False, True), (False, True),
    ]  # fmt: skip
    assert [(e.episode_return, e.episode_length) for e in episodes] == [(10.0, 4)] * 3


def test_a_device_is_asked_once_and_for_no_more_than_is_filmed(tmp_path: Path) -> None:
    log: list[tuple[int, ...]] = []
    n_renders = 0

    def render(step: int) -> OnDevice:
        nonlocal n_renders
        n_renders += 1
        return OnDevice(torch.from_numpy(shown(4, step)), log)

    with rollcam.Recorder(tmp_path, fps=30) as recorder:
        batch = recorder.batch(4)
        assert batch.capture(lambda: render(0)) == 0
        batch.begin([1, 3])
        assert batch.filming == [1, 3]
        for step in range(3):
            assert batch.capture(lambda step=step: render(step)) == 2
        batch.end([1])
        batch.begin(torch.tensor([True, False, False, False]))
        batch.capture(lambda: render(3))
    assert (n_renders, log) == (4, [(2, 192, 256, 3)] * 4)
    assert films(tmp_path) == {
        "rl-video-env-0-episode-0": [3],
        "rl-video-env-1-episode-0": [100, 101, 102],
        "rl-video-env-3-episode-0": [300, 301, 302, 303],
    }


def test_frames_may_be_written_to_afterwards(tmp_path: Path) -> None:
    tensor = torch.zeros((2, 192, 256, 3), dtype=torch.uint8)
    with rollcam.Recorder(tmp_path, fps=30) as recorder:
        batch = recorder.batch(2)
        batch.begin()
        for step in range(20):
            tensor.copy_(torch.from_numpy(shown(2, step)))
            batch.frame(tensor)
            tensor.zero_()
    assert films(tmp_path)["rl-video-env-1-episode-0"] == list(range(100, 120))


def test_environments_that_reset_themselves(tmp_path: Path) -> None:
    """As ManiSkill and Isaac Lab do: the last frame of an episode is never shown."""
    done = torch.tensor([False, True])
    with rollcam.Recorder(tmp_path, fps=30) as recorder:
        batch = recorder.batch(2)
        batch.begin()
        batch.frame(shown(2, 0), is_reset=True)
        batch.frame(shown(2, 1), rewards=[1, 1])
        ended = batch.end(done, rewards=[1, 1], terminated=done)
        batch.begin(done)
        batch.frame(shown(2, 2))
        episode = ended[1].result(60)
        assert (list(ended), batch.filming) == ([1], [0, 1])
    assert (episode.n_frames, episode.episode_length, episode.episode_return) == (2, 2, 2.0)
    assert episode.terminated
    assert films(tmp_path)["rl-video-env-1-episode-1"] == [102]


def test_infos_as_simulators_on_a_gpu_return_them(tmp_path: Path) -> None:
    infos = {
        "success": torch.tensor([False, True]),
        "elapsed": np.array([3, 4]),
        "pose": torch.zeros(2, 7),
        "names": ["a", "b"],
        "clock": 5,
        "physics": torch.tensor(0.5),
    }
    with rollcam.Recorder(tmp_path, info_keys=("elapsed",)) as recorder:
        batch = recorder.batch(2)
        batch.begin()
        batch.frame(shown(2, 0), is_reset=True)
        batch.frame(shown(2, 1), rewards=torch.ones(2), infos=infos)
        films = [future.result(60) for future in batch.end().values()]
    for index, film in enumerate(films):
        assert film.final_info == {
            "success": bool(index), "elapsed": 3 + index, "names": "ab"[index], "clock": 5,
            "physics": 0.5,
        }  # fmt: skip
        assert film.read_steps()["info.elapsed"] == [None, 3 + index]


def test_cameras_for_chosen_environments_only(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, fps=30) as recorder:
        batch = recorder.batch(1000, env_indices=[2])
        batch.begin()
        batch.frame([barcode.draw(i) if i == 2 else None for i in range(1000)])
    assert films(tmp_path) == {"rl-video-env-2-episode-0": [2]}


def test_a_renderer_that_fails_costs_the_films_alone(tmp_path: Path) -> None:
    n_calls = 0

    def render() -> None:
        nonlocal n_calls
        n_calls += 1
        raise RuntimeError("CUDA out of memory")

    with rollcam.Recorder(tmp_path, fps=30) as recorder:
        batch = recorder.batch(2)
        batch.begin()
        with pytest.warns(rollcam.RollcamWarning, match="CUDA out of memory"):
            batch.capture(render)
            batch.capture(render, rewards=[1, 1])
            episodes = [future.result(60) for future in batch.end().values()]
    assert n_calls == 1, "films that have failed are not rendered for"
    assert [(e.status, e.episode_length) for e in episodes] == [("failed", 1)] * 2


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((3, 8, 8, 3), np.uint8), r"shape \(3, 8, 8, 3\) is no batch.*\(2, H, W, 3\)"),
        (np.zeros((2, 3), np.uint8), "is no batch"),
        ([None], "1 frames came, and 2 were expected"),
    ],
)
def test_what_is_no_batch(tmp_path: Path, frames: Any, message: str) -> None:
    with rollcam.Recorder(tmp_path, on_error="raise") as recorder:
        batch = recorder.batch(2)
        batch.begin()
        with pytest.raises(rollcam.FrameError, match=message):
            batch.frame(frames)


def test_a_single_frame_that_is_a_batch_says_what_to_use(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, on_error="raise") as recorder:
        recorder.begin()
        with pytest.raises(rollcam.FrameError, match=r"Recorder\.batch"):
            recorder.frame(np.zeros((2, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "call",
    [
        lambda batch: batch.begin([2]),
        lambda batch: batch.begin([-1]),
        lambda batch: batch.begin([0.5]),
        lambda batch: batch.begin([True]),
        lambda batch: batch.begin(3),
        lambda batch: batch.begin(seeds=[1]),
        lambda batch: batch.begin(seeds=[1, "x"]),
        lambda batch: (batch.begin(), batch.frame(shown(2, 0), rewards=[1])),
        lambda batch: batch.frame(shown(2, 0), rewards=[1]),
        lambda batch: batch.frame(shown(2, 0), rewards=torch.ones(())),
        lambda batch: batch.frame(shown(2, 0), actions={"a": 1, "b": 2}),
        lambda batch: (batch.begin(), batch.frame(shown(2, 0), infos=[{}])),
        lambda batch: batch.frame(shown(2, 0), infos=3),
        lambda batch: batch.end(terminated=True),
    ],
    ids=[
        "index",
        "negative",
        "half",
        "mask",
        "number",
        "seeds",
        "seed",
        "rewards",
        "unfilmed",
        "scalar",
        "actions",
        "infos",
        "number",
        "ends",
    ],
)
def test_what_does_not_fit_the_batch(tmp_path: Path, call: Any) -> None:
    with rollcam.Recorder(tmp_path) as recorder, pytest.raises(rollcam.SettingError):
        call(recorder.batch(2))


@pytest.mark.parametrize(("n", "indices"), [(0, None), (True, None), (2, [2]), (2, ["0"])])
def test_batches_that_cannot_be(tmp_path: Path, n: Any, indices: Any) -> None:
    with rollcam.Recorder(tmp_path) as recorder, pytest.raises(rollcam.SettingError):
        recorder.batch(n, env_indices=indices)

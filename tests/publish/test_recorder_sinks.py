"""`sinks=` of the recorders: films arrive by themselves, and stay until they have."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

import rollcam
from rollcam.errors import SinkError
from rollcam.integrations.vector import RecordVideo as VectorRecordVideo
from rollcam.publish.sink import Delivery
from tests import barcode
from tests.envs import CountingEnv
from tests.films import episodes, wait_until
from tests.process.scripts import run


class Shelf:
    """A sink that takes films when it is told to."""

    name = "shelf"
    target = "test"

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.names: list[str] = []

    def publish(self, delivery: Delivery) -> str:
        if not self.is_open.is_set():
            raise SinkError("the shelf is closed")
        self.names.append(delivery.episode.name)
        return delivery.episode.name

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str] | None:
        return [d.episode.episode_id for d in deliveries if d.episode.name in self.names]

    def close(self) -> None:
        pass


def film_some(recorder: rollcam.Recorder, n: int) -> None:
    for _ in range(n):
        recorder.begin()
        for k in range(5):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        recorder.end().result(timeout=60)


def test_the_wrapper_publishes_what_it_filmed(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    env = rollcam.RecordVideo(
        CountingEnv(length=5, fps=25), tmp_path / "videos", rollcam.every(1),
        sinks=[f"folder:{copies}"],
    )  # fmt: skip
    for _ in range(3):
        env.reset()
        for _ in range(5):
            env.step(0)
    env.close()
    assert set(episodes(copies)) == {f"rl-video-episode-{n}" for n in range(3)}
    for n in range(3):
        assert barcode.indices(copies / f"rl-video-episode-{n}.mp4") == list(range(6))


def test_a_film_that_did_not_arrive_is_not_deleted(tmp_path: Path) -> None:
    shelf = Shelf()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rollcam.RollcamWarning)
        recorder = rollcam.Recorder(tmp_path, fps=25, keep=rollcam.keep_last(1), sinks=[shelf])
        film_some(recorder, 3)
        assert len(episodes(tmp_path)) == 3
        shelf.is_open.set()
        # Its sink is tried again by itself.
        wait_until(lambda: len(shelf.names) == 3, "the shelf has them all")
        recorder.close()
    assert set(episodes(tmp_path)) == {"rl-video-episode-2"}
    assert sorted(shelf.names) == [f"rl-video-episode-{n}" for n in range(3)]


def test_a_sink_that_fails_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    shelf = Shelf()
    recorder = rollcam.Recorder(tmp_path, fps=25, on_error="raise", sinks=[shelf])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        film_some(recorder, 4)
        recorder.close()
    messages = [str(w.message) for w in said if issubclass(w.category, rollcam.RollcamWarning)]
    assert len([m for m in messages if "the shelf is closed" in m]) == 1
    assert len(episodes(tmp_path)) == 4


def test_what_a_dead_process_owed_is_published_by_the_next(tmp_path: Path) -> None:
    videos, copies = tmp_path / "videos", tmp_path / "copies"
    code = f"""
        recorder = rollcam.Recorder(folder / "videos", fps=25, sinks=["folder:{copies}"])
        recorder.begin(seed=3)
        for k in range(20):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        recorder.flush()
        die()
    """
    run(code, tmp_path, status=-signal.SIGKILL)
    with rollcam.Recorder(videos, fps=25, sinks=[f"folder:{copies}"]):
        pass
    (episode,) = episodes(copies).values()
    assert (episode.status, episode.n_frames, episode.seed) == ("truncated_by_crash", 20, 3)
    assert barcode.indices(copies / f"{episode.name}.mp4") == list(range(20))


def test_what_cannot_work_is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(rollcam.SettingError, match="nowhere"):
        rollcam.Recorder(tmp_path, sinks=["nowhere"])
    with pytest.raises(rollcam.SettingError, match="must be a list"):
        rollcam.Recorder(tmp_path, sinks="wandb")
    with pytest.raises(rollcam.SettingError, match="has none"):
        rollcam.Recorder(None, sinks=["wandb"])
    assert not list((tmp_path / ".rollcam" / "claims").iterdir())


def test_children_have_no_tracker(tmp_path: Path) -> None:
    import gymnasium as gym

    envs = gym.vector.AsyncVectorEnv([lambda: CountingEnv(length=5, fps=25)])
    try:
        with pytest.raises(rollcam.SettingError, match="rollcam publish"):
            VectorRecordVideo(
                envs, tmp_path, layout="separate", record_in="workers", sinks=["folder:x"]
            )
    finally:
        envs.close()

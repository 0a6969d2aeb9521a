"""What may go wrong between `RecordVideo` and the children of an `AsyncVectorEnv`."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector import async_vector_env as gymnasium_async

import rollcam
from rollcam.integrations import _vector_children
from rollcam.integrations.vector import RecordVideo
from tests.envs import CountingEnv
from tests.films import said_by_rollcam, wait_until
from tests.integrations.vector_films import (
    FPS,
    counted,
    episodes,
    film_separately,
    make,
    play,
    shown,
)

SAME, NEXT = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP
NO_ACTION = np.zeros(2, np.int64)


def test_spawned_children(tmp_path: Path) -> None:
    env = film_separately(tmp_path, make("async-spawned", SAME, (3, 5)))
    play(env, 6, SAME)
    env.close()
    assert shown(tmp_path)["rl-video-env-1-episode-0"] == list(range(6))


def test_two_recorders_over_one_environment(tmp_path: Path) -> None:
    inner = film_separately(tmp_path / "inner", make("async", SAME, (3, 5)))
    outer = RecordVideo(
        inner, tmp_path / "outer", record_first_only=True, episode_trigger=lambda n: True
    )
    play(outer, 7, SAME)
    outer.close()
    assert shown(tmp_path / "inner")["rl-video-env-0-episode-1"] == [0, 1, 2, 3]
    assert shown(tmp_path / "outer")["rl-video-episode-1"] == [0, 1, 2, 3]


def worker_that_hides_its_env(*args: Any) -> None:
    """A worker of one's own: the environment stands under another name."""
    _index, env_fn, pipe, parent_pipe, _, _errors, mode, _ = args
    sub = env_fn()
    parent_pipe.close()
    while True:
        command, data = pipe.recv()
        if command == "close":
            pipe.send((None, True))
            return
        if command == "reset":
            pipe.send((sub.reset(**data), True))
        elif command == "step":
            obs, reward, terminated, truncated, info = sub.step(data)
            if mode is SAME and (terminated or truncated):
                obs, info = sub.reset()
            pipe.send(((obs, reward, terminated, truncated, info), True))
        elif command == "_call":
            name, given, options = data
            attribute = sub.get_wrapper_attr(name)
            pipe.send((attribute(*given, **options) if callable(attribute) else attribute, True))
        elif command == "_check_spaces":
            pipe.send(((True, True), True))


def _hidden(mode: AutoresetMode) -> AsyncVectorEnv:
    makers = [partial(CountingEnv, length=n, fps=FPS) for n in (3, 5)]
    return AsyncVectorEnv(
        makers, worker=worker_that_hides_its_env, autoreset_mode=mode, shared_memory=False
    )


def test_a_worker_that_does_not_let_us_in_is_filmed_as_far_as_it_goes(tmp_path: Path) -> None:
    with pytest.warns(rollcam.RollcamWarning, match="could not be put into some workers") as said:
        env = film_separately(tmp_path, _hidden(SAME))
        play(env, 4, SAME)
        env.close()
    (message,) = said_by_rollcam(said)
    assert "local variable `env`" in message
    assert shown(tmp_path)["rl-video-env-0-episode-0"] == [0, 1, 2], "its last frame cannot be had"


def test_a_worker_that_does_not_let_us_in_cannot_record_itself(tmp_path: Path) -> None:
    vector = _hidden(NEXT)
    with pytest.raises(rollcam.SettingError, match="keeps its environment where"):
        film_separately(tmp_path, vector, record_in="workers")
    vector.reset()
    vector.close()


class Stuck(CountingEnv):
    """Its renderer does not come back, at frame 2, before a file exists."""

    def __init__(self, until: Path, **counting: Any) -> None:
        super().__init__(**counting)
        self.until = until

    def render(self) -> Any:
        if self.step_number == 2:
            wait_until(self.until.exists, "the test lets the renderer go")
        return super().render()


def test_a_renderer_that_hangs_costs_its_film_and_no_step_is_mistaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_vector_children, "ANSWER_S", 0.3)
    gate = tmp_path / "go"
    vector = AsyncVectorEnv(
        [partial(CountingEnv, length=9, fps=FPS), partial(Stuck, gate, length=9, fps=FPS)],
        shared_memory=False,
    )
    monkeypatch.setattr(_vector_children, "ANSWER_S", 20.0)
    env = film_separately(tmp_path / "films", vector)
    env.reset()
    monkeypatch.setattr(_vector_children, "ANSWER_S", 0.3)
    env.step(NO_ACTION)
    with pytest.warns(
        rollcam.RollcamWarning, match="sub-environment 1 gave no frame: no answer in time"
    ):
        start = time.monotonic()
        env.step(NO_ACTION)
    assert time.monotonic() - start < 5
    gate.touch()
    for number in range(3, 6):
        obs, rewards, *_ = env.step(NO_ACTION)
        assert obs.ravel().tolist() == [number, number], "a late frame was taken for a step"
        assert rewards.tolist() == [number, number]
    assert vector.call("step_number") == (5, 5)
    env.close()
    found = episodes(tmp_path / "films")
    assert found["rl-video-env-0-episode-0"].n_frames == 6
    assert found["rl-video-env-1-episode-0"].status == "failed"


def test_a_child_that_dies_is_the_environments_affair(tmp_path: Path) -> None:
    vector = make("async", NEXT, (9, 9))
    env = film_separately(tmp_path, vector)
    env.reset()
    env.step(NO_ACTION)
    victim = vector.processes[1]
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(20)
    with pytest.raises((EOFError, OSError)):
        env.step(NO_ACTION)
    with pytest.raises((EOFError, OSError)):
        env.close()
    for process in vector.processes:
        process.terminate()
        process.join(20)
    vector.closed = True
    assert {name: e.n_frames for name, e in episodes(tmp_path).items()} == {
        "rl-video-env-0-episode-0": 2,
        "rl-video-env-1-episode-0": 2,
    }


def test_nothing_is_sent_while_a_call_is_under_way(tmp_path: Path) -> None:
    vector = make("async", NEXT, (9, 9))
    env = film_separately(tmp_path, vector)
    env.reset()
    vector.step_async(NO_ACTION)
    env.start_recording("meanwhile")  # arms the children, were they free
    assert vector._state is gymnasium_async.AsyncState.WAITING_STEP
    obs, *_ = vector.step_wait()
    assert obs.ravel().tolist() == [1, 1]
    env.step(NO_ACTION)
    env.close()
    assert shown(tmp_path)["meanwhile-env-0"] == [2]


class NotAPicture(CountingEnv):
    """Renders what no pipe takes."""

    def render(self) -> Any:
        return (lambda: None) if self.step_number == 1 else super().render()


@pytest.mark.parametrize("record_in", ["parent", "workers"])
def test_what_cannot_be_sent_does_not_end_the_worker(record_in: Any, tmp_path: Path) -> None:
    vector = AsyncVectorEnv([partial(NotAPicture, length=3, fps=FPS)])
    env = film_separately(tmp_path, vector, record_in=record_in, episode_trigger=lambda n: n == 0)
    if record_in == "parent":
        with pytest.warns(rollcam.RollcamWarning, match="not function"):
            play(env, 5, NEXT)
    else:
        play(env, 5, NEXT)
    env.close()
    episode = episodes(tmp_path)["rl-video-env-0-episode-0"]
    assert (episode.status, episode.episode_return) == ("failed", 6.0)
    assert "not function" in (episode.reason or "")


def test_tiles_of_some_sub_environments_follow_the_first_of_them(tmp_path: Path) -> None:
    vector = make("async", SAME)
    env = RecordVideo(
        vector, tmp_path, env_indices=[2], episode_trigger=lambda n: True, name_prefix="x"
    )
    play(env, 9, SAME)
    assert vector.get_attr("n_renders")[:2] == (0, 0)
    assert env.episode_id == 2
    env.close()
    assert shown(tmp_path) == {
        f"x-episode-{n}": frames for n, frames in enumerate(counted(4, 9, SAME))
    }

"""`rollcam.VideoRecorder` against what scripts written for gym's rely on."""

from __future__ import annotations

import gc
import io
import json
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import rollcam
from rollcam.encode.cast import read_cast
from rollcam.integrations import legacy_gym
from rollcam.store import sidecar
from rollcam.store.files import list_episodes
from tests import barcode


class OldEnv:
    """An environment as gym had them until 0.21: `render(mode=...)`, dotted metadata keys."""

    metadata = {
        "render.modes": ["human", "rgb_array"],
        "video.frames_per_second": 20,
        "video.output_frames_per_second": 10,
    }

    def __init__(self) -> None:
        self.count = 0

    def render(self, mode: str = "human") -> np.ndarray:
        assert mode == "rgb_array"
        self.count += 1
        return barcode.draw(self.count - 1)


class OldTextEnv:
    metadata = {"render.modes": ["human", "ansi"], "video.frames_per_second": 5}

    def __init__(self) -> None:
        self.count = 0

    def render(self, mode: str = "human") -> io.StringIO:
        assert mode == "ansi"
        self.count += 1
        return io.StringIO(f"\x1b[41mstep\x1b[0m {self.count - 1}\n")


class Broken:
    metadata = {"render.modes": [None, "rgb_array"]}

    def render(self, mode: str | None = None) -> None:
        return None


class Unrecordable(Broken):
    metadata = {"render.modes": [None]}


class Late(Broken):
    """An asynchronous environment: now and then it has no frame."""

    metadata = {"render.modes": ["rgb_array"], "semantics.async": True}

    def __init__(self) -> None:
        self.calls = 0

    def render(self, mode: str | None = None) -> np.ndarray | None:
        self.calls += 1
        return barcode.draw(self.calls // 2) if self.calls % 2 else None


def cartpole() -> gym.Env:
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    return env


def test_a_todays_environment(tmp_path: Path) -> None:
    env = cartpole()
    recorder = rollcam.VideoRecorder(env, str(tmp_path / "a.mp4"), metadata={"mine": 1})
    assert (recorder.enabled, recorder.functional, recorder.broken, recorder.empty) == (
        True, True, False, True,
    )  # fmt: skip
    assert recorder.path == str(tmp_path / "a.mp4")
    assert recorder.metadata_path == str(tmp_path / "a.meta.json")
    assert recorder.ansi_mode is False
    assert (recorder.frames_per_sec, recorder.output_frames_per_sec) == (50, 50)
    assert Path(recorder.path).exists(), "the path exists from the start"
    assert json.loads(Path(recorder.metadata_path).read_text()) == {
        "mine": 1, "content_type": "video/mp4",
    }  # fmt: skip
    recorder.capture_frame()
    assert recorder.last_frame.shape == (400, 600, 3)
    assert not recorder.empty
    recorder.close()
    recorder.close()
    told = json.loads(Path(recorder.metadata_path).read_text())
    assert (told["content_type"], told["empty"], told["broken"], told["mine"]) == (
        "video/mp4", False, False, 1,
    )  # fmt: skip
    assert told["encoder_version"]["backend"] == "PyAV"
    assert told["encoder_version"] == recorder.metadata["encoder_version"]
    assert sidecar.read(Path(recorder.metadata_path)).n_frames == 1
    assert len(barcode.decode(recorder.path)) == 1
    env.render()  # closing the recorder does not close the environment


def test_an_old_environment_with_two_rates(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(OldEnv(), base_path=str(tmp_path / "old"))
    assert recorder.path == str(tmp_path / "old.mp4")
    assert (recorder.frames_per_sec, recorder.output_frames_per_sec) == (20, 10)
    for _ in range(21):
        recorder.capture_frame()
    recorder.close()
    shown = [(time, barcode.read(frame)) for time, frame in barcode.decode(recorder.path)]
    distinct = {index: time for time, index in reversed(shown)}
    assert sorted(distinct) == list(range(0, 21, 2))
    assert all(time == pytest.approx(index / 20) for index, time in distinct.items())
    assert sum(barcode.durations(recorder.path)) == pytest.approx(21 / 20)


def test_the_path_is_the_growing_film(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(OldEnv(), tmp_path / "grows.mp4", fps=30, output_fps=30)
    for captured in range(1, 31):
        recorder.capture_frame()
        assert barcode.indices(recorder.path) == list(range(captured))
    recorder.close()
    assert barcode.indices(recorder.path) == list(range(30))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grows.meta.json", "grows.mp4"]


@pytest.mark.parametrize("extension", ["json", "cast"])
def test_text_with_the_true_frame_time(tmp_path: Path, extension: str) -> None:
    recorder = rollcam.VideoRecorder(OldTextEnv(), str(tmp_path / f"lake.{extension}"))
    assert recorder.ansi_mode
    for captured in range(1, 5):
        recorder.capture_frame()
        cast = read_cast(recorder.path)
        assert [f"step\x1b[0m {i}" in data for i, (_, data) in enumerate(cast.frames)] == (
            [True] * captured
        )
    recorder.close()
    content_type = "video/vnd.openai.ansivid" if extension == "json" else "application/x-asciicast"
    assert json.loads(Path(recorder.metadata_path).read_text())["content_type"] == content_type
    if extension == "json":
        told = json.loads(Path(recorder.path).read_text())
        assert (told["version"], told["duration"]) == (1, pytest.approx(0.8))
        assert [delay for delay, _ in told["stdout"]] == pytest.approx([0.2] * 4)
    else:
        assert [at for at, _ in read_cast(recorder.path).frames] == pytest.approx(
            [0, 0.2, 0.4, 0.6]
        )


def test_a_text_environment_of_today() -> None:
    env = gym.make("FrozenLake-v1", render_mode="ansi")
    env.reset(seed=0)
    recorder = rollcam.VideoRecorder(env)
    assert recorder.path.endswith(".json")
    recorder.capture_frame()
    recorder.close()
    assert "FFF" in json.loads(Path(recorder.path).read_text())["stdout"][0][1]
    Path(recorder.path).unlink()
    Path(recorder.metadata_path).unlink()


def test_no_path_means_a_temporary_file() -> None:
    recorder = rollcam.VideoRecorder(OldEnv())
    recorder.capture_frame()
    recorder.close()
    assert barcode.indices(recorder.path)[0] == 0
    Path(recorder.path).unlink()
    Path(recorder.metadata_path).unlink()


def test_without_frames_there_is_no_film(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(Broken(), str(tmp_path / "a.mp4"))
    recorder.close()
    assert (recorder.empty, recorder.functional) == (True, True)
    assert not Path(recorder.path).exists()
    told = json.loads(Path(recorder.metadata_path).read_text())
    assert (told["empty"], told["broken"]) == (True, False)


def test_none_from_a_synchronous_environment_is_broken(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(Broken(), str(tmp_path / "a.mp4"))
    with pytest.warns(rollcam.RollcamWarning, match="returned None") as warned:
        recorder.capture_frame()
        recorder.capture_frame()
        recorder.close()
    assert len(warned) == 1
    assert (recorder.broken, recorder.functional, recorder.empty) == (True, False, True)
    assert not Path(recorder.path).exists()
    told = json.loads(Path(recorder.metadata_path).read_text())
    assert (told["broken"], told["status"]) == (True, "failed")


def test_none_after_good_frames_leaves_no_film_either(tmp_path: Path) -> None:
    env = OldEnv()
    recorder = rollcam.VideoRecorder(env, str(tmp_path / "a.mp4"))
    recorder.capture_frame()
    env.render = lambda mode: None
    with pytest.warns(rollcam.RollcamWarning, match="returned None"):
        recorder.capture_frame()
    recorder.close()
    assert recorder.broken
    assert [path.name for path in tmp_path.iterdir()] == ["a.meta.json"]


def test_none_from_an_asynchronous_environment_is_skipped(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(Late(), str(tmp_path / "a.mp4"))
    for _ in range(10):
        recorder.capture_frame()
    recorder.close()
    assert not recorder.broken
    assert barcode.indices(recorder.path) == list(range(5))


def test_what_renders_neither_is_disabled(tmp_path: Path) -> None:
    with pytest.warns(rollcam.RollcamWarning, match="neither pixels nor text"):
        recorder = rollcam.VideoRecorder(Unrecordable(), str(tmp_path / "a.mp4"))
    assert not recorder.enabled
    recorder.capture_frame()
    recorder.close()
    assert not list(tmp_path.iterdir())
    with pytest.warns(rollcam.RollcamWarning, match='make it with render_mode="rgb_array"'):
        assert not rollcam.VideoRecorder(gym.make("CartPole-v1")).enabled


def test_disabled_does_nothing(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(object(), str(tmp_path / "a.txt"), enabled=False)
    recorder.capture_frame()
    recorder.close()
    assert (recorder.enabled, recorder.functional) == (False, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        (OldEnv, {"path": "a.avi"}, r"must have file extension \.mp4\."),
        (OldTextEnv, {"path": "a.mp4"}, r"extension \.json or \.cast\. HINT: .*text-only"),
        (OldEnv, {"path": "a.mp4", "base_path": "b"}, "at most one of `path` or `base_path`"),
    ],
)
def test_paths_that_cannot_be(tmp_path: Path, monkeypatch, env, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rollcam.RollcamError, match=message):
        rollcam.VideoRecorder(env(), **arguments)
    assert not list(tmp_path.iterdir())


def test_a_recorder_that_is_dropped_finishes_its_film(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(OldEnv(), str(tmp_path / "a.mp4"), fps=30, output_fps=30)
    for _ in range(5):
        recorder.capture_frame()
    del recorder
    gc.collect()
    episode = sidecar.read(tmp_path / "a.meta.json")
    assert (episode.status, episode.n_frames) == ("complete", 5)
    assert b"moof" not in (tmp_path / "a.mp4").read_bytes(), "finished, not growing any more"


def test_what_is_added_to_metadata_before_close_is_written(tmp_path: Path) -> None:
    recorder = rollcam.VideoRecorder(OldEnv(), str(tmp_path / "a.mp4"), fps=30, output_fps=30)
    recorder.capture_frame()
    recorder.metadata["score"] = 3
    recorder.close()
    recorder.metadata["later"] = 4
    recorder.write_metadata()
    told = json.loads(Path(recorder.metadata_path).read_text())
    assert (told["score"], told["later"], told["n_frames"]) == (3, 4, 1)


def test_two_recorders_of_one_path_do_not_destroy_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for n_frames in (3, 5):
        recorder = rollcam.VideoRecorder(OldEnv(), path, fps=30, output_fps=30)
        assert path.exists()
        for _ in range(n_frames):
            recorder.capture_frame()
    recorder.close()
    assert barcode.indices(path) == list(range(5))
    assert not recorder.broken


class OldPlayable(OldEnv):
    """What gym made of it; nothing of gym is here."""

    metadata = {"render.modes": ["rgb_array"], "video.frames_per_second": 20}

    def reset(self) -> int:
        self.count = 0
        return 0

    def step(self, action: int) -> tuple[int, float, bool, dict]:
        return self.count, 1.0, self.count >= 4, {"TimeLimit.truncated": True}


@pytest.mark.parametrize("gym_module", [None, types.ModuleType("gym")], ids=["absent", "empty"])
def test_no_gym_is_needed(tmp_path: Path, monkeypatch, gym_module) -> None:
    monkeypatch.setitem(sys.modules, "gym", gym_module)
    for kind, name in ((legacy_gym.Monitor, "monitor"), (legacy_gym.RecordVideo, "record")):
        env = kind(OldPlayable(), tmp_path / name)
        env.reset()
        while not env.step(0)[2]:
            pass
        env.close()
        with pytest.raises(AttributeError):
            _ = env.seed
        episodes = list_episodes(tmp_path / name).episodes
        assert [(e.episode_return, e.terminated, e.truncated) for e in episodes] == [
            (4.0, False, True)
        ]
        # The last frame is shown twice at rates below 24, for players that drop it.
        assert barcode.indices(episodes[0].media_path)[:5] == [0, 1, 2, 3, 4]


class ManyAtOnce:
    """A vector environment as old ones were: it resets itself, and draws its first."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    render_mode = None
    is_vector_env = True

    def __init__(self) -> None:
        self.count = 0

    def reset(self) -> list[int]:
        self.count = 0
        return [0, 0]

    def step(self, actions):
        self.count += 1
        done = np.array([self.count == 3, False])
        if done[0]:
            self.count = 0
        return [self.count, 0], np.ones(2), done, [{"env": 0}, {"env": 1}]

    def render(self, mode: str = "human") -> np.ndarray:
        assert mode == "rgb_array"
        return barcode.draw(self.count)


def test_a_vector_environment_goes_by_its_first(tmp_path: Path) -> None:
    env = legacy_gym.RecordVideo(ManyAtOnce(), tmp_path, lambda i: i < 2)
    env.reset()
    for _ in range(7):
        env.step([0, 0])
    env.close()
    films = {path.stem: barcode.indices(path) for path in sorted(tmp_path.glob("*.mp4"))}
    # What it shows with the last step is the next episode's first frame.
    assert films == {"rl-video-episode-0": [0, 1, 2, 0], "rl-video-episode-1": [0, 1, 2, 0]}
    first = list_episodes(tmp_path).episodes[0]
    assert (first.episode_return, first.final_info) == (3.0, {"env": 0})

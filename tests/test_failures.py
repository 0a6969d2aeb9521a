"""Whatever fails after construction costs a film, never the training: design 2, promise 4."""

from __future__ import annotations

import functools
import itertools
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rollcam
from tests import barcode
from tests.envs import ALWAYS, AnsiEnv, CountingEnv
from tests.films import (
    BEFORE,
    KINDS,
    check_failed,
    check_tidy,
    check_whole,
    episodes,
    film,
    name_of,
    undisturbed,
    wait_until,
)

LENGTH = 12
WHOLE = list(range(LENGTH + 1))
every_kind = pytest.mark.parametrize("kind", KINDS)
adapters = pytest.mark.parametrize("kind", ["RecordVideo", "Recorder"])


def make_env(**options: Any) -> CountingEnv:
    # From 20 fps on no player needs the last frame twice, so that a film is its frames.
    return CountingEnv(length=LENGTH, fps=25, **options)


def cured(env: CountingEnv, **attributes: Any) -> Callable[[int, int], None]:
    """A hook that sets `attributes` before the second episode: the cause is gone."""

    def hook(episode: int, step: int) -> None:
        if (episode, step) == (1, BEFORE):
            for name, value in attributes.items():
                setattr(env, name, value)

    return hook


def at(episode: int, step: int, act: Callable[[], Any]) -> Callable[[int, int], None]:
    """A hook that acts once."""
    return lambda *now: act() if now == (episode, step) else None


# --- renderers ------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    ("steps", "n_calls"), [({0}, 1), ({5}, 6), ({LENGTH}, LENGTH + 1), (ALWAYS, 1)]
)
def test_a_renderer_that_raises_costs_one_film(
    kind: str, steps: Any, n_calls: int, tmp_path: Path
) -> None:
    env = make_env(raise_at=steps)
    rollout = film(kind, env, tmp_path, hook=cured(env, raise_at=()))
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == ["RecordingFailedWarning"]
    assert f"RuntimeError: renderer broke at {n_calls - 1}" in rollout.messages
    failed = check_failed(tmp_path, name_of(0), f"RuntimeError: renderer broke at {n_calls - 1}")
    # A renderer that failed is left in peace until the next film.
    assert env.n_renders == n_calls + LENGTH + 1
    if kind != "VideoRecorder":  # which is told of no steps
        assert (failed.episode_length, failed.episode_return) == (LENGTH, sum(WHOLE))
        assert failed.terminated
    check_whole(tmp_path, name_of(1), WHOLE)
    check_tidy(tmp_path)


@adapters
def test_a_renderer_that_never_works_is_warned_of_once(kind: str, tmp_path: Path) -> None:
    rollout = film(kind, make_env(raise_at=ALWAYS), tmp_path, n_episodes=4)
    assert rollout.history == undisturbed(LENGTH, 4)
    assert rollout.categories == ["RecordingFailedWarning"]
    for episode in range(4):
        check_failed(tmp_path, name_of(episode), "RuntimeError: renderer broke at 0")
    check_tidy(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_not_held_up(
    kind: str, error: type[BaseException], tmp_path: Path
) -> None:
    class Interrupted(CountingEnv):
        def render(self) -> Any:
            if self.step_number == 5:
                raise error
            return super().render()

    with pytest.raises(error):
        film(kind, Interrupted(length=LENGTH, fps=25), tmp_path, n_episodes=1)
    # The recorder went out of scope with the loop, and finished what there was.
    wait_until(lambda: bool(episodes(tmp_path)), "the dropped recorder finished its film")
    check_whole(tmp_path, name_of(0), WHOLE[:5])
    check_tidy(tmp_path)


GARBAGE: dict[str, tuple[Any, str]] = {
    "object": (object(), "not object"),
    "dict": ({"rgb": 1}, "not dict"),
    "number": (3.5, "not float"),
    "text": ("a text amid pictures", "text came into an episode that began with pictures"),
    "one axis": (np.zeros(12, np.uint8), "shape (12,)"),
    "five channels": (np.zeros((48, 64, 5), np.uint8), "shape (48, 64, 5)"),
    "batch": (np.zeros((2, 48, 64, 3), np.uint8), "shape (2, 48, 64, 3)"),
    "nothing": (np.zeros((0, 64, 3), np.uint8), "shape (0, 64, 3)"),
    "too large": (np.zeros((20_000, 1, 3), np.uint8), "larger than 16384"),
    "complex": (np.zeros((48, 64, 3), complex), "dtype complex128"),
    "objects": (np.full((48, 64, 3), None), "dtype object"),
    "times": (np.zeros((48, 64, 3), "datetime64[s]"), "dtype datetime64[s]"),
    "negative": (np.full((48, 64, 3), -7), "values from -7 to -7"),
    "too bright": (np.full((48, 64, 3), 256, np.int32), "values from 256 to 256"),
    "floats to 255": (np.full((48, 64, 3), 200.0), "values from 200 to 200"),
    "NaN": (np.full((48, 64, 3), np.nan), "values from nan to nan"),
}


@every_kind
@pytest.mark.parametrize("wrong", GARBAGE)
def test_a_frame_that_is_none_costs_one_film(kind: str, wrong: str, tmp_path: Path) -> None:
    frame, reason = GARBAGE[wrong]
    env = make_env(wrong=frame, wrong_at={5, 6, 9})
    rollout = film(kind, env, tmp_path, hook=cured(env, wrong_at=()))
    assert rollout.history == undisturbed(LENGTH, 2)
    failures = [m for m in rollout.warnings if m.category.__name__ == "RecordingFailedWarning"]
    assert len(failures) == 1
    # Besides, it may be said that such frames are read as something else.
    assert set(rollout.categories) <= {"RecordingFailedWarning", "FrameMendedWarning"}
    check_failed(tmp_path, name_of(0), "FrameError", reason)
    check_whole(tmp_path, name_of(1), WHOLE)
    check_tidy(tmp_path)


@every_kind
def test_a_changed_size_is_letterboxed(kind: str, tmp_path: Path) -> None:
    env = make_env(size=(96, 48), resize_at={5, 6, 9, LENGTH}, resize_to=(48, 48))
    rollout = film(kind, env, tmp_path, n_episodes=1)
    assert rollout.history == undisturbed(LENGTH, 1)
    assert rollout.categories == ["FrameMendedWarning"]
    assert "(48, 96) to (48, 48)" in rollout.messages
    decoded = [frame for _, frame in barcode.decode(tmp_path / f"{name_of(0)}.mp4")]
    assert len(decoded) == LENGTH + 1
    for k, frame in enumerate(decoded):
        assert frame.shape == (48, 96, 3)
        if k in env.resize_at:
            assert barcode.read(frame[:, 24:72]) == k
            assert frame[:, :20].max() < 40
            assert frame[:, 76:].max() < 40
        else:
            assert barcode.read(frame) == k
    assert next(iter(episodes(tmp_path).values())).status == "complete"


@adapters
def test_none_now_and_then_is_skipped(kind: str, tmp_path: Path) -> None:
    rollout = film(kind, make_env(none_at={0, 3, 4, 9}), tmp_path, n_episodes=1)
    assert rollout.history == undisturbed(LENGTH, 1)
    assert rollout.categories == []
    shown = [k for k in WHOLE if k not in {0, 3, 4, 9}]
    episode = check_whole(tmp_path, name_of(0), shown)
    assert (episode.episode_length, episode.episode_return) == (LENGTH, sum(WHOLE))
    rewards = episode.read_steps()["reward"]
    assert len(rewards) == len(shown)
    assert sum(reward or 0 for reward in rewards) == sum(WHOLE)


def test_none_breaks_a_video_recorder_unless_the_env_is_asynchronous(tmp_path: Path) -> None:
    env = make_env(none_at={3, 9})
    rollout = film("VideoRecorder", env, tmp_path / "sync", n_episodes=1)
    assert rollout.history == undisturbed(LENGTH, 1)
    assert rollout.categories == ["RecordingFailedWarning"]
    check_failed(tmp_path / "sync", name_of(0), "returned None")
    env = make_env(none_at={3, 9})
    env.metadata["semantics.async"] = True
    assert film("VideoRecorder", env, tmp_path / "async", n_episodes=1).categories == []
    check_whole(tmp_path / "async", name_of(0), [k for k in WHOLE if k not in {3, 9}])


@adapters
def test_an_env_that_never_renders_is_empty(kind: str, tmp_path: Path) -> None:
    rollout = film(kind, make_env(none_at=ALWAYS), tmp_path)
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == []
    for episode in range(2):
        found = episodes(tmp_path)[name_of(episode)]
        assert (found.status, found.media, found.n_frames) == ("empty", None, 0)
    check_tidy(tmp_path)


@every_kind
def test_a_buffer_that_the_env_uses_again_is_copied_in_time(kind: str, tmp_path: Path) -> None:
    assert film(kind, make_env(reuse_buffer=True), tmp_path).categories == []
    for episode in range(2):
        check_whole(tmp_path, name_of(episode), WHOLE)


# --- encoder and disk -----------------------------------------------------------------------------


@every_kind
def test_an_encoder_that_does_not_open_at_the_size(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # SVT-AV1 opens for probing, and refuses more than 8704 lines.
    env = make_env(size=(16, 9000))
    rollout = film(kind, env, tmp_path, hook=cured(env, size=(64, 64)), codec="av1")
    assert "Source Height" in capfd.readouterr().err  # the library's own words
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == ["RecordingFailedWarning"]
    check_failed(tmp_path, name_of(0), "EncoderFailed: libsvtav1 does not open for 16x9000")
    check_whole(tmp_path, name_of(1), WHOLE)
    check_tidy(tmp_path)


def growing(folder: Path) -> list[Path]:
    """Films in the making that hold something."""
    paths = [*folder.glob(".rollcam/partial/*/*.mp4"), *folder.glob(f"{name_of(0)}.mp4")]
    return [path for path in paths if path.stat().st_size]


@every_kind
def test_a_folder_that_vanishes_amid_an_episode(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "videos"

    def vanish() -> None:
        wait_until(lambda: bool(growing(folder)), "the film grows")
        shutil.rmtree(folder)

    rollout = film(kind, make_env(), folder, hook=at(0, 5, vanish))
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == ["RecordingFailedWarning"]
    check_failed(folder, name_of(0), "FileNotFoundError")
    check_whole(folder, name_of(1), WHOLE)
    check_tidy(folder)


@adapters
def test_a_folder_that_vanishes_between_episodes_is_made_again(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "videos"

    def vanish() -> None:
        wait_until(lambda: (folder / f"{name_of(0)}.meta.json").exists(), "the film is finished")
        wait_until(is_gone, "the folder is gone")

    def is_gone() -> bool:
        # The recorder tidies up in it meanwhile, or begins the next film.
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    # RecordVideo ends a film at the next reset, as Gymnasium's does.
    rollout = film(kind, make_env(), folder, n_episodes=3, hook=at(1, 0, vanish))
    assert rollout.history == undisturbed(LENGTH, 3)
    check_whole(folder, name_of(2), WHOLE)


@every_kind
def test_a_file_takes_the_place_of_the_folder(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "videos"

    def replace() -> None:
        wait_until(lambda: bool(growing(folder)), "the film grows")
        shutil.rmtree(folder)
        folder.write_text("in the way")

    def hook(episode: int, step: int) -> None:
        at(0, 5, replace)(episode, step)
        if (episode, step) == (1, BEFORE) and kind == "VideoRecorder":
            folder.unlink()  # its construction would rightly raise
        if (episode, step) == (2, BEFORE) and kind != "VideoRecorder":
            folder.unlink()

    rollout = film(kind, make_env(), folder, n_episodes=4, hook=hook)
    assert rollout.history == undisturbed(LENGTH, 4)
    kinds_of_failure = {str(said.message) for said in rollout.warnings}
    assert set(rollout.categories) == {"RecordingFailedWarning"}
    assert len(kinds_of_failure) == len(rollout.warnings) <= 2
    check_whole(folder, name_of(3), WHOLE)
    check_tidy(folder)


def unwritable(tmp_path: Path) -> list[Path]:
    (tmp_path / "file").write_text("in the way")
    return [tmp_path / "file", tmp_path / "file" / "below", Path("/proc/rollcam-videos")]


@every_kind
@pytest.mark.parametrize("which", range(3))
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    kind: str, which: int, tmp_path: Path
) -> None:
    folder = unwritable(tmp_path)[which]
    with pytest.raises(rollcam.StoreError, match="cannot be written"):
        film(kind, make_env(), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_at_the_path_of_a_video_recorder_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{name_of(0)}.mp4").mkdir()
    with pytest.raises(rollcam.StoreError, match="cannot be written"):
        film("VideoRecorder", make_env(), tmp_path)


# --- on_error="raise" -----------------------------------------------------------------------------


def catching(call: Callable[[], Any], caught: list[Exception]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - to be looked at, whatever it is
        caught.append(error)


def run_catching(kind: str, env: CountingEnv, folder: Path) -> list[tuple[str, Exception]]:
    """Two episodes with `on_error="raise"`: what was raised, and out of which call."""
    errors: list[tuple[str, Exception]] = []

    def call(what: str, do: Callable[[], Any]) -> Any:
        caught: list[Exception] = []
        result = catching(do, caught)
        errors.extend((what, error) for error in caught)
        return result

    if kind == "RecordVideo":
        filmed = rollcam.RecordVideo(env, folder, rollcam.every(1), on_error="raise")
        for _ in range(2):
            call("reset", filmed.reset)
            for _ in range(LENGTH):
                call("step", lambda: filmed.step(0))
        call("close", filmed.close)
        call("close again", filmed.close)
        return errors
    recorder: Any = rollcam.Recorder(folder, fps=25, on_error="raise")
    if kind == "VideoRecorder":
        recorder.close()
    for episode in range(2):
        env.reset()
        if kind == "VideoRecorder":
            path = folder / f"{name_of(episode)}.mp4"
            recorder = rollcam.VideoRecorder(env, path, on_error="raise")
            capture, end = recorder.capture_frame, recorder.close
        else:
            call("begin", recorder.begin)
            capture, end = functools.partial(recorder.capture, env.render), recorder.end
        call("frame", capture)
        for _ in range(LENGTH):
            env.step(0)
            call("frame", capture)
        call("end", end)
    call("close", recorder.close)
    call("close again", recorder.close)
    return errors


@every_kind
def test_on_error_raise_lets_the_renderers_error_out_once(kind: str, tmp_path: Path) -> None:
    errors = run_catching(kind, make_env(raise_at={LENGTH}), tmp_path)
    wanted = {"RecordVideo": "step"}.get(kind, "frame")
    assert [what for what, _ in errors] == [wanted] * 2  # once for each of the two films
    assert {str(error) for _, error in errors} == {f"renderer broke at {LENGTH}"}
    for episode in range(2):
        check_failed(tmp_path, name_of(episode), "RuntimeError: renderer broke")
    check_tidy(tmp_path)


@every_kind
@pytest.mark.parametrize("step", [3, LENGTH])
def test_on_error_raise_lets_the_workers_error_out_once(
    kind: str, step: int, tmp_path: Path
) -> None:
    # The range of values is looked at on the recorder's thread, so it is raised a call later.
    env = make_env(wrong_at={step}, wrong=np.full((48, 64, 3), 999))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rollcam.RollcamWarning)
        errors = run_catching(kind, env, tmp_path)
    assert [type(error) for _, error in errors] == [rollcam.FrameError] * 2
    assert "close again" not in {what for what, _ in errors}
    for episode in range(2):
        check_failed(tmp_path, name_of(episode), "FrameError")
    check_tidy(tmp_path)
    assert kind == "VideoRecorder" or env.is_closed or kind == "Recorder"


def test_on_error_raise_still_closes_everything(tmp_path: Path) -> None:
    """An error out of `close` leaves neither the environment open nor the film unfinished."""
    folder = tmp_path / "videos"
    env = make_env()
    filmed = rollcam.RecordVideo(env, folder, rollcam.every(1), on_error="raise")
    filmed.reset()
    wait_until(lambda: bool(growing(folder)), "the film grows")
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        filmed.close()
    assert env.is_closed
    assert not [t for t in threading.enumerate() if t.name.startswith("rollcam-")]
    filmed.close()


# --- the user's own callables ---------------------------------------------------------------------


class OwnError(Exception):
    """Raised by the callables of these tests."""


def fail(*_: Any) -> Any:
    raise OwnError("mine")


@pytest.mark.parametrize("trigger", ["episode_trigger", "step_trigger", "gc_trigger"])
def test_a_trigger_that_raises_is_the_users_own(trigger: str, tmp_path: Path) -> None:
    triggers: dict[str, Any] = {"episode_trigger": rollcam.every(1), trigger: fail}
    filmed = rollcam.RecordVideo(make_env(), tmp_path, **triggers)
    with pytest.raises(OwnError):
        filmed.reset() and filmed.step(0) and filmed.close()
    filmed.gc_trigger = None
    filmed.close()
    check_tidy(tmp_path)


@adapters
@pytest.mark.parametrize("context", [fail, lambda: 7, lambda: [1, 2], lambda: "text"])
def test_a_context_that_fails_costs_a_warning(
    kind: str, context: Callable[[], Any], tmp_path: Path
) -> None:
    rollout = film(kind, make_env(), tmp_path, context=context)
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == ["RollcamWarning"]
    assert "context" in rollout.messages
    for episode in range(2):
        assert check_whole(tmp_path, name_of(episode), WHOLE).context_at_start == {}


@adapters
def test_on_finished_that_raises_costs_a_warning(kind: str, tmp_path: Path) -> None:
    rollout = film(kind, make_env(), tmp_path, on_finished=fail)
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == ["RollcamWarning"]
    assert "on_finished" in rollout.messages
    for episode in range(2):
        check_whole(tmp_path, name_of(episode), WHOLE)


@adapters
@pytest.mark.parametrize("keep", [fail, lambda _: [1, 2]])
def test_a_keep_policy_that_raises_keeps_the_film(kind: str, keep: Any, tmp_path: Path) -> None:
    rollout = film(kind, make_env(), tmp_path, keep=keep)
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == ["RollcamWarning"]
    assert "keep" in rollout.messages
    for episode in range(2):
        check_whole(tmp_path, name_of(episode), WHOLE)
    check_tidy(tmp_path)


@adapters
def test_a_film_that_cannot_be_deleted_costs_no_other(kind: str, tmp_path: Path) -> None:
    def block() -> None:
        """Put a folder where the first film lay."""
        path = tmp_path / f"{name_of(0)}.mp4"
        wait_until((tmp_path / f"{name_of(0)}.meta.json").exists, "the first film is finished")
        path.unlink()
        path.mkdir()

    rollout = film(kind, make_env(), tmp_path, keep=rollcam.keep_last(1), hook=at(1, 5, block))
    assert rollout.history == undisturbed(LENGTH, 2)
    assert rollout.categories == ["RollcamWarning"]
    check_whole(tmp_path, name_of(1), WHOLE)
    check_tidy(tmp_path)


@adapters
@pytest.mark.parametrize("callback", ["close", "flush"])
def test_a_callback_that_waits_for_its_own_thread_does_not_hang(
    kind: str, callback: str, tmp_path: Path
) -> None:
    recorder = rollcam.Recorder(
        tmp_path, fps=25, on_finished=lambda episode: getattr(recorder, callback)(timeout_s=60)
    )
    recorder.begin()
    recorder.frame(barcode.draw(0))
    assert recorder.end().result(timeout=20).status == "complete"
    recorder.close(timeout_s=20)
    check_whole(tmp_path, name_of(0), [0])


# --- odd values from the environment --------------------------------------------------------------

ODD_REWARDS = [None, np.float32(1), np.array([1.0]), np.array([1.0, 2.0]), [[1], [2, 3]], "text"]
ODD_ACTIONS = [
    (1, np.array([0.5, 0.5])),
    ((1, 2), (3,)),
    {"arm": np.zeros(3)},
    np.zeros(1000),
    object(),
    "left",
]


class Unreadable:
    """As a tensor that requires a gradient: numpy may not have it."""

    shape = (2,)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("can't call numpy() on this tensor")


@pytest.mark.parametrize("reward", [*ODD_REWARDS, Unreadable()])
def test_no_reward_breaks_a_film(reward: Any, tmp_path: Path) -> None:
    check_odd_step(tmp_path, reward=reward, action=0)


@pytest.mark.parametrize("action", [*ODD_ACTIONS, Unreadable()])
def test_no_action_breaks_a_film(action: Any, tmp_path: Path) -> None:
    check_odd_step(tmp_path, reward=1.0, action=action)


class Shapeless:
    """As a tensor of a meta device: it says that it is one number, and has none."""

    shape = ()

    def item(self) -> Any:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")


class Nameless:
    """A key that cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no name")


class Broken(dict[str, Any]):
    """An info that looks things up as it is read, and fails."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(f"no {key}")

    get = __getitem__


@pytest.mark.parametrize(
    "info",
    [
        {"x": Unreadable()}, {1: 2}, {"a": {"b": 1}}, [], 5,
        {"x": Shapeless()}, {Nameless(): 1}, Broken(a=1),
    ],
    ids=lambda info: type(info).__name__,
)  # fmt: skip
def test_no_info_breaks_a_film(info: Any, tmp_path: Path) -> None:
    check_odd_step(tmp_path, reward=1.0, info=info)


def check_odd_step(folder: Path, **facts: Any) -> None:
    with rollcam.Recorder(folder, fps=25, info_keys=("x",)) as recorder:
        recorder.begin()
        recorder.frame(barcode.draw(0))
        assert recorder.frame(barcode.draw(1), **facts)
        assert recorder.frame(barcode.draw(2), terminated=True, **facts)
        recorder.end()
    episode = check_whole(folder, name_of(0), [0, 1, 2])
    assert all(len(column) == 3 for column in episode.read_steps().values())


# --- opening and closing --------------------------------------------------------------------------


def test_the_environment_may_be_closed_first(tmp_path: Path) -> None:
    env = make_env()
    recorder = rollcam.Recorder(tmp_path / "Recorder", fps=25)
    by_frame = rollcam.VideoRecorder(env, tmp_path / "VideoRecorder" / f"{name_of(0)}.mp4")
    env.reset()
    recorder.begin()
    recorder.capture(env.render)
    by_frame.capture_frame()
    env.close()
    recorder.close()
    by_frame.close()
    check_whole(tmp_path / "Recorder", name_of(0), [0])
    check_whole(tmp_path / "VideoRecorder", name_of(0), [0])


def test_closing_a_recorder_leaves_the_environment_open(tmp_path: Path) -> None:
    env = make_env()
    env.reset()
    by_frame = rollcam.VideoRecorder(env, tmp_path / "film.mp4")
    by_frame.capture_frame()
    by_frame.close()
    by_frame.close()
    by_frame.capture_frame()
    assert not env.is_closed
    check_whole(tmp_path, "film", [0])


def test_a_recorder_may_be_closed_twice_and_without_an_episode(tmp_path: Path) -> None:
    recorder = rollcam.Recorder(tmp_path)
    recorder.close()
    recorder.close()
    with pytest.raises(rollcam.UsageError, match="after close"):
        recorder.begin()
    with pytest.raises(rollcam.UsageError, match="no episode is open"):
        recorder.frame(barcode.draw(0))
    with pytest.raises(rollcam.UsageError, match="no episode is open"):
        recorder.end()
    assert episodes(tmp_path) == {}


def test_record_video_closed_without_reset_twice_and_used_again(tmp_path: Path) -> None:
    env = make_env()
    filmed = rollcam.RecordVideo(env, tmp_path, rollcam.every(1))
    filmed.close()
    filmed.close()
    assert env.is_closed
    assert episodes(tmp_path) == {}
    filmed.reset()
    filmed.step(0)
    filmed.close()
    filmed.close()
    check_whole(tmp_path, name_of(0), [0, 1])
    filmed.reset()
    filmed.reset()
    filmed.close()
    for episode in (1, 2):
        check_whole(tmp_path, name_of(episode), [0])
    check_tidy(tmp_path)


def test_stop_without_start_is_an_assertion_error_as_in_gymnasium(tmp_path: Path) -> None:
    filmed = rollcam.RecordVideo(make_env(), tmp_path)
    with pytest.raises(AssertionError):
        filmed.stop_recording()
    filmed.reset()
    filmed.stop_recording()
    with pytest.raises(AssertionError):
        filmed.stop_recording()
    filmed.close()
    check_whole(tmp_path, name_of(0), [0])


def test_begin_amid_an_episode_harms_nothing(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, fps=25) as recorder:
        recorder.begin()
        recorder.frame(barcode.draw(0))
        with pytest.raises(rollcam.UsageError, match="while an episode is open"):
            recorder.begin()
        recorder.frame(barcode.draw(1))
    check_whole(tmp_path, name_of(0), [0, 1])


def test_an_exception_in_the_with_block_is_not_replaced(tmp_path: Path) -> None:
    def use() -> None:
        with rollcam.Recorder(tmp_path, fps=25) as recorder:
            recorder.begin()
            recorder.frame(barcode.draw(0))
            raise OwnError

    with pytest.raises(OwnError):
        use()
    check_whole(tmp_path, name_of(0), [0])


def test_a_text_renderer_that_breaks_costs_one_film(tmp_path: Path) -> None:
    class Broken(AnsiEnv):
        def render(self) -> Any:
            return {4: barcode.draw(4)}.get(self.step_number, super().render())

    rollout = film("RecordVideo", Broken(length=LENGTH), tmp_path, n_episodes=1)
    assert rollout.categories == ["RecordingFailedWarning"]
    assert "began with text" in rollout.messages
    check_failed(tmp_path, name_of(0), "FrameError")
    assert not list(tmp_path.rglob("*.cast"))
    check_tidy(tmp_path)


# --- a full queue ---------------------------------------------------------------------------------

N_BURST, FPS = 60, 25
SIZE = (320, 240)


class Gate:
    """Holds the recorder's thread up after the first film, for as long as the test wants."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, episode: rollcam.Episode) -> None:
        if episode.episode_index == 0:
            self.reached.set()
            assert self.opened.wait(30)


def burst(folder: Path, gate: Gate | None, **settings: Any) -> tuple[rollcam.Episode, list[str]]:
    """Film one frame, and then, with the thread held up by `gate`, a burst of them."""
    frames = [barcode.draw(k, *SIZE) for k in range(N_BURST)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with rollcam.Recorder(folder, fps=FPS, on_finished=gate, **settings) as recorder:
            recorder.begin()
            recorder.frame(frames[0])
            recorder.end()
            if gate is None:
                recorder.flush()
            else:
                assert gate.reached.wait(20)
            recorder.begin()
            for k, frame in enumerate(frames):
                if gate is not None and k == N_BURST // 2:
                    gate.opened.set()
                    recorder.flush()
                recorder.frame(frame, reward=1.0)
            if gate is not None:
                gate.opened.set()
            episode = recorder.end().result(timeout=60)
    return episode, [message.category.__name__ for message in said]


def check_burst(episode: rollcam.Episode, *, min_dropped: int) -> None:
    """Every frame was filmed or counted, and each is shown at its own time."""
    assert (episode.status, episode.reason) == ("complete", None)
    assert episode.n_frames + episode.n_dropped == N_BURST
    assert min_dropped <= episode.n_dropped < N_BURST
    assert episode.media_path is not None
    decoded = barcode.decode(episode.media_path)
    shown = [(round(time, 6), barcode.read(frame)) for time, frame in decoded]
    assert len(shown) == episode.n_frames
    assert shown[1:] == [(round(k / FPS, 6), k) for _, k in shown[1:]]
    assert shown[0][0] == 0
    # Each is shown until the next one that was kept, and the last to the end.
    starts = [time for time, _ in shown] + [N_BURST / FPS]
    wanted = [after - before for before, after in itertools.pairwise(starts)]
    assert barcode.durations(episode.media_path) == pytest.approx(wanted, abs=1e-4)
    assert episode.duration_s == pytest.approx(N_BURST / FPS)
    assert len(episode.read_steps()["reward"]) == N_BURST


def test_drop_drops_at_once_and_counts(tmp_path: Path) -> None:
    two_frames = 2 * SIZE[0] * SIZE[1] * 3
    episode, said = burst(tmp_path, Gate(), on_full="drop", queue_bytes=two_frames)
    assert said == ["DroppedFramesWarning"]
    check_burst(episode, min_dropped=N_BURST // 2 - 2)


def test_drop_really_drops_when_the_encoder_is_slow(tmp_path: Path) -> None:
    episode, said = burst(tmp_path, None, on_full="drop", queue_bytes=1)
    assert said == ["DroppedFramesWarning"]
    check_burst(episode, min_dropped=1)


def test_block_loses_nothing(tmp_path: Path) -> None:
    episode, said = burst(tmp_path, None, on_full="block", queue_bytes=1)
    assert said == []
    check_burst(episode, min_dropped=0)
    assert episode.n_dropped == 0


def test_block_gives_up_once_and_not_for_every_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollcam._engine.BLOCK_S", 1.0)
    two_frames = 2 * SIZE[0] * SIZE[1] * 3
    gate = Gate()
    before = time.monotonic()
    episode, said = burst(tmp_path, gate, on_full="block", queue_bytes=two_frames)
    # 28 frames found no room: had each waited, it had taken 28 s.
    assert time.monotonic() - before < 14
    assert said == ["DroppedFramesWarning"]
    check_burst(episode, min_dropped=N_BURST // 2 - 2)

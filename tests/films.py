"""Drive each of the three recorders as a training loop drives it, and check what lies on the disk."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rollcam
from rollcam.store import files
from tests import barcode
from tests.envs import AnsiEnv, CountingEnv

KINDS = ("RecordVideo", "Recorder", "VideoRecorder")
BEFORE = -1
"""The step number that a hook gets before the episode's `reset`."""

Hook = Callable[[int, int], None]
"""Called as `hook(episode, step)` before each reset (`BEFORE`), after it (0) and after each step."""


@dataclass
class Rollout:
    """What the training loop saw."""

    history: list[list[tuple[float, float, bool]]]
    """Of each episode: (observation, reward, done) of the reset and of every step."""
    warnings: list[warnings.WarningMessage]

    @property
    def categories(self) -> list[str]:
        return [said.category.__name__ for said in self.warnings]

    @property
    def messages(self) -> str:
        return "\n".join(str(said.message) for said in self.warnings)


def name_of(episode: int) -> str:
    """The name that all three give the film of an episode here."""
    return f"rl-video-episode-{episode}"


def undisturbed(length: int, n_episodes: int) -> list[list[tuple[float, float, bool]]]:
    """What the loop sees of a `CountingEnv` when nothing disturbs it."""
    return [[(float(k), float(k), k == length) for k in range(length + 1)]] * n_episodes


def said_by_rollcam(warned: Sequence[warnings.WarningMessage]) -> list[str]:
    """Rollcam's own: others speak too (jax warns of each fork, once a test before has loaded it)."""
    return [str(one.message) for one in warned if issubclass(one.category, rollcam.RollcamWarning)]


def film(
    kind: str,
    env: CountingEnv | AnsiEnv,
    folder: Path,
    *,
    n_episodes: int = 2,
    hook: Hook = lambda episode, step: None,
    **settings: Any,
) -> Rollout:
    """Run a training loop to its end and film every episode; nothing may be raised."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loop = {"RecordVideo": _wrapped, "Recorder": _own_loop, "VideoRecorder": _frame_by_frame}
        history = loop[kind](env, folder, n_episodes, hook, settings)
    assert env.is_closed
    return Rollout(history, said)


def _wrapped(env: Any, folder: Path, n: int, hook: Hook, settings: dict[str, Any]) -> Any:
    filmed = rollcam.RecordVideo(env, folder, episode_trigger=rollcam.every(1), **settings)
    history = _rollouts(filmed, n, hook, lambda *_: None, lambda *_: None, lambda: None)
    filmed.close()
    return history


def _own_loop(env: Any, folder: Path, n: int, hook: Hook, settings: dict[str, Any]) -> Any:
    recorder = rollcam.Recorder(folder, fps=env.metadata["render_fps"], **settings)

    def frame(reward: float | None, done: bool) -> None:
        recorder.capture(env.render, reward=reward, terminated=done)

    history = _rollouts(env, n, hook, lambda _: recorder.begin(), frame, recorder.end)
    recorder.close()
    env.close()
    return history


def _frame_by_frame(env: Any, folder: Path, n: int, hook: Hook, settings: dict[str, Any]) -> Any:
    recorders: list[rollcam.VideoRecorder] = []

    def begin(episode: int) -> None:
        path = folder / f"{name_of(episode)}.mp4"
        recorders.append(rollcam.VideoRecorder(env, path, **settings))

    history = _rollouts(
        env, n, hook, begin,
        lambda *_: recorders[-1].capture_frame(), lambda: recorders[-1].close(),
    )  # fmt: skip
    env.close()
    return history


def _rollouts(
    env: Any, n: int, hook: Hook, begin: Callable[[int], Any],
    frame: Callable[[float | None, bool], Any], end: Callable[[], Any],
) -> Any:  # fmt: skip
    history = []
    for episode in range(n):
        hook(episode, BEFORE)
        obs, _ = env.reset(seed=episode)
        begin(episode)
        frame(None, False)
        seen, done, step = [(float(obs[0]), 0.0, False)], False, 0
        hook(episode, 0)
        while not done:
            obs, reward, terminated, truncated, _ = env.step(0)
            done, step = terminated or truncated, step + 1
            frame(reward, done)
            seen.append((float(obs[0]), reward, done))
            hook(episode, step)
        end()
        history.append(seen)
    return history


def episodes(folder: Path) -> dict[str, rollcam.Episode]:
    """The episodes of a folder by name; every sidecar must be readable."""
    listing = files.list_episodes(folder)
    assert not listing.problems
    return {episode.name: episode for episode in listing.episodes}


def check_whole(folder: Path, name: str, wanted: list[int]) -> rollcam.Episode:
    """The film `name` is complete and shows the frames `wanted`, one picture for each."""
    episode = episodes(folder)[name]
    assert (episode.status, episode.reason) == ("complete", None)
    assert episode.media_path is not None
    assert barcode.indices(episode.media_path) == wanted
    assert episode.n_frames == len(wanted)
    return episode


def check_failed(folder: Path, name: str, *reasons: str) -> rollcam.Episode:
    """There is no film `name`, and its sidecar says why."""
    episode = episodes(folder)[name]
    assert episode.status == "failed"
    for reason in reasons:
        assert reason in (episode.reason or "")
    assert (episode.media, episode.steps, episode.n_frames) == (None, None, 0)
    assert not (folder / f"{name}.mp4").exists()
    assert not (folder / f"{name}.steps.json").exists()
    return episode


def check_tidy(folder: Path) -> None:
    """Nothing half-done lies about: every file belongs to an episode's sidecar."""
    known = {"rollcam-test-ballast"}
    for episode in episodes(folder).values():
        paths = (episode.sidecar_path, episode.media_path, episode.steps_path)
        known |= {path.name for path in paths if path is not None}
    found = {path.name for path in folder.rglob("*") if path.is_file()}
    assert found <= known, found - known


def wait_until(
    condition: Callable[[], object], what: str, timeout_s: float = 20.0, *, every_s: float = 0.002
) -> None:
    """Poll until `condition` holds; `what` names it in the failure."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain until {what}"
        time.sleep(every_s)

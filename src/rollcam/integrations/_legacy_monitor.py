"""`Monitor` as gym 0.17 to 0.22 had it, with its statistics and its manifest."""

from __future__ import annotations

import itertools
import os
import re
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rollcam._checks import check_callable
from rollcam.capture.triggers import capped_cubic
from rollcam.episode import Episode, EpisodeCallback, Mode, OnError
from rollcam.errors import RecordingFailedWarning, SettingError, StoreError
from rollcam.integrations._legacy_env import read_step
from rollcam.integrations._legacy_film import Filmed
from rollcam.integrations._legacy_stats import (
    FILE_PREFIX,
    MonitorFiles,
    Stats,
    clear_monitor_files,
    find_manifests,
    gym_version,
)

VideoCallable = Callable[[int], bool]
_MODES: dict[str, Mode] = {"training": "train", "evaluation": "eval"}
_IDS = itertools.count()


class Monitor(Filmed):
    """Films episodes of an environment of gym 0.17 to 0.26, as `gym.wrappers.Monitor` did.

    Arguments and names are gym's: `openaigym.video.<monitor>.<uid>.video000000.mp4` with its
    `.meta.json`, `openaigym.episode_batch.<monitor>.<uid>.stats.json` and
    `openaigym.manifest.<monitor>.<uid>.manifest.json`, which gym's `load_results` reads. A film ends
    at the next `reset` or at `close`. Unlike gym's, it lets you reset in the middle of an episode,
    which then is not counted, and text is filmed as asciicast v2 (`.cast`).

    Args:
        env: The environment.
        directory: Folder of the films and statistics.
        video_callable: Called with the number of each episode; `True` films it. `None`: 0, 1, 8, 27,
            ... 1000, 2000, ...; `False`: none.
        force: Delete what monitors wrote in `directory`: every file that begins with `openaigym.`,
            but those of films that somebody still writes.
        resume: Write beside what monitors wrote there before.
        write_upon_reset: Write statistics and manifest at each `reset`, too.
        uid: Stands in the names of the files; default: the number of the process.
        mode: `"training"` or `"evaluation"`.
        **settings: Those of `rollcam.Recorder`: `keep`, `sinks`, `metadata`, `context`, ...

    Raises:
        SettingError: An argument cannot work.
        StoreError: The folder cannot be written to, or holds a monitor's files and neither `force`
            nor `resume` was given.
    """

    def __init__(
        self,
        env: Any,
        directory: str | os.PathLike[str],
        video_callable: VideoCallable | Literal[False] | None = None,
        force: bool = False,
        resume: bool = False,
        write_upon_reset: bool = False,
        uid: str | int | None = None,
        mode: str | None = None,
        *,
        on_finished: EpisodeCallback | None = None,
        on_error: OnError = "warn",
        **settings: Any,
    ) -> None:
        self.video_callable = _checked_callable(video_callable)
        check_callable("on_finished", on_finished, "on the finished Episode")
        uid = _checked_uid(uid)
        mode_now = "train" if mode is None else _checked_mode(mode)
        folder = Path(os.path.abspath(directory))
        _check_unused(folder, is_allowed=force or resume)
        infix = f"{next(_IDS)}.{uid}"
        spec = getattr(env, "spec", None)
        info = {"env_id": getattr(spec, "id", None) or "(unknown)", "gym_version": gym_version()}
        self.stats_recorder = Stats(folder / f"{FILE_PREFIX}.episode_batch.{infix}.stats.json")
        self.stats_recorder.type = mode_now[0]
        manifest = folder / f"{FILE_PREFIX}.manifest.{infix}.manifest.json"
        self._files = MonitorFiles(self.stats_recorder, manifest, info)
        # Before the recorder: of those at the interpreter's end, the newest comes first.
        self._finaliser = weakref.finalize(self, self._files.save_quietly)
        taken = _Taken(self._files, on_finished)
        own = {"on_finished": taken, "on_error": on_error}
        try:
            super().__init__(env, folder, {"mode": mode_now, **settings, **own})
            if force:  # nothing is deleted for a monitor that cannot be made
                _clear(folder)
        except BaseException:
            self._finaliser.detach()  # nor does it leave files behind
            raise
        self._mode = mode_now
        self._raises = on_error == "raise"
        self.directory = str(folder)
        self.file_prefix = FILE_PREFIX
        self.file_infix = infix
        self.write_upon_reset = write_upon_reset
        self.episode_id = 0
        self._n_steps = 0
        self._resets_itself = bool(
            (getattr(env, "metadata", None) or {}).get("semantics.autoreset")
        )

    @property
    def enabled(self) -> bool:
        """Whether the monitor was not closed yet."""
        return self._is_open

    @property
    def videos(self) -> list[tuple[str, str]]:
        """The finished films and their metadata, as paths; complete after `close`."""
        return list(self._files.videos)

    def reset(self, **kwargs: Any) -> Any:
        """Reset the environment: the film of the last episode ends, and perhaps one begins."""
        result = self._reset(kwargs)
        if self._is_open:
            self.stats_recorder.reset()
            self._next_episode()
        return result

    def step(self, action: Any) -> Any:
        """Step the environment, and film what it shows afterwards."""
        result = self.env.step(action)
        if not self._is_open:
            return result
        stepped = read_step(result)
        self._n_steps += 1
        self.stats_recorder.step(stepped.reward, is_done=stepped.is_done)
        if stepped.is_done and self._resets_itself:
            self._end()
            self.stats_recorder.reset()
            self._next_episode()
        else:
            self._capture(action, stepped)
        return result

    def set_monitor_mode(self, mode: str) -> None:
        """Say whether the next episodes are of training or of evaluation."""
        self._mode = _checked_mode(mode)
        self.stats_recorder.type = self._mode[0]

    def get_total_steps(self) -> int:
        """Return how many steps were made."""
        return self.stats_recorder.total_steps

    def get_episode_rewards(self) -> list[float]:
        """Return the return of each finished episode."""
        return self.stats_recorder.episode_rewards

    def get_episode_lengths(self) -> list[int]:
        """Return the number of steps of each finished episode."""
        return self.stats_recorder.episode_lengths

    def _next_episode(self) -> None:
        self._end()
        number, self.episode_id = self.episode_id, self.episode_id + 1
        if self.video_callable(number):
            name = f"{FILE_PREFIX}.video.{self.file_infix}.video{number:06}"
            facts = {"episode_index": number, "step_index": self._n_steps, "mode": self._mode}
            self._begin(name, metadata={"episode_id": number}, **facts)
        if self.write_upon_reset:
            self._save()

    def _close_films(self) -> None:
        if not self._is_open:
            return
        self._finaliser.detach()
        super()._close_films()
        self._save()

    def _save(self) -> None:
        try:
            self._files.save()
        except OSError as error:
            message = f"the monitor's statistics in {self.directory} were not written: {error}"
            if self._raises:
                raise StoreError(message) from error
            warnings.warn(message, RecordingFailedWarning, stacklevel=4)


class _Taken:
    """Notes each finished film, and tells the user of it.

    Args:
        files: Where films are noted.
        then: The user's callback.
    """

    def __init__(self, files: MonitorFiles, then: EpisodeCallback | None) -> None:
        self._files = files
        self._then = then

    def __call__(self, episode: Episode) -> None:
        self._files.add(episode)
        if self._then is not None:
            self._then(episode)


def _check_unused(folder: Path, *, is_allowed: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = [] if is_allowed else find_manifests(folder)
    except OSError as error:
        raise _unusable(folder, error) from error
    if found:
        raise StoreError(
            f"{folder} holds the files of a monitor ({', '.join(found[:5])}); give each training "
            f"run a folder of its own, or say force=True to delete them, resume=True to write beside "
            f"them"
        )


def _clear(folder: Path) -> None:
    try:
        clear_monitor_files(folder)
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"the monitor's folder {folder} cannot be used: {error}")


def _checked_callable(given: Any) -> VideoCallable:
    if given is None:
        return capped_cubic
    if given is False:
        return _never
    if not callable(given):
        raise SettingError(f"video_callable must be a function, None or False, not {given!r}")
    checked: VideoCallable = given
    return checked


def _never(number: int) -> bool:
    return False


def _checked_uid(uid: object) -> str:
    text = str(uid) if uid else str(os.getpid())
    if not re.fullmatch(r"[\w.-]{1,100}", text):
        raise SettingError(f"uid stands in file names: letters, digits, '.', '-', '_'; not {uid!r}")
    return text


def _checked_mode(mode: str) -> Mode:
    if mode not in _MODES:
        raise SettingError(f'mode must be "training" or "evaluation", not {mode!r}')
    return _MODES[mode]

"""`RecordVideo` as gym 0.21 to 0.26 had it."""

from __future__ import annotations

import math
import os
from typing import Any

from rollcam._checks import check_callable, check_count
from rollcam.capture.triggers import Trigger, capped_cubic
from rollcam.errors import SettingError
from rollcam.integrations._legacy_env import read_step
from rollcam.integrations._legacy_film import Filmed


class RecordVideo(Filmed):
    """Films episodes of an environment of gym 0.17 to 0.26, as `gym.wrappers.RecordVideo` did.

    Arguments, names of files and counters are gym's; only the import changes. Steps of four and of
    five values, `render(mode=...)` and `render_mode` are all understood, and vector environments go
    by their first sub-environment. A film ends with the step that ends its episode, or by its length.
    Unlike gym's, it never overwrites a film, and never begins one with the last frame of the
    episode before.

    Args:
        env: The environment.
        video_folder: Recordings folder.
        episode_trigger: Called with the number of each episode; `True` films it. Default, when
            there is no `step_trigger`: 0, 1, 8, 27, ... 1000, 2000, ...
        step_trigger: Called with the number of steps made so far; `True` begins a film.
        video_length: Length of each film in steps; 0 films whole episodes.
        name_prefix: Files are named `{name_prefix}-episode-{n}` or `{name_prefix}-step-{n}`.
        **settings: Those of `rollcam.Recorder`: `keep`, `sinks`, `metadata`, `context`, ...

    Raises:
        SettingError: Both triggers were given, or an argument cannot work.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        env: Any,
        video_folder: str | os.PathLike[str],
        episode_trigger: Trigger | None = None,
        step_trigger: Trigger | None = None,
        video_length: int = 0,
        name_prefix: str = "rl-video",
        **settings: Any,
    ) -> None:
        check_callable("episode_trigger", episode_trigger, "on a number")
        check_callable("step_trigger", step_trigger, "on a number")
        check_count("video_length", video_length, "a number of steps", at_least=0)
        if episode_trigger is not None and step_trigger is not None:
            raise SettingError("gym's RecordVideo takes episode_trigger or step_trigger, not both")
        super().__init__(env, video_folder, {"name_prefix": name_prefix, **settings})
        has_none = episode_trigger is None and step_trigger is None
        self.episode_trigger = capped_cubic if has_none else episode_trigger
        self.step_trigger = step_trigger
        self.video_folder = os.path.abspath(video_folder)
        self.name_prefix = name_prefix
        self.video_length = video_length
        self.is_vector_env = bool(getattr(env, "is_vector_env", False))
        self.step_id = 0
        self.episode_id = 0

    @property
    def recording(self) -> bool:
        """Whether a film is open."""
        return self._is_filming

    @property
    def recorded_frames(self) -> int:
        """Frames of the open film."""
        return self._recorder.n_frames

    def reset(self, **kwargs: Any) -> Any:
        """Reset the environment; perhaps a film begins."""
        result = self._reset(kwargs)
        if self._is_filming and not self.video_length:
            self._end()  # its episode was given up
        if not self._is_filming:
            self._begin_if_wanted()
        else:  # a clip goes on over the end of an episode
            self._recorder.capture(self._render_newest, is_reset=True)
            self._end_by_length()
        return result

    def step(self, action: Any) -> Any:
        """Step the environment, and film what it shows afterwards."""
        result = self.env.step(action)
        stepped = read_step(result)
        self.step_id += 1
        self.episode_id += stepped.is_done
        if self._is_filming:
            self._capture(action, stepped, marks_end=not self.video_length)
            self._end_by_length()
            if stepped.is_done and not self.video_length:
                self._end()
        elif self.step_trigger is not None:
            self._begin_if_wanted()
        # A vector environment resets itself: what it shows now is the next episode's first frame.
        if stepped.is_done and self.is_vector_env and not self._is_filming:
            self._begin_if_wanted(by_step=False)
        return result

    def start_video_recorder(self) -> None:
        """Begin a film now; one that is open ends before."""
        by_episode = self.step_trigger is None
        number = f"episode-{self.episode_id}" if by_episode else f"step-{self.step_id}"
        self._begin(
            f"{self.name_prefix}-{number}",
            episode_index=self.episode_id,
            step_index=self.step_id,
            kind="clip" if self.video_length else "episode",
        )

    def close_video_recorder(self) -> None:
        """End the open film, and wait until its file is there."""
        self._end()
        self._recorder.flush()

    def _begin_if_wanted(self, *, by_step: bool = True) -> None:
        if self.step_trigger is not None:
            wanted = by_step and self.step_trigger(self.step_id)
        else:
            wanted = self.episode_trigger is not None and self.episode_trigger(self.episode_id)
        if wanted:
            self.start_video_recorder()

    def _end_by_length(self) -> None:
        if self._recorder.n_frames > (self.video_length or math.inf):
            self._end()

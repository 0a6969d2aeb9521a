"""`RecordVideo` for `dm_env` environments: those of dm_control, and any whose picture can be had."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import NoneType
from typing import Any

from rollcam._checks import check_callable, check_count, check_type
from rollcam.capture.triggers import Trigger, capped_cubic
from rollcam.errors import RenderModeError, SettingError, require
from rollcam.recorder import Recorder

_dm_env: Any = require("dm_env", package="dm-env")
if not isinstance(getattr(_dm_env, "Environment", None), type):
    require("dm_env._environment", package="dm-env")  # something else of that name

FrameSource = Callable[[Any], Any]
"""Called with the newest `TimeStep`; returns a frame."""


class RecordVideo(_dm_env.Environment):  # type: ignore[misc]
    """Films episodes of a `dm_env.Environment`, and is one itself.

    A film begins with the `FIRST` time step of an episode and ends with its `LAST`, or when `reset`
    gives the episode up. An episode whose last discount is 0 was terminated, any other truncated.

    Args:
        environment: The environment.
        video_folder: Recordings folder.
        episode_trigger: Called with the number of each episode; `True` films it. Default: 0, 1, 8,
            27, ... 1000, 2000, ...
        name_prefix: Files are named `{name_prefix}-episode-{n}`.
        render: Called with the newest `TimeStep`; returns a frame, such as
            `lambda step: step.observation["pixels"]`. Default: the physics of dm_control is drawn.
        height: Of what the physics draws, in pixels.
        width: Of what the physics draws, in pixels.
        camera_id: Camera of the physics, by number or name; default: the first, or where there is
            none, the free one.
        fps: Frames per second; default: one frame for each control step in real time, else 30.
        **settings: Those of `rollcam.Recorder`: `keep`, `sinks`, `metadata`, `env_id`, ...

    Raises:
        RenderModeError: There is neither `render` nor a physics to draw.
        SettingError: An argument cannot work.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        environment: Any,
        video_folder: str | os.PathLike[str],
        episode_trigger: Trigger | None = None,
        name_prefix: str = "rl-video",
        *,
        render: FrameSource | None = None,
        height: int = 240,
        width: int = 320,
        camera_id: int | str | None = None,
        fps: float | None = None,
        **settings: Any,
    ) -> None:
        if not all(callable(getattr(environment, name, None)) for name in ("reset", "step")):
            raise SettingError(f"a dm_env.Environment was expected, not {environment!r}")
        check_callable("episode_trigger", episode_trigger, "on a number")
        check_callable("render", render, "on the newest TimeStep")
        check_count("height", height, "a number of pixels")
        check_count("width", width, "a number of pixels")
        check_type("camera_id", camera_id, (int, str, NoneType), "a number or a name")
        if render is None and not hasattr(environment, "physics"):
            raise RenderModeError(
                f"{type(environment).__name__} has no physics to draw; say where its picture is, for "
                f'instance render=lambda step: step.observation["pixels"]'
            )
        self._environment = environment
        self._render = render or self._draw
        self._view = {"height": height, "width": width}
        self._camera_id = camera_id
        self.episode_trigger = capped_cubic if episode_trigger is None else episode_trigger
        self.name_prefix = name_prefix
        self.episode_id = -1
        self.step_id = 0
        settings = {"env_id": _name_of(environment), "name_prefix": name_prefix, **settings}
        self._has_template = settings.get("name") is not None
        own_fps = _fps_of(environment) if fps is None else fps
        self._recorder = Recorder(video_folder, fps=own_fps, **settings)
        self._is_open = True

    def reset(self) -> Any:
        """Begin an episode; a film that is open ends, and perhaps one begins."""
        return self._seen(self._environment.reset(), None)

    def step(self, action: Any) -> Any:
        """Step the environment, and film what it shows afterwards."""
        return self._seen(self._environment.step(action), action)

    def observation_spec(self) -> Any:
        """Return the environment's."""
        return self._environment.observation_spec()

    def action_spec(self) -> Any:
        """Return the environment's."""
        return self._environment.action_spec()

    def reward_spec(self) -> Any:
        """Return the environment's."""
        return self._environment.reward_spec()

    def discount_spec(self) -> Any:
        """Return the environment's."""
        return self._environment.discount_spec()

    def set_context(self, **values: Any) -> None:
        """Tell this recorder the trainer's counters; `rollcam.set_context` tells them to all."""
        self._recorder.set_context(**values)

    def close(self) -> None:
        """Finish the films, then close the environment."""
        self._is_open = False
        try:
            self._recorder.close()
        finally:
            close = getattr(self._environment, "close", None)
            if close is not None:
                close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._environment, name)

    def _seen(self, step: Any, action: Any) -> Any:
        # `step` resets, too, when the episode was over: the time step says so.
        if step.first():
            self._begin(step)
            return step
        self.step_id += 1
        if self._recorder.is_filming:
            is_last = bool(step.last())
            is_terminated = is_last and step.discount is not None and not _any(step.discount)
            self._recorder.capture(
                lambda: self._render(step),
                reward=step.reward,
                action=action,
                terminated=is_terminated,
                truncated=is_last and not is_terminated,
            )
            if is_last:
                self._recorder.end()
        return step

    def _begin(self, step: Any) -> None:
        self.episode_id += 1
        if self._recorder.is_filming:
            self._recorder.end()
        if self._is_open and self.episode_trigger(self.episode_id):
            name = None if self._has_template else f"{self.name_prefix}-episode-{self.episode_id}"
            self._recorder.begin(name, episode_index=self.episode_id, step_index=self.step_id)
            self._recorder.capture(lambda: self._render(step), is_reset=True)

    def _draw(self, step: Any) -> Any:
        physics = self._environment.physics  # composer makes a new one now and then
        camera = self._camera_id
        if camera is None:
            camera = 0 if physics.model.ncam else -1
        return physics.render(camera_id=camera, **self._view)


def _any(discount: Any) -> bool:
    """Whether a discount, which may be an array, lets anything count that comes afterwards."""
    return bool(discount.any()) if hasattr(discount, "any") else bool(discount)


def _fps_of(environment: Any) -> float | None:
    timestep = getattr(environment, "control_timestep", None)
    seconds = timestep() if callable(timestep) else None
    # Rounded: 1 / 0.03 has no end.
    return round(1 / float(seconds), 3) if seconds else None


def _name_of(environment: Any) -> str:
    """Return a name such as `cartpole-Balance`, of the task where there is one."""
    task = getattr(environment, "task", None)
    if task is None:
        return type(environment).__name__
    return f"{type(task).__module__.rpartition('.')[2]}-{type(task).__name__}"

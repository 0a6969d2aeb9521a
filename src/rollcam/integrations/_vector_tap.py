"""Stands between a vector environment and one sub-environment, in this process or in a child.

`AsyncVectorEnv` runs its sub-environments in children that are already at work when it is wrapped.
What is to happen inside them travels as an `Installer`: it is pickled into a message, and unpickling
it, in the child, calls `install` while the worker's loop waits in `recv` with its environment at
hand. Nothing in here raises into that loop: an exception there would end the worker.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from rollcam.integrations._env import about

Answer = tuple[bool, Any]
"""Whether it went well, and the result; else what went wrong, in words."""

NOT_INSTALLED = "render_mode"
"""An attribute that every environment has: what a message asks for where nothing was installed."""

_PIPES = {"pipe", "remote"}
"""What the loops of Gymnasium's and Stable-Baselines3's workers call their pipe."""


class Hooks:
    """Puts functions in the place of an object's methods, and takes them away again.

    Args:
        owner: The object; only this instance is changed.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._put: dict[str, tuple[Callable[..., Any], Any]] = {}

    def put(self, name: str, function: Callable[..., Any]) -> None:
        """Put `function` in the place of the method `name`."""
        before = vars(self._owner).get(name)
        setattr(self._owner, name, function)
        self._put[name] = (function, before)

    def remove(self) -> None:
        """Put back what was there, unless somebody else has put something on top since."""
        for name, (function, before) in self._put.items():
            if vars(self._owner).get(name) is not function:
                continue
            if before is None:
                delattr(self._owner, name)
            else:
                setattr(self._owner, name, before)
        self._put.clear()


class FrameTap:
    """Renders one sub-environment; keeps the last frame of an episode that is reset in its last step.

    It is armed for one step at a time, so that a film that ends needs no message: whoever wants the
    next last frame arms it again.

    Args:
        env: The sub-environment.
    """

    def __init__(self, env: Any) -> None:
        self.is_armed = False
        """Keep the last frame, should the next step end the episode."""
        self.was_reset = False
        """The newest of `step` and `reset` was a reset."""
        self._env = env
        self._last: tuple[Any, Exception | None] | None = None
        self._step, self._reset = env.step, env.reset
        self._hooks = Hooks(env)
        self._hooks.put("step", self._watch_step)
        self._hooks.put("reset", self._watch_reset)

    def render(self) -> Any:
        """Render the sub-environment as it stands."""
        return self._env.render()

    def last(self) -> Any:
        """Return the frame of the episode that the newest step ended.

        Where none was kept, as this was not armed (a tile of a film that begins with this very step),
        that is the frame of now.

        Raises:
            Exception: What the renderer raised then.
        """
        if self._last is None:
            return self._env.render()
        frame, error = self._last
        if error is not None:
            raise error
        return frame

    def remove(self) -> None:
        """Leave the sub-environment as it was."""
        self._hooks.remove()

    def _watch_step(self, action: Any) -> Any:
        result = self._step(action)
        is_armed, self.is_armed = self.is_armed, False
        self.was_reset, self._last = False, None
        if is_armed and (result[2] or result[3]):
            try:
                self._last = (detached(self._env.render()), None)
            except Exception as error:  # noqa: BLE001 - it costs the film, and not the step
                self._last = (None, error)
        return result

    def _watch_reset(self, **options: Any) -> Any:
        result = self._reset(**options)
        self.was_reset = True
        return result


class ChildTap:
    """A `FrameTap` in a child process: answers in what can be sent through a pipe.

    Args:
        env: The worker's environment.
        keeps_last: Episodes are reset in their last step, so their last frames have to be kept.
    """

    def __init__(self, env: Any, *, keeps_last: bool) -> None:
        self._env = env
        self._keeps_last = keeps_last
        self._tap = FrameTap(env)

    def __call__(self, verb: str, *args: Any) -> Answer:
        """Do what the parent asks for; called by the worker's loop."""
        verbs: dict[str, Callable[..., Any]] = {
            "hello": self._hello,
            "frames": self._frames,
            "arm": self._arm,
        }
        return answered(verbs[verb], args)

    def _hello(self) -> dict[str, Any]:
        return plainly_about(self._env)

    def _arm(self) -> None:
        self._tap.is_armed = self._keeps_last

    def _frames(self, wants_last: bool, wants_now: bool) -> tuple[Answer, Answer, bool]:
        """Return the last frame, the frame of now, and whether the sub-environment was just reset."""
        self._arm()
        last = answered(lambda: sendable(self._tap.last())) if wants_last else (True, None)
        now = answered(lambda: sendable(self._tap.render())) if wants_now else (True, None)
        return last, now, self._tap.was_reset


class Installer:
    """Unpickles, in a worker, to the name of the attribute through which the parent calls.

    Args:
        name: That name.
        make: Makes what is installed, from the worker's environment; importable by name.
        settings: Keyword arguments of `make`.
        otherwise: What it unpickles to where there is no environment.
    """

    def __init__(
        self,
        name: str,
        make: Callable[..., Any],
        settings: dict[str, Any],
        otherwise: str = NOT_INSTALLED,
    ) -> None:
        self._reduced = (install, (name, make, settings, otherwise))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def install(name: str, make: Callable[..., Any], settings: dict[str, Any], otherwise: str) -> str:
    """Put what `make` returns onto the environment of the worker that is unpickling this.

    Returns:
        `name`, or `otherwise` when no environment is in sight.
    """
    try:
        env = env_of_worker()
        if env is None:
            return otherwise
        is_fine, made = answered(lambda: make(env, **settings))
        setattr(env, name, made if is_fine else _Failed(made))
    except Exception:  # noqa: BLE001 - raised from here, it would end the worker
        return otherwise
    return name


class _Failed:
    """Answers every call with why the installation failed."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __call__(self, verb: str, *args: Any) -> Answer:
        return False, self._reason


def env_of_worker() -> Any:
    """Find the environment of the worker's loop that is waiting, further up, for a message.

    Returns:
        The local variable `env` of the nearest function that has an environment there, or `None`.
    """
    import gymnasium

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        is_loop = not _PIPES.isdisjoint(frame.f_code.co_varnames)
        env = frame.f_locals.get("env") if is_loop else None
        if isinstance(env, gymnasium.Env):
            return env
        frame = frame.f_back
    return None


def plainly_about(env: Any) -> dict[str, Any]:
    """Return what the sidecar says of an environment, in what can be sent through a pipe."""
    told = about(env)
    if told["env_spec"] is not None:
        kwargs = told["env_spec"]["kwargs"]
        told["env_spec"]["kwargs"] = {key: _plain(value) for key, value in kwargs.items()}
    return told


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else repr(value)[:200]


def answered(call: Callable[..., Any], args: tuple[Any, ...] = ()) -> Answer:
    """Call something; turn what it raises into words."""
    try:
        return True, call(*args)
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises it as its own
        return False, f"{type(error).__name__}: {error}"


def detached(frame: Any) -> Any:
    """Copy a frame that the environment may be about to write over."""
    if isinstance(frame, list | tuple):
        return detached(frame[-1]) if frame else None
    if isinstance(frame, np.ndarray):
        return frame.copy(order="K")
    if isinstance(frame, io.StringIO):
        return frame.getvalue()
    return frame.clone() if hasattr(frame, "clone") else frame


def sendable(frame: Any) -> Any:
    """Turn a frame into what certainly survives a pipe: a plain array, text or `None`.

    Raises:
        TypeError: It is none of these and no tensor.
    """
    if isinstance(frame, list | tuple):
        return sendable(frame[-1]) if frame else None
    if isinstance(frame, io.StringIO):
        return frame.getvalue()
    if frame is None or isinstance(frame, str | bytes):
        return frame
    if hasattr(frame, "detach") and hasattr(frame, "cpu"):
        frame = frame.detach().cpu().numpy()
    array = np.asarray(frame)
    if array.dtype.kind not in "uifb":
        raise TypeError(f"a frame must be an array, a tensor or text, not {type(frame).__name__}")
    return array

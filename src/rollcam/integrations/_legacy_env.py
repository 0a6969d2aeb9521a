"""What the environments of gym 0.17 to 0.26 look like from outside; gym itself is not imported."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from rollcam.errors import RecordingFailedWarning


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step gave, in gym's old form of four or its new one of five."""

    reward: Any
    terminated: bool
    truncated: bool
    info: Mapping[str, Any] | None

    @property
    def is_done(self) -> bool:
        """The episode is over."""
        return self.terminated or self.truncated


def read_step(result: Any) -> Stepped:
    """Read the result of `step`; of a vector environment, what it says of the first.

    Args:
        result: `(observation, reward, done, info)`, as until gym 0.25, or `(observation, reward,
            terminated, truncated, info)`.
    """
    _, reward, *ends, info = result
    reward, ends = _first(reward), [bool(_first(end)) for end in ends]
    if isinstance(info, list | tuple):
        info = info[0] if info else None
    told = info if isinstance(info, Mapping) else None
    if len(ends) == 2:
        return Stepped(reward, ends[0], ends[1], told)
    # gym's TimeLimit said so; without it nobody can tell the two apart.
    is_cut = ends[0] and told is not None and bool(_first(told.get("TimeLimit.truncated", False)))
    return Stepped(reward, ends[0] and not is_cut, is_cut, told)


def _first(value: Any) -> Any:
    return value[0] if getattr(value, "shape", None) or isinstance(value, list | tuple) else value


class Wrapper:
    """A wrapper of an environment; to gym, where gym is loaded, one of its own.

    Args:
        env: An environment of any gym.
    """

    env: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Not that of `__new__`, which says nothing.
        super().__init_subclass__(**kwargs)
        whole = inspect.signature(cls.__init__)
        cls.__signature__ = whole.replace(  # type: ignore[attr-defined]
            parameters=list(whole.parameters.values())[1:], return_annotation=whole.empty
        )

    def __new__(cls, env: Any, *args: Any, **kwargs: Any) -> Self:
        """Make it an instance of gym's `Wrapper`, too, when `env` is one of gym's `Env`."""
        for name in ("gym", "gymnasium"):
            gym = sys.modules.get(name)
            known, wrapper = getattr(gym, "Env", None), getattr(gym, "Wrapper", None)
            if isinstance(known, type) and isinstance(wrapper, type) and isinstance(env, known):
                joined: type[Self] = _joined(cls, wrapper)  # type: ignore[arg-type]
                return object.__new__(joined)
        return object.__new__(cls)

    def __init__(self, env: Any) -> None:
        if type(self).__mro__[-2] is not Wrapper:
            super().__init__(env)  # type: ignore[call-arg]
        self.env = env

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "env":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.env, name)

    @property
    def unwrapped(self) -> Any:
        """The innermost environment."""
        return getattr(self.env, "unwrapped", self.env)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{self.env!r}>"

    __str__ = __repr__


@functools.cache
def _joined(cls: type[Any], wrapper: type) -> type[Any]:
    return type(
        cls.__name__, (cls, wrapper), {"__module__": cls.__module__, "__doc__": cls.__doc__}
    )


def env_facts(env: Any) -> dict[str, Any]:
    """Return `env_id` and `env_spec` for the sidecar."""
    spec = getattr(env, "spec", None)
    name = getattr(spec, "id", None)
    if not isinstance(name, str):
        return {"env_id": type(getattr(env, "unwrapped", env)).__name__, "env_spec": None}
    steps = getattr(spec, "max_episode_steps", None)
    return {"env_id": name, "env_spec": {"id": name, "max_episode_steps": steps}}


def mode_of(env: Any, metadata: Mapping[str, Any]) -> str | None:
    """Return `rgb_array` or `ansi`, whichever the environment renders; warn when it is neither."""
    own = getattr(env, "render_mode", None)
    if own is not None:
        offered = [own.removesuffix("_list")]
    elif "render.modes" in metadata or not hasattr(env, "render_mode") or _takes_mode(env):
        offered = list(metadata.get("render.modes") or metadata.get("render_modes") or [])
    else:
        offered = []
    for mode in ("rgb_array", "ansi"):
        if mode in offered:
            return mode
    hint = ""
    if hasattr(env, "render_mode") and "rgb_array" in (metadata.get("render_modes") or []):
        hint = '; make it with render_mode="rgb_array"'
    warnings.warn(
        f"the video recorder is disabled: {env} renders neither pixels nor text "
        f"(render_mode={own!r}){hint}",
        RecordingFailedWarning,
        stacklevel=3,
    )
    return None


def renderer(env: Any, mode: str) -> Callable[[], Any]:
    """Return how to render: since Gymnasium the mode is the environment's, before it was asked for."""
    if getattr(env, "render_mode", None) is not None:
        render: Callable[[], Any] = env.render
        return render
    return lambda: env.render(mode=mode)


def _takes_mode(env: Any) -> bool:
    """Whether the environment itself is asked for a mode at each `render`, as until gym 0.25."""
    try:
        render = getattr(env, "unwrapped", env).render
        return "mode" in inspect.signature(render).parameters
    except (AttributeError, TypeError, ValueError):
        return False

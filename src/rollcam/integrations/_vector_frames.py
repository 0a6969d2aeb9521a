"""Where the frames of a vector environment come from: only the sub-environments that are filmed are asked.

Three sources with one face: `SyncVectorEnv`, whose sub-environments are at hand; `AsyncVectorEnv`,
whose children are asked through their pipes; and any other, whose `render()` gives all frames at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from rollcam.errors import CaptureError
from rollcam.integrations._vector_children import Children
from rollcam.integrations._vector_tap import Answer, ChildTap, FrameTap, plainly_about

Render = Callable[[], Any]
"""Returns a frame, or raises what went wrong."""


@dataclass(frozen=True, slots=True)
class Want:
    """What is wanted of one sub-environment after a step."""

    last: bool = False
    """The last frame of the episode that this step ended and reset; otherwise the frame of now."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What one sub-environment shows."""

    render: Render
    """Returns the frame; may be called once."""
    was_reset: bool | None = None
    """Whether the sub-environment was reset rather than stepped; `None` when the source cannot tell."""


class FrameSource(Protocol):
    """Gives the frames of chosen sub-environments."""

    has_last: bool
    """Whether last frames can be had under SAME_STEP autoreset."""

    def about(self) -> dict[str, Any]:
        """Return the facts of the sub-environments for the sidecar."""

    def fetch(self, wants: Mapping[int, Want]) -> dict[int, Shown]:
        """Return what is wanted, and arm those sub-environments for their next last frame."""

    def arm(self, indices: Collection[int]) -> None:
        """See to it that the last frames of these can be fetched after the next step."""

    def close(self) -> None:
        """Leave the sub-environments as they were."""


class SyncFrames:
    """Frames of a `SyncVectorEnv`: rendered when they are asked for.

    Args:
        env: The base environment; anything with a list of environments under `envs`.
        indices: The sub-environments that may be filmed.
        mode: How episodes are reset.
    """

    has_last = True

    def __init__(
        self, env: SyncVectorEnv[Any, Any] | Any, indices: Sequence[int], mode: AutoresetMode
    ) -> None:
        self._envs = env.envs
        tapped = indices if mode is AutoresetMode.SAME_STEP else ()
        self._taps = {index: FrameTap(env.envs[index]) for index in tapped}

    def about(self) -> dict[str, Any]:
        """Return the facts of the first sub-environment."""
        return plainly_about(self._envs[0])

    def fetch(self, wants: Mapping[int, Want]) -> dict[int, Shown]:
        """Return what is wanted; nothing is rendered before it is called for."""
        self.arm(wants)
        return {
            index: Shown(self._taps[index].last if want.last else self._envs[index].render)
            for index, want in wants.items()
        }

    def arm(self, indices: Collection[int]) -> None:
        """Keep the last frames of these."""
        for index in indices:
            if index in self._taps:
                self._taps[index].is_armed = True

    def close(self) -> None:
        """Take the taps away."""
        for tap in self._taps.values():
            tap.remove()


class AnyFrames:
    """Frames of a vector environment that renders all sub-environments at once, or none.

    Args:
        env: The environment, wrappers included.
    """

    has_last = False

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self._env = env

    def about(self) -> dict[str, Any]:
        """Return the facts of the vector environment."""
        spec = self._env.spec
        name = type(self._env.unwrapped).__name__
        return {"env_id": spec.id if spec else name, "env_spec": None}

    def fetch(self, wants: Mapping[int, Want]) -> dict[int, Shown]:
        """Return what is wanted, by one call of `render`; last frames are gone, and `None`."""
        frames: list[Any] = []

        def frame(index: int) -> Any:
            if not frames:
                frames.extend(self._render())
            return frames[index]

        return {
            index: Shown((lambda: None) if want.last else (lambda index=index: frame(index)))  # type: ignore[misc]
            for index, want in wants.items()
        }

    def arm(self, indices: Collection[int]) -> None:
        """Do nothing: last frames cannot be had."""

    def close(self) -> None:
        """Do nothing."""

    def _render(self) -> Sequence[Any]:
        frames: Any = self._env.render()
        n = self._env.num_envs
        if frames is None:
            return [None] * n
        if isinstance(frames, str) or not hasattr(frames, "__len__") or len(frames) != n:
            raise CaptureError(
                f"render() of {self._env} must return {n} frames, one for each sub-environment, "
                f"not {_brief(frames)}"
            )
        return list(frames)


class AsyncFrames:
    """Frames of an `AsyncVectorEnv`: each filmed child is asked through its own pipe.

    Args:
        children: The children that may be filmed.
        mode: How episodes are reset.
    """

    def __init__(self, children: Children, mode: AutoresetMode) -> None:
        self._children = children
        keeps_last = mode is AutoresetMode.SAME_STEP
        settings = {index: {"keeps_last": keeps_last} for index in children.indices}
        self._hellos = children.install(ChildTap, settings)
        self.problems = [
            f"{i}: {told}" for i, (is_fine, told) in self._hellos.items() if not is_fine
        ]
        """What kept us out of children, with their index."""
        self.has_last = not self.problems
        """Whether something of ours could be put into every child."""

    def about(self) -> dict[str, Any]:
        """Return the facts of the first sub-environment that tells them."""
        told = [facts for is_fine, facts in self._hellos.values() if is_fine]
        return told[0] if told else {"env_id": None, "env_spec": None}

    def fetch(self, wants: Mapping[int, Want]) -> dict[int, Shown]:
        """Return what is wanted; all are asked before the first answer is waited for."""
        if not self.has_last:
            return self._fetch_plainly(wants)
        asked = {i: ("frames", want.last, not want.last) for i, want in wants.items()}
        shown = {}
        for index, (is_fine, told) in self._children.ask(asked).items():
            if is_fine:
                last, now, was_reset = told
                answer = last if wants[index].last else now
                shown[index] = Shown(_Once(index, answer).take, was_reset)
            else:
                shown[index] = Shown(_Once(index, (False, told)).take)
        return shown

    def arm(self, indices: Collection[int]) -> None:
        """Keep the last frames of these."""
        if self.has_last:
            self._children.ask(dict.fromkeys(indices, ("arm",)))

    def close(self) -> None:
        """Do nothing: what is in the children ends with them."""

    def _fetch_plainly(self, wants: Mapping[int, Want]) -> dict[int, Shown]:
        answers = self._children.render([i for i, want in wants.items() if not want.last])
        return {i: Shown(_Once(i, answers.get(i, (True, None))).take) for i in wants}


class _Once:
    """Hands an answer on once, and forgets it: nobody else holds the frame then."""

    def __init__(self, index: int, answer: Answer) -> None:
        self._index = index
        self._answer: Answer | None = answer

    def take(self) -> Any:
        answer, self._answer = self._answer, None
        is_fine, value = answer or (True, None)
        if not is_fine:
            raise CaptureError(f"sub-environment {self._index} gave no frame: {value}")
        del answer
        return value


def base_of(env: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any] | None:
    """Return the innermost environment, if `render` reaches it as it is.

    A wrapper, or a subclass, that renders in a way of its own shows something else than its
    sub-environments do: then what it shows is filmed.
    """
    while isinstance(env, VectorWrapper):
        if type(env).render is not VectorWrapper.render and type(env).__module__ not in _OURS:
            return None
        env = env.env
    for known in (SyncVectorEnv, AsyncVectorEnv):
        if isinstance(env, known):
            return env if type(env).render is known.render else None
    return None


_OURS = ("gymnasium.wrappers.vector.rendering", "rollcam.integrations.vector")
"""Recorders: their `render` is that of what they wrap."""


def _brief(value: Any) -> str:
    kind = type(value).__name__
    return f"{kind} of length {len(value)}" if hasattr(value, "__len__") else kind

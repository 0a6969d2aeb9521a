"""Where the frames of Stable-Baselines3's vector environments come from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper

from rollcam.errors import CaptureError, RollcamWarning
from rollcam.integrations._vector_children import Children
from rollcam.integrations._vector_frames import (
    AnyFrames,
    AsyncFrames,
    FrameSource,
    Shown,
    SyncFrames,
    Want,
)


def source_of(venv: VecEnv, indices: Sequence[int], *, is_tiled: bool) -> FrameSource:
    """Return where the frames come from: sub-environments at hand, in children, or all at once."""
    base = _known_base(venv)
    if isinstance(base, DummyVecEnv):
        return SyncFrames(base, indices, AutoresetMode.SAME_STEP)
    if isinstance(base, SubprocVecEnv):
        source = AsyncFrames(SubprocChildren(base, indices), AutoresetMode.SAME_STEP)
        if source.has_last:
            return source
    warnings.warn(_NO_LAST_FRAMES.format(venv), RollcamWarning, stacklevel=4)
    return WholePictures(venv) if is_tiled else VenvFrames(venv)


def innermost(venv: VecEnv) -> Any:
    """Return what the wrappers are around; where that is foreign, the last `VecEnv` before it."""
    while isinstance(venv, VecEnvWrapper) and isinstance(venv.venv, VecEnv):
        venv = venv.venv
    return venv


def metadata_of(venv: VecEnv) -> dict[str, Any]:
    """Return the metadata of the first sub-environment."""
    base = innermost(venv)
    if isinstance(base, DummyVecEnv | SubprocVecEnv):
        told = base.get_attr("metadata", 0)[0]
    else:
        told = getattr(base, "metadata", None)
    return dict(told or {})


def _known_base(venv: VecEnv) -> VecEnv | None:
    """Return the innermost environment, if the wrappers show what its sub-environments show."""
    while isinstance(venv, VecEnvWrapper):
        if not _shows_as(venv, VecEnvWrapper):
            return None
        venv = venv.venv
    for known in (DummyVecEnv, SubprocVecEnv):
        if isinstance(venv, known):
            return venv if _shows_as(venv, known) else None
    return None


def _shows_as(venv: VecEnv, known: type[Any]) -> bool:
    kind = type(venv)
    return kind.get_images is known.get_images and kind.render is known.render


_NO_LAST_FRAMES = (
    "{} is neither a DummyVecEnv nor a SubprocVecEnv, or shows something else than its sub-environments "
    "do. Its films show what it shows after each step: where an episode ends, that is the beginning of "
    "the next one (tiled), or nothing (separate)"
)


class VenvFrames(AnyFrames):
    """Frames of a `VecEnv` of another kind: all at once, and none of the step that ends an episode.

    Args:
        venv: The environment, wrappers included.
    """

    def __init__(self, venv: VecEnv) -> None:
        self._venv = venv

    def about(self) -> dict[str, Any]:
        """Return the facts of the vector environment."""
        return {"env_id": type(innermost(self._venv)).__name__, "env_spec": None}

    def _render(self) -> Sequence[Any]:
        images = list(self._venv.get_images())
        if len(images) != self._venv.num_envs:
            raise CaptureError(
                f"get_images() of {self._venv} must return {self._venv.num_envs} frames, one for each "
                f"sub-environment, not {len(images)}"
            )
        return images


class WholePictures(VenvFrames):
    """Pictures that a `VecEnv` of another kind makes of itself by `render()`, as SB3's recorder asks."""

    has_last = True  # the next best thing: there is one picture for each step

    def fetch(self, wants: Mapping[int, Want]) -> dict[int, Shown]:
        """Return the picture under each index."""
        return {index: Shown(self._venv.render) for index in wants}


class SubprocChildren(Children):
    """Some of the children of a `SubprocVecEnv`, spoken to in the protocol of its worker."""

    not_installed = "has_wrapper_attr"  # takes "hello", and answers no

    @property
    def is_idle(self) -> bool:
        """Whether the children wait for a message: no call of the vector environment is under way."""
        return not self._env.closed and not self._env.waiting

    def _pipe(self, index: int) -> Any:
        return self._env.remotes[index]

    def _put_pipe(self, index: int, pipe: Any) -> None:
        pipes = list(self._env.remotes)
        pipes[index] = pipe
        self._env.remotes = tuple(pipes)

    def _message(self, name: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return ("env_method", (name, args, {}))

    def _opened(self, answer: Any) -> tuple[Any, bool]:
        return answer, True

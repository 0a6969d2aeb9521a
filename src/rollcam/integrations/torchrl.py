"""`VideoRecorder`: a TorchRL transform that films the pixels of an environment, or of a batch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rollcam._batch import Batch
from rollcam._checks import check_callable, check_type
from rollcam.capture.rates import input_fps
from rollcam.capture.triggers import Trigger
from rollcam.errors import SettingError, require
from rollcam.recorder import Recorder

_transforms: Any = require("torchrl.envs.transforms", package="torchrl")

NestedKey = str | tuple[str, ...]


class VideoRecorder(_transforms.Transform):  # type: ignore[misc]
    """Films episodes of a `TransformedEnv`, each into a file of its own.

    A film begins with a reset and ends with the step that ends its episode, with the next reset, or
    with `dump`. In a batched environment, each sub-environment's episodes are filmed. The data pass
    through as they are.

    Args:
        folder: Recordings folder.
        tag: Files are named `{tag}-episode-{n}`, or `{tag}-env-{i}-episode-{n}` in a batch.
        in_keys: Where the pixels are: one key in a list, `(C, H, W)` or `(H, W, C)`; default:
            `["pixels"]`.
        episode_trigger: Called with the number of each episode of a sub-environment; `True` films
            it. Default: all are filmed.
        env_indices: The sub-environments that may be filmed; default: all.
        fps: Frames per second; default: the environment's, else 30.
        **settings: Those of `rollcam.Recorder`: `keep`, `sinks`, `metadata`, `env_id`, ...

    Raises:
        SettingError: An argument cannot work; those of the recorder are checked at the first reset.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tag: str = "rl-video",
        in_keys: Sequence[NestedKey] | str | None = None,
        *,
        episode_trigger: Trigger | None = None,
        env_indices: Sequence[int] | None = None,
        fps: float | None = None,
        **settings: Any,
    ) -> None:
        check_type("folder", folder, (str, os.PathLike), "a path")
        check_type("tag", tag, (str,), "text")
        check_callable("episode_trigger", episode_trigger, "on a number")
        key = _only_key(in_keys)
        super().__init__(in_keys=[key], out_keys=[key])
        self.folder = folder
        self.tag = tag
        self.episode_trigger = episode_trigger
        self._env_indices = env_indices
        self._fps = fps
        self._settings = settings
        self._recorder: Recorder | None = None
        self._batch: Batch | None = None
        self._n_episodes: list[int] = []

    def forward(self, tensordict: Any) -> Any:
        """Return data as they are: what comes from a replay buffer is no episode."""
        return tensordict

    def dump(self, **kwargs: Any) -> None:
        """End the open films, and wait until their files are there.

        Args:
            kwargs: Of TorchRL's recorder, without effect.
        """
        if self._batch is not None and self._recorder is not None:
            self._batch.end()
            self._recorder.flush()

    def clone(self) -> Self:
        """Return a copy for another environment; it films on its own."""
        copied: Self = super().clone()
        copied._recorder = copied._batch = None  # TorchRL's own is a shallow one
        copied._n_episodes = []
        return copied

    def close(self) -> None:
        """Finish the films."""
        if self._recorder is not None:
            self._recorder.close()
        self._recorder = self._batch = None

    def _reset(self, tensordict: Any, tensordict_reset: Any) -> Any:
        batch = self._batch or self._open(tensordict_reset)
        given = None if tensordict is None else tensordict.get("_reset", None)
        was_reset = [True] * batch.n if given is None else _rows(given, batch.n).any(-1).tolist()
        batch.end(was_reset)
        for index in range(batch.n):
            if was_reset[index]:
                self._next_episode(batch, index)
        batch.capture(
            lambda: self._pixels(tensordict_reset, batch.n), which=was_reset, is_reset=True
        )
        return tensordict_reset

    def _reset_on_native_autoreset(self, tensordict: Any, tensordict_reset: Any) -> Any:
        return self._reset(tensordict, tensordict_reset)

    def _step(self, tensordict: Any, next_tensordict: Any) -> Any:
        batch = self._batch
        if batch is not None and batch.filming:
            n = batch.n
            ends = {
                name: self._ends(next_tensordict, name, n) for name in ("terminated", "truncated")
            }
            done = self._ends(next_tensordict, "done", n)
            reward, action = (
                _first_of(self.parent, "reward_keys"),
                _first_of(self.parent, "action_keys"),
            )
            rewards = None if reward is None else next_tensordict.get(reward, None)
            actions = None if action is None else tensordict.get(action, None)
            batch.capture(
                lambda: self._pixels(next_tensordict, n),
                rewards=None if rewards is None else _rows(rewards, n).sum(-1),
                actions=None if actions is None else _rows(actions, n),
                **ends,
            )
            if done is not None:
                batch.end(done)
        return next_tensordict

    def _open(self, tensordict: Any) -> Batch:
        base = getattr(self.parent, "base_env", None)
        shape = tensordict.batch_size
        settings = {"env_id": _name_of(base), "name_prefix": self.tag, **self._settings}
        recorder = Recorder(self.folder, fps=_fps_of(base, self._fps), **settings)
        # A single environment has no index in its files' names.
        batch = (
            recorder.batch(shape.numel(), env_indices=self._env_indices)
            if len(shape)
            else Batch({0: recorder}, 1)
        )
        self._recorder, self._batch = recorder, batch
        self._n_episodes = [0] * batch.n
        return batch

    def _next_episode(self, batch: Batch, index: int) -> None:
        number = self._n_episodes[index]
        self._n_episodes[index] += 1
        if self.episode_trigger is None or self.episode_trigger(number):
            env = f"-env-{index}" if batch.cameras.get(index) is not self._recorder else ""
            is_named = self._settings.get("name") is not None
            name = None if is_named else f"{self.tag}{env}-episode-{number}"
            batch.begin([index], name=name, episode_index=number)

    def _pixels(self, tensordict: Any, n: int) -> Any:
        frames = tensordict[self.in_keys[0]]
        return frames.reshape(n, *frames.shape[len(tensordict.batch_size) :])

    def _ends(self, tensordict: Any, name: str, n: int) -> Any:
        """Return which ended so, by all done keys of that name; `None` when there is none."""
        found = None
        for key in getattr(self.parent, "done_keys", None) or ["done", "terminated", "truncated"]:
            value = tensordict.get(key, None) if _last(key) == name else None
            if value is not None:
                rows = _rows(value, n).any(-1)
                found = rows if found is None else found | rows
        return found

    def __getstate__(self) -> dict[str, Any]:
        # A copy, or one that is sent to another process, films on its own.
        return {**super().__getstate__(), "_recorder": None, "_batch": None, "_n_episodes": []}


def _only_key(in_keys: Sequence[NestedKey] | str | None) -> NestedKey:
    if in_keys is None:
        return "pixels"
    keys = [in_keys] if isinstance(in_keys, str) else list(in_keys)
    if len(keys) != 1:
        raise SettingError(f"in_keys must name the one key of the pixels, not {in_keys!r}")
    return keys[0]


def _rows(values: Any, n: int) -> Any:
    return values.reshape(n, -1)


def _last(key: NestedKey) -> str:
    return key if isinstance(key, str) else key[-1]


def _first_of(env: Any, name: str) -> NestedKey | None:
    keys = getattr(env, name, None)
    return keys[0] if keys else None


def _fps_of(base: Any, fps: float | None) -> float:
    metadata = getattr(base, "metadata", None)
    timestep = getattr(base, "control_timestep", None)
    if fps is None and callable(timestep):
        return round(1 / float(timestep()), 3)
    return input_fps(fps, metadata if isinstance(metadata, Mapping) else {})


def _name_of(base: Any) -> str | None:
    name = getattr(base, "env_name", None)
    return name if isinstance(name, str) else type(base).__name__

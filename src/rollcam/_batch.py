"""`Batch`: films chosen environments of many that are rendered together, as on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from numbers import Integral
from typing import Any

import numpy as np

from rollcam._camera import Camera
from rollcam._checks import check_count, check_type
from rollcam._intake import Step
from rollcam.episode import Episode
from rollcam.errors import FrameError, SettingError

Which = Iterable[int] | Any
"""Indices of environments, or one boolean for each: a list, an array or a tensor; `None`: all."""

Infos = Sequence[Mapping[str, Any] | None] | Mapping[str, Any] | None
"""One mapping for each environment, or one for all with a batch under each key."""


class Batch:
    """Cameras for environments whose frames come in one `(N, H, W, 3)` array or tensor.

    Made by `Recorder.batch`. Of a tensor on a GPU, only the frames of the films that are open are
    brought to the host, all in one copy; nothing is rendered while none is open. Each film is an
    episode of one environment; `begin` and `end` say which.

    Args:
        cameras: One for each environment that may be filmed, by its index.
        n: Environments in a batch.
    """

    def __init__(self, cameras: Mapping[int, Camera], n: int) -> None:
        self.cameras = cameras
        """By index; each may be used on its own, too."""
        self.n = n
        """Environments in a batch."""

    @property
    def filming(self) -> list[int]:
        """The environments whose films are open."""
        return [index for index, camera in self.cameras.items() if camera.is_filming]

    def begin(self, which: Which = None, *, seeds: Any = None, **facts: Any) -> None:
        """Begin films; of environments that have no camera, none begins.

        Args:
            which: The environments: indices, or a boolean for each; default: all.
            seeds: What `reset` was given, one for each environment of the batch.
            facts: For `Camera.begin`.

        Raises:
            UsageError: One of them is being filmed already, or the recorder was closed.
            SettingError: `which` or `seeds` does not fit the batch.
        """
        given = self._values("seeds", seeds)
        for index in self._chosen(which):
            seed = given[index]
            if seed is not None and not isinstance(seed, Integral):
                raise SettingError(f"seeds must be whole numbers, not {seed!r}")
            self.cameras[index].begin(seed=None if seed is None else int(seed), **facts)

    def frame(self, frames: Any, **facts: Any) -> int:
        """Film one frame of each environment whose film is open.

        Args:
            frames: `(N, H, W, 3)`, `(N, 3, H, W)` or `(N, H, W)`: an array, or a tensor on any
                device; a list of N frames; or `None`, which is skipped.
            facts: `rewards`, `actions`, `infos`, `terminated` and `truncated` of the step that led
                there, with one entry for each environment; or `is_reset=True`. `infos` is a list of
                mappings, or one mapping of batches, as simulators on a GPU return it. `which` leaves
                out environments that made no step.

        Returns:
            How many films took their frame.

        Raises:
            SettingError: Facts do not fit the batch; told at once, whether a film is open or not.
            RollcamError: With `on_error="raise"`, what went wrong.
        """
        return self.capture(lambda: frames, **facts)

    def capture(
        self,
        render: Callable[[], Any],
        *,
        which: Which = None,
        rewards: Any = None,
        actions: Any = None,
        infos: Infos = None,
        terminated: Any = None,
        truncated: Any = None,
        is_reset: bool = False,
    ) -> int:
        """Call `render`, once and only while a film is open, and film what it returns as `frame` does."""
        facts = {
            "rewards": rewards,
            "actions": actions,
            "terminated": terminated,
            "truncated": truncated,
        }
        # At the first step, not at that of the first film, hours later.
        for name, values in facts.items():
            self._check_length(name, values)
        notes = self._notes(infos)
        chosen = self._chosen(which)
        indices = [index for index in chosen if self.cameras[index].is_filming]
        if not indices:
            return 0
        told = {name: self._values(name, values) for name, values in facts.items()}
        # Those that have failed are not worth a transfer.
        wanted = [index for index in indices if self.cameras[index].error is None]
        frames = _Fetched(render, self.n, wanted)
        n_taken = 0
        for index in indices:
            row = {name: values[index] for name, values in told.items()}
            n_taken += self.cameras[index]._record(
                lambda index=index: frames.of(index),  # type: ignore[misc]
                Step(row["rewards"], row["actions"], notes[index], is_reset),
                terminated=bool(row["terminated"]),
                truncated=bool(row["truncated"]),
            )
        return n_taken

    def end(
        self,
        which: Which = None,
        *,
        rewards: Any = None,
        terminated: Any = None,
        truncated: Any = None,
    ) -> dict[int, Future[Episode]]:
        """End films; those that are not open are left out.

        Where environments reset themselves within the step, their last frame is never shown: then
        `rewards` counts that step without a frame.

        Args:
            which: The environments: indices, or a boolean for each; default: all.
            rewards: Of a step that no frame was filmed of, one for each environment.
            terminated: Which reached a terminal state.
            truncated: Which were cut short.

        Returns:
            Futures of the finished episodes, by environment.

        Raises:
            SettingError: An argument does not fit the batch.
        """
        last = self._values("rewards", rewards)
        ends = self._values("terminated", terminated), self._values("truncated", truncated)
        futures = {}
        for index in self._chosen(which):
            camera = self.cameras[index]
            if not camera.is_filming:
                continue
            if last[index] is not None:
                camera.frame(None, reward=last[index])
            is_terminated, is_truncated = (bool(values[index]) for values in ends)
            futures[index] = camera.end(terminated=is_terminated, truncated=is_truncated)
        return futures

    def _chosen(self, which: Which) -> list[int]:
        if which is None:
            return list(self.cameras)
        array = _on_host(which)
        if array.dtype == np.bool_:
            array = self._flat("which", array).nonzero()[0]
        if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
            raise SettingError(f"which must be indices or {self.n} booleans, not {_brief(which)}")
        if array.size and not (array.min() >= 0 and array.max() < self.n):
            raise SettingError(f"which must be indices from 0 to {self.n - 1}, not {_brief(which)}")
        return [index for index in map(int, array) if index in self.cameras]

    def _check_length(self, name: str, values: Any) -> None:
        """See whether there is an entry for each environment, without a transfer from a device."""
        try:
            fits = values is None or (not isinstance(values, Mapping) and len(values) == self.n)
        except TypeError:
            fits = False
        if not fits:
            raise SettingError(
                f"{name} must have one entry for each of {self.n} environments, not {_brief(values)}"
            )

    def _notes(self, infos: Infos) -> Sequence[Mapping[str, Any] | None]:
        """Return one mapping for each environment."""
        if isinstance(infos, Mapping):
            return [_InfoRow(infos, index, self.n) for index in range(self.n)]
        if infos is None:
            return [None] * self.n
        if not isinstance(infos, Sequence) or len(infos) != self.n:
            raise SettingError(
                f"infos must be a list of {self.n} mappings, or a mapping of batches, not "
                f"{_brief(infos)}"
            )
        return infos

    def _values(self, name: str, values: Any) -> Sequence[Any] | np.ndarray[Any, Any]:
        """Return one value for each environment, on the host."""
        if values is None:
            return [None] * self.n
        array = _on_host(values)
        if name == "actions" and array.ndim and len(array) == self.n:
            return array
        return self._flat(name, array)

    def _flat(self, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if array.size != self.n or not array.ndim or len(array) != self.n:
            raise SettingError(
                f"{name} must have one entry for each of {self.n} environments, not the shape "
                f"{array.shape}"
            )
        return array.reshape(self.n)


class _InfoRow(Mapping[str, Any]):
    """The `info` of one environment, read from a mapping of batches when it is asked for.

    Args:
        infos: Under each key a value for each environment, one for all, or such a mapping again.
        index: Of the environment.
        n: Environments in the batch.
    """

    def __init__(self, infos: Mapping[str, Any], index: int, n: int) -> None:
        self._infos = infos
        self._index = index
        self._n = n

    def __getitem__(self, key: str) -> Any:
        """Return its value."""
        values = self._infos[key]
        if isinstance(values, Mapping):
            return _InfoRow(values, self._index, self._n)
        shape = getattr(values, "shape", None)
        is_batch = bool(shape) if shape is not None else isinstance(values, list | tuple)
        return values[self._index] if is_batch and len(values) == self._n else values

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._infos)

    def __len__(self) -> int:
        """Count them."""
        return len(self._infos)


class _Fetched:
    """The frames of one batch, rendered and brought to the host when the first is asked for.

    Args:
        render: Returns the batch.
        n: Frames in it.
        wanted: Those that are asked for.
    """

    def __init__(self, render: Callable[[], Any], n: int, wanted: Sequence[int]) -> None:
        self._render = render
        self._n = n
        self._wanted = wanted
        self._rows: dict[int, Any] | None = None
        self._is_ours = False
        self._error: Exception | None = None

    def of(self, index: int) -> tuple[Any, bool]:
        """Return the frame of an environment, and whether nobody else holds it."""
        if self._error is not None:
            raise self._error
        if self._rows is None:
            try:
                self._rows, self._is_ours = self._fetch()
            except Exception as error:
                self._error = error  # one cause for all films, and no second rendering
                raise
        return self._rows.get(index), self._is_ours

    def _fetch(self) -> tuple[dict[int, Any], bool]:
        raw = self._render()
        if raw is None:
            return {}, False
        if not isinstance(raw, list | tuple):
            shape = tuple(getattr(raw, "shape", ()))
            if len(shape) not in (3, 4) or shape[0] != self._n:
                raise FrameError(
                    f"{_brief(raw)} is no batch of frames; expected ({self._n}, H, W, 3) uint8 RGB, "
                    f"one frame for each environment"
                )
            raw, is_ours = self._on_host(raw)
            if is_ours:
                return dict(zip(self._wanted, raw, strict=True)), True
        elif len(raw) != self._n:
            raise FrameError(f"{len(raw)} frames came, and {self._n} were expected")
        return {index: raw[index] for index in self._wanted}, False

    def _on_host(self, raw: Any) -> tuple[Any, bool]:
        """Return all frames where they are, or a copy of the wanted ones from another device."""
        # On the host, each frame is copied when it is taken: into memory that is used again.
        if not (hasattr(raw, "detach") and hasattr(raw, "cpu")):
            return np.asarray(raw), False  # of JAX, from wherever it lies
        if getattr(getattr(raw, "device", None), "type", "cpu") == "cpu":
            return raw, False
        if len(self._wanted) < self._n:
            # Gathered over there: one transfer, and no more than needed.
            raw = raw[list(self._wanted)]
        host = raw.detach().cpu()
        if str(host.dtype) == "torch.bfloat16":  # NumPy has no such type
            host = host.float()
        return host.numpy(), True


def make_batch(n: int, env_indices: Sequence[int] | None, camera: Callable[[int], Camera]) -> Batch:
    """Make a batch.

    Args:
        n: Environments in it.
        env_indices: Those that may be filmed; default: all.
        camera: Makes the camera of an environment.

    Raises:
        SettingError: An argument cannot work.
    """
    check_count("n", n, "a number of environments")
    indices = range(n) if env_indices is None else env_indices
    for index in indices:
        check_type("env_indices", index, (int, np.integer), "indices of environments")
        if not 0 <= index < n:
            raise SettingError(f"env_indices must lie between 0 and {n - 1}, not {index}")
    return Batch({int(index): camera(int(index)) for index in indices}, n)


def _on_host(values: Any) -> np.ndarray[Any, Any]:
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values if hasattr(values, "__array__") else list(values))
    except (TypeError, ValueError) as error:
        raise SettingError(f"{_brief(values)} is no list, array or tensor") from error


def _brief(value: Any) -> str:
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    return f"{kind} of shape {tuple(shape)}" if shape is not None else f"{kind} {value!r}"[:100]

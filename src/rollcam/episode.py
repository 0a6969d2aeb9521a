"""The nouns that every room shares: an episode, its status, who wrote it, and what frames are."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from ulid import ULID

from rollcam.errors import SidecarError

SCHEMA_VERSION = 1
"""Version of the sidecar. Fields are only ever added; old versions stay readable."""

Picture: TypeAlias = npt.NDArray[np.uint8]
"""One picture: `(H, W, 3)` uint8 RGB, 0-255."""

Scalar: TypeAlias = bool | int | float | str | None
"""What may stand as a value in `final_info`, contexts and step columns."""

Context: TypeAlias = Mapping[str, Any]
"""The trainer's own counters, such as `{"iteration": 3, "num_env_steps": 12000}`."""

Mode: TypeAlias = Literal["train", "eval"]
Kind: TypeAlias = Literal["episode", "clip"]
OnError: TypeAlias = Literal["warn", "raise"]
OnFull: TypeAlias = Literal["block", "drop"]
EncodeIn: TypeAlias = Literal["thread", "process"]


class EpisodeStatus(StrEnum):
    """How an episode's film ended."""

    COMPLETE = "complete"
    """The film holds what was rendered, to its last frame (or was not to be kept)."""
    TRUNCATED_BY_CRASH = "truncated_by_crash"
    """The process died; what had reached the disk was finished afterwards."""
    FAILED = "failed"
    """There is no film; `reason` says why."""
    EMPTY = "empty"
    """The environment never rendered anything, so there is no film."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who made a film."""

    host: str
    """Name of the machine."""
    pid: int
    """Process id on that machine."""
    worker: str | None = None
    """The framework's name for this worker, if it has one."""
    vector_index: int | None = None
    """Index of the sub-environment in a vector environment, from 0."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One filmed episode (or clip), as its sidecar tells it.

    Every field but `folder` stands in the sidecar under the same name.
    """

    episode_id: str
    """ULID of this film: unique anywhere, sorts by start time."""
    run_id: str
    """ULID of the recorder that made it; the films of one run share it."""
    name: str
    """Path of the files inside the folder, without extension, with `/` as separator."""
    status: EpisodeStatus
    """How the film ended."""
    reason: str | None = None
    """Why the film failed or ended early, in words."""
    kind: Kind = "episode"
    """A whole episode, or a clip of fixed length."""
    mode: Mode = "train"
    """What the agent was doing: training or evaluation."""
    env_id: str | None = None
    """The environment's registered id."""
    env_spec: Mapping[str, Any] | None = None
    """The environment's spec, as far as it can be written as JSON."""
    seed: int | None = None
    """The seed that `reset` was given for this episode."""
    episode_index: int | None = None
    """Number of the episode in its environment, from 0."""
    step_index: int | None = None
    """Steps that the environment had made, over all episodes, before the film's first frame."""
    writer: Writer | None = None
    """Who made the film."""
    media: str | None = None
    """File name of the film beside the sidecar; `None` when there is none."""
    steps: str | None = None
    """File name of the per-step columns beside the sidecar; `None` when there are none."""
    content_type: str | None = None
    """MIME type of the film."""
    encoder_version: Mapping[str, Any] | None = None
    """Backend, versions, encoder and options that made the film."""
    codec: str | None = None
    """Codec of the film: `h264`, `vp9`, `av1` or `asciicast`."""
    pix_fmt: str | None = None
    """Pixel format of the film."""
    width: int | None = None
    """Width in pixels (columns for text), padding included."""
    height: int | None = None
    """Height in pixels (rows for text), padding included."""
    fps: float | None = None
    """Frames per second at which the episode was captured; sets the speed of playback."""
    output_fps: float | None = None
    """Frames per second of the file."""
    n_frames: int = 0
    """Frames that were captured and are in the film (of them, at `output_fps` below `fps`, a part)."""
    n_dropped: int = 0
    """Frames that were captured and dropped because the encoder did not keep up."""
    n_encoded: int = 0
    """Pictures in the file; differs from `n_frames` by resampling and by a repeat of the last."""
    duration_s: float | None = None
    """Length of the film in seconds."""
    size_bytes: int | None = None
    """Size of the film's file in bytes."""
    sha256: str | None = None
    """SHA-256 of the film's file, in hex."""
    started_at: str | None = None
    """When the film began, UTC, ISO 8601."""
    ended_at: str | None = None
    """When the episode ended, UTC, ISO 8601."""
    episode_return: float | None = None
    """Sum of the rewards while filmed; `None` when no reward was told."""
    episode_length: int | None = None
    """Steps made while filmed."""
    terminated: bool = False
    """The environment reached a terminal state."""
    truncated: bool = False
    """The environment cut the episode short, for instance by a time limit."""
    final_info: Mapping[str, Scalar] = field(default_factory=dict)
    """The scalars of the last `info`."""
    context_at_start: Mapping[str, Scalar] = field(default_factory=dict)
    """The trainer's counters when the film began."""
    context_at_end: Mapping[str, Scalar] = field(default_factory=dict)
    """The trainer's counters when the episode ended."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The user's own facts."""
    schema_version: int = SCHEMA_VERSION
    """Version of the sidecar that this was read from."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields that this version does not know; kept and written back beside the others."""
    folder: Path | None = None
    """The recordings folder that it lies in; not part of the sidecar."""

    @property
    def media_path(self) -> Path | None:
        """Where the film lies, or `None` when there is none."""
        return self._beside(self.media)

    @property
    def steps_path(self) -> Path | None:
        """Where the per-step columns lie, or `None` when there are none."""
        return self._beside(self.steps)

    @property
    def sidecar_path(self) -> Path | None:
        """Where the sidecar lies, or `None` when the episode belongs to no folder."""
        return None if self.folder is None else self.folder / f"{self.name}.meta.json"

    @property
    def is_text(self) -> bool:
        """Whether the film is a recording of text."""
        return self.codec == "asciicast"

    def read_steps(self) -> dict[str, list[Scalar | list[Scalar]]]:
        """Read the per-step columns; a dict without columns when there are none.

        Returns:
            Column name to values; the first value of each column belongs to frame 0.

        Raises:
            SidecarError: The file is broken, or none of ours.
        """
        path = self.steps_path
        if path is None or not path.is_file():
            return {}
        try:
            columns = json.loads(path.read_text(encoding="utf-8"))["columns"]
            return {str(key): list(values) for key, values in columns.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise SidecarError(f"{path} holds no step columns: {error}") from error

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        # Whoever draws it stands above, and is not loaded before.
        html: str = importlib.import_module("rollcam.notebook").episode_html(self)
        return html

    def _beside(self, file_name: str | None) -> Path | None:
        if file_name is None or self.folder is None:
            return None
        return (self.folder / self.name).parent / file_name


EpisodeCallback: TypeAlias = Callable[[Episode], None]
"""Called with each finished episode, on the recorder's background thread."""


def new_id() -> str:
    """Return a new ULID.

    Of the clock and the system's random bytes alone. The library's own generator goes on from what it
    gave last and takes a lock: a forked child would give the ids that its parent gives, or wait for ever
    for a lock that another thread of the parent held.
    """
    return str(ULID((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10)))


def has_failed(episode: Episode) -> bool:
    """Return whether the agent failed in an episode.

    `is_success` or `success` in the last `info` decides; where neither stands, an episode failed
    when the environment terminated it and its return is not above 0.
    """
    for key in ("is_success", "success"):
        if key in episode.final_info:
            return not episode.final_info[key]
    return episode.terminated and (episode.episode_return or 0.0) <= 0


def as_scalar(value: Any) -> tuple[bool, Scalar]:
    """Turn `value` into something that JSON can say, if it is a scalar.

    Args:
        value: Anything; numpy and tensor scalars (size 1, no dimensions) count as scalars.

    Returns:
        Whether it is a scalar, and the plain Python value (text is cut at 500 characters).
    """
    if value is None or type(value) in (bool, int, float):
        return True, value
    if isinstance(value, np.integer | np.float64 | np.float32):
        return True, value.item()
    # Plain Python: a class of the training's own would mean nothing to another process.
    if isinstance(value, int | float):
        return True, int.__int__(value) if isinstance(value, int) else float.__float__(value)
    if isinstance(value, str):
        return True, str.__str__(value)[:500]
    try:
        is_one = isinstance(value, np.generic) or getattr(value, "shape", None) == ()
        item = value.item() if is_one and hasattr(value, "item") else None
    except Exception:  # noqa: BLE001 - whatever a foreign tensor raises: one without data, for instance
        return False, None
    return (True, item) if isinstance(item, bool | int | float | str) else (False, None)


def scalars_of(values: Mapping[str, Any] | None) -> dict[str, Scalar]:
    """Return the scalars among `values`, with text keys.

    What is no scalar is left out, and so is what cannot be read: `info` comes from anybody's
    environment, and it must not end a training that it is no plain dict.
    """
    found: dict[str, Scalar] = {}
    try:
        keys = [] if values is None else list(values)
    except Exception:  # noqa: BLE001 - see above
        return found
    for key in keys:
        with contextlib.suppress(Exception):
            is_scalar, plain = as_scalar(values[key])  # type: ignore[index]
            if is_scalar:
                found[str(key)] = plain
    return found

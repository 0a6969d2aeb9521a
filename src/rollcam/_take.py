"""The episode that is being filmed, as the training thread sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rollcam._film import Film
from rollcam.episode import Episode, EpisodeStatus, Scalar, as_scalar, scalars_of
from rollcam.store import sidecar
from rollcam.store.journal import Journal, Lines, Row, columns_of
from rollcam.store.layout import NameTemplate

_MAX_ACTION_SIZE = 16

FINISHED = ".finished"
"""Stands before the extension of a file that is finished and has not got its name yet."""


@dataclass(slots=True, eq=False)
class Take:
    """The episode that is being filmed, on the training thread.

    Equal to itself alone: cameras on several threads look for theirs in one list, and a comparison of
    its fields would let another thread change that list meanwhile.
    """

    film: Film
    facts: Episode
    template: NameTemplate | None
    info_keys: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    n_captured: int = 0
    n_dropped: int = 0
    n_steps: int = 0
    episode_return: float | None = None
    size: tuple[int, int] | None = None
    error: Exception | None = None
    is_over: bool = False
    was_handed_over: bool = False
    final_info: Mapping[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    at_path: Path | None = None
    wanted_name: str | None = None
    name_error: Exception | None = None
    pending_reward: float | None = None
    lane: int = 0
    ticket: int = 0
    context_version: int = -1
    has_no_journal: bool = False
    journal: Journal | None = None
    unlogged: Lines = field(default_factory=list)

    def step(self, reward: Any, info: Mapping[str, Any] | None) -> None:
        """Count one step of the environment, filmed or not."""
        self.n_steps += 1
        if isinstance(info, Mapping):
            self.final_info = info
        if reward is None:
            return
        value = reward if type(reward) is float else as_number(reward)
        if value is None:
            return
        self.episode_return = (self.episode_return or 0.0) + value
        self.pending_reward = (self.pending_reward or 0.0) + value

    def row(self, action: Any, info: Mapping[str, Any] | None) -> Row:
        """Return what is known of the next frame."""
        given = () if action is None else (small(action),)
        infos = {key: _told(info, key) for key in self.info_keys} if self.info_keys else {}
        return self.n_steps, self.pending_reward, self.episode_return, given, infos

    def keep(self, row: Row) -> None:
        """Count a captured frame, whose row this is."""
        self.rows.append(row)
        self.n_captured += 1
        self.pending_reward = None

    def unkeep(self) -> None:
        """Take the last `keep` back."""
        self.rows.pop()
        self.n_captured -= 1

    def columns(self) -> dict[str, list[Any]]:
        """Return the step columns, a row for each captured frame."""
        return columns_of(self.rows, self.info_keys)

    def log(self, kind: str, values: Mapping[str, Any]) -> None:
        """Have something written into the journal with the next frame, or at the end."""
        if self.at_path is None:
            self.unlogged.append((kind, values))

    @property
    def lies_somewhere(self) -> bool:
        """Whether the film is still where it grew, or was finished."""
        grew, medium = self.film.partial, self.film.medium
        if grew is None or medium is None:
            return False
        return grew.exists() or grew.with_suffix(FINISHED + medium.suffix).exists()

    def announce(self, episode: Episode) -> None:
        """Write into the journal what is about to be put in place.

        Raises:
            OSError: The disk is full, or gone.
        """
        if self.journal is None:
            return
        try:
            self.journal.write("commit", sidecar.as_dict(episode))
        except OSError:
            # The rows are in memory, and the film is finished: where it goes counts more.
            self.journal.begin_anew("commit", sidecar.as_dict(episode))

    def forget(self) -> None:
        """The film lies in its place, or is lost for good: nothing is left to recover."""
        if self.at_path is not None:  # it grew where it lies
            return
        with contextlib.suppress(OSError):
            self.film.remove()
        if self.journal is not None:
            with contextlib.suppress(OSError):
                self.journal.remove()

    def mark_end(self, *, terminated: bool, truncated: bool, context: Mapping[str, Scalar]) -> None:
        """Write down how and when the episode ended; the first call counts.

        The film may stay open for longer: it ends at the next reset, or at `close`.
        """
        if self.ended:
            return
        self.ended = {
            "terminated": terminated,
            "truncated": truncated,
            "ended_at": now(),
            "context_at_end": context,
            "final_info": scalars_of(self.final_info),
            "n_steps": self.n_steps,
            "return": self.episode_return,
        }
        self.log("end", self.ended)

    def outcome(self) -> Episode:
        """Return the facts of the episode as it ended, without those of its file."""
        return replace(
            self.facts,
            status=EpisodeStatus.COMPLETE,
            n_frames=self.film.n_frames,
            n_dropped=self.n_dropped,
            episode_return=self.episode_return,
            episode_length=self.n_steps,
            terminated=bool(self.ended.get("terminated", False)),
            truncated=bool(self.ended.get("truncated", False)),
            ended_at=self.ended.get("ended_at"),
            final_info=self.ended.get("final_info", {}),
            context_at_end=self.ended.get("context_at_end", {}),
        )


def now() -> str:
    """Return the time in UTC as ISO 8601, with microseconds."""
    return datetime.now(UTC).isoformat()


def _told(info: Any, key: str) -> Scalar | list[Any]:
    """Return a value of an `info`, which may be anybody's; `None` where it has none."""
    try:
        return small(info.get(key)) if isinstance(info, Mapping) else None
    except Exception:  # noqa: BLE001 - whatever a foreign mapping raises
        return None


def as_number(value: Any) -> float | None:
    """Return a reward as a number; a vector of rewards has no sum that we could know."""
    if isinstance(value, int | float):
        return float(value)
    array = _as_array(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf":
        return None
    return float(array.item())


def _as_array(value: Any) -> np.ndarray[Any, np.dtype[Any]] | None:
    """Return an array, or `None` where there is none: ragged lists, tensors that want a gradient."""
    try:
        return np.asarray(value)
    except Exception:  # noqa: BLE001 - whatever a foreign `__array__` raises
        return None


def small(value: Any) -> Scalar | list[Any]:
    """Return a scalar or a short list as plain Python; anything larger becomes `None`."""
    if type(value) is np.int64:  # what most policies of discrete actions give
        return int(value)
    is_scalar, plain = as_scalar(value)
    if is_scalar:
        return plain
    array = _as_array(value) if isinstance(value, list | tuple | np.ndarray) else None
    if array is None or array.size > _MAX_ACTION_SIZE or array.dtype.kind not in "biuf":
        return None
    plain_list: list[Any] = array.ravel().tolist()
    return plain_list

"""One line of the ledger: a film that is owed to a sink, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]
"""A sink's `name` and `target`."""


class State(StrEnum):
    """How far the delivery of one film to one sink is."""

    QUEUED = "queued"
    """It is to be sent; again, if `reason` says what went wrong before."""
    SENDING = "sending"
    """It is being handed over; or was, by a process that died, and nobody knows."""
    HANDED = "handed"
    """The sink took it, and the place has not said yet that it arrived."""
    STORED = "stored"
    """The place says that it has it."""
    FAILED = "failed"
    """The sink refuses it, or it never arrived; only `rollcam publish` tries again."""
    DROPPED = "dropped"
    """There is nothing to send: the film was deleted, or is none."""


OWED = (State.QUEUED, State.SENDING, State.HANDED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One film that is owed, or was, to one sink."""

    sink: str
    """The sink's name, such as `wandb`."""
    target: str
    """Which one of them."""
    episode_id: str
    """Of the film."""
    name: str
    """Of the episode's files, inside the folder."""
    state: State = State.QUEUED
    """How far it is."""
    sha256: str | None = None
    """Of the media file: as told when it was queued, as it is once it was sent."""
    size_bytes: int = 0
    """Of the media file, when it was last looked at."""
    mtime_ns: int = 0
    """Of the media file, when it was last looked at; 0 when it never was."""
    must_ask: bool = False
    """It may have been delivered before: the place is asked before it is sent."""
    attempts: int = 0
    """Hand-overs begun."""
    n_failures: int = 0
    """Failures since it was queued."""
    n_lost: int = 0
    """Hand-overs after which it never arrived."""
    n_asked: int = 0
    """How often the place was asked since it was handed over."""
    n_unsure: int = 0
    """How often the place could not tell."""
    due_at: float = 0.0
    """Not to be touched before, in seconds since 1970."""
    publisher: str = ""
    """Who handed it over."""
    reference: str | None = None
    """What the sink returned."""
    reason: str | None = None
    """What went wrong last."""
    queued_at: float = 0.0
    """When it was queued."""
    sent_at: float = 0.0
    """When the last hand-over began."""
    ended_at: float = 0.0
    """When it was stored, failed or dropped."""

    @property
    def key(self) -> Key:
        """The sink that it is owed to."""
        return self.sink, self.target

"""Where films come from, as the publisher sees it, and how a film gets into the ledger."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rollcam.episode import Episode, EpisodeStatus
from rollcam.publish.entry import Entry, Key, State
from rollcam.publish.ledger import Ledger
from rollcam.publish.sink import Delivery

_BATCH = 200
_FINISHED = (EpisodeStatus.COMPLETE, EpisodeStatus.TRUNCATED_BY_CRASH)


class NothingToSendError(Exception):
    """There is no film to send, and there will be none: it was deleted, or is no film."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A film that is ready to be handed over."""

    delivery: Delivery
    """What the sink gets."""
    size_bytes: int
    """Of the episode's own media file."""
    mtime_ns: int
    """Of the episode's own media file, before it was read."""

    def was_changed(self) -> bool:
        """Say whether the film changed since; one that was deleted did not."""
        path = self.delivery.episode.media_path
        assert path is not None
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.mtime_ns)


class Source(Protocol):
    """Turns what the ledger owes into films that play."""

    def prepare(self, entry: Entry) -> Prepared:
        """Return the film, probed, and mended or drawn where it would not play.

        Raises:
            NothingToSendError: There is none.
            RollcamError: It could not be made ready.
        """

    def release(self, entry: Entry) -> None:
        """Remove what `prepare` made for this film, unless somebody is still owed it."""

    def sweep(self) -> None:
        """Remove what processes that died left behind."""

    def episodes(self, run_ids: Iterable[str]) -> list[Episode]:
        """Return the finished films of these runs, for a ledger that was lost."""


def is_finished(episode: Episode) -> bool:
    """Say whether there is a film to publish: unfinished, failed and empty ones are none."""
    return episode.status in _FINISHED and episode.media_path is not None and episode.n_frames > 0


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 when it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def queue(
    ledger: Ledger,
    key: Key,
    episodes: Iterable[Episode],
    now: float,
    *,
    must_ask: bool = False,
    again: bool = False,
) -> int:
    """Write into the ledger that a sink is owed films; those that it got already, it is not.

    A film counts as another one when its content changed; only touched, it is the same.

    Args:
        ledger: Where to write.
        key: The sink.
        episodes: The films; those that are not finished are passed over.
        now: The time.
        must_ask: They may have been delivered before, so the place is asked first.
        again: Also those that failed or were dropped, and those that wait for a retry.

    Returns:
        How many were looked at.
    """
    finished = filter(is_finished, episodes)
    n_seen = 0
    while batch := list(itertools.islice(finished, _BATCH)):
        with ledger.together():
            known = ledger.find(key, [episode.episode_id for episode in batch])
            changes = [
                (old, new)
                for episode in batch
                for old in [known.get(episode.episode_id)]
                for new in _wanted(key, episode, old, now, must_ask=must_ask, again=again)
            ]
            if changes:
                ledger.change(changes)
        n_seen += len(batch)
    return n_seen


def _wanted(
    key: Key, episode: Episode, old: Entry | None, now: float, *, must_ask: bool, again: bool
) -> Iterator[Entry]:
    """Yield what is to stand in the ledger for an episode, if that is not what stands there."""
    assert episode.media_path is not None
    try:
        status = episode.media_path.stat()
    except OSError:
        return
    fresh = Entry(
        *key, episode.episode_id, episode.name,
        sha256=episode.sha256, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns,
        must_ask=must_ask, queued_at=now,
    )  # fmt: skip
    if old is None:
        yield fresh
        return
    looks_same = (old.size_bytes, old.mtime_ns) == (status.st_size, status.st_mtime_ns)
    if not looks_same and old.state is not State.QUEUED:
        try:
            sha256 = sha256_of(episode.media_path)
        except OSError:
            return
        if sha256 != old.sha256:
            yield replace(fresh, sha256=sha256, must_ask=False)
            return
        old_seen = replace(old, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
    else:
        old_seen = old
    if again and old.state in (State.FAILED, State.DROPPED):
        yield replace(fresh, must_ask=True)
    elif again and old.state is State.QUEUED:
        yield replace(old_seen, name=episode.name, due_at=0.0, n_failures=0)
    elif again and old.state in (State.SENDING, State.HANDED):
        yield replace(old_seen, name=episode.name, due_at=0.0, n_unsure=0)
    elif old_seen is not old:
        yield old_seen

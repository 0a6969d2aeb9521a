"""Follow a folder that other processes film into: publish, keep, count, recover, from one process.

Where environments live in other processes than the trainer (Ray's env runners), each of them films
into the folder, and one process, the trainer's, brings the films to the sinks. What joins them is
the folder itself: a film is there when its sidecar is.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.util
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rollcam._publication import Publication, open_publisher
from rollcam._retention import Retention
from rollcam._worker import Worker
from rollcam.capture.keep import KeepPolicy
from rollcam.episode import Episode, EpisodeCallback, EpisodeStatus
from rollcam.errors import RollcamError, SidecarError, StoreError
from rollcam.publish.sink import Sink
from rollcam.publish.source import is_finished
from rollcam.recovery import LivingRuns, recover
from rollcam.store import files, sidecar
from rollcam.store.layout import Folder
from rollcam.store.scan import Scan, stamp_of

logger = logging.getLogger("rollcam")

POLL_S = 0.5
"""How often the folder is looked at, in seconds."""

WRITERS_S = 5.0
"""The longest that `close` waits for others to finish their films, in seconds."""

CLOSE_S = 30.0
"""Default limit of `close`, in seconds."""

_NEVER = threading.Event()


@dataclass(slots=True)
class Tally:
    """What came into the folder since it is followed."""

    recorded: int = 0
    """Films that are finished."""
    failed: int = 0
    """Episodes that were to be filmed and have no film."""
    dropped_frames: int = 0
    """Frames that are missing in films, as their encoders did not keep up."""


class Follower:
    """Does, for films that other processes make, what a `Recorder` does for its own.

    The films of one run are followed, whoever makes them: each is counted, judged by the keep policy
    and published once. Films of dead processes are finished when `recover_soon` asks for it, and at
    `close`. Everything happens on one background thread; none of the methods raises.

    Args:
        folder: The recordings folder; made when it does not exist.
        run_id: The run whose films are followed: what the recorders were given.
        sinks: Where finished films are published.
        keep: Decides which films stay, over all processes of the run.
        max_bytes: Bound of the run's files; the oldest films go first.
        on_finished: Called with each finished film, on the background thread.
        is_over: Says that nobody will make films of the run any more but who is at it: when the last
            of those is done, the follower closes itself. Called on the background thread.
        close_s: Limit of that `close`, in seconds.
        poll_s: How often the folder is looked at, in seconds.

    Raises:
        SettingError: There is no such sink.
        StoreError: The folder cannot be written to.
        MissingDependencyError: The package that a sink needs is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        run_id: str,
        sinks: Sequence[str | Sink] = (),
        keep: KeepPolicy | None = None,
        max_bytes: int | None = None,
        on_finished: EpisodeCallback | None = None,
        is_over: Callable[[], bool] | None = None,
        close_s: float = CLOSE_S,
        poll_s: float = POLL_S,
    ) -> None:
        self.run_id = run_id
        self.tally = Tally()
        self.problems: deque[tuple[str, Exception]] = deque(maxlen=100)
        """What went wrong, as `(cause, error)`."""
        # Its claim says that the run goes on, also while none of its films grows.
        self._folder = Folder(folder, run_id)
        self._publication: Publication | None = None
        try:
            if sinks:
                self._publication = open_publisher(self._folder.root, sinks, run_id=run_id)
        except BaseException:
            self._folder.release()
            raise
        self._retention = Retention(keep, max_bytes=max_bytes, is_owed=self._owes)
        self._on_finished = on_finished
        self._is_over = is_over
        self._close_s = close_s
        self._poll_s = poll_s
        self._scan = Scan(str(self._folder.root))
        self._shas: dict[str, str | None] = {}
        self._pid = os.getpid()
        # One look at a time: the thread's, or that of whoever flushes.
        self._turn = threading.RLock()
        # One closes; who comes second waits for the first.
        self._closing = threading.RLock()
        self._wake = threading.Event()
        self._is_closing = False
        self._has_closed = False
        self._has_to_recover = True
        self._pass_over_known()
        self._worker: Worker[None] = Worker("follow", self._run, max_bytes=1, idle_s=0.0)
        self._worker.submit(None, 0, timeout_s=0)
        # After the recorders of this process (10), before the publishers (5).
        multiprocessing.util.Finalize(None, _close, (weakref.ref(self),), exitpriority=7)

    @property
    def root(self) -> Path:
        """The recordings folder."""
        return self._folder.root

    @property
    def sinks(self) -> list[Sink]:
        """Where films go."""
        return [] if self._publication is None else self._publication.sinks

    def recover_soon(self) -> None:
        """Finish what dead processes left, on the background thread."""
        self._has_to_recover = True
        self._wake.set()

    def look_soon(self) -> None:
        """Take in what is new, on the background thread."""
        self._wake.set()

    def look(self) -> None:
        """Take in what is new in the folder, now, on the calling thread."""
        with self._turn:
            try:
                for episode in self._new():
                    self._take(episode)
            except Exception as error:  # noqa: BLE001 - a folder that is gone must not stop training
                self.problems.append(("follow", error))
        if self._publication is not None:
            unpublished = self._publication.problems
            while unpublished:
                self.problems.append(unpublished.popleft())

    def flush(self, timeout_s: float) -> bool:
        """Publish all that lies in the folder; say whether that came in time."""
        self.look()
        return self._publication is None or self._publication.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Recover and take in what is left, publish what can be published, end the thread.

        Args:
            timeout_s: Limit of the wait for sinks, in seconds. What they do not take is in the
                ledger; `rollcam publish` sends it.

        Returns:
            Whether all was delivered.
        """
        if os.getpid() != self._pid:
            return True
        if not self._closing.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            return self._has_closed or self._close(timeout_s)
        finally:
            self._closing.release()

    def _close(self, timeout_s: float) -> bool:
        self._has_closed = True
        deadline = time.monotonic() + timeout_s
        self._is_closing = True
        self._wake.set()
        self._worker.close(timeout_s / 4)
        self._wait_for_writers(min(WRITERS_S, timeout_s / 4))
        with self._turn:
            self._recover()
            self.look()
        done = True
        if self._publication is not None:
            done = self._publication.close(max(0.0, deadline - time.monotonic()))
            self._delete(self._retention.settled())
        self._folder.release()
        return done

    def _run(self, _item: None, _more: bool) -> None:
        """Go on until `close`; the thread's whole life."""
        while not self._is_closing:
            self._wake.clear()
            with self._turn:
                if self._has_to_recover:
                    self._has_to_recover = False
                    self._recover()
                self.look()
                self._delete(self._retention.settled())
            if not self._is_closing and self._has_nothing_to_wait_for():
                self._close_alone()
            if not self._is_closing:
                self._wake.wait(self._poll_s)

    def _has_nothing_to_wait_for(self) -> bool:
        return self._is_over is not None and self._is_over() and not self._has_writers()

    def _close_alone(self) -> None:
        """Close on the background thread, unless somebody else is closing."""
        if self._closing.acquire(blocking=False):
            try:
                if not self._has_closed:
                    self._close(self._close_s)
            finally:
                self._closing.release()

    def _owes(self, episode: Episode) -> bool:
        return self._publication is not None and self._publication.owes(episode)

    def _wait_for_writers(self, timeout_s: float) -> None:
        """Wait until nobody writes films of the run any more.

        A script that ends drops its algorithm first, and the env runners then end by themselves:
        while they close, their last films are on the way to the disk.
        """
        deadline = time.monotonic() + timeout_s
        while self._has_writers() and time.monotonic() < deadline:
            _NEVER.wait(0.05)

    def _has_writers(self) -> bool:
        """Say whether anybody else writes films of the run."""
        try:
            return self.run_id in LivingRuns(self.root, but=self._folder.claim.claim_id)
        except (RollcamError, OSError) as error:
            self.problems.append(("follow", error))
            return False

    def _pass_over_known(self) -> None:
        """Note what lies there already, unread: this run's films are still to come."""
        for path in self._scan.look().changed:
            with contextlib.suppress(OSError):
                self._scan.know(path, stamp_of(os.stat(self.root / path)))

    def _recover(self) -> None:
        try:
            done = recover(self.root)
        except (RollcamError, OSError) as error:
            self.problems.append(("recovery", error))
            return
        self.problems.extend((f"recovery:{path.name}", error) for path, error in done.problems)
        if self._publication is not None:
            for episode in done.to_publish:
                self._publication.announce(episode)

    def _new(self) -> list[Episode]:
        """Return the run's films that are new or changed, oldest first."""
        found = []
        for path in self._scan.look().changed:
            try:
                status = os.stat(self.root / path)
                episode = sidecar.read(self.root / path)
            except (OSError, SidecarError) as error:
                # Deleted meanwhile, or none of ours: not looked at again until it changes.
                logger.info("%s is not followed: %s", path, error)
                with contextlib.suppress(OSError):
                    self._scan.know(path, stamp_of(os.stat(self.root / path)))
                continue
            self._scan.know(path, stamp_of(status))
            if episode.run_id == self.run_id:
                found.append(episode)
        return sorted(found, key=lambda e: (e.ended_at or "", e.episode_id))

    def _take(self, episode: Episode) -> None:
        is_new = episode.episode_id not in self._shas
        if not is_new and self._shas[episode.episode_id] == episode.sha256:
            return
        self._shas[episode.episode_id] = episode.sha256
        if is_new:
            self._count(episode)
        if not is_finished(episode):
            return
        if is_new and not self._stays(episode):
            return
        if self._publication is not None:
            self._publication.announce(episode)
        if self._on_finished is not None and is_new:
            try:
                self._on_finished(episode)
            except Exception as error:  # noqa: BLE001 - the user's own function
                self.problems.append(("on_finished", error))

    def _count(self, episode: Episode) -> None:
        self.tally.dropped_frames += episode.n_dropped
        if is_finished(episode):
            self.tally.recorded += 1
        elif episode.status in (EpisodeStatus.FAILED, EpisodeStatus.EMPTY):
            self.tally.failed += 1
            reason = episode.reason or str(episode.status)
            self.problems.append(("film", StoreError(f"{episode.name}: {reason}")))

    def _stays(self, episode: Episode) -> bool:
        try:
            losers = self._retention.losers(episode)
        except Exception as error:  # noqa: BLE001 - the user's policy must not cost the film
            self.problems.append(("keep", error))
            return True
        self._delete(losers)
        return all(loser.episode_id != episode.episode_id for loser in losers)

    def _delete(self, losers: Sequence[Episode]) -> None:
        for loser in losers:
            try:
                path = loser.sidecar_path
                if path is not None and sidecar.read(path).episode_id == loser.episode_id:
                    files.delete(loser)
            except (OSError, SidecarError) as error:
                logger.info("%s is not removed: %s", loser.name, error)


def _close(reference: weakref.ref[Follower]) -> None:
    follower = reference()
    if follower is not None:
        follower.close()

"""The engine behind `Recorder`: what happens between `begin` and the finished file.

It never warns and never touches the environment, so that it may run at the interpreter's end, from
the garbage collector, or on its own thread; `Recorder` is its face towards the training loop.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

from rollcam._commit import commit
from rollcam._film import Film, Frame
from rollcam._take import ContextSource, Take
from rollcam._worker import Worker
from rollcam.capture.frames import BufferPool, Taken
from rollcam.capture.keep import KeepPolicy, keep_all, rejected
from rollcam.encode.codecs import Codec
from rollcam.encode.timeline import Timeline
from rollcam.episode import Episode, EpisodeCallback, EpisodeStatus, OnFull
from rollcam.errors import SettingError, UsageError
from rollcam.store import catalog
from rollcam.store.layout import Folder

logger = logging.getLogger("rollcam")

BLOCK_S = 5.0
"""How long `on_full="block"` waits for room before it drops, in seconds."""

PACE_AFTER, PACE_DOWN_TO, PACE_S = 5, 1, 0.01
"""Frames that may wait before a step is paused, when it goes on, and for how long it is at most, in
seconds.

Measured in docs/benchmarks.md: without it, a loop that renders in 1.4 ms gives the encoder's thread
so few turns at the interpreter that hundreds of milliseconds of frames wait when it closes.
"""

Job = Callable[[], None]


class Engine:
    """Films episodes one after another: one background thread, one queue, bounded in bytes.

    Args:
        folder: Where films go; `None` when each take brings its own path.
        timeline: Rates of capture and of the file.
        codec: Encoder for pictures.
        context: The trainer's counters.
        keep: Keep policy, asked on the background thread.
        on_full: What to do when the queue is full.
        on_finished: Called with each finished episode, on the background thread.
        queue_bytes: Bound of the queue.
    """

    def __init__(
        self,
        folder: Folder | None,
        timeline: Timeline,
        codec: Codec,
        context: ContextSource,
        *,
        keep: KeepPolicy | None,
        on_full: OnFull,
        on_finished: EpisodeCallback | None,
        queue_bytes: int,
    ) -> None:
        self.folder = folder
        self.timeline = timeline
        self.codec = codec
        self.context = context
        self.take: Take | None = None
        self.problems: deque[tuple[str, Exception]] = deque(maxlen=100)
        self.renamed: deque[tuple[str, str]] = deque(maxlen=100)
        self.pool = BufferPool(queue_bytes)
        self._keep = keep or keep_all
        self._block_s = BLOCK_S if on_full == "block" else 0.0
        self._is_stalled = False
        self._on_finished = on_finished
        self._worker: Worker[Job] = Worker(
            "film",
            _run_job,
            max_bytes=queue_bytes,
            pace_after=PACE_AFTER,
            pace_down_to=PACE_DOWN_TO,
            pace_s=PACE_S if on_full == "block" else 0.0,
        )
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this process got the engine through `fork`; it does nothing then."""
        return os.getpid() != self._pid

    def new_film(self, facts: Episode, path: Path | None) -> Film:
        """Return the film of a take that begins.

        Args:
            facts: What is known of the episode.
            path: Where the film grows and stays; `None` for a place of our own in the folder.
        """

        def grow_at(suffix: str) -> Path:
            if path is None:
                assert self.folder is not None
                self.folder.make()
                return self.folder.partial(facts.episode_id, suffix)
            if path.suffix != suffix:
                raise SettingError(f"{path} must have the extension {suffix} for what is filmed")
            return path

        return Film(
            grow_at,
            self.timeline,
            self.codec,
            self.pool,
            text_suffix=".json" if path is not None and path.suffix == ".json" else ".cast",
            title=facts.env_id,
        )

    def add(self, frame: Frame) -> bool:
        """Hand a frame of the current take to the background thread; say whether it was taken."""
        take = self.take
        assert take is not None
        size = frame.array.nbytes if isinstance(frame, Taken) else len(frame)
        index = take.n_captured
        take.n_captured += 1
        # Once a wait ran out, frames are dropped at once until there is room again: training must
        # not wait the full time for each of them.
        timeout_s = 0.0 if self._is_stalled else self._block_s
        job = partial(take.film.add, frame, index)
        taken = self._worker.submit(job, max(1, size), timeout_s=timeout_s)
        self._is_stalled = not taken
        if not taken:
            take.n_dropped += 1
            if isinstance(frame, Taken):
                self.pool.give_back(frame.buffer)
        return taken

    def end(self, *, terminated: bool = False, truncated: bool = False) -> Future[Episode]:
        """End the current take; the rest happens on the background thread."""
        take, self.take = self.take, None
        assert take is not None
        context = {} if take.ended else self.context.now()
        take.mark_end(terminated=terminated, truncated=truncated, context=context)
        future: Future[Episode] = Future()
        future.set_running_or_notify_cancel()
        if self.is_inherited:
            # The film is the parent's, and so are its files.
            future.set_result(not_ours(take.outcome()))
            return future
        if not self._worker.submit(partial(self._complete, take, future), 0, timeout_s=0):
            self._complete(take, future)
        return future

    def inert(self) -> Future[Episode]:
        """Return what `end` gives in a forked child, where nothing was begun."""
        future: Future[Episode] = Future()
        future.set_result(
            not_ours(Episode(episode_id="", run_id="", name="", status=EpisodeStatus.FAILED))
        )
        return future

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything handed over so far is done; say whether that came in time."""
        return self._worker.flush(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """End what is open, finish what waits, end the thread; say whether that came in time."""
        if self.is_inherited:
            return True
        if self.take is not None:
            self.end()
        return self._worker.close(timeout_s)

    def _complete(self, take: Take, future: Future[Episode]) -> None:
        episode = take.outcome()
        cause = take.error or take.film.error
        try:
            if cause is not None:
                episode = self._failed(take, episode, cause)
            elif take.film.n_frames == 0:
                take.film.discard()
                lost = take.n_dropped > 0
                why = "every frame was dropped" if lost else "the environment rendered nothing"
                status = EpisodeStatus.FAILED if lost else EpisodeStatus.EMPTY
                episode = self._commit(
                    take, replace(episode, status=status, reason=why), with_film=False
                )
            else:
                episode = self._finish(take, episode)
        except Exception as error:  # noqa: BLE001 - the film is lost, the thread and the future must not be
            episode = self._failed(take, episode, error)
        finally:
            # Whatever the user's callback does, nobody may wait for this for ever.
            try:
                self._announce(episode)
            finally:
                future.set_result(episode)

    def _finish(self, take: Take, episode: Episode) -> Episode:
        kept = self._commit(take, episode, with_film=True)
        # Asked only now: a policy must not count a film that could not be finished.
        losers = self._losers(kept)
        for loser in losers:
            self._delete(loser)
        if kept.episode_id in {loser.episode_id for loser in losers}:
            return replace(
                kept, media=None, steps=None, folder=None, reason="not kept by the keep policy"
            )
        return kept

    def _losers(self, episode: Episode) -> list[Episode]:
        try:
            return rejected(self._keep, episode)
        except BaseException as error:  # noqa: BLE001 - the user's policy must not cost the film
            self.problems.append(("keep", _as_exception(error)))
            return []

    def _delete(self, episode: Episode) -> None:
        try:
            catalog.delete(episode)
        except OSError as error:
            self.problems.append(("delete", error))

    def _failed(self, take: Take, episode: Episode, cause: Exception) -> Episode:
        self.problems.append((type(cause).__name__, cause))
        reason = f"{type(cause).__name__}: {cause}"
        # The film goes before the sidecar comes: on a full disk that is what makes room for it.
        try:
            take.film.discard(cause)
        except OSError as error:
            logger.warning("could not remove the unfinished film %s: %s", take.film.partial, error)
        lost = replace(
            episode, status=EpisodeStatus.FAILED, reason=reason[:1000],
            n_frames=0, media=None, steps=None, size_bytes=None, sha256=None,
        )  # fmt: skip
        try:
            return self._commit(take, lost, with_film=False)
        except Exception as error:  # noqa: BLE001 - a folder that is gone must not stop training
            # A disk that takes no film takes no sidecar either: one cause, one warning.
            if not isinstance(cause, OSError):
                self.problems.append((type(error).__name__, error))
            logger.info("the sidecar of %s could not be written: %s", lost.name, error)
            return lost

    def _commit(self, take: Take, episode: Episode, *, with_film: bool) -> Episode:
        stored = commit(self.folder, take, episode, with_film=with_film)
        if take.name_error is not None:
            self.problems.append(("bad name", take.name_error))
        if take.wanted_name is not None and stored.name != take.wanted_name:
            self.renamed.append((take.wanted_name, stored.name))
        return stored

    def _announce(self, episode: Episode) -> None:
        if self._on_finished is None or episode.media is None:
            return
        try:
            self._on_finished(episode)
        except BaseException as error:  # noqa: BLE001 - the user's callback must not stop the recorder
            self.problems.append(("on_finished", _as_exception(error)))


def not_ours(episode: Episode) -> Episode:
    """Return what a forked child gets for an episode of its parent's recorder."""
    reason = "this recorder belongs to the process that this one was forked from"
    return replace(episode, status=EpisodeStatus.FAILED, reason=reason)


def _as_exception(error: BaseException) -> Exception:
    """`SystemExit` and its kin end a thread, not a training: they are told as what they are."""
    return error if isinstance(error, Exception) else UsageError(f"it raised {error!r}")


def _run_job(job: Job, _more: bool) -> None:
    job()

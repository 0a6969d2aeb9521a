"""The engine behind `Recorder`: what happens between `begin` and the finished file.

It never warns and never touches the environment, so that it may run at the interpreter's end, from
the garbage collector, or on its own threads; `Recorder` is its face towards the training loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rollcam._commit import commit
from rollcam._context import ContextSource
from rollcam._film import Film, Frame
from rollcam._place import Medium
from rollcam._retention import Retention
from rollcam._take import Take
from rollcam._worker import Worker
from rollcam.capture.frames import BufferPool, Taken
from rollcam.encode.codecs import Codec
from rollcam.encode.timeline import Timeline
from rollcam.episode import Episode, EpisodeCallback, EpisodeStatus, OnFull
from rollcam.errors import RollcamError, SettingError, SidecarError, UsageError
from rollcam.store import files, journal, sidecar
from rollcam.store.layout import Folder, NameTemplate

logger = logging.getLogger("rollcam")

BLOCK_S = 5.0
"""How long `on_full="block"` waits for room before it drops, in seconds."""

PACE_AFTER, PACE_DOWN_TO, PACE_S = 5, 1, 0.05
"""Frames that may wait before a step is paused, when it goes on, and for how long it is at most, in
seconds.

Measured in docs/benchmarks.md: without it, a loop that renders in 1.4 ms gives the encoder's thread
so few turns at the interpreter that hundreds of milliseconds of frames wait when it closes.
"""

Job = Callable[[], None]


class Engine:
    """Films the episodes of one environment or of many: few threads, one bound of memory.

    Args:
        folder: Where films go; `None` when each take brings its own path.
        timeline: Rates of capture and of the file.
        codec: Encoder for pictures.
        context: The trainer's counters.
        retention: Says, on a background thread, which films go.
        on_full: What to do when the queue is full.
        on_finished: Called with each finished episode, on a background thread, one at a time.
        publish: Called before that with each film that stays; never raises.
        queue_bytes: Bound of the frames that wait, over all threads.
        n_threads: Threads that encode; each film stays with one of them.
    """

    def __init__(
        self,
        folder: Folder | None,
        timeline: Timeline,
        codec: Codec,
        context: ContextSource,
        *,
        retention: Retention,
        on_full: OnFull,
        on_finished: EpisodeCallback | None,
        publish: EpisodeCallback | None = None,
        queue_bytes: int,
        n_threads: int = 1,
    ) -> None:
        self.folder = folder
        self.timeline = timeline
        self.codec = codec
        self.context = context
        self.takes: list[Take] = []
        self.is_closed = False
        self.problems: deque[tuple[str, Exception]] = deque(maxlen=100)
        self.renamed: deque[tuple[str, str]] = deque(maxlen=100)
        self.pool = BufferPool(queue_bytes)
        self._retention = retention
        self._block_s = BLOCK_S if on_full == "block" else 0.0
        self._on_finished = on_finished
        self._publish = publish
        # What the user's own functions are asked is asked one at a time, whichever thread it is on.
        self._turn = threading.RLock()
        self._lanes = [
            _Lane(queue_bytes // n_threads, PACE_S if on_full == "block" else 0.0)
            for _ in range(n_threads)
        ]
        self._n_opened = 0
        self._n_unfinished = 0
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this process got the engine through `fork`; it does nothing then."""
        return os.getpid() != self._pid

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the frames that wait for the encoder."""
        return sum(lane.worker.waiting_bytes for lane in self._lanes)

    def open(
        self,
        facts: Episode,
        *,
        path: Path | None,
        template: NameTemplate | None,
        info_keys: tuple[str, ...],
    ) -> Take:
        """Open the take of an episode that begins.

        Args:
            facts: What is known of the episode.
            path: Where the film grows and stays; `None` for a place of our own in the folder.
            template: How its files will be named; `None` takes the name in `facts`.
            info_keys: Keys of infos that become columns.
        """

        def grow_at(medium: Medium) -> Path:
            return self._grow_at(take, medium)

        film = Film(
            grow_at,
            self.timeline,
            self.codec,
            self.pool,
            text_suffix=".json" if path is not None and path.suffix == ".json" else ".cast",
            title=facts.env_id,
        )
        take = Take(film, facts, template, info_keys, at_path=path, lane=self._n_opened)
        take.context_version = self.context.version
        self._n_opened += 1
        self.takes.append(take)
        return take

    def add(self, take: Take, frame: Frame, row: dict[str, Any]) -> bool:
        """Hand a frame to a background thread; say whether it was taken."""
        size = frame.array.nbytes if isinstance(frame, Taken) else len(frame)
        index = take.n_captured
        take.n_captured += 1
        take.keep(row)
        facts: dict[str, Any] = {"i": index, "steps": take.n_steps, "columns": row}
        self._note_context(take)
        take.log("row", facts)
        lines, take.unlogged = take.unlogged, []
        lane = self._lane_of(take)
        # Once a wait ran out, frames are dropped at once until there is room again: training must
        # not wait the full time for each of them.
        timeout_s = 0.0 if lane.is_stalled else self._block_s
        job = partial(self._film_frame, take, frame, index, lines)
        taken = lane.worker.submit(job, max(1, size), timeout_s=timeout_s)
        lane.is_stalled = not taken
        if not taken:
            take.n_dropped += 1
            facts["dropped"] = True
            take.unlogged = lines
            if isinstance(frame, Taken):
                self.pool.give_back(frame.buffer)
        return taken

    def mark_end(self, take: Take, *, terminated: bool, truncated: bool) -> None:
        """Write down how and when an episode ended; its film may stay open for longer."""
        if take.ended:
            return
        take.mark_end(terminated=terminated, truncated=truncated, context=self.context.now())
        if not self.is_inherited:
            lines, take.unlogged = take.unlogged, []
            self._lane_of(take).worker.submit(partial(self._log, take, lines), 0, timeout_s=0)

    def end(
        self, take: Take, *, terminated: bool = False, truncated: bool = False
    ) -> Future[Episode]:
        """End a take; the rest happens on its background thread."""
        if take in self.takes:
            self.takes.remove(take)
        self.mark_end(take, terminated=terminated, truncated=truncated)
        future: Future[Episode] = Future()
        future.set_running_or_notify_cancel()
        if self.is_inherited:
            # The film is the parent's, and so are its files.
            future.set_result(not_ours(take.outcome()))
            return future
        job = partial(self._complete, take, future)
        if not self._lane_of(take).worker.submit(job, 0, timeout_s=0):
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
        deadline = time.monotonic() + timeout_s
        done = [lane.worker.flush(max(0.0, deadline - time.monotonic())) for lane in self._lanes]
        return all(done)

    def close(self, timeout_s: float) -> bool:
        """End what is open, finish what waits, end the threads; say whether that came in time."""
        self.is_closed = True
        if self.is_inherited:
            return True
        for take in list(self.takes):
            self.end(take)
        deadline = time.monotonic() + timeout_s
        each = [lane.worker.close(max(0.0, deadline - time.monotonic())) for lane in self._lanes]
        done = all(each)
        if done and self.folder is not None and not self.waiting_bytes:
            self.folder.release(keep=self._n_unfinished > 0)
        return done

    def delete_settled(self) -> None:
        """Delete the films that had to go, and waited for a sink that has them now."""
        if not self.is_inherited:
            for film in self._retention.settled():
                self._delete(film)

    def _lane_of(self, take: Take) -> _Lane:
        return self._lanes[take.lane % len(self._lanes)]

    def _grow_at(self, take: Take, medium: Medium) -> Path:
        if take.at_path is None:
            assert self.folder is not None
            self.folder.make()
            self._log(take, [("medium", asdict(medium))])
            return self.folder.partial(take.facts.episode_id, medium.suffix)
        if take.at_path.suffix != medium.suffix:
            raise SettingError(
                f"{take.at_path} must have the extension {medium.suffix} for what is filmed"
            )
        return take.at_path

    def _note_context(self, take: Take) -> None:
        version = self.context.version
        if take.context_version != version:
            take.context_version = version
            take.log("context", self.context.told())

    def _film_frame(self, take: Take, frame: Frame, index: int, lines: journal.Lines) -> None:
        # Before the frame: what is known of it must not be less than what can be seen.
        self._log(take, lines)
        take.film.add(frame, index)

    def _log(self, take: Take, lines: journal.Lines) -> None:
        """Write into the take's journal; a film whose journal fails is less safe, but not lost."""
        is_off = take.at_path is not None or self.folder is None or take.has_no_journal
        if is_off or not lines:
            return
        assert self.folder is not None
        try:
            if take.journal is None:
                self.folder.make()
                take.journal = journal.Journal(
                    self.folder.partial(take.facts.episode_id, journal.SUFFIX),
                    {**_head(take), "has_sinks": self._publish is not None},
                )
            take.journal.write_all(lines)
        except (OSError, RollcamError) as error:
            take.has_no_journal = True
            logger.info("the journal of %s could not be written: %s", take.facts.name, error)

    def _complete(self, take: Take, future: Future[Episode]) -> None:
        lines, take.unlogged = take.unlogged, []
        episode = take.outcome()
        cause = take.error or take.film.error
        try:
            if cause is not None:
                episode = self._failed(take, episode, cause)
            elif take.film.n_frames == 0:
                take.film.discard()
                take.forget()
                lost = take.n_dropped > 0
                why = "every frame was dropped" if lost else "the environment rendered nothing"
                status = EpisodeStatus.FAILED if lost else EpisodeStatus.EMPTY
                episode = self._commit(
                    take, replace(episode, status=status, reason=why), with_film=False
                )
            else:
                self._log(take, lines)
                episode = self._finish(take, episode)
        except OSError as error:
            episode = self._postponed(take, episode, error)
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
        take.forget()
        # Asked only now: a policy must not count a film that could not be finished.
        with self._turn:
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
            return self._retention.losers(episode)
        except BaseException as error:  # noqa: BLE001 - the user's policy must not cost the film
            self.problems.append(("keep", _as_exception(error)))
            return []

    def _delete(self, episode: Episode) -> None:
        try:
            # Somebody may have removed it, and another run may have its name now.
            if episode.sidecar_path is not None and (
                sidecar.read(episode.sidecar_path).episode_id == episode.episode_id
            ):
                files.delete(episode)
        except SidecarError as error:
            logger.info("%s is not removed: %s", episode.name, error)
        except OSError as error:
            self.problems.append(("delete", error))

    def _postponed(self, take: Take, episode: Episode, cause: OSError) -> Episode:
        """The film is whole, and the disk does not take it now: it stays where it grew."""
        if take.at_path is not None or take.journal is None or not take.lies_somewhere:
            return self._failed(take, episode, cause)
        take.film.close()
        self._n_unfinished += 1
        told = self._told_as_lost(
            take, episode, cause, f"; the film lies in {take.journal.path.parent}, and `rollcam "
            f"recover` finishes it when the folder takes it again",
        )  # fmt: skip
        if told.folder is not None:
            with contextlib.suppress(OSError):
                take.announce(told)
        take.journal.close()
        return told

    def _failed(self, take: Take, episode: Episode, cause: Exception) -> Episode:
        # The film goes before the sidecar comes: on a full disk that is what makes room for it.
        take.film.discard(cause)
        take.forget()
        return self._told_as_lost(take, episode, cause)

    def _told_as_lost(
        self, take: Take, episode: Episode, cause: Exception, more: str = ""
    ) -> Episode:
        self.problems.append((type(cause).__name__, cause))
        reason = f"{type(cause).__name__}: {cause}"[:1000] + more
        lost = replace(
            episode, status=EpisodeStatus.FAILED, reason=reason,
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
        if episode.media is None:
            return
        if self._publish is not None:
            self._publish(episode)
        if self._on_finished is None:
            return
        try:
            with self._turn:
                self._on_finished(episode)
        except BaseException as error:  # noqa: BLE001 - the user's callback must not stop the recorder
            self.problems.append(("on_finished", _as_exception(error)))


class _Lane:
    """One background thread and its share of the queue."""

    def __init__(self, queue_bytes: int, pace_s: float) -> None:
        self.is_stalled = False
        self.worker: Worker[Job] = Worker(
            "film",
            _run_job,
            max_bytes=max(1, queue_bytes),
            pace_after=PACE_AFTER,
            pace_down_to=PACE_DOWN_TO,
            pace_s=pace_s,
        )


def not_ours(episode: Episode) -> Episode:
    """Return what a forked child gets for an episode of its parent's recorder."""
    reason = "this recorder belongs to the process that this one was forked from"
    return replace(episode, status=EpisodeStatus.FAILED, reason=reason)


def _head(take: Take) -> dict[str, Any]:
    template = None if take.template is None else take.template.text
    return {"episode": sidecar.as_dict(take.facts), "template": template}


def _as_exception(error: BaseException) -> Exception:
    """`SystemExit` and its kin end a thread, not a training: they are told as what they are."""
    return error if isinstance(error, Exception) else UsageError(f"it raised {error!r}")


def _run_job(job: Job, _more: bool) -> None:
    job()

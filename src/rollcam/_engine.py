"""The engine behind `Recorder`: what the training thread hands on between `begin` and `end`.

What becomes of it is up to the `Lab`, on the background threads that are the engine's. It never warns
and never touches the environment, so that it may run at the interpreter's end, from the garbage
collector, or on its own threads; `Recorder` is its face towards the training loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

from rollcam._chute import Chute
from rollcam._context import ContextSource
from rollcam._film import Film, Frame
from rollcam._lab import Lab
from rollcam._place import Medium
from rollcam._retention import Retention
from rollcam._take import Take
from rollcam._worker import Worker
from rollcam.capture.frames import BufferPool, Taken
from rollcam.darkroom.room import Darkroom
from rollcam.encode.codecs import Codec
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import VideoEncoder
from rollcam.episode import EncodeIn, Episode, EpisodeCallback, EpisodeStatus, OnFull
from rollcam.store.journal import Lines, Row, line_of
from rollcam.store.layout import Folder, NameTemplate

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
        encode_in: `"process"` gives each of these threads a process that does it.
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
        encode_in: EncodeIn = "thread",
    ) -> None:
        self.folder = folder
        self.timeline = timeline
        self.codec = codec
        self.context = context
        self.takes: list[Take] = []
        self.is_closed = False
        self.pool = BufferPool(queue_bytes)
        self._lab = Lab(folder, retention, on_finished=on_finished, publish=publish)
        self.problems = self._lab.problems
        self.renamed = self._lab.renamed
        self._block_s = BLOCK_S if on_full == "block" else 0.0
        self._lanes = [
            _Lane(
                queue_bytes // n_threads,
                PACE_S if on_full == "block" else 0.0,
                Darkroom() if encode_in == "process" else None,
            )
            for _ in range(n_threads)
        ]
        self._n_opened = 0
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this process got the engine through `fork`; it does nothing then."""
        return os.getpid() != self._pid

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the frames that wait for the encoder."""
        return sum(lane.waiting_bytes for lane in self._lanes)

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
            return self._lab.grow_at(take, medium)

        lane = self._lanes[self._n_opened % len(self._lanes)]
        film = Film(
            grow_at,
            self.timeline,
            self.codec,
            self.pool,
            text_suffix=".json" if path is not None and path.suffix == ".json" else ".cast",
            title=facts.env_id,
            # What grows at a path of its own has no journal to finish it by.
            open_encoder=VideoEncoder
            if lane.darkroom is None or path is not None
            else lane.darkroom.open,
        )
        take = Take(film, facts, template, info_keys, at_path=path, lane=self._n_opened)
        take.context_version = self.context.version
        self._n_opened += 1
        self.takes.append(take)
        return take

    def hands_over(self, take: Take) -> bool:
        """Say whether the next frame goes to another process at once, if there is room."""
        return take.film.elsewhere is not None and self._lane_of(take).worker.has_done(take.ticket)

    def chute(self, take: Take) -> Chute | None:
        """Return the short way for frames like the last one; `None` when that did not go over there."""
        encoder = take.film.elsewhere if take.was_handed_over else None
        return None if encoder is None else Chute(take, encoder, self.context)

    def add(self, take: Take, frame: Frame, row: Row, *, is_lent: bool = False) -> bool:
        """Hand a frame to a background thread, or to another process; say whether it was taken.

        Args:
            take: Its episode.
            frame: The frame.
            row: What is known of it.
            is_lent: Its array is somebody else's, and has to be copied before this returns.
        """
        size = frame.array.nbytes if isinstance(frame, Taken) else len(frame)
        index = take.n_captured
        take.keep(row)
        self._note_context(take)
        lines, take.unlogged = take.unlogged, []
        lane = self._lane_of(take)
        take.was_handed_over = self.hands_over(take) and self._hand_over(
            take, frame, index, lines, row
        )
        if take.was_handed_over:
            return True
        if is_lent and isinstance(frame, Taken) and frame.buffer is None:
            array, buffer = self.pool.copy(frame.array)
            frame = Taken(array, frame.layout, buffer)
        # Once a wait ran out, frames are dropped at once until there is room again: training must
        # not wait the full time for each of them.
        timeout_s = 0.0 if lane.is_stalled else self._block_s
        job = partial(self._lab.film_frame, take, frame, index, lines, row)
        taken = lane.worker.submit(job, max(1, size), timeout_s=timeout_s)
        lane.is_stalled = not taken
        take.ticket = lane.worker.n_taken
        if not taken:
            take.n_dropped += 1
            take.unlogged = lines
            kind, facts = line_of(index, row)
            take.log(kind, {**facts, "dropped": True})
            if isinstance(frame, Taken):
                self.pool.give_back(frame.buffer)
        return taken

    def _hand_over(self, take: Take, frame: Frame, index: int, lines: Lines, row: Row) -> bool:
        taken = take.film.hand_over(frame, index, self._lab.journal_of(take), lines, row)
        if taken and isinstance(frame, Taken):
            self._lane_of(take).is_stalled = False
            self.pool.give_back(frame.buffer)
        return taken

    def mark_end(self, take: Take, *, terminated: bool, truncated: bool) -> None:
        """Write down how and when an episode ended; its film may stay open for longer."""
        if take.ended:
            return
        take.mark_end(terminated=terminated, truncated=truncated, context=self.context.now())
        if not self.is_inherited:
            lines, take.unlogged = take.unlogged, []
            self._lane_of(take).worker.submit(partial(self._lab.log, take, lines), 0, timeout_s=0)

    def end(
        self, take: Take, *, terminated: bool = False, truncated: bool = False
    ) -> Future[Episode]:
        """End a take; the rest happens on its background thread."""
        take.is_over = True
        if take in self.takes:
            self.takes.remove(take)
        self.mark_end(take, terminated=terminated, truncated=truncated)
        future: Future[Episode] = Future()
        future.set_running_or_notify_cancel()
        if self.is_inherited:
            # The film is the parent's, and so are its files.
            future.set_result(not_ours(take.outcome()))
            return future
        job = partial(self._lab.complete, take, future)
        if not self._lane_of(take).worker.submit(job, 0, timeout_s=0):
            self._lab.complete(take, future)
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
        for lane in self._lanes:
            if lane.darkroom is not None and not self.is_inherited:
                lane.worker.submit(lane.darkroom.sync, 0, timeout_s=0)
        done = [lane.worker.flush(max(0.0, deadline - time.monotonic())) for lane in self._lanes]
        return all(done)

    def close(self, timeout_s: float) -> bool:
        """End what is open, finish what waits, end the threads; say whether that came in time."""
        self.is_closed = True
        if self.is_inherited:
            return True
        for take in list(self.takes):
            self.end(take)
        for lane in self._lanes:
            if lane.darkroom is not None:
                lane.worker.submit(lane.darkroom.close, 0, timeout_s=0)
                # A signal's handler may have interrupted this thread where it keeps the others waiting.
                timeout_s = 0.0 if lane.darkroom.is_held_here else timeout_s
        deadline = time.monotonic() + timeout_s
        each = [lane.worker.close(max(0.0, deadline - time.monotonic())) for lane in self._lanes]
        done = all(each)
        if done and self.folder is not None and not self.waiting_bytes:
            self.folder.release(keep=self._lab.n_unfinished > 0)
        return done

    def delete_settled(self) -> None:
        """Delete the films that had to go, and waited for a sink that has them now."""
        if not self.is_inherited:
            self._lab.delete_settled()

    def _lane_of(self, take: Take) -> _Lane:
        return self._lanes[take.lane % len(self._lanes)]

    def _note_context(self, take: Take) -> None:
        version = self.context.version
        if take.context_version != version:
            take.context_version = version
            take.log("context", self.context.told())


class _Lane:
    """One background thread, its share of the queue, and the process that encodes for it, if any."""

    def __init__(self, queue_bytes: int, pace_s: float, darkroom: Darkroom | None) -> None:
        self.is_stalled = False
        self.darkroom = darkroom
        if darkroom is not None:
            darkroom.start()
        self.worker: Worker[Job] = Worker(
            "film",
            _run_job,
            max_bytes=max(1, queue_bytes),
            pace_after=PACE_AFTER,
            pace_down_to=PACE_DOWN_TO,
            pace_s=pace_s,
        )

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the frames that wait for the encoder."""
        under_way = 0 if self.darkroom is None else self.darkroom.waiting_bytes
        return self.worker.waiting_bytes + under_way


def not_ours(episode: Episode) -> Episode:
    """Return what a forked child gets for an episode of its parent's recorder."""
    reason = "this recorder belongs to the process that this one was forked from"
    return replace(episode, status=EpisodeStatus.FAILED, reason=reason)


def _run_job(job: Job, _more: bool) -> None:
    job()

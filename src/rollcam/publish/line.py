"""The delivery to one sink, a step at a time: what is asked, what is sent, what is tried again.

A line runs on one thread and never waits: `step` does one thing and says for how long there is
nothing to do. Who calls it waits, so tests need not.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from rollcam.episode import Episode
from rollcam.errors import (
    MediaError,
    MissingDependencyError,
    SettingError,
    SinkError,
    SinkRefused,
)
from rollcam.publish.clock import Clock, SystemClock
from rollcam.publish.entry import OWED, Entry, Key, State
from rollcam.publish.ledger import Ledger
from rollcam.publish.pace import (
    BACKLOG_EVERY,
    CONFIRM_S,
    LONGEST_WAIT_S,
    LOOK_S,
    MAX_LOST,
    PARKED_S,
    PATIENCE_S,
    POLL_S,
    SETTLE_S,
    UNSURE_FOR_GOOD,
    Backoff,
    Budget,
    Tally,
)  # fmt: skip
from rollcam.publish.sink import Sink
from rollcam.publish.source import NothingToSendError, Prepared, Source, queue, size_of

logger = logging.getLogger("rollcam")

Problems = deque[tuple[str, Exception]]

_ASK_BATCH = 32
_MAX_TEXT = 1000


class Line:
    """Delivers to one sink what the ledger owes it.

    Args:
        ledger: What is owed.
        sink: Where it goes.
        source: Where it comes from.
        lock_folder: Where the lock lies that the one delivering process holds.
        problems: What went wrong is appended here, once for each cause.
        clock: The time.
        bytes_per_min: Bytes to send per minute at most; one larger film goes alone. Default: the
            sink's own `bytes_per_min`, if it has one.
        patience_s: See `PATIENCE_S`.
        run_ids: Runs whose films are queued again when the ledger was lost; read each time.
        jitter: Returns a number in [0, 1); retries of many processes must not come all at once.
    """

    def __init__(
        self,
        ledger: Ledger,
        sink: Sink,
        source: Source,
        *,
        lock_folder: Path,
        problems: Problems | None = None,
        clock: Clock | None = None,
        bytes_per_min: int | None = None,
        patience_s: float = PATIENCE_S,
        run_ids: Collection[str] = (),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.sink = sink
        self.key: Key = (sink.name, sink.target)
        self.tally = Tally()
        self.n_failures = 0
        """Failures of the sink, one after another, since it last worked."""
        self._ledger = ledger
        self._source = source
        self._clock = clock or SystemClock()
        self._problems = problems if problems is not None else deque(maxlen=100)
        self._said: set[str] = set()
        self._budget = Budget(bytes_per_min or getattr(sink, "bytes_per_min", None))
        self._patience_s = patience_s
        self._confirm_s = max(CONFIRM_S, float(getattr(sink, "confirm_after_s", CONFIRM_S)))
        self._run_ids = run_ids
        self._backoff = Backoff(jitter)
        self._publisher = uuid.uuid4().hex
        self._paused_until = 0.0
        self._next_ask_at = 0.0
        self._has_unasked = False
        self._ledger_id: str | None = None
        self._lock = self._new_lock(lock_folder)
        self._is_swept = False

    @property
    def label(self) -> str:
        """The sink in words."""
        return f"{self.key[0]} ({self.key[1]})"

    @property
    def is_paused(self) -> bool:
        """Whether the sink failed and is left alone for a while."""
        return self._paused_until > self._clock.now()

    @property
    def has_lock(self) -> bool:
        """Whether this process is the one that delivers to this sink."""
        return self._lock.is_locked

    def add(self, episode: Episode) -> None:
        """Queue a film that was just finished.

        Raises:
            StoreError: The ledger cannot be written.
        """
        queue(self._ledger, self.key, [episode], self._clock.now())

    def step(self) -> float:
        """Do one thing; return for how many seconds there is nothing to do.

        Raises:
            StoreError: The ledger cannot be used.
        """
        now = self._clock.now()
        with self._ledger.together():
            todo = self._look(now)
        if isinstance(todo, float):
            return todo
        if isinstance(todo, list):
            self._ask(todo, now)
            return 0.0
        prepared = self._prepare(todo, now)
        if prepared is not None:
            self._send(todo, prepared)
        return 0.0

    def mark(self) -> tuple[int, ...] | None:
        """Return what changes when there may be something new to do; see `Ledger.mark`."""
        return self._ledger.mark() if self.has_lock else None

    @property
    def is_known(self) -> bool:
        """Whether there is a ledger at all."""
        return self._ledger.exists

    def is_elsewhere(self) -> bool:
        """Say whether another living process delivers to this sink."""
        if self.has_lock:
            return False
        try:
            self._lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        self._lock.release()
        return False

    def hurry(self) -> None:
        """Forget the waits after failures: everything may be tried once more, now."""
        self._paused_until = 0.0
        self._ledger.hurry(self.key)
        self.confirm_soon()

    def confirm_soon(self) -> None:
        """From now on, ask for what was handed over without waiting for more.

        For when somebody waits for the answer. May be called on another thread.
        """
        self._confirm_s = CONFIRM_S
        self._next_ask_at = 0.0
        self._ledger.ask_soon(self.key)

    def backs_off_s(self) -> float:
        """Return for how many seconds nothing is to be sent."""
        due_at = self._ledger.next_due_at(self.key, State.QUEUED)
        return 0.0 if due_at is None else max(0.0, due_at - self._clock.now())

    def n_pending(self, *states: State, unsure_from: int = UNSURE_FOR_GOOD) -> int:
        """Count what is still owed, in these states or in any; see `Ledger.n_pending`."""
        return self._ledger.n_pending(self.key, unsure_from=unsure_from, states=states or OWED)

    def is_stalled(self, n_tries: int) -> bool:
        """Say whether all that is owed waits for another try, each after `n_tries` failures."""
        n_open = self._ledger.n_pending(
            self.key, unsure_from=UNSURE_FOR_GOOD, failures_below=n_tries
        )
        return not n_open

    def ask_handed(self, limit: int = 10 * _ASK_BATCH) -> None:
        """Ask once more for what was handed over, due or not. After the sink was closed, too."""
        if not self.has_lock:
            return
        handed = self._ledger.handed(self.key, limit)
        for start in range(0, len(handed), _ASK_BATCH):
            n_stored = self.tally.n_stored
            self._ask(handed[start : start + _ASK_BATCH], self._clock.now())
            if self.tally.n_stored == n_stored:
                return

    def release(self) -> None:
        """Let another process deliver."""
        self._lock.release()

    def give_up(self, cause: str, error: BaseException) -> None:
        """Tell of a failure that is nobody's film, and leave everything alone for a while."""
        self._fail(cause, error)

    def _new_lock(self, folder: Path) -> FileLock:
        folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid5(uuid.NAMESPACE_URL, "\0".join(self.key)).hex
        # The system frees it when the process dies, and a forked child does not keep it.
        return FileLock(folder / f"{name}.lock", thread_local=False, fallback_to_soft=False)

    def _hold(self) -> bool:
        if not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
            except OSError as error:
                # The folder was deleted, or lies where no lock can be had.
                os.makedirs(os.path.dirname(self._lock.lock_file), exist_ok=True)
                logger.info("no lock for %s: %s", self.label, error)
                return False
        if not self._is_swept:
            self._is_swept = True
            self._source.sweep()
        return True

    def _note_loss(self, now: float) -> None:
        """Queue the films of our own runs again, if the ledger is no longer the one we wrote to."""
        identity = self._ledger.identity()
        if self._ledger_id not in (None, identity):
            logger.warning("the ledger %s was lost; it is rebuilt", self._ledger.path)
            episodes = self._source.episodes(self._run_ids)
            queue(self._ledger, self.key, episodes, now, must_ask=True)
        self._ledger_id = identity

    def _look(self, now: float) -> Entry | list[Entry] | float:
        """Return what is to be sent, or to be asked for, or for how many seconds there is nothing."""
        self._note_loss(now)
        if not self._hold():
            return POLL_S
        if self._paused_until - LONGEST_WAIT_S * 2 > now:  # the clock was set back
            self._paused_until = now
        if now < self._paused_until:
            return self._paused_until - now
        if now >= self._next_ask_at or self._next_ask_at - now > PARKED_S:
            doubtful = self._ledger.doubtful(self.key, now, _ASK_BATCH)
            if doubtful:
                return doubtful
        return self._next_to_send(now)

    def _next_to_send(self, now: float) -> Entry | float:
        n_begun = self.tally.n_sent + self.n_failures
        oldest = n_begun % BACKLOG_EVERY == BACKLOG_EVERY - 1
        entry = self._ledger.next_queued(self.key, now, oldest=oldest)
        if entry is None and self._has_unasked:
            self._has_unasked, self._next_ask_at = False, 0.0
            return 0.0
        if entry is None:
            send_at, ask_at = self._ledger.next_due(self.key)
            if ask_at is not None:
                ask_at = max(ask_at, self._next_ask_at)
            due = [at for at in (send_at, ask_at) if at is not None]
            return min([LOOK_S, *(max(0.05, at - now) for at in due)])
        wait_s = self._budget.wait_s(entry.size_bytes, now)
        # Others may be due before there is room for this one: to be asked for, or smaller.
        return min(wait_s, POLL_S) if wait_s > 0 else entry

    def _send(self, entry: Entry, prepared: Prepared) -> None:
        entry = replace(
            entry, state=State.SENDING, attempts=entry.attempts + 1, sent_at=self._clock.now(),
            sha256=prepared.delivery.sha256, size_bytes=prepared.size_bytes,
            mtime_ns=prepared.mtime_ns, publisher=self._publisher, must_ask=False,
            n_asked=0, n_unsure=0, due_at=0.0,
        )  # fmt: skip
        n_bytes = size_of(prepared.delivery.media)
        self._ledger.put([entry])
        try:
            reference = self.sink.publish(prepared.delivery)
        except SinkRefused as error:
            self._end(entry, State.FAILED, _told(error))
            self._tell("refused", error)
            return
        except BaseException as error:
            # It may have arrived all the same, so the place is asked before it is sent again.
            self._retry(replace(entry, must_ask=True), _told(error))
            self._fail(type(error).__name__, error)
            if _is_ctrl_c(error):
                raise
            return
        self._worked()
        now = self._clock.now()
        self.tally.n_sent += 1
        self.tally.bytes_sent += n_bytes
        self._budget.spend(n_bytes, now)
        handed = replace(
            entry, state=State.HANDED, reference=str(reference)[:_MAX_TEXT], reason=None,
            due_at=now + (self._confirm_s if self._confirm_s > CONFIRM_S else 0.0),
        )  # fmt: skip
        if prepared.was_changed():
            handed = replace(
                handed, state=State.QUEUED, must_ask=False, attempts=0, mtime_ns=0, sha256=None
            )
        self._ledger.put([handed])
        # Several are asked for together, or, where the answer may be there, when nothing more is to
        # be sent.
        self._next_ask_at = max(self._next_ask_at, now + CONFIRM_S)
        self._has_unasked = self._confirm_s <= CONFIRM_S

    def _ask(self, entries: list[Entry], now: float) -> None:
        """Ask the place what it has of these, and write down what follows."""
        asked: list[tuple[Entry, Prepared]] = []
        for entry in entries:
            prepared = self._prepare(entry, now)
            if prepared is not None:
                asked.append((entry, prepared))
        if not asked:
            return
        # After a full batch the next one is asked for at once, or a long list would take for ever.
        self._next_ask_at = now + (self._confirm_s if len(entries) < _ASK_BATCH else 0.0)
        try:
            answer = self.sink.stored([prepared.delivery for _, prepared in asked])
            there = None if answer is None else {str(episode_id) for episode_id in answer}
        except BaseException as error:
            self._fail(type(error).__name__, error)
            reason = f"could not be asked: {_told(error)}"
            self._ledger.put(
                [self._later(replace(entry, reason=reason), now) for entry, _ in asked]
            )
            if _is_ctrl_c(error):
                raise
            return
        self._worked()
        if there is None:
            self._ledger.put([self._unsure(entry, now) for entry, _ in asked])
            return
        told = [
            self._arrived(entry, prepared)
            if entry.episode_id in there
            else self._absent(entry, now)
            for entry, prepared in asked
        ]
        self._ledger.put(told)
        for entry in told:
            if entry.state in (State.STORED, State.FAILED):
                self._source.release(entry)

    def _arrived(self, entry: Entry, prepared: Prepared) -> Entry:
        if entry.publisher != self._publisher:
            self.tally.n_already_there += 1
        self.tally.n_stored += 1
        arrived = replace(entry, sha256=prepared.delivery.sha256)
        return self._ended(arrived, State.STORED, None)

    def _absent(self, entry: Entry, now: float) -> Entry:
        """The place does not have it: it is on its way, or lost, or was never sent."""
        if entry.state is State.QUEUED:
            return replace(entry, must_ask=False, due_at=min(entry.due_at, now))
        is_ours = entry.publisher == self._publisher
        patience_s = self._patience_s if is_ours else SETTLE_S
        if 0 <= now - entry.sent_at < patience_s:
            later = self._later(entry, now)
            return replace(later, due_at=min(later.due_at, entry.sent_at + patience_s))
        if entry.state is State.SENDING:
            return replace(entry, state=State.QUEUED, due_at=0.0)
        lost = replace(entry, n_lost=entry.n_lost + 1)
        reason = f"handed over {lost.n_lost} times, and it never arrived"
        if lost.n_lost < MAX_LOST:
            return replace(lost, state=State.QUEUED, reason=reason, due_at=0.0)
        self._tell("lost", SinkError(f"{entry.name}: {reason}"))
        return self._ended(lost, State.FAILED, reason)

    def _unsure(self, entry: Entry, now: float) -> Entry:
        """The place cannot tell: what was handed over stays so, anything else is sent again.

        A sink promises that a second hand-over does not show twice; a film that nobody sends is lost.
        """
        entry = self._later(replace(entry, n_unsure=entry.n_unsure + 1), now)
        if entry.n_unsure < UNSURE_FOR_GOOD:
            return entry
        if entry.state is State.HANDED:
            return replace(entry, due_at=now + PARKED_S)
        return replace(entry, state=State.QUEUED, must_ask=False, n_unsure=0, due_at=0.0)

    def _later(self, entry: Entry, now: float) -> Entry:
        wait_s = self._backoff.after(entry.n_asked)
        return replace(entry, n_asked=entry.n_asked + 1, due_at=now + wait_s)

    def _prepare(self, entry: Entry, now: float) -> Prepared | None:
        try:
            return self._source.prepare(entry)
        except NothingToSendError as error:
            handed = "handed over and not confirmed; " if entry.state is State.HANDED else ""
            self._end(entry, State.DROPPED, f"{handed}{error}")
        except (MissingDependencyError, SettingError, MediaError) as error:
            self._end(entry, State.FAILED, _told(error))
            self._tell("prepare", error)
        except Exception as error:  # noqa: BLE001 - one film that cannot be read must not stop the others
            self._retry(entry, _told(error))
            self._tell("prepare", error)
        return None

    def _retry(self, entry: Entry, reason: str) -> None:
        state = State.QUEUED if entry.state is not State.HANDED else State.HANDED
        self._ledger.put(
            [
                replace(
                    entry, state=state, reason=reason, n_failures=entry.n_failures + 1,
                    due_at=self._clock.now() + self._backoff.after(entry.n_failures),
                )
            ]
        )  # fmt: skip

    def _end(self, entry: Entry, state: State, reason: str | None) -> None:
        ended = self._ended(entry, state, reason)
        self._ledger.put([ended])
        self._source.release(ended)

    def _ended(self, entry: Entry, state: State, reason: str | None) -> Entry:
        if state is State.DROPPED:
            self.tally.n_dropped += 1
            logger.info("not published to %s: %s: %s", self.label, entry.name, reason)
        elif state is State.FAILED:
            self.tally.n_failed += 1
        return replace(
            entry, state=state, reason=reason and reason[:_MAX_TEXT], ended_at=self._clock.now(),
            must_ask=False, due_at=0.0,
        )  # fmt: skip

    def _fail(self, cause: str, error: BaseException) -> None:
        self._paused_until = self._clock.now() + self._backoff.after(self.n_failures)
        self.n_failures += 1
        self._tell(cause, error)

    def _worked(self) -> None:
        self.n_failures = 0
        self._paused_until = 0.0

    def _tell(self, cause: str, error: BaseException) -> None:
        """One warning for each cause, the log for the others."""
        logger.info("publishing to %s: %s", self.label, _told(error))
        if cause in self._said:
            return
        self._said.add(cause)
        told = SinkError(f"publishing to {self.label} failed: {_told(error)}")
        told.__cause__ = error
        self._problems.append((f"publish:{self.key[0]}:{cause}", told))


def _is_ctrl_c(error: BaseException) -> bool:
    """Say whether the user wants to end `rollcam publish`.

    Anything else that a sink raises, `SystemExit` too, is no reason to stop: it is another's code.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and isinstance(error, KeyboardInterrupt)


def _told(error: BaseException) -> str:
    text = str(error) if isinstance(error, SinkError) else f"{type(error).__name__}: {error}"
    return text[:_MAX_TEXT]

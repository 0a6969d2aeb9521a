"""The publisher: a background thread for each sink, which brings finished films there by itself.

The ledger is the queue: a film that was announced is on the disk before anybody is told, so a
process may die, or close while a place is down, and nothing is lost.
"""

from __future__ import annotations

import logging
import multiprocessing.util
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rollcam._worker import Worker
from rollcam.episode import Episode
from rollcam.errors import StoreError
from rollcam.publish.clock import Clock, SystemClock
from rollcam.publish.entry import State
from rollcam.publish.ledger import FILE_NAME, Ledger
from rollcam.publish.line import Line, Problems
from rollcam.publish.pace import POLL_S, UNSURE_FOR_GOOD
from rollcam.publish.sink import Sink
from rollcam.publish.source import Source, is_finished

logger = logging.getLogger("rollcam")

CLOSE_S = 30.0
"""How long `close`, and the interpreter's end, wait for films that are on their way, in seconds."""

CONFIRM_AT_CLOSE_S = 5.0
"""The part of it for which only confirmations are waited for, in seconds."""

UNSURE_AT_CLOSE_S = 1.5
"""The same when the place cannot tell now: that a trainer's row is committed takes a second."""

_FLUSH_POLL_S = 0.05

_NEVER = threading.Event()

_LIVE: set[Publisher] = set()
"""Publishers of this process whose threads run; closed at the interpreter's end."""
_exit_pid: int | None = None


class Publisher:
    """Brings the finished films of a folder to sinks, once each, in the background.

    Of several processes with the same folder and sink, one delivers and the others only record;
    when it closes or dies, another takes over. In a forked child an inherited publisher does
    nothing.

    Args:
        corner: The folder's own corner, `.rollcam`; ledger and locks lie there.
        sinks: Where films go; no two with the same name and target.
        source: Where films come from.
        own: Sinks that are closed with the publisher; the others are their owner's to close.
        bytes_per_min: Bytes that each sink may get per minute; default: what the sink itself says.
        command: Returns the command that sends later what is pending at `close`, for a sink.
        clock: The time.
    """

    def __init__(
        self,
        corner: Path,
        sinks: Sequence[Sink],
        source: Source,
        *,
        own: Sequence[Sink] = (),
        bytes_per_min: int | None = None,
        command: Callable[[Sink], str] = lambda sink: f"rollcam publish --to {sink.name}",
        clock: Clock | None = None,
    ) -> None:
        self.problems: Problems = deque(maxlen=100)
        """What went wrong, as `(cause, error)`, once for each cause."""
        self.ledger = Ledger(corner / FILE_NAME)
        self._source = source
        self._clock = clock or SystemClock()
        self._pid = os.getpid()
        self._run_ids: set[str] = set()
        corner.mkdir(parents=True, exist_ok=True)

        def line_to(sink: Sink) -> Line:
            return Line(
                self.ledger, sink, source, lock_folder=corner / "publish",
                problems=self.problems, clock=self._clock, bytes_per_min=bytes_per_min,
                run_ids=self._run_ids,
            )  # fmt: skip

        self._lanes = [
            _Lane(
                sink,
                line_to,
                self._clock,
                closes_sink=any(sink is mine for mine in own),
                command=command,
            )
            for sink in sinks
        ]
        _close_at_exit()

    @property
    def is_inherited(self) -> bool:
        """Whether this process got the publisher through `fork`; it does nothing then."""
        return os.getpid() != self._pid

    @property
    def sinks(self) -> list[Sink]:
        """Where films go."""
        return [lane.sink for lane in self._lanes]

    def join(self, run_id: str) -> None:
        """Take up a run: its films are queued again when the ledger is lost."""
        self._run_ids.add(run_id)

    def announce(self, episode: Episode) -> None:
        """Queue a film that was just finished, for every sink. Never raises.

        Cheap, but it writes to the disk: for the recorder's background thread. What is no finished
        film is passed over.
        """
        if self.is_inherited or not is_finished(episode):
            return
        for lane in self._lanes:
            try:
                lane.add(episode)
            except (StoreError, OSError) as error:
                self.problems.append(("publish:ledger", _as_store_error(error)))
        _LIVE.add(self)

    def start(self) -> None:
        """Go on with what an earlier process was owed, before the first film is announced."""
        if self.is_inherited or not self.ledger.exists:
            return
        try:
            for lane in self._lanes:
                if self.ledger.next_due_at((lane.sink.name, lane.sink.target)) is not None:
                    lane.wake()
                    _LIVE.add(self)
        except (StoreError, OSError) as error:
            self.problems.append(("publish:ledger", _as_store_error(error)))

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that is owed was delivered; say whether that came in time."""
        if self.is_inherited:
            return False
        deadline = self._clock.monotonic() + timeout_s
        for lane in self._lanes:
            lane.confirm_soon()
        while not self._is_done():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            self._clock.wait(_NEVER, min(left, _FLUSH_POLL_S))
        return True

    def close(self, timeout_s: float = CLOSE_S, *, wait: bool = True) -> bool:
        """Deliver what can be delivered in time, and end the threads.

        A sink that fails is tried once more and not waited for. What is left is in the ledger; one
        line in the log says how much, and which command sends it.

        Args:
            timeout_s: The limit, in seconds.
            wait: `False` returns at once; the threads end by themselves, and the interpreter's end
                waits for them. For the garbage collector.

        Returns:
            Whether all was delivered.
        """
        if self.is_inherited:
            return True
        deadline = self._clock.monotonic() + timeout_s
        for lane in self._lanes:
            lane.begin_close(deadline)
        if not wait:
            return False
        for lane in self._lanes:
            lane.end_close(max(0.0, deadline - self._clock.monotonic()))
        _LIVE.discard(self)
        return sum([lane.tell_rest() for lane in self._lanes]) == 0

    def _is_done(self) -> bool:
        try:
            return not any(lane.n_pending() for lane in self._lanes)
        except StoreError as error:
            self.problems.append(("publish:ledger", error))
            return False


class _Lane:
    """One sink's thread."""

    def __init__(
        self,
        sink: Sink,
        line_to: Callable[[Sink], Line],
        clock: Clock,
        *,
        closes_sink: bool,
        command: Callable[[Sink], str],
    ) -> None:
        self.sink = sink
        self._line_to = line_to
        self._line: Line | None = None
        self._clock = clock
        self._closes_sink = closes_sink
        self._command = command
        self._deadline: float | None = None
        self._wake = threading.Event()
        self._worker: Worker[None] = Worker(
            f"publish-{sink.name}", self._run, max_bytes=1, idle_s=0.0
        )
        self._is_running = False
        self._is_told = False
        self._has_no_thread = False
        self._starter: int | None = None
        # Re-entrant: on a thread that cannot be started, `_run` runs inside `wake`.
        self._lock = threading.RLock()

    @property
    def line(self) -> Line:
        """The line, made when it is first needed: before, a sink may not know its target yet."""
        with self._lock:
            self._line = self._line or self._line_to(self.sink)
            return self._line

    def add(self, episode: Episode) -> None:
        """Queue a film, and see to it that somebody looks."""
        self.line.add(episode)
        self.wake()

    def n_pending(self, *, unsure_from: int = UNSURE_FOR_GOOD) -> int:
        """Count what is still owed."""
        if self._line is None or not self._line.is_known:
            return 0
        return self._line.n_pending(unsure_from=unsure_from)

    def wake(self) -> None:
        """Look at the ledger now; starts the thread where none runs."""
        with self._lock:
            self._wake.set()
            self._line = self._line or self._line_to(self.sink)
            if not self._is_running and self._deadline is None:
                self._starter = threading.get_ident()
                self._is_running = self._worker.submit(None, 0, timeout_s=0)
                self._is_running = self._is_running and not self._has_no_thread

    def confirm_soon(self) -> None:
        """Have the sink asked now for what it was handed: somebody waits for the answer."""
        if self._line is None:  # to make it would be to ask the sink for its target too early
            return
        try:
            self._line.confirm_soon()
        except StoreError as error:
            logger.info("%s", error)
        with self._lock:
            self._wake.set()

    def begin_close(self, deadline: float) -> None:
        """Tell the thread to end, by then at the latest."""
        with self._lock:
            self._deadline = min(deadline, self._deadline or deadline)
            self._wake.set()
        self._hurry(True)

    def end_close(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        if self._has_no_thread and self._deadline is not None:
            self._has_no_thread = False
            self._work_until_closed()
        self._worker.close(timeout_s)
        if not self._is_running and self._closes_sink:
            self._close_sink()  # where nothing was ever announced, no thread did it

    def tell_rest(self) -> int:
        """Log in one line what is pending, once; return how much that is."""
        try:
            n_unsure = self.n_pending()
            n = self.n_pending(unsure_from=1)
        except StoreError as error:
            logger.warning("%s", error)
            return 1
        if n_unsure > n:
            logger.info(
                "handed over to %s, which cannot confirm it now: %d", self.line.label, n_unsure - n
            )
        if n and not self._is_told:
            self._is_told = True
            films = "1 film is" if n == 1 else f"{n} films are"
            if self.line.is_elsewhere():
                logger.info("%s left to the process that publishes to %s", films, self.line.label)
            else:
                logger.warning(
                    "%s not yet published to %s; this sends what is left: %s",
                    films, self.line.label, self._command(self.line.sink),
                )  # fmt: skip
        return n

    def _run(self, _item: None, _more: bool) -> None:
        if threading.get_ident() == self._starter:
            # The interpreter is ending and starts no threads: `close` does the work itself.
            self._has_no_thread = True
        else:
            self._work_until_closed()

    def _work_until_closed(self) -> None:
        """Go on until the publisher closes; the thread's whole life."""
        try:
            while self._deadline is None:
                self._wake.clear()
                mark = self.line.mark()
                self._rest(self._step(), mark)
            self._drain(self._deadline)
        finally:
            self._hurry(False)
            if self._closes_sink:
                self._close_sink()
            self.line.release()
            with self._lock:
                self._is_running = False

    def _step(self) -> float:
        try:
            return self.line.step()
        except Exception as error:  # noqa: BLE001 - a disk that is full now need not be so later
            self.line.give_up("ledger", error)
            return POLL_S

    def _rest(self, wait_s: float, mark: tuple[int, ...] | None) -> None:
        """Wait that long, but no longer than until somebody writes to the ledger or wakes us.

        A look at the file's facts takes the interpreter from the training once, one into the ledger
        a dozen times.
        """
        until = self._clock.monotonic() + wait_s
        # `begin_close` may have come between the last look at the deadline and `clear`.
        while self._deadline is None and (left_s := until - self._clock.monotonic()) > 0:
            if self._clock.wait(self._wake, min(left_s, POLL_S)):
                return
            if mark is None or self.line.mark() != mark:
                return

    def _drain(self, deadline: float) -> None:
        """Send what is due; end at the first failure, and do not wait for another process."""
        try:
            self.line.hurry()
            n_failures = self.line.n_failures
            closing_since: float | None = None
            while (now := self._clock.monotonic()) < deadline:
                wait_s = self._step()
                has_failed = self.line.is_paused or self.line.n_failures > n_failures
                if has_failed or not self.line.has_lock or not self.line.n_pending():
                    return
                if wait_s <= 0:
                    continue
                if not self.line.n_pending(State.QUEUED, State.SENDING):
                    closing_since = closing_since or now
                    # A place that cannot tell now will not be able to in a moment either.
                    can_tell = self.line.n_pending(unsure_from=1)
                    if now - closing_since >= (
                        CONFIRM_AT_CLOSE_S if can_tell else UNSURE_AT_CLOSE_S
                    ):
                        return
                elif self.line.backs_off_s() > CONFIRM_AT_CLOSE_S:
                    return
                self._clock.wait(_NEVER, min(wait_s, POLL_S, max(0.0, deadline - now)))
        except StoreError as error:
            logger.info("%s", error)

    def _hurry(self, is_closing: bool) -> None:
        hurry = getattr(self.sink, "hurry", None)
        try:
            if callable(hurry):
                hurry(is_closing)
        except Exception as error:  # noqa: BLE001 - a sink is another's code
            logger.info("hurrying %s: %s: %s", self.sink.name, type(error).__name__, error)

    def _close_sink(self) -> None:
        try:
            self.sink.close()
            if self._line is not None:
                # Some places only know when their run has ended.
                self._line.ask_handed()
        except BaseException as error:  # noqa: BLE001 - a sink is another's code
            logger.info("closing %s: %s: %s", self.sink.name, type(error).__name__, error)


def _as_store_error(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"films cannot be queued for their sinks: {error}")


def _close_at_exit() -> None:
    """Have every publisher of this process closed at its end, in children of multiprocessing too."""
    global _exit_pid
    if _exit_pid != os.getpid():
        _exit_pid = os.getpid()
        # After the recorders (10), whose last films are to be sent as well.
        multiprocessing.util.Finalize(None, _close_all, exitpriority=5)


def _close_all() -> None:
    for publisher in list(_LIVE):
        publisher.close(CLOSE_S)


def _forget_inherited() -> None:
    _LIVE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)

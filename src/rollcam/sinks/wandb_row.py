"""How a film gets into a W&B run that somebody else trains with: the row, and the guard around it.

wandb keeps one open row per run. A `log` that commits it, or that names a step, cuts the trainer's
row in two or makes wandb drop the trainer's later rows; a `log` that does neither can be overwritten
by the next film. See docs/decisions/0014-wandb.md for the rules that follow from it.
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from rollcam.episode import Scalar
from rollcam.errors import SinkError
from rollcam.publish.sink import Delivery
from rollcam.sinks.facts import step_of

PATIENCE_S = 20.0
"""A trainer that logged no longer than this ago is about to commit its row."""
HURRIED_S = 1.0
"""The same, when the films are the last ones and somebody waits for them."""
LANE_WAIT_S = 2.0
LOCK_TIMEOUT_S = 60.0
MAX_LANES = 16
"""Films that may ride in one open row; the first under `key`, the others under `key-2`, `key-3`."""
_POLL_S = 0.05
_ASK_S = 5.0
"""How often the step is asked for all the same: some log may have got past the watch."""
_LOOK_S = 0.25
"""How often it is looked whether a trainer has gone silent; its logs are noticed at once."""
_MAX_CONTEXT = 50
_MAX_NAME = 200
_UNSAFE = re.compile(r"[^\w.-]")


def row_facts(delivery: Delivery) -> dict[str, Scalar]:
    """Return what stands beside a film in its row, without the key's prefix."""
    episode = delivery.episode
    facts: dict[str, Scalar] = {
        "step": step_of(episode),
        "episode_id": episode.episode_id,
        "sha256": delivery.sha256,
        "name": episode.name[:_MAX_NAME],
        "return": episode.episode_return,
        "length": episode.episode_length,
        "seed": episode.seed,
        "fps": episode.fps,
        "episode": episode.episode_index,
        "mode": str(episode.mode),
    }
    context = episode.context_at_end or episode.context_at_start
    for name, value in list(context.items())[:_MAX_CONTEXT]:
        facts["context/" + _UNSAFE.sub("_", str(name))[:_MAX_NAME]] = value
    return {name: value for name, value in facts.items() if value is not None}


class RowGuard:
    """Puts films into one run's rows so that no row of the trainer and no film is lost.

    There is one for each run, however many sinks write to it.
    """

    def __init__(self, run: Any, *, is_ours: bool = False) -> None:
        self.run = weakref.proxy(run)
        self.patience_s = PATIENCE_S
        self._is_ours = is_ours
        self.is_hurried = False
        self._lock = threading.Lock()
        self._row_step = -1
        self._n_seen = -1
        self._asked_at = 0.0
        self._riding: set[str] = set()
        self._defined: set[str] = set()
        self._trainer = TrainerLog()
        if not is_ours:
            self._trainer.watch(run)

    def put(self, key: str, make_row: Callable[[str], Mapping[str, Any]]) -> str:
        """Log one film; return the prefix of its keys: `key`, or `key-2` beside another film.

        Args:
            key: The prefix wished for.
            make_row: Called with the prefix; returns the row.

        Raises:
            SinkError: The open row is full of films, and the trainer has not committed it.
        """
        if not self._lock.acquire(timeout=LOCK_TIMEOUT_S):
            raise SinkError("another film waits for the trainer's next row; tried again later")
        try:
            if self._commits_at_once():
                self._log(make_row(self._define(key)), commit=True)
                return key
            prefix = self._define(self._free_prefix(key))
            self._log(make_row(prefix), commit=False)
            # Read after the hand-over: the channel keeps the order, so the film's row is this one or
            # an earlier one.
            self._n_seen = self._trainer.n_said
            self._row_step = self.run.step
            self._riding.add(prefix)
            return prefix
        finally:
            self._lock.release()

    @property
    def has_riders(self) -> bool:
        """Whether films wait in the open row, as far as was seen."""
        return bool(self._riding)

    def settle(self) -> None:
        """Commit the row that films ride in, if that takes nothing from the trainer."""
        if self._riding and self._lock.acquire(timeout=LOCK_TIMEOUT_S):
            try:
                self._look()
            finally:
                self._lock.release()

    def _commits_at_once(self) -> bool:
        """Whether no row of the trainer can be hurt: our run, or rows that come from elsewhere."""
        from wandb import patched

        settings = self.run.settings
        # TensorBoard's rows arrive late and in batches, and would take a riding film's place.
        from_tensorboard = bool(patched["tensorboard"]) or bool(settings.sync_tensorboard)
        return self._is_ours or from_tensorboard or settings.mode == "shared"

    def _free_prefix(self, key: str) -> str:
        began = time.monotonic()
        while True:
            self._look()
            if key not in self._riding:
                return key
            if time.monotonic() - began > self._wait_s():
                break
            # At most that often: to ask wandb for the step takes turns of three threads.
            time.sleep(_POLL_S)
            self._trainer.wait(self._n_seen, _LOOK_S)
        for lane in range(2, MAX_LANES + 1):
            if f"{key}-{lane}" not in self._riding:
                return f"{key}-{lane}"
        raise SinkError(
            f"{MAX_LANES} films wait in the run's open row, which is the trainer's to commit; "
            "tried again later"
        )

    def _wait_s(self) -> float:
        if self._trainer.steps_by_itself:
            return self._patience_s() + _POLL_S
        return 0.0 if self.is_hurried else LANE_WAIT_S

    def _patience_s(self) -> float:
        return min(self.patience_s, HURRIED_S) if self.is_hurried else self.patience_s

    def _look(self) -> None:
        """Notice a commit of the trainer's; commit for one that has gone silent."""
        # Only a log can have committed the row.
        n_said = self._trainer.n_said
        is_new = n_said != self._n_seen or time.monotonic() - self._asked_at > _ASK_S
        if self._riding and (is_new or not self._trainer.is_watched):
            if self.run.step > self._row_step:
                self._riding.clear()
            self._n_seen, self._asked_at = n_said, time.monotonic()
        if self._riding and self._may_commit():
            self._log({}, commit=True)
            self._riding.clear()

    def _may_commit(self) -> bool:
        silent_s = self._trainer.silent_s()
        if self._trainer.steps_by_itself:
            return silent_s >= self._patience_s()
        if silent_s < self.patience_s:
            return False
        return not self._trainer.has_spoken and len(self._riding) >= MAX_LANES

    def _define(self, prefix: str) -> str:
        if prefix not in self._defined:
            self.run.define_metric(f"{prefix}/step", hidden=True)
            self.run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
            self._defined.add(prefix)
        return prefix

    def _log(self, row: Mapping[str, Any], *, commit: bool) -> None:
        with self._trainer.not_counted():
            self.run.log(dict(row), commit=commit)


class TrainerLog:
    """What is known of the trainer's own calls of `log`: only when and how, never what.

    wandb has no question for "is the open row empty", and a commit of ours into a row that is not
    would cost the trainer its next log at that step. So the calls are watched, by wrapping the one
    method of the run that all of them pass. Where wandb has it no longer, nothing is known, and
    nothing is ever committed in the trainer's stead.
    """

    def __init__(self) -> None:
        self.has_spoken = False
        """Whether the trainer has logged since we watch (or may have)."""
        self.is_watched = False
        """Whether the trainer's logs are seen."""
        self.n_said = 0
        """How many of them were."""
        self._names_steps = False
        self._is_open = False
        self._spoke = threading.Condition()
        self._spoke_at = time.monotonic()
        self._ours = threading.local()

    @property
    def steps_by_itself(self) -> bool:
        """Whether the trainer lets wandb count the rows, and has left none open."""
        return self.has_spoken and not self._names_steps and not self._is_open

    def silent_s(self) -> float:
        """Seconds since the trainer's last log; or since we watch."""
        return time.monotonic() - self._spoke_at

    def watch(self, run: Any) -> None:
        """Begin to watch; a run that cannot be watched counts as one whose rows are open."""
        interface: Any = getattr(run, "_interface", None)
        original = getattr(interface, "publish_partial_history", None)
        if original is None:
            self.has_spoken = self._names_steps = True
            return

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            finally:
                self._note(kwargs)

        interface.publish_partial_history = watched
        self.is_watched = True

    def wait(self, n_said: int, timeout_s: float) -> None:
        """Wait for the trainer to log again after `n_said` logs."""
        with self._spoke:
            if self.n_said == n_said:
                self._spoke.wait(timeout_s)

    def not_counted(self) -> _NotCounted:
        """Return a context in which this thread's logs are ours."""
        return _NotCounted(self._ours)

    def _note(self, arguments: Mapping[str, Any]) -> None:
        if getattr(self._ours, "here", False):
            return
        names_step = arguments.get("step") is not None
        commit = arguments.get("flush")
        self._names_steps |= names_step
        self._is_open = names_step if commit is None else not commit
        self._spoke_at = time.monotonic()
        self.has_spoken = True
        with self._spoke:
            self.n_said += 1
            self._spoke.notify_all()


class _NotCounted:
    def __init__(self, ours: threading.local) -> None:
        self._ours = ours

    def __enter__(self) -> None:
        self._ours.here = True

    def __exit__(self, *exc: object) -> None:
        self._ours.here = False


_guards: weakref.WeakKeyDictionary[Any, RowGuard] = weakref.WeakKeyDictionary()
_guards_lock = threading.Lock()


def guard_of(run: Any, *, is_ours: bool = False) -> RowGuard:
    """Return the guard of a run; sinks that write to the same run share it."""
    with _guards_lock:
        guard = _guards.get(run)
        if guard is None:
            guard = _guards[run] = RowGuard(run, is_ours=is_ours)
        return guard

"""The half that lives where the algorithm does: training state, folder, sinks, and the end."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from rollcam.capture.keep import KeepPolicy
from rollcam.episode import EpisodeCallback, new_id
from rollcam.errors import RecordingFailedWarning, RollcamError
from rollcam.follow import Follower
from rollcam.integrations._rllib_runner import FAILED_METRIC, flush, push
from rollcam.integrations._rllib_settings import UNKNOWN, Film
from rollcam.publish.sink import Sink
from rollcam.recovery import LivingRuns, recover
from rollcam.store import files
from rollcam.store.names import HIDDEN

logger = logging.getLogger("rollcam")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the trainer's process has to do."""

    session: str
    """Id of the user's `RollcamCallback`."""
    folder: str
    """The recordings folder, absolute."""
    film: Film
    resume: bool
    close_s: float
    metadata: Mapping[str, Any]
    sinks: Sequence[str | Sink] = ()
    keep: KeepPolicy | None = None
    max_bytes: int | None = None
    on_finished: EpisodeCallback | None = None


class Driver:
    """Follows the films of one trial, and tells its env runners where the training stands.

    RLlib has no hook before an iteration and none at the end, so `step` and `cleanup` of this one
    algorithm are wrapped. Nothing here raises but the constructor.

    Args:
        algorithm: The algorithm.
        plan: What to do.

    Raises:
        RollcamError: The folder cannot be written to, or a sink cannot work.
    """

    def __init__(self, algorithm: Any, plan: Plan) -> None:
        self.run_id = new_id()
        self._plan = plan
        self._said: set[str] = set()
        self._n_failed = 0
        self._is_stepping = False
        self._is_closed = False
        self._metadata = {
            "algorithm": type(algorithm).__name__,
            # Its name; what Tune calls the trial's id does not reach an Algorithm (Ray 2.60).
            "trial": Path(algorithm.logdir or "").name,
            **plan.metadata,
        }
        if not plan.resume:
            clear_once(Path(plan.folder), plan.session)
        self._follower = Follower(
            plan.folder, run_id=self.run_id, sinks=plan.sinks, keep=plan.keep,
            max_bytes=plan.max_bytes, on_finished=plan.on_finished,
        )  # fmt: skip
        self._algorithm = weakref.ref(algorithm)
        self._wrap(algorithm)
        # Registered after Ray's own, so it runs before: the runners can still be asked.
        atexit.register(self._at_exit)
        self.safely(lambda: self._push(algorithm, {}, everybody=True))

    def before_step(self) -> None:
        """Tell where the training stands to those who sample in the iteration that begins."""
        algorithm = self._algorithm()
        if algorithm is not None and self._plan.film != "eval":
            self._push(algorithm, {"state": self._state(algorithm)}, group="train")

    def evaluation_starts(self, algorithm: Any) -> None:
        """Tell it to those who evaluate."""
        told: dict[str, Any] = {"state": self._state(algorithm)}
        if algorithm.eval_env_runner_group is None:
            self._push(algorithm, {**told, "is_evaluating": True}, group="train")
        else:
            self._push(algorithm, told, group="eval")

    def evaluation_ends(self, algorithm: Any) -> None:
        """The local runner trains again."""
        if algorithm.eval_env_runner_group is None:
            self._push(algorithm, {"is_evaluating": False}, group="train")

    def runners_recreated(self, algorithm: Any, group: Any) -> None:
        """Tell new env runners what the old ones knew, and save what these left."""
        self._push_to(group, {"state": self._state(algorithm)})
        self._follower.recover_soon()

    def add_metrics(self, result: dict[str, Any]) -> None:
        """Write into a result how the filming goes; warn, once, when it does not go well."""
        self._follower.look_soon()
        for results in (result, result.get("evaluation") or {}):
            n = (results.get("env_runners") or {}).pop(FAILED_METRIC, 0)
            self._n_failed += 0 if n != n else int(n)  # NaN: nothing was logged this time
        tally = self._follower.tally
        failed = tally.failed + self._n_failed
        result["rollcam"] = {
            "recorded": tally.recorded,
            "failed": failed,
            "dropped_frames": tally.dropped_frames,
        }
        self._tell_problems()
        if self._n_failed:
            self._warn(
                "runners",
                "env runners could not film some episodes, and training goes on; their logs say "
                "why (filming failed, ...)",
            )
        if tally.dropped_frames:
            self._warn("dropped", "frames were dropped; the films' sidecars say how many")

    def close(self) -> None:
        """Take in the last films, and publish what can be published in time."""
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self._at_exit)
        self._follower.close(self._plan.close_s)
        self._tell_problems()

    def safely(self, act: Callable[[], None]) -> None:
        """Do it; an error is warned of once, and training goes on."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - filming must not stop the training
            try:
                self._warn(type(error).__name__, f"filming: {type(error).__name__}: {error}")
            except Exception:  # noqa: BLE001 - where warnings are errors
                logger.warning("filming: %s", error)

    def _wrap(self, algorithm: Any) -> None:
        step, cleanup = self._unbound(algorithm, "step"), self._unbound(algorithm, "cleanup")

        @functools.wraps(step)
        def step_with_films(*args: Any, **kwargs: Any) -> Any:
            self._is_stepping = True
            self.safely(self.before_step)
            try:
                return step(*args, **kwargs)
            finally:
                self._is_stepping = False

        @functools.wraps(cleanup)
        def cleanup_with_films(*args: Any, **kwargs: Any) -> Any:
            try:
                return cleanup(*args, **kwargs)
            finally:
                self.safely(self.close)

        algorithm.step = step_with_films
        algorithm.cleanup = cleanup_with_films

    def _unbound(self, algorithm: Any, name: str) -> Callable[..., Any]:
        """Return a method that does not keep the algorithm alive; another driver's, if one was here."""
        method: Callable[..., Any] | None = vars(algorithm).get(name)
        if method is not None:
            return method
        own, reference = getattr(type(algorithm), name), self._algorithm

        @functools.wraps(own)
        def call(*args: Any, **kwargs: Any) -> Any:
            return own(reference(), *args, **kwargs)

        return call

    def _state(self, algorithm: Any) -> dict[str, Any]:
        """Return where the training stands, as far as it is known."""
        iteration = int(algorithm.iteration)
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        try:
            steps: Any = int(algorithm.metrics.peek(key, default=-1))
        except Exception:  # noqa: BLE001 - asked while another thread trains
            steps = UNKNOWN
        if steps == -1:
            # Nothing was sampled yet, and nothing is known of what was before a restore.
            steps = 0 if iteration == 0 else UNKNOWN
        return {"iteration": iteration + self._is_stepping, "steps": steps}

    def _push(
        self, algorithm: Any, told: dict[str, Any], *, group: str = "", everybody: bool = False
    ) -> None:
        if group == "train" or everybody:
            self._push_to(algorithm.env_runner_group, told)
        if group == "eval" or everybody:
            self._push_to(algorithm.eval_env_runner_group, told)

    def _push_to(self, group: Any, told: dict[str, Any]) -> None:
        """Send it, and do not wait: a runner does it before what it is told next."""
        if group is None:
            return
        whole = {"run_id": self.run_id, "metadata": self._metadata, **told}
        act = functools.partial(push, session=self._plan.session, told=whole)
        group.foreach_env_runner(act, local_env_runner=True, timeout_seconds=0.0)

    def _at_exit(self) -> None:
        """The script ends, and nobody called `algo.stop()`: what is open is finished first."""
        deadline = time.monotonic() + self._plan.close_s
        self.safely(lambda: self._flush_runners(deadline))
        self.safely(self.close)

    def _flush_runners(self, deadline: float) -> None:
        algorithm = self._algorithm()
        if algorithm is None:
            return
        for name in ("env_runner_group", "eval_env_runner_group"):
            group = getattr(algorithm, name, None)
            if group is None:
                continue
            left = max(0.1, deadline - time.monotonic())
            act = functools.partial(flush, session=self._plan.session, timeout_s=left)
            if ray.is_initialized():
                group.foreach_env_runner(act, local_env_runner=True, timeout_seconds=left)
            elif group.local_env_runner is not None:
                act(group.local_env_runner)

    def _tell_problems(self) -> None:
        problems = self._follower.problems
        while problems:
            cause, error = problems.popleft()
            self._warn(cause, f"filming ({cause}): {type(error).__name__}: {error}")

    def _warn(self, cause: str, message: str) -> None:
        if cause not in self._said:
            self._said.add(cause)
            warnings.warn(message, RecordingFailedWarning, stacklevel=4)


def clear_once(folder: Path, session: str) -> None:
    """Clear a folder of what Rollcam recorded there; once, however many trials come by.

    Args:
        folder: The recordings folder.
        session: Id of the user's `RollcamCallback`: all trials of one experiment have the same.

    Raises:
        OSError: Nothing can be written there.
        RollcamError: The folder cannot be read.
    """
    corner = folder / HIDDEN
    corner.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(corner / f"cleared-{session}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    try:
        recover(folder)  # what the dead left is theirs, and goes as well
    except RollcamError as error:
        logger.info("%s", error)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        files.clear(folder, spare=LivingRuns(folder))
    for warning in told:
        logger.warning("%s", warning.message)
    _forget_old_marks(corner, session)


def _forget_old_marks(corner: Path, session: str) -> None:
    for mark in corner.glob("cleared-*"):
        try:
            # The trials of another experiment may still be starting.
            if mark.name != f"cleared-{session}" and time.time() - mark.stat().st_mtime > 7 * 86400:
                mark.unlink()
        except OSError:
            continue

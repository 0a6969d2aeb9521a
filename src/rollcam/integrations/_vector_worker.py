"""Recording inside the children of an `AsyncVectorEnv`: no frame crosses a pipe.

`ChildRecorder` lives in a child, around its environment, and sees each reset and step as it happens.
`InWorkers` is its parent's end. The trainer's counters go over a `Board`, a small file that all of them
have mapped into their memory: telling them costs no message, however often they change.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollcam._context import Board
from rollcam.episode import Context, Scalar, scalars_of
from rollcam.errors import RecordingFailedWarning, RollcamWarning, SettingError
from rollcam.integrations._vector_films import EnvFilms, Plan
from rollcam.integrations._vector_tap import Answer, Hooks, answered, plainly_about
from rollcam.recorder import CLOSE_S, Recorder

if TYPE_CHECKING:
    from rollcam.integrations._vector_children import Children
    from rollcam.integrations._vector_layouts import VectorStep

logger = logging.getLogger("rollcam")

TERMINATE_S = 5.0
"""How long the films of children that are to be terminated may take to be finished, in seconds."""


class ChildRecorder:
    """Films the environment of one worker, in the worker's own process.

    Args:
        env: The worker's environment; its `reset`, `step` and `close` are watched.
        index: Of the sub-environment.
        payload: `plan`, `recorder` (keyword arguments), `board` (path), `mode`, `raises`, as
            cloudpickle.
    """

    def __init__(self, env: Any, *, index: int, payload: bytes) -> None:
        import cloudpickle  # type: ignore[import-untyped]

        given: dict[str, Any] = cloudpickle.loads(payload)
        self._env = env
        self._mode: str = given["mode"]
        self._raises: bool = given["raises"]
        self._step_id = -1
        self._has_stepped = True
        board = Board(given["board"])
        board.read()  # the parent removes its name as soon as everybody has it open
        self._recorder = Recorder(
            context=board.read,
            worker=f"env-{index}",
            **plainly_about(env),
            **given["recorder"],
        )
        plan: Plan = given["plan"]
        self._films = EnvFilms(self._recorder.camera(vector_index=index), index, plan)
        self._real_step, self._real_reset, self._real_close = env.step, env.reset, env.close
        hooks = Hooks(env)
        hooks.put("step", self._step)
        hooks.put("reset", self._reset)
        hooks.put("close", self._close)

    def __call__(self, verb: str, *args: Any) -> Answer:
        """Do what the parent asks for; called by the worker's loop."""
        verbs: dict[str, Callable[..., Any]] = {
            "hello": lambda: plainly_about(self._env),
            "start": lambda name: self._films.begin(self._films.by_env(name), self._step_id),
            "stop": self._stop,
            "close": self._recorder.close,
        }
        return answered(verbs[verb], args)

    def _stop(self) -> None:
        self._films.end()
        self._recorder.flush()

    def _step(self, action: Any) -> Any:
        result = self._real_step(action)
        with self._guarded():
            self._film_step(action, *result)
        return result

    def _reset(self, **options: Any) -> Any:
        result = self._real_reset(**options)
        with self._guarded():
            self._film_reset(options)
        return result

    def _close(self) -> None:
        try:
            with self._guarded():
                self._recorder.close()
        finally:
            self._real_close()

    def _film_step(
        self, action: Any, _obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any
    ) -> None:
        self._step_id += 1
        self._has_stepped = True
        if not (self._mode == "SAME_STEP" and (terminated or truncated)):
            self._films.next_step(self._step_id)  # otherwise after the reset that follows
        self._films.add(
            self._env.render,
            reward=reward,
            action=action,
            info=info,
            terminated=bool(terminated),
            truncated=bool(truncated),
        )

    def _film_reset(self, options: Mapping[str, Any]) -> None:
        # The worker resets an episode that has ended without a word about seed and options.
        is_autoreset = not options
        if is_autoreset and not self._has_stepped:
            return  # Gymnasium without shared memory resets once more after a reset by hand
        self._has_stepped = False
        if is_autoreset and self._mode == "NEXT_STEP":
            self._step_id += 1
        self._films.next_episode(options.get("seed"), self._step_id)
        if is_autoreset:
            self._films.next_step(self._step_id)
        self._films.add(self._env.render, is_reset=True)

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        """What goes wrong with a film must not end the worker."""
        try:
            yield
        except Exception as error:
            if self._raises:
                raise
            logger.warning(
                "sub-environment %d: %s: %s", self._films.index, type(error).__name__, error
            )


class InWorkers:
    """The parent's end of the recorders in its children.

    Args:
        children: The children that are filmed.
        recorder: Keyword arguments of their recorders.
        plan: What is filmed.
        context: The trainer's counters; a callable is asked here, before each step.
        mode: Name of the autoreset mode.

    Raises:
        SettingError: Something cannot be sent, a recorder cannot be made, or a worker does not let it
            in.
    """

    is_filming = False
    """The children know."""
    n_frames = 0
    """The children know."""

    def __init__(
        self,
        children: Children,
        recorder: Mapping[str, Any],
        plan: Plan,
        context: Context | Callable[[], Context] | None,
        mode: str,
    ) -> None:
        self._children = children
        self._context = context
        self._told: dict[str, Any] = {}
        self._written: dict[str, Scalar] | None = None
        self._said: set[str] = set()
        path = Path(tempfile.gettempdir()) / f"rollcam-context-{secrets.token_hex(16)}"
        self._board = Board(path)
        try:
            self._tell()
            payload = _pickled(
                {
                    "recorder": dict(recorder),
                    "plan": plan,
                    "board": path,
                    "mode": mode,
                    "raises": recorder["on_error"] == "raise",
                }
            )
            settings = {i: {"index": i, "payload": payload} for i in children.indices}
            answers = children.install(ChildRecorder, settings)
            refused = [f"{i}: {told}" for i, (is_fine, told) in answers.items() if not is_fine]
            if refused:
                raise SettingError(
                    f"no recorder could be put into the workers ({'; '.join(refused)}); "
                    f'record_in="parent" films without one'
                )
        finally:
            # Whoever has it open keeps it. (Windows does not allow that; then it goes with `close`.)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def set_context(self, **values: Any) -> None:
        """Add counters, or change them; the children see them at once."""
        self._told.update(values)
        self._tell()

    def before(self) -> None:
        """Ask for the counters, where they come from a callable."""
        if callable(self._context):
            self._tell()

    def after_reset(self, mask: Any, seeds: Any, step_id: int) -> None:
        """Do nothing: the children have seen it."""

    def after_step(self, step: VectorStep) -> None:
        """Do nothing: the children have seen it."""

    def start(self, name: str, step_id: int) -> None:
        """Begin a film in every child."""
        self._ask("start", name)

    def stop(self) -> None:
        """End the open films, and wait for their files."""
        self._ask("stop")

    def close(self, *, is_terminating: bool = False) -> None:
        """Finish the films while the children still listen."""
        self._ask("close", timeout_s=TERMINATE_S if is_terminating else CLOSE_S)
        self._board.remove()

    def _ask(self, verb: str, *args: Any, timeout_s: float = CLOSE_S) -> None:
        if not self._children.is_idle:
            return
        asked = dict.fromkeys(self._children.indices, (verb, *args))
        for index, (is_fine, told) in self._children.ask(asked, timeout_s).items():
            if not is_fine:
                warnings.warn(
                    f"the recorder of sub-environment {index} did not {verb}: {told}",
                    RecordingFailedWarning,
                    stacklevel=4,
                )

    def _tell(self) -> None:
        try:
            given = self._context() if callable(self._context) else self._context
            values = scalars_of({**(given or {}), **self._told})
            if values != self._written:
                self._board.write(values)
                self._written = values
        except Exception as error:  # noqa: BLE001 - counters must not stop the training
            self._warn("context", f"the trainer's counters do not reach the children: {error}")

    def _warn(self, cause: str, message: str) -> None:
        if cause not in self._said:
            self._said.add(cause)
            warnings.warn(message, RollcamWarning, stacklevel=5)


def _pickled(given: dict[str, Any]) -> bytes:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(given)
    except Exception as error:
        raise SettingError(
            f'record_in="workers" sends triggers, callbacks and metadata to the children, and one of '
            f"them cannot be sent: {error}"
        ) from error
    return data

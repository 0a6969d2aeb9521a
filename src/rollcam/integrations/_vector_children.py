"""The children of an `AsyncVectorEnv`, spoken to one by one in the protocol of its worker."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState

from rollcam.integrations._vector_tap import NOT_INSTALLED, Answer, Installer

ANSWER_S = 30.0
"""How long the children may take for an answer (a frame, as a rule), in seconds."""


class Children:
    """Some of the children of an `AsyncVectorEnv`.

    They are spoken to only while no call of the vector environment is under way. An answer that comes
    too late is thrown away when it comes, so that it is never taken for the answer to a step.

    Args:
        env: The base environment.
        indices: The children that are spoken to.
    """

    not_installed = NOT_INSTALLED
    """What a worker looks up, and may call with `"hello"`, where nothing could be installed."""

    def __init__(self, env: AsyncVectorEnv[Any, Any] | Any, indices: Sequence[int]) -> None:
        self.indices = tuple(indices)
        self._env: Any = env
        # One name for each recorder: a vector environment may be wrapped twice.
        self._name = f"rollcam_{secrets.token_hex(8)}"

    @property
    def is_idle(self) -> bool:
        """Whether the children wait for a message: no call of the vector environment is under way."""
        return not self._env.closed and self._env._state is AsyncState.DEFAULT

    def install(
        self, make: Callable[..., Any], settings: Mapping[int, dict[str, Any]]
    ) -> dict[int, Answer]:
        """Make something in each child, from its environment.

        Args:
            make: Importable by name. What it returns is called with whatever `ask` asks, and answers
                with an `Answer`.
            settings: Keyword arguments of `make`, for each child.

        Returns:
            Each child's answer to `hello`.
        """
        names = {
            i: Installer(self._name, make, settings[i], self.not_installed) for i in self.indices
        }
        answers = self._call({i: (name, ("hello",)) for i, name in names.items()}, ANSWER_S)
        return {i: _checked(answer, _NO_ENV) for i, answer in answers.items()}

    def ask(
        self, asked: Mapping[int, tuple[Any, ...]], timeout_s: float | None = None
    ) -> dict[int, Answer]:
        """Call what was installed, in several children at once.

        Args:
            asked: Arguments of the call, for each child.
            timeout_s: Limit of the wait for all the answers, in seconds; default `ANSWER_S`.
        """
        limit_s = ANSWER_S if timeout_s is None else timeout_s
        answers = self._call({i: (self._name, args) for i, args in asked.items()}, limit_s)
        return {i: _checked(answer, _NO_ANSWER) for i, answer in answers.items()}

    def render(self, indices: Collection[int]) -> dict[int, Answer]:
        """Call `render` where nothing could be installed."""
        return self._call(dict.fromkeys(indices, ("render", ())), ANSWER_S)

    def _call(
        self, messages: Mapping[int, tuple[Any, tuple[Any, ...]]], timeout_s: float
    ) -> dict[int, Answer]:
        if not self.is_idle:
            why = "the vector environment is closed, or a call of it is under way"
            return dict.fromkeys(messages, (False, why))
        answers: dict[int, Answer] = {}
        waiting: dict[int, Any] = {}
        deadline = time.monotonic() + timeout_s
        try:
            for index, (name, args) in messages.items():
                pipe: Any = self._pipe(index)
                try:
                    pipe.send(self._message(name, args))
                    waiting[index] = pipe
                except (OSError, AttributeError) as error:  # Gymnasium puts None for a dead one
                    answers[index] = (False, f"its process has ended ({type(error).__name__})")
            for index, pipe in list(waiting.items()):
                answers[index] = self._received(pipe, deadline)
                if answers[index] is not _TOO_LATE:
                    del waiting[index]
        finally:
            # After Ctrl-C, too: the answer is on its way.
            for index, pipe in waiting.items():
                self._put_pipe(index, LateAnswers.expected(pipe))
        return answers

    def _received(self, pipe: Any, deadline: float) -> Answer:
        try:
            if not pipe.poll(_left(deadline)):
                return _TOO_LATE
            value, is_alive = self._opened(pipe.recv())
        except (EOFError, OSError) as error:
            return False, f"its process has ended ({type(error).__name__})"
        except Exception as error:  # noqa: BLE001 - what cannot be unpickled was read to its end
            return False, f"its answer cannot be read: {type(error).__name__}: {error}"
        return (True, value) if is_alive else (False, "its worker ended with an error")

    # The protocol of the worker; other vector environments have others.

    def _pipe(self, index: int) -> Any:
        return self._env.parent_pipes[index]

    def _put_pipe(self, index: int, pipe: Any) -> None:
        self._env.parent_pipes[index] = pipe

    def _message(self, name: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return ("_call", (name, args, {}))

    def _opened(self, answer: Any) -> tuple[Any, bool]:
        """Return the value of an answer, and whether the worker lives."""
        value, is_alive = answer
        return value, is_alive


class LateAnswers:
    """A pipe whose next messages nobody waits for any more: they are thrown away as they come.

    Args:
        pipe: The pipe to a child.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._n_due = 0

    @classmethod
    def expected(cls, pipe: Any) -> LateAnswers:
        """Return the pipe with one more message to throw away."""
        late = pipe if isinstance(pipe, cls) else cls(pipe)
        late._n_due += 1
        return late

    def recv(self) -> Any:
        """Wait for the next message that somebody waits for."""
        while self._n_due:
            self._pipe.recv()
            self._n_due -= 1
        return self._pipe.recv()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Say whether such a message has come, or comes within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._n_due:
            if not self._pipe.poll(_left(deadline)):
                return False
            self._pipe.recv()
            self._n_due -= 1
        return bool(self._pipe.poll(_left(deadline)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


_NO_ENV = "its worker keeps its environment where Rollcam does not find it"
_NO_ANSWER = "something else answered: a call of the vector environment had failed before"
_TOO_LATE: Answer = (False, "no answer in time")


def _checked(answer: Answer, otherwise: str) -> Answer:
    """Return what was installed answered; where something else answered, the reason is `otherwise`."""
    is_fine, value = answer
    if not is_fine:
        return answer
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], bool):
        return value
    return False, otherwise


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())

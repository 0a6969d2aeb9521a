"""What the training thread is told of everything that went wrong or was mended: once each."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from rollcam._engine import Engine
from rollcam.errors import (
    FrameMendedWarning,
    NameTakenWarning,
    RecordingFailedWarning,
    RollcamWarning,
)

_T = TypeVar("_T")

_OTHER_CAUSES: dict[str, tuple[str, type[RollcamWarning]]] = {
    "context": ("the context callable failed, its counters are missing", RollcamWarning),
    "recovery": ("what a dead process left could not be finished", RollcamWarning),
    "keep": ("the keep policy failed, and the film stays", RollcamWarning),
    "bad name": ("a film cannot have its name, its id stands for it", RollcamWarning),
    "delete": ("a film that was not to be kept could not be deleted", RollcamWarning),
    "on_finished": ("on_finished failed, and the film is in its place", RollcamWarning),
}
"""What is said of problems that cost no film."""


class Reporter:
    """Warns, one warning for each cause, or raises.

    Args:
        raises: Raise errors instead of warning of them.
    """

    def __init__(self, *, raises: bool) -> None:
        self.raises = raises
        self.unpublished: deque[tuple[str, Exception]] = deque()
        """What kept films from being published. Warned of, never raised: they are sent again."""
        self._said: set[str] = set()
        self._due: dict[str, tuple[str, type[Warning]]] = {}
        # By identity, and held so that no other error can get the same one.
        self._raised: dict[int, Exception] = {}

    def raised(self, error: Exception) -> None:
        """Remember an error that was raised elsewhere."""
        self._raised[id(error)] = error

    def has_news(self, engine: Engine) -> bool:
        """Say whether there may be something to tell."""
        return bool(
            self._due
            or engine.problems
            or engine.renamed
            or self.unpublished
            or engine.context.error is not None
        )

    def report(self, engine: Engine) -> None:
        """Say what went wrong in `engine` since the last call.

        Called on the training thread; on several, where cameras have threads of their own.
        """
        for cause, (message, category) in _drained(self._due.popitem):
            self.warn(cause, message, category)
        for wanted, given in _drained(engine.renamed.popleft):
            where = engine.folder.root if engine.folder else "the folder"
            self.warn(
                "name",
                f"the name {wanted!r} is taken in {where}; the new film is {given!r}",
                NameTakenWarning,
            )
        context = engine.context
        for take in list(engine.takes):
            error = take.error or take.film.error
            if error is not None:
                self.failed(type(error).__name__, error)
        if context.error is not None:
            error, context.error = context.error, None
            self.failed("context", error)
        for cause, error in _drained(engine.problems.popleft):
            self.failed(cause, error)
        for cause, error in _drained(self.unpublished.popleft):
            what = "a film was not published, and training goes on"
            self.warn(cause, f"{what}: {type(error).__name__}: {error}", RollcamWarning)

    def failed(self, cause: str, error: Exception) -> None:
        """Warn of an error, or raise it."""
        if self.raises:
            if id(error) not in self._raised:
                self._raised[id(error)] = error
                raise error
            return
        what, category = _OTHER_CAUSES.get(
            cause, ("a recording failed and training goes on", RecordingFailedWarning)
        )
        self.warn(cause, f"{what}: {type(error).__name__}: {error}", category)

    def mended(self, cause: str, message: str) -> None:
        """Warn, at the next `report`, that frames are mended."""
        self.later(f"mended:{cause}", message, FrameMendedWarning)

    def later(self, cause: str, message: str, category: type[Warning]) -> None:
        """Warn at the next `report`.

        Where warnings are errors, one that came in the middle of a frame would cost that frame.
        """
        if cause not in self._said:
            self._due[cause] = (message, category)

    def warn(self, cause: str, message: str, category: type[Warning]) -> None:
        """Warn, unless this cause was said before."""
        if cause not in self._said:
            self._said.add(cause)
            warnings.warn(message, category, stacklevel=6)


def _drained(pop: Callable[[], _T]) -> Iterator[_T]:
    """Yield what `pop` gives until it says that nothing is left: to look first would be to race."""
    while True:
        try:
            given = pop()
        except LookupError:
            return
        yield given

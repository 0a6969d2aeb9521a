"""What the training thread does with each frame: take it from its owner, and hand it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rollcam._engine import Engine
from rollcam._report import Reporter
from rollcam._take import Take
from rollcam.capture.frames import FrameTaker, Taken
from rollcam.errors import DroppedFramesWarning


@dataclass(frozen=True, slots=True)
class Step:
    """The step of the environment that led to a frame; all `None` for the frame of `reset`."""

    reward: Any
    """What it gave."""
    action: Any
    """What was done."""
    info: Mapping[str, Any] | None
    """What the environment said of it."""
    is_reset: bool = False
    """There was no step: the frame is that of a reset."""


class Intake:
    """Takes frames on the training thread; what goes wrong costs the film, never the training.

    Args:
        engine: Gets the frames.
        reporter: Is told what was mended, dropped or went wrong.
    """

    def __init__(self, engine: Engine, reporter: Reporter) -> None:
        self._engine = engine
        self._reporter = reporter
        self._taker = FrameTaker(engine.pool, reporter.mended)

    def record(self, take: Take, get: Callable[[], tuple[Any, bool]], step: Step) -> bool:
        """Count a step and take its frame.

        Args:
            take: The open episode.
            get: Returns the frame, and whether nobody else holds it; not called any more once the
                film has failed.
            step: What led to the frame.

        Returns:
            Whether the frame was taken.
        """
        is_first = take.n_captured == 0 and take.n_steps == 0
        if not step.is_reset and not (is_first and step.reward is None and step.action is None):
            take.step(step.reward, step.info)
        if take.error is not None or take.film.error is not None:
            return False
        try:
            return self._take_frame(take, get, step)
        except Exception as error:
            take.error = error
            if self._reporter.raises:
                self._reporter.raised(error)
                raise
            return False

    def _take_frame(self, take: Take, get: Callable[[], tuple[Any, bool]], step: Step) -> bool:
        raw, is_unshared = get()
        # Handed over at once it is copied into shared memory, and no other copy is needed.
        is_lent = not is_unshared and self._engine.hands_over(take)
        frame = self._taker.take(raw, is_unshared=is_unshared or is_lent)
        if frame is None:
            return False
        if isinstance(frame, Taken):
            self._check_size(take, frame)
        taken = self._engine.add(take, frame, take.row(step.action, step.info), is_lent=is_lent)
        if not taken:
            self._reporter.later(
                "dropped",
                f"frames of {take.facts.name} come faster than they are encoded and were dropped; "
                f"the sidecar says how many",
                DroppedFramesWarning,
            )
        return taken

    def _check_size(self, take: Take, frame: Taken) -> None:
        size = (frame.layout.height, frame.layout.width)
        take.size = take.size or size
        if size != take.size:
            self._reporter.mended(
                "size",
                f"frames changed their size from {take.size} to {size} (height, width) within an "
                f"episode and are fitted into the first size",
            )

"""The short way of a frame into the process that encodes, while all is as it was for the one before.

The training thread comes here with each frame, and finds its caches swept by the rendering: every line
of Python that it runs then costs three times what it costs in a loop. So nothing is done here but to
look whether all is as it was, to count the step, and to copy the picture. Whatever is not as it was
takes the ordinary way, which knows what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rollcam._context import ContextSource
from rollcam._take import Take
from rollcam.darkroom.room import RemoteEncoder

_UINT8 = np.dtype(np.uint8)


class Chute:
    """Takes the frames of one film that are like the one before.

    Args:
        take: The open episode; its last frame was handed over.
        encoder: Who got it.
        context: The trainer's counters.
    """

    def __init__(self, take: Take, encoder: RemoteEncoder, context: ContextSource) -> None:
        self._take = take
        self._encoder = encoder
        self._context = context
        self._shape = encoder.shape

    @property
    def is_blocked(self) -> bool:
        """Whether it leads nowhere: the process is gone, or is the parent's."""
        return self._encoder.is_lost

    def take(self, raw: Any, reward: Any, action: Any, info: Mapping[str, Any] | None) -> bool:
        """Take a frame, if it can be taken like the one before and at once; say whether it was.

        Args:
            raw: Whatever `render` returned; still the caller's.
            reward: Of the step that led to it.
            action: Of that step.
            info: Of that step.
        """
        take = self._take
        is_alike = (
            type(raw) is np.ndarray
            and raw.shape == self._shape
            and raw.dtype == _UINT8
            and not take.is_over
            and not take.unlogged
            and self._context.version == take.context_version
        )
        if not is_alike:
            return False
        before = take.n_steps, take.final_info, take.episode_return, take.pending_reward
        take.step(reward, info)
        index, row = take.n_captured, take.row(action, info)
        # Before it goes: whatever interrupts this thread in between, no number is given twice.
        take.keep(row)
        take.film.n_frames += 1
        if self._encoder.hand_on(raw, index, row):
            return True
        take.film.n_frames -= 1
        take.unkeep()
        take.n_steps, take.final_info, take.episode_return, take.pending_reward = before
        return False

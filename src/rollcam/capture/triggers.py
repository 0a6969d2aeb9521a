"""Triggers decide, before an episode or a step, whether it is filmed: any `int -> bool` will do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from rollcam.errors import SettingError

Trigger: TypeAlias = Callable[[int], bool]


def capped_cubic(index: int) -> bool:
    """Film the episodes 0, 1, 8, 27, ... 729, then every 1000th: Gymnasium's default.

    Args:
        index: Number of the episode, from 0.
    """
    if index < 1000:
        root: int = round(index ** (1 / 3))
        return root * root * root == index
    return index % 1000 == 0


def every(n: int) -> Trigger:
    """Film every `n`-th episode (or step), beginning with number 0.

    Args:
        n: At least 1.

    Raises:
        SettingError: `n` is no whole number of at least 1.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise SettingError(f"every(n) takes a whole number of at least 1, not {n!r}")
    return lambda index: index % n == 0


class OnDemand:
    """A trigger that films only what was asked for; made by `on_demand`."""

    def __init__(self) -> None:
        self._wanted = 0
        self._lock = threading.Lock()

    def request(self, n: int = 1) -> None:
        """Film the next `n` episodes. May be called from any thread."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise SettingError(f"request(n) takes a whole number of at least 1, not {n!r}")
        with self._lock:
            self._wanted += n

    def __call__(self, index: int) -> bool:
        """Say whether the episode is wanted, and count it off."""
        with self._lock:
            if self._wanted == 0:
                return False
            self._wanted -= 1
            return True

    def __copy__(self) -> OnDemand:
        """Return itself: Gymnasium copies a wrapper's arguments, and requests must reach them all."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDemand:
        """Return itself, as `copy.copy` does."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: in another process nobody could ask the copy for anything."""
        raise TypeError(
            "an on_demand trigger cannot be sent to another process, where request() would not "
            "reach it; call on_demand() in the process that records"
        )


def on_demand() -> OnDemand:
    """Return a trigger whose `request()` asks for the next episode to be filmed."""
    return OnDemand()

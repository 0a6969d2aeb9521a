"""Keep policies decide, after an episode, which films stay: what is not kept leaves no media.

A policy is a callable on the finished `Episode`. It may answer with a bool (keep this one or not),
or with the episodes that have to go, earlier ones included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

from rollcam.episode import Episode, has_failed
from rollcam.errors import SettingError

KeepPolicy: TypeAlias = Callable[[Episode], "bool | Iterable[Episode]"]


def keep_all(episode: Episode) -> bool:
    """Keep every film."""
    return True


def keep_failures(
    episode: Episode | None = None, *, is_failure: Callable[[Episode], bool] | None = None
) -> bool | KeepPolicy:
    """Keep the films of failed episodes: `keep=keep_failures` or `keep=keep_failures()`.

    Args:
        episode: The finished episode, when used as the policy itself.
        is_failure: Judges an episode. Without it, `is_success` or `success` in the last `info`
            decides; where neither stands, an episode failed when the environment terminated it and
            its return is not above 0.
    """
    judge = is_failure or has_failed
    return judge if episode is None else judge(episode)


def keep_best(k: int) -> KeepPolicy:
    """Keep the `k` films of highest return; on equal returns the newer one goes."""
    return _Ranked(k, lambda episode: _return_or(episode, -math.inf), "keep_best")


def keep_worst(k: int) -> KeepPolicy:
    """Keep the `k` films of lowest return; on equal returns the newer one goes."""
    return _Ranked(k, lambda episode: -_return_or(episode, math.inf), "keep_worst")


def keep_last(k: int) -> KeepPolicy:
    """Keep the `k` newest films."""
    return _Ranked(k, None, "keep_last")


def rejected(policy: KeepPolicy, episode: Episode) -> list[Episode]:
    """Ask `policy` about `episode`; return the episodes whose films have to go."""
    answer = policy(episode)
    if isinstance(answer, Iterable):
        losers = list(answer)
        if not all(isinstance(loser, Episode) for loser in losers):
            raise SettingError(
                f"a keep policy answers with True, False, or the episodes that have to go, "
                f"not {answer!r}"
            )
        return losers
    if answer is None:
        raise SettingError("a keep policy answered None; does it lack a return?")
    return [] if answer else [episode]


def _return_or(episode: Episode, otherwise: float) -> float:
    value = episode.episode_return
    return otherwise if value is None or math.isnan(value) else value


class _Ranked:
    """Keeps the `k` episodes of highest score; without a score, the newest."""

    def __init__(self, k: int, score: Callable[[Episode], float] | None, name: str) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise SettingError(f"{name}(k) takes a whole number of at least 1, not {k!r}")
        self._k = k
        self._score = score
        self._kept: list[Episode] = []

    def __call__(self, episode: Episode) -> list[Episode]:
        self._kept.append(episode)
        if len(self._kept) <= self._k:
            return []
        if self._score is None:
            loser = self._kept[0]
        else:
            lowest = min(map(self._score, self._kept))
            loser = [kept for kept in self._kept if self._score(kept) == lowest][-1]
        self._kept.remove(loser)
        return [loser]

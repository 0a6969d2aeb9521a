"""Which episodes have to go: rules over episodes, that touch no file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rollcam.episode import Episode, EpisodeStatus, has_failed
from rollcam.errors import SettingError


@dataclass(frozen=True, slots=True)
class Rules:
    """What stays.

    Raises:
        SettingError: A number is below 1, or there is no rule at all.
    """

    keep_last: int | None = None
    """So many of the newest."""
    keep_best: int | None = None
    """So many of highest return; on equal returns the older ones."""
    keep_worst: int | None = None
    """So many of lowest return; on equal returns the older ones."""
    keep_failures: bool = False
    """Those that failed, as `rollcam.keep_failures` judges, and those that a crash cut short."""
    max_bytes: int | None = None
    """The oldest of what stays go until it fits into so many bytes."""
    run_id: str | None = None
    """Only this run's; all others stay and do not count."""

    def __post_init__(self) -> None:
        counts = {
            "keep_last": self.keep_last,
            "keep_best": self.keep_best,
            "keep_worst": self.keep_worst,
        }
        for name, number in counts.items():
            if number is not None and (type(number) is not int or number < 1):
                raise SettingError(f"{name} takes a whole number of at least 1, not {number!r}")
        if self.max_bytes is not None and (type(self.max_bytes) is not int or self.max_bytes < 0):
            raise SettingError(f"max_bytes takes a whole number of bytes, not {self.max_bytes!r}")
        if not self.keeps and self.max_bytes is None:
            raise SettingError(
                "no rule says what stays, and without one nothing goes: give keep_last, keep_best, "
                "keep_worst, keep_failures or max_bytes"
            )

    @property
    def keeps(self) -> bool:
        """Whether a rule names what stays; `max_bytes` alone does not."""
        return bool(self.keep_last or self.keep_best or self.keep_worst or self.keep_failures)


def told_bytes(episode: Episode) -> int:
    """Return the size of an episode's film, as its sidecar tells."""
    return max(0, episode.size_bytes or 0)


def _spare_none(episode: Episode) -> bool:
    return False


def prune(
    episodes: Iterable[Episode],
    rules: Rules,
    *,
    spare: Callable[[Episode], bool] = _spare_none,
    size: Callable[[Episode], int] = told_bytes,
) -> list[Episode]:
    """Return the episodes that have to go, oldest first.

    What any of the keep rules names stays; without one, all stay as far as `max_bytes` allows.

    Args:
        episodes: All of a folder.
        rules: What stays.
        spare: Episodes that it answers True for stay, whatever the rules say.
        size: Bytes of an episode.
    """
    scope = _oldest_first(e for e in episodes if rules.run_id in (None, e.run_id))
    stay = {id(e) for e in (_kept(scope, rules) if rules.keeps else scope)}
    stay |= {id(e) for e in scope if id(e) not in stay and spare(e)}
    going = [e for e in scope if id(e) not in stay]
    if rules.max_bytes is not None:
        left = [e for e in scope if id(e) in stay]
        going += over_budget(left, rules.max_bytes, spare=spare, size=size)
    return _oldest_first(going)


def over_budget(
    episodes: Iterable[Episode],
    max_bytes: int,
    *,
    spare: Callable[[Episode], bool] = _spare_none,
    size: Callable[[Episode], int] = told_bytes,
) -> list[Episode]:
    """Return the oldest episodes that have to go so that the others fit into `max_bytes`.

    Args:
        episodes: Those that count, oldest first.
        max_bytes: What they may take.
        spare: Episodes that it answers True for stay, and count.
        size: Bytes of an episode. Those of none are left, since nothing is won by them.
    """
    sizes = [(episode, size(episode)) for episode in episodes]
    excess = sum(n_bytes for _, n_bytes in sizes) - max_bytes
    going = []
    for episode, n_bytes in sizes:
        if excess <= 0:
            break
        if n_bytes > 0 and not spare(episode):
            going.append(episode)
            excess -= n_bytes
    return going


def _oldest_first(episodes: Iterable[Episode]) -> list[Episode]:
    return sorted(episodes, key=lambda e: (e.started_at or "", e.episode_id, e.name))


def _kept(episodes: list[Episode], rules: Rules) -> list[Episode]:
    kept = episodes[-rules.keep_last :] if rules.keep_last else []
    # Without a return there is nothing to rank by: such an episode is neither good nor bad.
    ranked = [e for e in episodes if not math.isnan(_return(e))]
    kept += sorted(ranked, key=lambda e: -_return(e))[: rules.keep_best or 0]
    kept += sorted(ranked, key=_return)[: rules.keep_worst or 0]
    if rules.keep_failures:
        crashed = EpisodeStatus.TRUNCATED_BY_CRASH
        kept += [e for e in episodes if has_failed(e) or e.status is crashed]
    return kept


def _return(episode: Episode) -> float:
    return math.nan if episode.episode_return is None else episode.episode_return

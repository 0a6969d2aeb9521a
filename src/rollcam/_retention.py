"""Which films of a run stay: the keep policy, the disk budget, and what is still owed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rollcam.capture.keep import KeepPolicy, keep_all, rejected
from rollcam.episode import Episode
from rollcam.errors import SettingError
from rollcam.store.retention import over_budget


def _owed_to_nobody(_episode: Episode) -> bool:
    return False


class Retention:
    """Says, after each film, which ones go. Only films that this run made are ever named.

    Args:
        keep: Keep policy; `None` keeps all.
        max_bytes: Bound of the films' files, media and per-step columns together; the oldest go
            first, and the newest stays however large it is. `None` for no bound.
        is_owed: Whether a sink still waits for a film; such a film stays until it does not.
        earlier: Films of the same run that were there before, oldest first.
    """

    def __init__(
        self,
        keep: KeepPolicy | None = None,
        *,
        max_bytes: int | None = None,
        is_owed: Callable[[Episode], bool] = _owed_to_nobody,
        earlier: Iterable[Episode] = (),
    ) -> None:
        self._keep = keep or keep_all
        self._max_bytes = max_bytes
        self._is_owed = is_owed
        # In the order in which they were finished: the clock may be set back meanwhile.
        self._films = list(earlier)
        self._due: list[Episode] = []

    def losers(self, episode: Episode) -> list[Episode]:
        """Return the films that have to go now that `episode` is finished.

        Raises:
            SettingError: The keep policy names films of another run; those stay.
            Exception: Whatever the keep policy raises.
        """
        try:
            self._due += _of_its_run(episode, rejected(self._keep, episode))
        finally:
            if self._max_bytes is not None:
                self._films.append(episode)
        due = {film.episode_id for film in self._due}
        self._films = [film for film in self._films if film.episode_id not in due]
        return self.settled() + self._over_budget(episode)

    def settled(self) -> list[Episode]:
        """Return the films that had to go and were still owed, and are not any more."""
        now = [film for film in self._due if not self._is_owed(film)]
        going = {film.episode_id for film in now}
        self._due = [film for film in self._due if film.episode_id not in going]
        return now

    def _over_budget(self, newest: Episode) -> list[Episode]:
        if self._max_bytes is None:
            return []

        def stays(film: Episode) -> bool:
            return film.episode_id == newest.episode_id or self._is_owed(film)

        losers = over_budget(self._films, self._max_bytes, spare=stays, size=size_of)
        going = {film.episode_id for film in losers}
        self._films = [film for film in self._films if film.episode_id not in going]
        return losers


def _of_its_run(episode: Episode, losers: list[Episode]) -> list[Episode]:
    strange = [loser.name for loser in losers if loser.run_id != episode.run_id]
    if strange:
        raise SettingError(
            f"a keep policy names films of its own run only, and these are of another: "
            f"{', '.join(strange[:5])}; `rollcam prune` removes those of any"
        )
    return losers


def size_of(episode: Episode) -> int:
    """Return the bytes of an episode's film and columns, as they lie there now."""
    total = 0
    for path in (episode.media_path, episode.steps_path):
        try:
            total += path.stat().st_size if path is not None else 0
        except OSError:
            continue
    return total

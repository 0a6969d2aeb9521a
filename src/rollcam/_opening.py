"""What happens to a recordings folder before a recorder's first film."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rollcam._report import Reporter
from rollcam._retention import Retention
from rollcam.capture.keep import KeepPolicy
from rollcam.episode import Episode, EpisodeCallback
from rollcam.errors import RollcamError, RollcamWarning, StoreError
from rollcam.recovery import LivingRuns, recover
from rollcam.store import files
from rollcam.store.layout import Folder
from rollcam.store.names import HIDDEN

if TYPE_CHECKING:
    from rollcam._publication import Publication
    from rollcam.publish.sink import Sink

logger = logging.getLogger("rollcam")


class Opening:
    """Opens a folder: the sinks at once, what dead processes left at once, and clears it when called.

    Args:
        folder: The recordings folder; `None` where every film brings its own path.
        reporter: Is told what went wrong.
        sinks: Where films are published.
        run_id: The recorder's run.
        clear: Clear the folder before the first film.

    Raises:
        SettingError: A sink cannot be what it is said to be.
        MissingDependencyError: The package that a sink needs is not installed.
        StoreError: The folder cannot be written to.
    """

    def __init__(
        self,
        folder: Folder | None,
        reporter: Reporter,
        sinks: Sequence[str | Sink],
        run_id: str,
        *,
        clear: bool,
    ) -> None:
        self.publication = _opened(folder, sinks, run_id)
        """What publishes the films, if anything does."""
        self._folder = folder
        self._reporter = reporter
        self._run_id = run_id
        self._is_due = clear and folder is not None
        self._lock = threading.RLock()
        if self.publication is not None:
            reporter.unpublished = self.publication.problems
        if folder is not None:
            self._recover(folder)

    @property
    def publish(self) -> EpisodeCallback | None:
        """What is to be called with each film that stays."""
        publication = self.publication
        return None if publication is None else partial(publication.announce, is_fresh=True)

    def retention(
        self, keep: KeepPolicy | None, max_bytes: int | None, *, joins: bool
    ) -> Retention:
        """Return what says which films go.

        Args:
            keep: Keep policy.
            max_bytes: Bound of the films' files.
            joins: Films of this run may be there already; they count.
        """
        earlier: list[Episode] = []
        if joins and max_bytes is not None and self._folder is not None:
            listing = files.list_episodes(self._folder.root)
            earlier = [e for e in listing.episodes if e.run_id == self._run_id and e.media]
        is_owed = _owing(self._folder) if self.publication is None else self.publication.owes
        return Retention(keep, max_bytes=max_bytes, earlier=earlier, is_owed=is_owed)

    def __call__(self) -> None:
        """Clear the folder, if that was wanted and has not been done."""
        if not self._is_due or self._folder is None:
            return
        # Cameras may begin at once; none may film before the folder is cleared.
        with self._lock:
            if self._is_due:
                try:
                    self._clear(self._folder)
                finally:
                    self._is_due = False

    def _recover(self, folder: Folder) -> None:
        """Finish what dead processes left in the folder; never in the way of a new recording."""
        done = recover(folder.root)
        if self.publication is not None:
            for episode in done.to_publish:
                self.publication.announce(episode)
        for path, error in done.problems:
            self._reporter.later(
                f"recovery:{path.name}", f"{path} could not be recovered: {error}", RollcamWarning
            )

    def _clear(self, folder: Folder) -> None:
        try:
            living = LivingRuns(folder.root, but=folder.claim.claim_id)
            files.clear(folder.root, spare=living)
        except (RollcamError, OSError) as error:
            self._reporter.failed(type(error).__name__, error)


def _opened(folder: Folder | None, sinks: Sequence[str | Sink], run_id: str) -> Publication | None:
    if folder is None or (not sinks and not isinstance(sinks, str)):
        return None
    from rollcam._publication import open_publisher

    try:
        return open_publisher(folder.root, sinks, run_id=run_id)
    except BaseException:
        folder.release()
        raise


def _owing(folder: Folder | None) -> Callable[[Episode], bool]:
    """Return what says whether a sink waits for a film, though not one of ours: `rollcam publish`."""

    def is_owed(episode: Episode) -> bool:
        from rollcam.publish.ledger import FILE_NAME, Ledger

        if folder is None:
            return False
        try:
            return bool(Ledger(folder.root / HIDDEN / FILE_NAME).owes(episode.episode_id))
        except StoreError as error:
            logger.info("%s stays: %s", episode.name, error)
            return True

    return is_owed

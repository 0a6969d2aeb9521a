"""Where takes become episodes: what the background threads do with frames, and with the finished film.

Nothing in here warns or raises; what went wrong stands in `Lab.problems`, and in the sidecar.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rollcam._commit import commit
from rollcam._film import Frame
from rollcam._place import Medium
from rollcam._retention import Retention
from rollcam._take import Take
from rollcam.darkroom.process import DarkroomLost
from rollcam.episode import Episode, EpisodeCallback, EpisodeStatus
from rollcam.errors import RollcamError, SettingError, SidecarError, UsageError
from rollcam.store import files, journal, sidecar
from rollcam.store.layout import Folder

logger = logging.getLogger("rollcam")


class Lab:
    """Adds frames to films, finishes them, and says which stay.

    Each take belongs to one thread; several threads may use one lab.

    Args:
        folder: Where films go; `None` when each take brings its own path.
        retention: Says which films go.
        on_finished: Called with each finished episode, one at a time.
        publish: Called before that with each film that stays; never raises.
    """

    def __init__(
        self,
        folder: Folder | None,
        retention: Retention,
        *,
        on_finished: EpisodeCallback | None,
        publish: EpisodeCallback | None,
    ) -> None:
        self.problems: deque[tuple[str, Exception]] = deque(maxlen=100)
        """What went wrong, and its cause in a word."""
        self.renamed: deque[tuple[str, str]] = deque(maxlen=100)
        """Names that were taken, and those that were given instead."""
        self.n_unfinished = 0
        """Films that lie where they grew, for `rollcam recover`."""
        self._folder = folder
        self._retention = retention
        self._on_finished = on_finished
        self._publish = publish
        # What the user's own functions are asked is asked one at a time, whichever thread it is on.
        self._turn = threading.RLock()

    def grow_at(self, take: Take, medium: Medium) -> Path:
        """Return where a film grows, now that it is known of which kind it is.

        Raises:
            SettingError: Its own path has an extension that does not suit it.
            OSError: The folder cannot be made.
        """
        if take.at_path is None:
            assert self._folder is not None
            self._folder.make()
            self.log(take, [("medium", asdict(medium))])
            return self._folder.partial(take.facts.episode_id, medium.suffix)
        if take.at_path.suffix != medium.suffix:
            raise SettingError(
                f"{take.at_path} must have the extension {medium.suffix} for what is filmed"
            )
        return take.at_path

    def film_frame(
        self, take: Take, frame: Frame, index: int, lines: journal.Lines, row: journal.Row
    ) -> None:
        """Add a frame to its film, and what is known of it to the journal."""
        lines = [*lines, journal.line_of(index, row)]
        if take.film.elsewhere is not None:
            # One writer at a time, so that nothing is overtaken by what was known before it.
            take.film.add(frame, index, self.journal_of(take), lines)
            return
        # Before the frame: what is known of it must not be less than what can be seen.
        self.log(take, lines)
        take.film.add(frame, index)

    def journal_of(self, take: Take) -> Path | None:
        """Return where another process is to write what is known of a film; `None` for nowhere."""
        return None if take.journal is None or take.has_no_journal else take.journal.share()

    def log(self, take: Take, lines: journal.Lines) -> None:
        """Write into the take's journal; a film whose journal fails is less safe, but not lost."""
        is_off = take.at_path is not None or self._folder is None or take.has_no_journal
        if is_off or not lines:
            return
        assert self._folder is not None
        try:
            if take.journal is None:
                self._folder.make()
                take.journal = journal.Journal(
                    self._folder.partial(take.facts.episode_id, journal.SUFFIX),
                    {**_head(take), "has_sinks": self._publish is not None},
                )
            take.journal.write_all(lines)
        except (OSError, RollcamError) as error:
            take.has_no_journal = True
            logger.info("the journal of %s could not be written: %s", take.facts.name, error)

    def complete(self, take: Take, future: Future[Episode]) -> None:
        """Finish the film of a take that ended, and tell of it: sinks, the user, the future."""
        lines, take.unlogged = take.unlogged, []
        take.film.settle(take.n_captured)
        episode = take.outcome()
        cause = take.error or take.film.error
        try:
            if isinstance(cause, DarkroomLost):
                episode = self._postponed(take, episode, cause)
            elif cause is not None:
                episode = self._failed(take, episode, cause)
            elif take.film.n_frames == 0:
                episode = self._without_frames(take, episode)
            else:
                self.log(take, lines)
                episode = self._finish(take, episode)
        except OSError as error:
            episode = self._postponed(take, episode, error)
        except Exception as error:  # noqa: BLE001 - the film is lost, the thread and the future must not be
            episode = self._failed(take, episode, error)
        finally:
            # Whatever the user's callback does, nobody may wait for this for ever.
            try:
                self._announce(episode)
            finally:
                future.set_result(episode)

    def delete_settled(self) -> None:
        """Delete the films that had to go, and waited for a sink that has them now."""
        for film in self._retention.settled():
            self._delete(film)

    def _finish(self, take: Take, episode: Episode) -> Episode:
        kept = self._commit(take, episode, with_film=True)
        take.forget()
        # Asked only now: a policy must not count a film that could not be finished.
        with self._turn:
            losers = self._losers(kept)
        for loser in losers:
            self._delete(loser)
        if kept.episode_id in {loser.episode_id for loser in losers}:
            return replace(
                kept, media=None, steps=None, folder=None, reason="not kept by the keep policy"
            )
        return kept

    def _without_frames(self, take: Take, episode: Episode) -> Episode:
        take.film.discard()
        take.forget()
        lost = take.n_dropped > 0
        why = "every frame was dropped" if lost else "the environment rendered nothing"
        status = EpisodeStatus.FAILED if lost else EpisodeStatus.EMPTY
        return self._commit(take, replace(episode, status=status, reason=why), with_film=False)

    def _losers(self, episode: Episode) -> list[Episode]:
        try:
            return self._retention.losers(episode)
        except BaseException as error:  # noqa: BLE001 - the user's policy must not cost the film
            self.problems.append(("keep", _as_exception(error)))
            return []

    def _delete(self, episode: Episode) -> None:
        try:
            # Somebody may have removed it, and another run may have its name now.
            if episode.sidecar_path is not None and (
                sidecar.read(episode.sidecar_path).episode_id == episode.episode_id
            ):
                files.delete(episode)
        except SidecarError as error:
            logger.info("%s is not removed: %s", episode.name, error)
        except OSError as error:
            self.problems.append(("delete", error))

    def _postponed(self, take: Take, episode: Episode, cause: OSError) -> Episode:
        """The film is whole, and the disk does not take it now: it stays where it grew."""
        if take.at_path is not None or take.journal is None or not take.lies_somewhere:
            return self._failed(take, episode, cause)
        take.film.close()
        self.n_unfinished += 1
        told = self._told_as_lost(
            take, episode, cause, f"; the film lies in {take.journal.path.parent}, and `rollcam "
            f"recover` finishes it when the folder takes it again",
        )  # fmt: skip
        if told.folder is not None:
            with contextlib.suppress(OSError):
                take.announce(told)
        take.journal.close()
        return told

    def _failed(self, take: Take, episode: Episode, cause: Exception) -> Episode:
        # The film goes before the sidecar comes: on a full disk that is what makes room for it.
        take.film.discard(cause)
        take.forget()
        return self._told_as_lost(take, episode, cause)

    def _told_as_lost(
        self, take: Take, episode: Episode, cause: Exception, more: str = ""
    ) -> Episode:
        self.problems.append((type(cause).__name__, cause))
        reason = f"{type(cause).__name__}: {cause}"[:1000] + more
        lost = replace(
            episode, status=EpisodeStatus.FAILED, reason=reason,
            n_frames=0, media=None, steps=None, size_bytes=None, sha256=None,
        )  # fmt: skip
        try:
            return self._commit(take, lost, with_film=False)
        except Exception as error:  # noqa: BLE001 - a folder that is gone must not stop training
            # A disk that takes no film takes no sidecar either: one cause, one warning.
            if not isinstance(cause, OSError):
                self.problems.append((type(error).__name__, error))
            logger.info("the sidecar of %s could not be written: %s", lost.name, error)
            return lost

    def _commit(self, take: Take, episode: Episode, *, with_film: bool) -> Episode:
        stored = commit(self._folder, take, episode, with_film=with_film)
        if take.name_error is not None:
            self.problems.append(("bad name", take.name_error))
        if take.wanted_name is not None and stored.name != take.wanted_name:
            self.renamed.append((take.wanted_name, stored.name))
        return stored

    def _announce(self, episode: Episode) -> None:
        if episode.media is None:
            return
        if self._publish is not None:
            self._publish(episode)
        if self._on_finished is None:
            return
        try:
            with self._turn:
                self._on_finished(episode)
        except BaseException as error:  # noqa: BLE001 - the user's callback must not stop the recorder
            self.problems.append(("on_finished", _as_exception(error)))


def _head(take: Take) -> dict[str, Any]:
    template = None if take.template is None else take.template.text
    return {"episode": sidecar.as_dict(take.facts), "template": template}


def _as_exception(error: BaseException) -> Exception:
    """`SystemExit` and its kin end a thread, not a training: they are told as what they are."""
    return error if isinstance(error, Exception) else UsageError(f"it raised {error!r}")

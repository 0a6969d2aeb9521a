"""To put a film in place in the darkroom's process, which takes nothing from the training.

The names, the columns and the sidecar are some forty calls of the system, and after each of them a thread
of the training's process would have to ask for the interpreter again. What goes wrong there is done
again here, where more is known of what to do about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rollcam._place import Parcel, committed, complete, is_in_place, name_of, place
from rollcam.encode.faststart import MediaFacts
from rollcam.episode import Episode
from rollcam.errors import SettingError
from rollcam.store import journal, sidecar
from rollcam.store.journal import Row, columns_of
from rollcam.store.names import SIDECAR_SUFFIX, STEPS_SUFFIX, forget_names


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of it."""

    episode: Episode
    """The facts, those of the files included."""
    wanted_name: str | None = None
    """The name that it should have had; `None` where nothing is to be told of that."""
    name_error: Exception | None = None
    """Why it could not have it."""


@dataclass(frozen=True, slots=True)
class Errand:
    """Puts a finished film in place, and removes the file that grew."""

    root: Path
    """The recordings folder."""
    claim_id: str
    """Claim of the process that has it done."""
    parcel: Parcel
    """What is to be put in place; its film is not finished yet, and it has no columns."""
    rows: Sequence[Row]
    """One for each captured frame."""
    info_keys: tuple[str, ...]
    """Values of the info that have a column."""
    finished: Path
    """The finished film; other files are written beside it."""
    grown: Path
    """The file that grew."""
    journal_path: Path
    """Its journal, which stays."""

    def __call__(self, media: MediaFacts) -> Placed:
        """Do it.

        Args:
            media: What the finished film is.

        Raises:
            OSError: The disk is full, or gone. Then nothing is in place, as after `place`.
        """
        parcel = replace(self.parcel, media=media, columns=self._columns(), n_rows=len(self.rows))
        episode = place(self.root, self.claim_id, parcel, self._scratch, announce=self._announce)
        _remove(self.grown)
        return Placed(episode, parcel.wanted_name, parcel.name_error)

    def completed(self, make_room: Callable[[], None]) -> Placed | None:
        """Complete it where whoever did it died, or did not say what became of it.

        Args:
            make_room: Called when there is no room for the sidecar; it is tried once more then.

        Returns:
            What became of it; `None` when the film has no name: then all is as before.

        Raises:
            RollcamError: The journal cannot be read.
            OSError: The disk is full, or gone. Then nothing is in place.
        """
        told = journal.read_journal(self.journal_path).commit
        episode = committed(told, self.parcel.episode.episode_id, self.root)
        try:
            done = None if episode is None else self._complete(episode, make_room)
        finally:
            # It may have taken a name, and died before it wrote that down.
            forget_names(self.root, self.claim_id)
            for path in (self._scratch(STEPS_SUFFIX), self._scratch(SIDECAR_SUFFIX), self.finished):
                _remove(path)
        if done is None:
            return None
        _remove(self.grown)
        with contextlib.suppress(SettingError):
            return Placed(done, name_of(self.parcel))
        return Placed(done)

    def _complete(self, episode: Episode, make_room: Callable[[], None]) -> Episode | None:
        columns, n_rows = self._columns(), len(self.rows)
        try:
            return complete(
                episode, columns, n_rows, self.claim_id, self._scratch, make_room=make_room
            )
        except OSError:
            # What grew is there still. A film that nobody tells of is taken back, or it would stay for ever.
            with contextlib.suppress(OSError):
                if is_in_place(episode, self.claim_id, self._scratch):
                    for path in (episode.steps_path, episode.media_path):
                        if path is not None:
                            _remove(path)
            raise

    def _columns(self) -> dict[str, list[object]]:
        return columns_of(self.rows, self.info_keys)

    def _scratch(self, suffix: str) -> Path:
        return self.finished.with_suffix(suffix)

    def _announce(self, episode: Episode) -> None:
        journal.append(self.journal_path, "commit", sidecar.as_dict(episode))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)

"""To put a film in place in the darkroom's process, which takes nothing from the training.

The names, the columns and the sidecar are some forty calls of the system, and after each of them a thread
of the training's process would have to ask for the interpreter again. What goes wrong there is done
again here, where more is known of what to do about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rollcam._place import Parcel, committed, complete, name_of, place
from rollcam.encode.faststart import MediaFacts
from rollcam.episode import Episode
from rollcam.errors import SettingError
from rollcam.store import journal, sidecar
from rollcam.store.journal import Row, columns_of
from rollcam.store.names import SIDECAR_SUFFIX, STEPS_SUFFIX, unmark


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
    """What is to be put in place; of the finished film and the columns it knows nothing yet."""
    rows: Sequence[Row]
    """One for each captured frame."""
    info_keys: tuple[str, ...]
    """Values of the info that have a column."""
    finished: Path
    """The finished film; other files are written beside it."""
    grown: Path
    """The file that grew."""
    journal: Path
    """Its journal, which stays."""

    def __call__(self, media: MediaFacts) -> Placed:
        """Do it.

        Args:
            media: What the finished film is.

        Raises:
            OSError: The disk is full, or gone. Then nothing is in place.
        """
        parcel = replace(self.parcel, media=media, columns=self._columns(), n_rows=len(self.rows))
        episode = place(self.root, self.claim_id, parcel, self._scratch, announce=self._announce)
        with contextlib.suppress(OSError):
            self.grown.unlink(missing_ok=True)
        return Placed(episode, parcel.wanted_name, parcel.name_error)

    def completed(self) -> Placed | None:
        """Complete it where the process that did it died.

        Returns:
            What became of it; `None` when the film had no name yet: then it is as before.

        Raises:
            RollcamError: The journal cannot be read.
            OSError: The disk is full, or gone.
        """
        told = journal.read_journal(self.journal).commit
        episode = committed(told, self.parcel.episode.episode_id, self.root)
        if episode is None:
            # It may have taken the name already, and died before it wrote that down.
            with contextlib.suppress(SettingError):
                unmark(self.root, name_of(self.parcel), self.claim_id)
            return None
        done = complete(episode, self._columns(), len(self.rows), self.claim_id, self._scratch)
        unmark(self.root, episode.name, self.claim_id)
        for suffix in (STEPS_SUFFIX, SIDECAR_SUFFIX):
            self._scratch(suffix).unlink(missing_ok=True)
        if done is None:
            return None
        self.finished.unlink(missing_ok=True)
        self.grown.unlink(missing_ok=True)
        return Placed(done)

    def _columns(self) -> dict[str, list[object]]:
        return columns_of(self.rows, self.info_keys)

    def _scratch(self, suffix: str) -> Path:
        return self.finished.with_suffix(suffix)

    def _announce(self, episode: Episode) -> None:
        journal.append(self.journal, "commit", sidecar.as_dict(episode))

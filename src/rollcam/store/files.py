"""The files of a folder's episodes, read and removed without an index."""

from __future__ import annotations

import os
import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rollcam.episode import Episode
from rollcam.errors import RollcamWarning, SidecarError, StoreError
from rollcam.store import sidecar
from rollcam.store.names import HIDDEN, MEDIA_SUFFIXES, SIDECAR_SUFFIX, STEPS_SUFFIX

SUFFIXES = (SIDECAR_SUFFIX, STEPS_SUFFIX, *MEDIA_SUFFIXES)
"""Extensions of the files that one episode may have."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds."""

    episodes: list[Episode] = field(default_factory=list)
    """Oldest first."""
    problems: list[SidecarError] = field(default_factory=list)
    """One for each sidecar that could not be read: foreign, broken, or newer."""


def list_episodes(folder: str | Path) -> Listing:
    """List the episodes of a folder and of the folders in it.

    Raises:
        StoreError: There is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise StoreError(f"there is no folder {str(folder)!r}")
    listing = Listing()
    for path in _sidecars(root):
        try:
            listing.episodes.append(sidecar.read(path))
        except SidecarError as error:
            listing.problems.append(error)
    listing.episodes.sort(key=lambda episode: (episode.started_at or "", episode.episode_id))
    return listing


def delete(episode: Episode) -> None:
    """Delete an episode's files: media first, the sidecar last, so that a crash leaves no orphan."""
    for path in own_files(episode):
        path.unlink(missing_ok=True)


def own_files(episode: Episode) -> list[Path]:
    """Return an episode's files, the sidecar last; nothing that does not bear its name."""
    stem = episode.name.rpartition("/")[2]
    own = {stem + suffix for suffix in SUFFIXES}
    files = (episode.media_path, episode.steps_path, episode.sidecar_path)
    # A sidecar from elsewhere may name any file: only those that bear its own name are its own.
    return [path for path in files if path is not None and path.name in own]


def clear(folder: Path, *, spare: Container[str] = ()) -> None:
    """Delete what Rollcam recorded in a folder; name in a warning what was left alone.

    Args:
        folder: The recordings folder.
        spare: Runs (`run_id`) whose films stay.
    """
    kept = []
    for episode in list_episodes(folder).episodes:
        if episode.run_id in spare:
            kept.append(episode.name)
            continue
        delete(episode)
        _remove_empty_folders(folder, episode.name)
    if kept:
        warnings.warn(
            f"resume=False left {len(kept)} film{'s' * (len(kept) > 1)} in {folder} alone, as "
            f"somebody still writes there: {_some(kept)}",
            RollcamWarning,
            stacklevel=4,
        )
    known = {HIDDEN}
    for episode in list_episodes(folder).episodes:
        known.update(path.relative_to(folder).parts[0] for path in own_files(episode))
    left = sorted(path.name for path in folder.iterdir() if path.name not in known)
    if left:
        warnings.warn(
            f"resume=False cleared {folder}, and left alone what no sidecar of Rollcam's names: "
            f"{_some(left)}",
            RollcamWarning,
            stacklevel=4,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _remove_empty_folders(root: Path, name: str) -> None:
    """Remove the folders that a name brought along, as far as nothing lies in them."""
    for folder in [root / part for part in Path(name).parents if part.name]:
        try:
            folder.rmdir()
        except OSError:
            return


def _sidecars(root: Path) -> Iterator[Path]:
    # Folders may vanish meanwhile, as our own do when a recorder closes: `walk` passes over those.
    for place, folders, names in os.walk(root):
        found = sorted(name for name in [*folders, *names] if name.endswith(SIDECAR_SUFFIX))
        yield from (Path(place, name) for name in found)
        folders[:] = sorted(name for name in folders if name != HIDDEN)

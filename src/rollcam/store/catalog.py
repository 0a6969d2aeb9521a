"""Read a recordings folder: its episodes, and what in it is no sidecar of ours."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rollcam.episode import Episode
from rollcam.errors import EpisodeNotFound, RollcamWarning, SidecarError, StoreError
from rollcam.store import sidecar
from rollcam.store.names import HIDDEN, MEDIA_SUFFIXES, SIDECAR_SUFFIX, STEPS_SUFFIX

_SUFFIXES = (SIDECAR_SUFFIX, STEPS_SUFFIX, *MEDIA_SUFFIXES)


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


def find_episode(folder: str | Path, wanted: str) -> Episode:
    """Return the episode of that name, id, or unique beginning of an id.

    Args:
        folder: The recordings folder.
        wanted: `rl-video-episode-0`, with or without extension, or an `episode_id`.

    Raises:
        EpisodeNotFound: None answers to it, or more than one does.
        StoreError: There is no such folder.
    """
    episodes = list_episodes(folder).episodes
    stems = {wanted, *(wanted.removesuffix(suffix) for suffix in _SUFFIXES)} - {""}
    found = [e for e in episodes if e.name == wanted]
    found = found or [e for e in episodes if not stems.isdisjoint((e.name, e.episode_id))]
    found = found or [e for e in episodes if e.name.rpartition("/")[2] in stems]
    if stems:
        found = found or [e for e in episodes if e.episode_id.startswith(wanted.upper())]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(e.episode_id for e in found[:5])
        raise EpisodeNotFound(f"{wanted!r} names {len(found)} episodes in {folder}: {names}")
    raise EpisodeNotFound(
        f"no episode in {folder} is named {wanted!r}; `rollcam ls {folder}` lists them"
    )


def delete(episode: Episode) -> None:
    """Delete an episode's files: media first, the sidecar last, so that a crash leaves no orphan."""
    stem = episode.name.rpartition("/")[2]
    own = {stem + suffix for suffix in _SUFFIXES}
    for path in (episode.media_path, episode.steps_path, episode.sidecar_path):
        # A sidecar from elsewhere may name any file: only those that bear its own name go.
        if path is not None and path.name in own:
            path.unlink(missing_ok=True)


def clear(folder: Path, *, spare: Container[str] = ()) -> None:
    """Delete what Rollcam recorded in a folder; name in a warning what was left alone.

    Args:
        folder: The recordings folder.
        spare: Runs (`run_id`) whose films stay.
    """
    for episode in list_episodes(folder).episodes:
        if episode.run_id in spare:
            continue
        delete(episode)
        _remove_empty_folders(folder, episode.name)
    spared = {f"{e.name.partition('/')[0]}" for e in list_episodes(folder).episodes}
    left = sorted(
        path.name
        for path in folder.iterdir()
        if path.name != HIDDEN and path.name.partition(".")[0] not in spared
    )
    if left:
        shown = ", ".join(left[:10]) + (", ..." if len(left) > 10 else "")
        warnings.warn(
            f"resume=False cleared {folder}, and left alone what no sidecar of Rollcam's names: "
            f"{shown}",
            RollcamWarning,
            stacklevel=4,
        )


def _remove_empty_folders(root: Path, name: str) -> None:
    """Remove the folders that a name brought along, as far as nothing lies in them."""
    for folder in [root / part for part in Path(name).parents if part.name]:
        try:
            folder.rmdir()
        except OSError:
            return


def _sidecars(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob(f"*{SIDECAR_SUFFIX}")):
        if HIDDEN not in path.relative_to(root).parts:
            yield path

"""Finish what dead processes left: their growing films, and the names that they had taken.

A film in the making lies in `.rollcam/partial/{claim_id}` beside its journal. Where the claim's
process is gone, the film is finished by copying its samples, and gets the sidecar that the journal
tells, with `status="truncated_by_crash"`. A living writer is never disturbed; what was left by a
machine that cannot be asked is left alone and listed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Collection, Container
from dataclasses import dataclass, field
from pathlib import Path

from rollcam._leftover import OURS, Leftover, NothingThereError
from rollcam._place import episode_of
from rollcam.episode import Episode
from rollcam.errors import StoreError
from rollcam.store import claim, journal
from rollcam.store.layout import RESERVE
from rollcam.store.names import HIDDEN, claims_of, forget_names, partials_of

logger = logging.getLogger("rollcam")


@dataclass(slots=True)
class Recovery:
    """What `recover` did."""

    recovered: list[Episode] = field(default_factory=list)
    """Episodes whose films are finished now."""
    to_publish: list[Episode] = field(default_factory=list)
    """Those of them that their dead process would have published."""
    removed: list[str] = field(default_factory=list)
    """Leftovers that held nothing to be saved, in words."""
    left_alone: list[str] = field(default_factory=list)
    """Leftovers of which nothing here can tell whether their writer lives, in words."""
    problems: list[tuple[Path, Exception]] = field(default_factory=list)
    """Leftovers that could not be finished this time; they stay."""


def recover(folder: str | os.PathLike[str], *, dead_hosts: Collection[str] = ()) -> Recovery:
    """Finish the films that dead processes left in a recordings folder.

    Recorders, `rollcam ls`, publishers and the gallery do it whenever they open a folder. Safe while
    others write, and while others recover.

    Args:
        folder: The recordings folder.
        dead_hosts: Names of machines of a shared disk that are known to be dead. What their
            processes left cannot be told from what is being written, unless somebody says so.

    Raises:
        StoreError: There is no such folder.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise StoreError(f"there is no folder {str(folder)!r}")
    done = Recovery()
    partials = partials_of(root)
    left = {path.name for path in _entries(partials) if _is_folder(path)}
    for claim_id in sorted(left.union(claim.claim_ids(claims_of(root)))):
        try:
            _look_after(root, claim_id, dead_hosts, done)
        except Exception as error:  # noqa: BLE001 - what lies there is anybody's, and opening a folder must not fail for it
            done.problems.append((partials / claim_id, error))
    for path in _entries(partials):
        if path.name not in left:
            done.left_alone.append(f"{path}: nothing says who wrote it")
    return done


class LivingRuns(Container[str]):
    """The runs that somebody writes, or may write: all but those that are surely dead.

    Those of recordings folders inside the folder and around it count, too: names may hold folders, so
    that a film is found in both.

    Looked up when it is first asked, and not before: whoever lists films and asks then about each
    finds every run that could have made one of them and goes on.

    Args:
        folder: The recordings folder.
        but: A claim that does not count.
    """

    def __init__(self, folder: Path, *, but: str | None = None) -> None:
        self._folder = folder
        self._but = but
        self._runs: set[str] | None = None

    def __contains__(self, run_id: object) -> bool:
        if self._runs is None:
            self._runs = self._found()
        return run_id in self._runs

    def _found(self) -> set[str]:
        living: set[str] = set()
        for around in Path(os.path.abspath(self._folder)).parents:
            if (around / HIDDEN).is_dir():
                living |= self._living_in(around)
        for place, folders, _ in os.walk(self._folder):
            if HIDDEN in folders:
                folders.remove(HIDDEN)
                living |= self._living_in(Path(place))
        return living

    def _living_in(self, folder: Path) -> set[str]:
        claims, partials = claims_of(folder), partials_of(folder)
        growing = {path.name for path in _entries(partials) if _is_folder(path)}
        living = set()
        for claim_id in growing.union(claim.claim_ids(claims)) - {self._but}:
            told = _told_owner(partials / claim_id)
            owner = claim.owner_of(claims, claim_id) or told
            has_left = claim_id in growing
            with claim.looking_after(claims, claim_id, has_left=has_left, told=told) as standing:
                if owner is not None and standing is not claim.Standing.DEAD:
                    living.add(owner.run_id)
        return living


def _look_after(root: Path, claim_id: str, dead_hosts: Collection[str], done: Recovery) -> None:
    growing = partials_of(root) / claim_id
    has_left = any(path.name != RESERVE for path in _entries(growing))
    told = _told_owner(growing)
    with claim.looking_after(
        claims_of(root), claim_id, dead_hosts=dead_hosts, has_left=has_left, told=told
    ) as standing:
        if standing is claim.Standing.DEAD:
            _finish_all(root, claim_id, growing, done)
            if not growing.exists():
                forget_names(root, claim_id)
                claim.forget(claims_of(root), claim_id)
        elif standing is claim.Standing.UNKNOWN and has_left:
            owner = claim.owner_of(claims_of(root), claim_id) or told
            who = f"process {owner.pid} on {owner.host}" if owner else "somebody unknown"
            done.left_alone.append(f"{growing}: written by {who}, {_why_unknown(root, owner)}")


def _why_unknown(root: Path, owner: claim.Owner | None) -> str:
    claims = claims_of(root)
    if claims.is_dir() and not os.access(claims, os.W_OK):
        return "and nothing can be finished in a folder that may not be written to"
    what_to_do = f"; if it does not: rollcam recover --dead-host {owner.host}" if owner else ""
    return f"which cannot be asked from here whether it lives{what_to_do}"


def _finish_all(root: Path, claim_id: str, growing: Path, done: Recovery) -> None:
    """Finish each film of a dead process. Each has its journal; one whose journal is gone, too."""
    ids = set()
    for path in _entries(growing):
        episode_id, _, suffix = path.name.partition(".")
        # Whatever else lies there is nobody's that we know: neither read nor removed.
        if not stat.S_ISREG(path.lstat().st_mode) or f".{suffix}" not in OURS or not episode_id:
            if path.name != RESERVE:
                done.left_alone.append(f"{path}: it is no film, and no journal of one")
            continue
        ids.add(episode_id)
    for episode_id in sorted(ids):
        leftover = Leftover(root, claim_id, growing, episode_id)
        try:
            episode = leftover.finish()
            leftover.remove()
        except NothingThereError as error:
            leftover.remove()
            done.removed.append(f"{episode_id}: {error}")
        except Exception as error:  # noqa: BLE001 - one that is broken must not keep the others from being finished
            done.problems.append((growing / episode_id, error))
        else:
            done.recovered.append(episode)
            if leftover.has_sinks:
                done.to_publish.append(episode)
            logger.info("recovered %s: %d frames", episode.name, episode.n_frames)
    with contextlib.suppress(OSError):
        (growing / RESERVE).unlink(missing_ok=True)
        growing.rmdir()


def _told_owner(growing: Path) -> claim.Owner | None:
    """Return who wrote what lies there, as a journal there says; for claims that are gone."""
    for path in sorted(_entries(growing)):
        if path.suffix != journal.SUFFIX:
            continue
        try:
            episode = episode_of(journal.read_head(path).get("episode"))
        except OSError:
            continue
        if episode is not None and episode.writer is not None:
            writer = episode.writer
            return claim.Owner(growing.name, episode.run_id, writer.host, writer.pid)
    return None


def _entries(folder: Path) -> list[Path]:
    """Return what lies in a folder: nothing, where there is none, or only a link to one."""
    try:
        return list(folder.iterdir()) if _is_folder(folder) else []
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()

"""How the files of an episode get their names: film first, columns next, the sidecar last.

The same for an episode that ended and for one that a dead process left. Before the first file gets
its name, the whole sidecar stands in the journal, so that whoever comes after a kill in between knows
what was meant, and finishes it: `complete`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rollcam.encode.faststart import MediaFacts
from rollcam.episode import Episode, scalars_of
from rollcam.errors import SettingError, SidecarError, StoreError
from rollcam.store import sidecar
from rollcam.store.layout import (
    NameTemplate,
    clean_name,
    place_new,
    replace_patiently,
    write_atomically,
)
from rollcam.store.names import SIDECAR_SUFFIX, STEPS_SUFFIX, has_marked, taking

logger = logging.getLogger("rollcam")

_ATTEMPTS = 100

Scratch = Callable[[str], Path]
"""Returns a path for an extension, on the right file system, that nobody else uses."""


@dataclass(frozen=True, slots=True)
class Medium:
    """What kind of file a film is."""

    suffix: str
    """Extension of the file."""
    content_type: str
    """MIME type."""
    codec: str
    """Codec, as the sidecar names it."""
    pix_fmt: str | None
    """Pixel format; `None` for text."""
    encoder_version: Mapping[str, Any]
    """What made it."""


@dataclass(slots=True)
class Parcel:
    """What is to be put in place."""

    episode: Episode
    """The facts; of the files they know nothing yet."""
    template: NameTemplate | None = None
    """How the files are named; `None` takes the episode's name."""
    medium: Medium | None = None
    """Kind of the film; `None` where there is none."""
    media: MediaFacts | None = None
    """The finished film, which lies at `scratch(medium.suffix)`."""
    columns: Mapping[str, list[Any]] = field(default_factory=dict)
    """Per-step columns."""
    n_rows: int = 0
    """Rows of the columns."""
    wanted_name: str | None = None
    """Set by `place`: the name that it should have had."""
    name_error: Exception | None = None
    """Set by `place`: why it could not have it."""


def place(
    root: Path,
    claim_id: str,
    parcel: Parcel,
    scratch: Scratch,
    *,
    announce: Callable[[Episode], None] = lambda _: None,
    make_room: Callable[[], None] = lambda: None,
) -> Episode:
    """Put an episode's files in place.

    Args:
        root: The recordings folder.
        claim_id: Claim of the process that does it.
        parcel: What is to be put in place.
        scratch: For files that are being written.
        announce: Called with the whole sidecar before the first file gets its name.
        make_room: Called when there is no room for the sidecar; it is tried once more then.

    Returns:
        The facts, those of the files included.

    Raises:
        OSError: The disk is full, or gone. Then the film lies at its scratch path again.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            name = _take_name(root, claim_id, parcel, stack)
            episode = replace(parcel.episode, name=name, folder=root)
            if parcel.media is not None and parcel.medium is not None:
                episode = with_media(episode, parcel.medium, parcel.media)
                if parcel.columns:
                    episode = replace(episode, steps=name.rpartition("/")[2] + STEPS_SUFFIX)
            # The name was free, and is not any more: a foreign program, or another machine whose
            # files this one's cache did not show yet.
            with contextlib.suppress(FileExistsError):
                return _put(episode, parcel, scratch, announce, make_room)
    raise FileExistsError(errno.EEXIST, "whichever name is tried, others take it", name)


def _put(
    episode: Episode,
    parcel: Parcel,
    scratch: Scratch,
    announce: Callable[[Episode], None],
    make_room: Callable[[], None],
) -> Episode:
    """Rename the film to its name, then write columns and sidecar: all three, or none of them."""
    target = episode.media_path
    if target is None or parcel.medium is None:
        _somehow(lambda: write_sidecar(episode, scratch, is_new=True), make_room)
        return episode
    source = scratch(parcel.medium.suffix)
    # A film in place whose journal does not know its name would be recovered a second time.
    _somehow(lambda: announce(episode), make_room)
    place_new(source, target)
    placed = replace(episode, steps=None)
    try:
        placed = write_columns(episode, parcel.columns, parcel.n_rows, scratch)
        _somehow(lambda: write_sidecar(placed, scratch, is_new=True), make_room)
    except BaseException:
        if placed.steps_path is not None:
            with contextlib.suppress(OSError):
                placed.steps_path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            replace_patiently(target, source)
        raise
    return placed


def committed(raw: Any, episode_id: str, root: Path) -> Episode | None:
    """Return what a journal says was about to be put in place; `None` where that cannot be meant.

    Args:
        raw: What stands in its line; it may be anybody's.
        episode_id: Of the film whose journal it is.
        root: The recordings folder.
    """
    episode = episode_of(raw)
    if episode is None or episode.episode_id != episode_id:
        return None
    try:
        is_ours = clean_name(episode.name) == episode.name
    except SettingError:
        return None
    return replace(episode, folder=root) if is_ours else None


def episode_of(raw: Any) -> Episode | None:
    """Return what a journal says of an episode, where that can be understood."""
    try:
        return sidecar.from_json(json.dumps(raw)) if raw else None
    except SidecarError:
        return None


def complete(
    episode: Episode,
    columns: Mapping[str, list[Any]],
    n_rows: int,
    claim_id: str,
    scratch: Scratch,
    *,
    make_room: Callable[[], None] = lambda: None,
) -> Episode | None:
    """Complete what somebody who died was putting in place; `None` when the film had no name yet.

    Args:
        episode: What `committed` returned.
        columns: Per-step columns.
        n_rows: Rows of the columns.
        claim_id: Claim that it was done under.
        scratch: Where the film lay before.
        make_room: As for `place`.

    Raises:
        OSError: The disk is full, or gone.
    """
    path = episode.sidecar_path
    assert path is not None
    if _is_told(path, episode):
        return sidecar.read(path)
    if os.path.lexists(path) or not is_in_place(episode, claim_id, scratch):
        return None
    if episode.steps_path is not None and not episode.steps_path.exists():
        episode = write_columns(episode, columns, n_rows, scratch)
    _somehow(lambda: write_sidecar(episode, scratch, is_new=True), make_room)
    return episode


def _is_told(path: Path, episode: Episode) -> bool:
    """Whether a sidecar of this very episode lies there."""
    try:
        return sidecar.read(path).episode_id == episode.episode_id
    except SidecarError:
        return False


def is_in_place(episode: Episode, claim_id: str, scratch: Scratch) -> bool:
    """Whether this very film lies under its name, just as the sidecar would tell it.

    Another one may be the same to the last byte: who films the same seeds twice gets such.
    """
    path, root = episode.media_path, episode.folder
    if path is None or root is None or path.is_symlink() or not path.is_file():
        return False
    source = scratch(path.suffix)
    # Not renamed yet; or it had both names, and the folder was copied since: then the mark on the
    # name is still there.
    is_elsewhere = source.exists() and not source.samefile(path)
    if is_elsewhere and not has_marked(root, episode.name, claim_id):
        return False
    if path.stat().st_size != episode.size_bytes:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == episode.sha256


def with_media(episode: Episode, medium: Medium, media: MediaFacts) -> Episode:
    """Return the facts with those of the film."""
    return replace(
        episode,
        media=episode.name.rpartition("/")[2] + medium.suffix,
        content_type=medium.content_type,
        encoder_version=medium.encoder_version,
        codec=medium.codec,
        pix_fmt=medium.pix_fmt,
        width=media.width,
        height=media.height,
        n_encoded=media.n_encoded,
        duration_s=media.duration_s,
        size_bytes=media.size_bytes,
        sha256=media.sha256,
    )


def write_columns(
    episode: Episode, columns: Mapping[str, list[Any]], n_rows: int, scratch: Scratch
) -> Episode:
    """Write the per-step columns; where there is no room for them, the film goes without."""
    target = episode.steps_path
    if target is None:
        return episode
    text = json.dumps(
        {
            "schema_version": 1,
            "episode_id": episode.episode_id,
            "fps": episode.fps,
            "n_rows": n_rows,
            "columns": {key: _finite(values) for key, values in columns.items()},
        },
        separators=(",", ":"),
    )
    try:
        write_atomically(target, text.encode(), scratch(STEPS_SUFFIX), is_new=True)
    except FileExistsError:
        raise
    except OSError as error:
        logger.warning("%s goes without its step columns: %s", episode.name, error)
        return replace(
            episode, steps=None, reason=f"the step columns could not be written: {error}"
        )
    return episode


def write_sidecar(episode: Episode, scratch: Scratch, *, is_new: bool = False) -> None:
    """Write the sidecar, which makes the episode a fact.

    Args:
        episode: What it tells.
        scratch: For the file while it is being written.
        is_new: Nothing may lie there.

    Raises:
        FileExistsError: Something does.
        OSError: The disk is full, or gone.
    """
    target = episode.sidecar_path
    assert target is not None
    data = sidecar.to_json(episode).encode()
    write_atomically(target, data, scratch(SIDECAR_SUFFIX), is_new=is_new)


def _somehow(write: Callable[[], None], make_room: Callable[[], None]) -> None:
    try:
        write()
    except FileExistsError:
        raise
    except OSError:
        make_room()
        write()


def _take_name(root: Path, claim_id: str, parcel: Parcel, stack: contextlib.ExitStack) -> str:
    """Take the name that the film should have; one that cannot be must not cost the film."""
    try:
        parcel.wanted_name = name_of(parcel)
        return stack.enter_context(taking(root, parcel.wanted_name, claim_id))
    except (SettingError, StoreError) as error:
        parcel.name_error, parcel.wanted_name = error, None
        return stack.enter_context(taking(root, parcel.episode.episode_id, claim_id))


def name_of(parcel: Parcel) -> str:
    """Return the name that the files should have.

    Raises:
        SettingError: Nothing is left of it once it is clean.
    """
    episode = parcel.episode
    if parcel.template is None:
        return clean_name(episode.name)
    writer = episode.writer
    values = {
        **{key: getattr(episode, key) for key in Episode.__dataclass_fields__},
        "episode": episode.episode_index,
        "pid": writer.pid if writer else None,
        "host": writer.host if writer else None,
        "worker": writer.worker if writer else None,
        "vector_index": writer.vector_index if writer else None,
        "segment": 0,
        **scalars_of(episode.metadata),
        **episode.final_info,
        **episode.context_at_start,
        **episode.context_at_end,
    }
    return clean_name(parcel.template.fill(values))


def _finite(values: list[Any]) -> list[Any]:
    """JSON knows no NaN; a value that is none becomes `null`."""
    return [None if isinstance(v, float) and not np.isfinite(v) else v for v in values]

"""How a finished take becomes files: film first, columns next, the sidecar last."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rollcam._film import Film
from rollcam._take import Take
from rollcam.encode.faststart import MediaFacts
from rollcam.episode import Episode, scalars_of
from rollcam.errors import SettingError, StoreError
from rollcam.store import sidecar
from rollcam.store.layout import (
    SIDECAR_SUFFIX,
    STEPS_SUFFIX,
    Folder,
    clean_name,
    replace_patiently,
    write_atomically,
)

Scratch = Callable[[str], Path]
"""Returns a path for an extension, on the right file system, that nobody else uses."""


def commit(folder: Folder | None, take: Take, episode: Episode, *, with_film: bool) -> Episode:
    """Put a take's files in place.

    Args:
        folder: The recordings folder; may be `None` for a take that has a path of its own.
        take: What was filmed.
        episode: Its facts so far.
        with_film: Whether there is a film; without one only the sidecar is written.

    Returns:
        The facts, those of the files included.

    Raises:
        RollcamError: The film could not be finished.
        OSError: The disk is full, or gone.
    """
    if take.at_path is not None:
        return _commit_in_place(take.at_path, take, episode, with_film)
    assert folder is not None

    def scratch(suffix: str) -> Path:
        return folder.partial(episode.episode_id, f".finished{suffix}")

    film = take.film if with_film else None
    try:
        media = film.finish(take.n_captured, scratch) if film else None
        with contextlib.ExitStack() as stack:
            name = _take_name(folder, take, episode, stack)
            episode = replace(episode, name=name, folder=folder.root)
            if film is not None and media is not None:
                episode = _with_media(episode, film, media)
                episode = _put_in_place(folder, take, episode, scratch)
            else:
                _write_sidecar(episode, scratch)
    finally:
        if film is not None and film.medium is not None:
            scratch(_suffix(film)).unlink(missing_ok=True)
    if film is not None and film.partial is not None:
        film.partial.unlink(missing_ok=True)
    return episode


def _put_in_place(folder: Folder, take: Take, episode: Episode, scratch: Scratch) -> Episode:
    """Rename the film to its name, then write columns and sidecar: all three, or none of them."""
    suffix = _suffix(take.film)
    target = folder.path(episode.name, suffix)
    replace_patiently(scratch(suffix), target)
    try:
        episode = _write_columns(folder, take, episode, scratch)
        _write_sidecar(episode, scratch)
    except BaseException:
        for path in (target, folder.path(episode.name, STEPS_SUFFIX)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    return episode


def _commit_in_place(path: Path, take: Take, episode: Episode, with_film: bool) -> Episode:
    """The film grew at its own path; its finished copy takes its place."""
    film = take.film

    def scratch(suffix: str) -> Path:
        return path.with_name(f".{path.stem}.{episode.episode_id}{suffix}")

    episode = replace(episode, name=path.stem, folder=path.parent)
    if with_film:
        # Text is finished where it lies; pictures are copied behind their index, and swapped in.
        media = film.finish(take.n_captured, lambda _: path if film.is_text else scratch(".mp4"))
        if not film.is_text:
            replace_patiently(scratch(".mp4"), path)
        episode = replace(_with_media(episode, film, media), media=path.name)
    else:
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
    _write_sidecar(episode, scratch)
    return episode


def _suffix(film: Film) -> str:
    assert film.medium is not None
    return film.medium.suffix


def _take_name(folder: Folder, take: Take, episode: Episode, stack: contextlib.ExitStack) -> str:
    """Take the name that the film should have; one that cannot be must not cost the film."""
    try:
        take.wanted_name = _name(take, episode)
        return stack.enter_context(folder.taking(take.wanted_name))
    except (SettingError, StoreError) as error:
        take.name_error, take.wanted_name = error, None
        return stack.enter_context(folder.taking(episode.episode_id))


def _name(take: Take, episode: Episode) -> str:
    if take.template is None:
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
    return clean_name(take.template.fill(values))


def _with_media(episode: Episode, film: Film, media: MediaFacts) -> Episode:
    medium = film.medium
    assert medium is not None
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


def _write_columns(folder: Folder, take: Take, episode: Episode, scratch: Scratch) -> Episode:
    text = json.dumps(
        {
            "schema_version": 1,
            "episode_id": episode.episode_id,
            "fps": episode.fps,
            "n_rows": take.n_captured,
            "columns": {key: _finite(values) for key, values in take.columns.items()},
        },
        separators=(",", ":"),
    )
    target = folder.path(episode.name, STEPS_SUFFIX)
    write_atomically(target, text.encode(), scratch(STEPS_SUFFIX))
    return replace(episode, steps=target.name)


def _write_sidecar(episode: Episode, scratch: Scratch) -> None:
    target = episode.sidecar_path
    assert target is not None
    write_atomically(target, sidecar.to_json(episode).encode(), scratch(SIDECAR_SUFFIX))


def _finite(values: list[Any]) -> list[Any]:
    """JSON knows no NaN; a value that is none becomes `null`."""
    return [None if isinstance(v, float) and not np.isfinite(v) else v for v in values]

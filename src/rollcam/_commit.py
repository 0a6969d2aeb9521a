"""How a finished take becomes files."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from pathlib import Path

from rollcam._errand import Errand, Placed
from rollcam._place import Parcel, Scratch, place, with_media, write_sidecar
from rollcam._take import FINISHED, Take
from rollcam.episode import Episode
from rollcam.store.layout import Folder, replace_patiently

logger = logging.getLogger("rollcam")


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
    own = folder  # for the type checker: closures do not see the assertion

    def scratch(suffix: str) -> Path:
        return own.partial(episode.episode_id, FINISHED + suffix)

    parcel = Parcel(episode, take.template)
    film = take.film
    folder.make()
    done = _done_elsewhere(folder, take, parcel, scratch) if with_film else None
    if done is not None:
        take.wanted_name, take.name_error = done.wanted_name, done.name_error
        return done.episode
    try:
        if with_film:
            parcel.media = film.finish(take.n_captured, scratch)
            parcel.medium = film.medium
            parcel.columns, parcel.n_rows = take.columns(), take.n_captured
        episode = place(
            folder.root, folder.claim.claim_id, parcel, scratch,
            announce=take.announce, make_room=folder.spend_reserve,
        )  # fmt: skip
    finally:
        take.wanted_name, take.name_error = parcel.wanted_name, parcel.name_error
        if film.medium is not None and film.partial is not None and film.partial.exists():
            scratch(film.medium.suffix).unlink(missing_ok=True)
    return episode


def _done_elsewhere(folder: Folder, take: Take, parcel: Parcel, scratch: Scratch) -> Placed | None:
    """Have the process that encoded a film do the rest; `None` where it is to be done here."""
    film, journal = take.film, take.journal
    video, medium, grown = film.elsewhere, film.medium, film.partial
    if video is None or medium is None or grown is None or journal is None or take.has_no_journal:
        return None
    errand = Errand(
        folder.root, folder.claim.claim_id, replace(parcel, medium=medium), take.rows,
        take.info_keys, scratch(medium.suffix), grown, journal.path,
    )  # fmt: skip
    done: Placed | None
    try:
        done = video.place(errand.finished, video.finish(take.n_captured), errand)
    except pickle.PicklingError as error:
        logger.info("%s is put in place here: %s", parcel.episode.name, error)
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, here more can be done about it
        logger.info("%s was not put in place elsewhere: %s", parcel.episode.name, error)
        done = errand.completed(folder.spend_reserve)
    if done is not None:
        film.let_go()
        if done.episode.steps is None and take.rows:
            logger.warning("%s goes without its step columns", done.episode.name)
    return done


def _commit_in_place(path: Path, take: Take, episode: Episode, with_film: bool) -> Episode:
    """The film grew at its own path; its finished copy takes its place."""
    film = take.film

    def scratch(suffix: str) -> Path:
        return path.with_name(f".{path.stem}.{episode.episode_id}{suffix}")

    episode = replace(episode, name=path.stem, folder=path.parent)
    if with_film:
        assert film.medium is not None
        # Text is finished where it lies; pictures are copied behind their index, and swapped in.
        media = film.finish(take.n_captured, lambda _: path if film.is_text else scratch(".mp4"))
        if not film.is_text:
            try:
                replace_patiently(scratch(".mp4"), path)
            except OSError:
                scratch(".mp4").unlink(missing_ok=True)
                raise
        episode = replace(with_media(episode, film.medium, media), media=path.name)
    else:
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
    write_sidecar(episode, scratch)
    return episode

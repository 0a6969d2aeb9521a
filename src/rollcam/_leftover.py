"""One film that a dead process left: finished by copying its samples, and put in place.

Every step may be the last: whoever recovers may be killed, too, and the next one goes on from there.
Nothing that lies there is trusted: the folder may be anybody's.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from rollcam._place import Medium, Parcel, committed, complete, episode_of, place
from rollcam._take import FINISHED
from rollcam.capture.rates import DEFAULT_FPS
from rollcam.encode.cast_read import finish_cast, read_cast
from rollcam.encode.faststart import MediaFacts, finish_film, has_samples
from rollcam.encode.timeline import as_rate
from rollcam.episode import Episode, EpisodeStatus, scalars_of
from rollcam.errors import MediaError, SettingError, StoreError
from rollcam.store import journal, sidecar
from rollcam.store.layout import NameTemplate
from rollcam.store.names import SIDECAR_SUFFIX, STEPS_SUFFIX

_FILM_SUFFIXES = (".mp4", ".cast")
OURS = (
    *_FILM_SUFFIXES,
    *(FINISHED + suffix for suffix in (*_FILM_SUFFIXES, STEPS_SUFFIX, SIDECAR_SUFFIX)),
    journal.SUFFIX,
)
"""How the files end that we put where films grow."""
_MINIMAL = Episode(episode_id="", run_id="", name="", status=EpisodeStatus.TRUNCATED_BY_CRASH)
_MAX_HEAD_BYTES = 4096
_WRITER_S, _OPENING_S, _LOOK_S = 10.0, 3.0, 0.02
"""How long a process that still writes is waited for, and how often it is looked, in seconds."""
_MIN_FPS, _MAX_FPS = 1e-3, 1e5
_MARGIN_S = Fraction(1, 1_000_000)
"""Times of pictures are whole ticks: a frame may begin a little before its own time."""


class NothingThereError(MediaError):
    """No frame of a film is on the disk."""


class Leftover:
    """One film that a dead process left."""

    def __init__(self, root: Path, claim_id: str, growing: Path, episode_id: str) -> None:
        self._root = root
        self._claim_id = claim_id
        self._growing = growing
        self._id = episode_id
        self.has_sinks = False

    def finish(self) -> Episode:
        """Finish the film, and put it in place.

        Raises:
            NothingThereError: It holds no picture.
            RollcamError: It cannot be read, or a newer Rollcam wrote its journal.
            OSError: The disk is full, or gone.
        """
        told = self._told()
        if told.commit is None and (told.medium or {}).get("suffix") == ".mp4":
            _wait_until_it_is_there(self._growing / f"{self._id}.mp4")
        _wait_for_writer(self._growing / f"{self._id}.mp4")
        told = self._told()
        self.has_sinks = told.head.get("has_sinks") is True
        if told.commit is not None:
            placed = self._placed(told)
            if placed is not None:
                return placed
        return self._finish_anew(told)

    def remove(self) -> None:
        """Delete what is left of it; the journal last, since it says what the rest is."""
        for suffix in sorted(OURS, key=lambda suffix: suffix == journal.SUFFIX):
            (self._growing / f"{self._id}{suffix}").unlink(missing_ok=True)

    def _told(self) -> journal.Journalled:
        path = self._growing / f"{self._id}{journal.SUFFIX}"
        if not path.exists():
            return journal.Journalled({})
        return journal.read_journal(path)

    def _scratch(self, suffix: str) -> Path:
        return self._growing / f"{self._id}{FINISHED}{suffix}"

    def _placed(self, told: journal.Journalled) -> Episode | None:
        """Complete what was being put in place; `None` when the film did not get its name yet."""
        episode = committed(told.commit, self._id, self._root)
        if episode is None:
            return None
        # A row may have been written of a frame that is not in the film.
        columns, n_rows = _columns(told.rows[: episode.n_frames + episode.n_dropped])
        placed = complete(episode, columns, n_rows, self._claim_id, self._scratch)
        if placed is None or placed.media is not None:
            return placed
        # It was told as lost since the disk took no film; now it may.
        if placed.sidecar_path is not None:
            placed.sidecar_path.unlink()
        return None

    def _finish_anew(self, told: journal.Journalled) -> Episode:
        source = self._source()
        facts = episode_of(told.head.get("episode")) or replace(
            _MINIMAL, run_id=self._id, name=f"recovered-{self._id}"
        )
        facts = replace(facts, episode_id=self._id, folder=None)
        suffix = source.suffix
        target = self._scratch(suffix)
        if source != target:
            # It may be another name of a film that is in place: not to be written through.
            target.unlink(missing_ok=True)
        media, last_s = _finished(source, target, facts)
        rows, facts = _cut(told, facts, media, last_s)
        medium = _medium_of(told.medium, suffix)
        columns, n_rows = _columns(rows)
        parcel = Parcel(facts, _template_of(told.head), medium, media, columns, n_rows)
        return place(self._root, self._claim_id, parcel, self._scratch, announce=self._announce)

    def _source(self) -> Path:
        candidates = [self._growing / f"{self._id}{suffix}" for suffix in _FILM_SUFFIXES]
        # The growing file goes first when there was no room for a finished copy.
        candidates += [self._scratch(suffix) for suffix in _FILM_SUFFIXES]
        for path in candidates:
            if path.exists():
                return path
        raise NothingThereError("nothing was filmed yet")

    def _announce(self, episode: Episode) -> None:
        # Whoever recovers may be killed, too.
        path = self._growing / f"{self._id}{journal.SUFFIX}"
        journal.append(path, "commit", sidecar.as_dict(episode))


def _wait_until_it_is_there(growing: Path) -> None:
    """Wait for a film that a darkroom was told to open when its trainer died, and is still to open."""
    deadline = time.monotonic() + _OPENING_S
    while not growing.exists() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def _wait_for_writer(growing: Path) -> None:
    """Wait while a darkroom still encodes what its dead trainer handed over (decision 21)."""
    deadline = time.monotonic() + _WRITER_S
    try:
        with _opened(growing) as file:
            while not _is_free(file):
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{growing} is still being written by the process that encoded for a dead "
                        f"one; the next opening of the folder finishes it"
                    )
                time.sleep(_LOOK_S)
    except FileNotFoundError:
        return


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "r+b")  # on NFS, who only reads gets no lock that shuts others out
    except FileNotFoundError:
        raise
    except OSError:
        return open(path, "rb")


def _is_free(file: BinaryIO) -> bool:
    if sys.platform == "win32":  # which has no darkroom
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks tells nothing
        return True
    return True


def _finished(source: Path, target: Path, facts: Episode) -> tuple[MediaFacts, float]:
    """Finish a film; return what it is, and when its last frame begins."""
    if source.suffix == ".mp4":
        if not _has_pictures(source):
            raise NothingThereError("nothing was filmed yet")
        media = finish_film(source, None if source == target else target)
        return media, media.last_s
    data = source.read_bytes()
    if b"\n" not in data.rstrip(b"\n"):  # the head, or not even that
        raise NothingThereError("nothing was filmed yet")
    if source != target:
        finish_cast(source, target, 1 / _rate(facts))
        data = target.read_bytes()
    cast = read_cast(target)
    if not cast.frames:
        raise NothingThereError("nothing was filmed yet")
    digest = hashlib.sha256(data).hexdigest()
    last_s = cast.frames[-1][0]
    return MediaFacts(
        cast.width, cast.height, len(cast.frames), cast.duration_s, len(data), digest, last_s
    ), last_s


def _has_pictures(source: Path) -> bool:
    try:
        return has_samples(source)
    except MediaError:
        # A head that was not written to its end is small; what is larger and cannot be read was
        # damaged by something else, and is not ours to throw away.
        if source.stat().st_size > _MAX_HEAD_BYTES:
            raise
        return False


def _rate(facts: Episode) -> float:
    fps = facts.fps
    return fps if fps is not None and _MIN_FPS <= fps <= _MAX_FPS else DEFAULT_FPS


def _cut(
    told: journal.Journalled, facts: Episode, media: MediaFacts, last_s: float
) -> tuple[list[dict[str, Any]], Episode]:
    """Return the rows of the frames that are in the film, and the facts as they stood then."""
    last = int((Fraction(last_s) + _MARGIN_S) * as_rate(_rate(facts)))
    rows = [row for row in told.rows if isinstance(row.get("i"), int) and row["i"] <= last]
    n_dropped = sum(bool(row.get("dropped")) for row in rows)
    end = told.end or {}
    is_all = bool(end) and len(rows) == len(told.rows)
    newest = rows[-1] if rows else {}
    if is_all:
        newest = {"steps": end.get("n_steps"), "columns": {"return": end.get("return")}}
    steps = newest.get("steps")
    return rows, replace(
        facts,
        status=EpisodeStatus.TRUNCATED_BY_CRASH,
        reason="the process died"
        + (
            " after the episode had ended; nothing is missing" if is_all else " while it was filmed"
        ),
        n_frames=len(rows) - n_dropped if rows else media.n_encoded,
        n_dropped=n_dropped,
        episode_return=sidecar.as_number(_dict(newest.get("columns")).get("return")),
        episode_length=steps if isinstance(steps, int) else None,
        terminated=end.get("terminated") is True,
        truncated=end.get("truncated") is True,
        ended_at=end["ended_at"] if isinstance(end.get("ended_at"), str) else None,
        final_info=scalars_of(_dict(end.get("final_info"))),
        context_at_end=scalars_of(_dict(end.get("context_at_end")))
        or scalars_of({**facts.context_at_start, **told.context}),
    )


def _columns(rows: list[dict[str, Any]]) -> tuple[dict[str, list[Any]], int]:
    columns: dict[str, list[Any]] = {}
    for n_before, row in enumerate(rows):
        _add_row(columns, _dict(row.get("columns")), n_before)
    return columns, len(rows)


def _add_row(columns: dict[str, list[Any]], row: Mapping[str, Any], n_before: int) -> None:
    """Append a row to columns; one that is new begins with as many blanks as rows came before."""
    for key in row.keys() - columns.keys():
        columns[key] = [None] * n_before
    for key, column in columns.items():
        column.append(row.get(key))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _template_of(head: dict[str, Any]) -> NameTemplate | None:
    text = head.get("template")
    try:
        return NameTemplate(text) if isinstance(text, str) else None
    except SettingError:
        return None


def _medium_of(raw: dict[str, Any] | None, suffix: str) -> Medium:
    told = raw or {}
    is_text = suffix == ".cast"
    pix_fmt = told.get("pix_fmt")
    return Medium(
        suffix,
        "application/x-asciicast" if is_text else "video/mp4",
        str(told.get("codec") or ("asciicast" if is_text else "h264")),
        pix_fmt if isinstance(pix_fmt, str) else None if is_text else "yuv420p",
        _dict(told.get("encoder_version")),
    )

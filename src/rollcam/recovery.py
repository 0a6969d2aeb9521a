"""Finish what dead processes left: their growing films, and the names that they had taken.

A film in the making lies in `.rollcam/partial/{claim_id}` beside its journal. Where the claim's
process is gone, the film is finished by copying its samples, and gets the sidecar that the journal
tells, with `status="truncated_by_crash"`. A living writer is never disturbed; what was left by a
machine that cannot be asked is left alone and listed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from rollcam._place import Medium, Parcel, place, write_columns, write_sidecar
from rollcam._take import FINISHED, add_row
from rollcam.encode.cast_read import finish_cast, read_cast
from rollcam.encode.faststart import MediaFacts, finish_film
from rollcam.encode.timeline import as_rate
from rollcam.episode import Episode, EpisodeStatus, scalars_of
from rollcam.errors import MediaError, RollcamError, SettingError, SidecarError, StoreError
from rollcam.store import claim, journal, sidecar
from rollcam.store.layout import RESERVE, NameTemplate
from rollcam.store.names import claims_of, forget_names, partials_of

logger = logging.getLogger("rollcam")

_FILM_SUFFIXES = (".mp4", ".cast")
_MINIMAL = Episode(episode_id="", run_id="", name="", status=EpisodeStatus.TRUNCATED_BY_CRASH)
_MARGIN_S = Fraction(1, 1_000_000)
"""Times of pictures are whole ticks: a frame may begin a little before its own time."""


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
    left = {p.name for p in partials.iterdir() if p.is_dir()} if partials.is_dir() else set()
    for claim_id in sorted(left.union(claim.claim_ids(claims_of(root)))):
        try:
            _look_after(root, claim_id, dead_hosts, done)
        except OSError as error:  # a read-only folder, for instance
            done.problems.append((partials / claim_id, error))
    for path in partials.iterdir() if partials.is_dir() else ():
        if path.is_file():
            done.left_alone.append(f"{path}: nothing says who wrote it")
    return done


def _look_after(root: Path, claim_id: str, dead_hosts: Collection[str], done: Recovery) -> None:
    growing = partials_of(root) / claim_id
    with claim.looking_after(claims_of(root), claim_id, dead_hosts=dead_hosts) as standing:
        if standing is claim.Standing.DEAD:
            if growing.is_dir():
                _finish_all(root, claim_id, growing, done)
            if not growing.exists():
                forget_names(root, claim_id)
                claim.forget(claims_of(root), claim_id)
        elif standing is claim.Standing.UNKNOWN and growing.is_dir():
            owner = claim.owner_of(claims_of(root), claim_id)
            who = f"process {owner.pid} on {owner.host}" if owner else "somebody unknown"
            done.left_alone.append(
                f"{growing}: written by {who}, which cannot be asked from here whether it lives"
                + (f"; if it does not: rollcam recover --dead-host {owner.host}" if owner else "")
            )


def _finish_all(root: Path, claim_id: str, growing: Path, done: Recovery) -> None:
    """Finish each film of a dead process. Each has its journal; one whose journal is gone, too."""
    names = {path.name.partition(".")[0] for path in growing.iterdir() if path.name != RESERVE}
    for episode_id in sorted(names):
        leftover = _Leftover(root, claim_id, growing, episode_id)
        try:
            episode = leftover.finish()
        except (MediaError, SidecarError) as error:
            done.removed.append(f"{episode_id}: {error}")
            leftover.remove()
        except (RollcamError, OSError) as error:
            done.problems.append((growing / episode_id, error))
        else:
            leftover.remove()
            done.recovered.append(episode)
            if leftover.has_sinks:
                done.to_publish.append(episode)
            logger.info("recovered %s: %d frames", episode.name, episode.n_frames)
    with contextlib.suppress(OSError):
        (growing / RESERVE).unlink(missing_ok=True)
        growing.rmdir()


class _Leftover:
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
            MediaError: It holds no picture.
            SidecarError: Its journal is none.
            RollcamError: The journal is of a newer version.
            OSError: The disk is full, or gone.
        """
        told = self._told()
        self.has_sinks = told.head.get("has_sinks") is True
        if told.commit is not None:
            placed = self._placed(told)
            if placed is not None:
                return placed
        return self._finish_anew(told)

    def remove(self) -> None:
        """Delete what is left of it; the journal last, since it says what the rest is."""
        paths = sorted(
            self._growing.glob(f"{self._id}.*"), key=lambda p: p.suffix == journal.SUFFIX
        )
        for path in paths:
            path.unlink(missing_ok=True)

    def _told(self) -> journal.Journalled:
        path = self._growing / f"{self._id}{journal.SUFFIX}"
        if not path.exists():
            return journal.Journalled({})
        return journal.read_journal(path)

    def _scratch(self, suffix: str) -> Path:
        return self._growing / f"{self._id}{FINISHED}{suffix}"

    def _placed(self, told: journal.Journalled) -> Episode | None:
        """Complete what was being put in place; `None` when the film did not get its name yet."""
        episode = _episode_of(told.commit or {})
        if episode is None:
            return None
        episode = replace(episode, folder=self._root)
        if _is_same(episode.sidecar_path, episode):
            if episode.media is not None:
                return sidecar.read(_path(episode.sidecar_path))
            # It was told as lost since the disk took no film; now it may.
            _path(episode.sidecar_path).unlink()
            return None
        if not _is_whole(episode):
            return None
        if episode.steps_path is not None and not episode.steps_path.exists():
            columns, n_rows = _columns(told.rows)
            episode = write_columns(episode, columns, n_rows, self._scratch)
        write_sidecar(episode, self._scratch)
        return episode

    def _finish_anew(self, told: journal.Journalled) -> Episode:
        source = self._source()
        facts = _episode_of(told.head.get("episode")) or replace(
            _MINIMAL, episode_id=self._id, run_id=self._id, name=f"recovered-{self._id}"
        )
        suffix = source.suffix
        target = self._scratch(suffix) if source != self._scratch(suffix) else source
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
        raise MediaError("nothing was filmed yet")

    def _announce(self, episode: Episode) -> None:
        # Whoever recovers may be killed, too.
        path = self._growing / f"{self._id}{journal.SUFFIX}"
        with contextlib.suppress(OSError), open(path, "ab") as file:
            file.write(b"\n" + sidecar.as_json({"commit": sidecar.as_dict(episode)}).encode())
            file.write(b"\n")


def _finished(source: Path, target: Path, facts: Episode) -> tuple[MediaFacts, float]:
    """Finish a film; return what it is, and when its last frame begins."""
    if source.suffix == ".mp4":
        media = finish_film(source, None if source == target else target)
        return media, media.last_s
    frame_s = 1 / (facts.fps or 30)
    if source != target:
        finish_cast(source, target, frame_s)
    cast = read_cast(target)
    frames = cast.frames[:-1] if cast.frames and cast.frames[-1][1] == "" else cast.frames
    if not frames:
        raise MediaError("nothing was filmed yet")
    data = target.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    last_s = frames[-1][0]
    return MediaFacts(
        cast.width, cast.height, len(frames), cast.duration_s, len(data), digest, last_s
    ), last_s


def _cut(
    told: journal.Journalled, facts: Episode, media: MediaFacts, last_s: float
) -> tuple[list[dict[str, Any]], Episode]:
    """Return the rows of the frames that are in the film, and the facts as they stood then."""
    last = int((Fraction(last_s) + _MARGIN_S) * as_rate(facts.fps or 30))
    rows = [row for row in told.rows if isinstance(row.get("i"), int) and row["i"] <= last]
    n_dropped = sum(bool(row.get("dropped")) for row in rows)
    end = told.end or {}
    is_all = bool(end) and len(rows) == len(told.rows)
    newest = rows[-1] if rows else {}
    if is_all:
        newest = {"steps": end.get("n_steps"), "columns": {"return": end.get("return")}}
    columns = newest.get("columns")
    value = columns.get("return") if isinstance(columns, dict) else None
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
        episode_return=sidecar.as_number(value),
        episode_length=steps if isinstance(steps, int) else None,
        terminated=end.get("terminated") is True,
        truncated=end.get("truncated") is True,
        ended_at=end["ended_at"] if isinstance(end.get("ended_at"), str) else None,
        final_info=scalars_of(end.get("final_info")),
        context_at_end=scalars_of(end.get("context_at_end"))
        or scalars_of({**facts.context_at_start, **told.context}),
    )


def _columns(rows: list[dict[str, Any]]) -> tuple[dict[str, list[Any]], int]:
    columns: dict[str, list[Any]] = {}
    for n_before, row in enumerate(rows):
        values = row.get("columns")
        add_row(columns, values if isinstance(values, dict) else {}, n_before)
    return columns, len(rows)


def _episode_of(raw: Any) -> Episode | None:
    try:
        return sidecar.from_json(json.dumps(raw)) if raw else None
    except SidecarError:
        return None


def _template_of(head: dict[str, Any]) -> NameTemplate | None:
    text = head.get("template")
    try:
        return NameTemplate(text) if isinstance(text, str) else None
    except SettingError:
        return None


def _medium_of(raw: dict[str, Any] | None, suffix: str) -> Medium:
    told = raw or {}
    is_text = suffix == ".cast"
    version = told.get("encoder_version")
    pix_fmt = told.get("pix_fmt")
    return Medium(
        suffix,
        "application/x-asciicast" if is_text else "video/mp4",
        str(told.get("codec") or ("asciicast" if is_text else "h264")),
        pix_fmt if isinstance(pix_fmt, str) else None if is_text else "yuv420p",
        version if isinstance(version, dict) else {},
    )


def _path(path: Path | None) -> Path:
    assert path is not None
    return path


def _is_same(path: Path | None, episode: Episode) -> bool:
    """Whether a sidecar of this very episode lies there."""
    try:
        return path is not None and sidecar.read(path).episode_id == episode.episode_id
    except SidecarError:
        return False


def _is_whole(episode: Episode) -> bool:
    """Whether the film lies under its name, just as the sidecar would tell it."""
    path = episode.media_path
    if path is None or not path.is_file() or path.stat().st_size != episode.size_bytes:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == episode.sha256

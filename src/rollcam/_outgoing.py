"""The joint between recordings and sinks: which films go out, and in what form.

Only what plays is published: a text episode is drawn, what browsers do not play is mended, both
into `.rollcam/outgoing`, from where they go when nobody is owed them any more.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from rollcam.encode.probe import MediaReport, probe
from rollcam.encode.rewrite import FrameReader, encode_film
from rollcam.encode.transcode import transcode
from rollcam.episode import Episode
from rollcam.errors import (
    EncoderFailed,
    MediaError,
    SettingError,
    SidecarError,
    StoreError,
)
from rollcam.publish.entry import Entry
from rollcam.publish.ledger import FILE_NAME, Ledger
from rollcam.publish.sink import Delivery
from rollcam.publish.source import NothingToSendError, Prepared, is_finished, sha256_of
from rollcam.store import sidecar
from rollcam.store.files import list_episodes
from rollcam.store.layout import clean_name
from rollcam.store.names import HIDDEN, SIDECAR_SUFFIX

_CRF = 20
_STALE_S = 3600.0
_MAX_KNOWN = 256
_TRUSTED_SIDE = 4096
"""Larger pictures not every browser plays, whoever made them."""
_CLOCK_STEP_NS = 50_000_000  # the kernel's clock for files goes in steps, of 10 ms at most
_GONE = (FileNotFoundError, NotADirectoryError)
_PASSING = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EIO}
)
"""What is wrong with the machine, and says nothing of the film."""


class Outgoing:
    """The films of a folder, made ready for sinks. The publisher's `Source`.

    Args:
        root: The recordings folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = Ledger(root / HIDDEN / FILE_NAME)
        self._made = root / HIDDEN / "outgoing"
        self._known: dict[tuple[object, ...], tuple[str, MediaReport]] = {}
        self._known_lock = threading.Lock()

    def prepare(self, entry: Entry) -> Prepared:
        """Return the film, probed, and mended or drawn where it would not play.

        Raises:
            NothingToSendError: It was deleted, or is no film.
            MediaError: It does not play, and cannot be mended or drawn.
            RollcamError: That did not work this time: the disk is full, say.
            OSError: It cannot be read this time.
        """
        episode = self._episode(entry)
        media = self._media(episode)
        try:
            status = media.stat()
            sha256, report = self._looked_at(media, status)
        except _GONE as error:
            raise NothingToSendError("the film was deleted") from error
        if _is_unreadable(report):
            raise StoreError(f"{media.name}: {report.problems[0].message}")
        film = media
        if not (report.plays and report.kind == "video" and report.container == "mp4"):
            film = self._playable(report, sha256)
        text = media if report.kind == "text" else None
        delivery = Delivery(episode=episode, media=film, sha256=sha256, text=text)
        return Prepared(delivery, status.st_size, status.st_mtime_ns)

    def trust(self, episode: Episode) -> None:
        """Take a film that this process has just made for what its sidecar says.

        To look at it takes the interpreter from the training as often as it has pictures. Only what
        x264 made of ordinary sizes; all else is looked at. So is this one, once its file has changed.
        """
        encoder = (episode.encoder_version or {}).get("encoder")
        side = max(episode.width or 0, episode.height or 0)
        if encoder != "libx264" or not 0 < side <= _TRUSTED_SIDE or episode.sha256 is None:
            return
        media = self.root / f"{episode.name}.mp4"
        try:
            status = media.stat()
        except OSError:
            return
        if episode.media_path is None or episode.media_path.name != media.name:
            return
        if status.st_size == episode.size_bytes:
            report = MediaReport(media, "video", True, status.st_size, container="mp4")
            self._remember(media, status, (episode.sha256, report))

    def release(self, entry: Entry) -> None:
        """Remove the mended or drawn film, unless another sink is still owed it."""
        if entry.sha256 is None:
            return
        made = self._made_path(entry.sha256)
        if made.exists() and entry.sha256 not in self.ledger.owed_sha256s():
            made.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what is owed to nobody, or was left half done, and is old enough."""
        if not self._made.is_dir():
            return
        owed = {self._made_path(sha256).name for sha256 in self.ledger.owed_sha256s()}
        for path in self._made.iterdir():
            try:
                if path.name not in owed and time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()
            except OSError:
                continue

    def episodes(self, run_ids: Iterable[str]) -> list[Episode]:
        """Return the finished films of these runs."""
        wanted = set(run_ids)
        if not wanted or not self.root.is_dir():
            return []
        return [e for e in list_episodes(self.root).episodes if e.run_id in wanted]

    def _episode(self, entry: Entry) -> Episode:
        """Read the sidecar. Ledger and sidecar may come from elsewhere, and name any file."""
        path = self.root / f"{entry.name}{SIDECAR_SUFFIX}"
        try:
            if clean_name(entry.name) != entry.name or not self._is_inside(path):
                raise NothingToSendError(f"{entry.name!r} is not inside the folder")
            episode = sidecar.read(path)
        except SettingError as error:
            raise NothingToSendError(str(error)) from error
        except SidecarError as error:
            if isinstance(error.__cause__, _GONE):
                raise NothingToSendError("the film was deleted") from error
            if isinstance(error.__cause__, OSError):  # too many open files, say
                raise
            raise NothingToSendError(str(error)) from error
        if episode.episode_id != entry.episode_id:
            raise NothingToSendError("the film was deleted, and another one has its name")
        if not is_finished(episode):
            why = f": {episode.reason}" if episode.reason else ""
            raise NothingToSendError(f"there is no finished film ({episode.status}{why})")
        return episode

    def _media(self, episode: Episode) -> Path:
        media = episode.media_path
        assert media is not None
        if not media.exists():
            raise NothingToSendError("the film was deleted")
        if not self._is_inside(media):
            raise NothingToSendError(f"{media.name} is a link out of the folder")
        return media

    def _looked_at(self, media: Path, status: os.stat_result) -> tuple[str, MediaReport]:
        """Return what a file is, by its content; the same file is read once, however often asked.

        A place is asked several times whether it has a film, and each look at its packets takes the
        interpreter from the training as often as it has packets.
        """
        with self._known_lock:
            known = self._known.get(_identity(media, status))
        if known is None:
            is_settled = time.time_ns() - status.st_ctime_ns > _CLOCK_STEP_NS
            known = sha256_of(media), probe(media)
            if is_settled and not _is_unreadable(known[1]):
                self._remember(media, status, known)
        return known

    def _remember(
        self, media: Path, status: os.stat_result, known: tuple[str, MediaReport]
    ) -> None:
        with self._known_lock:
            while len(self._known) >= _MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[_identity(media, status)] = known

    def _is_inside(self, path: Path) -> bool:
        """Say whether a path leads nowhere else, however it is written and whatever is a link."""
        if path.is_relative_to(self.root) and os.name != "nt":  # whose junctions are links as well
            inner = path.relative_to(self.root).parts
            below = [self.root.joinpath(*inner[: n + 1]) for n in range(len(inner))]
            # To resolve a path is to ask the disk for each part of it, from its root on.
            if ".." not in inner and not any(os.path.islink(place) for place in below):
                return True
        return path.resolve().is_relative_to(self.root.resolve())

    def _made_path(self, sha256: str) -> Path:
        return self._made / f"{uuid.uuid5(uuid.NAMESPACE_OID, sha256).hex}.mp4"

    def _playable(self, report: MediaReport, sha256: str) -> Path:
        """Return a film that plays, made from one that does not; made once for all sinks."""
        target = self._made_path(sha256)
        if target.is_file() and not target.is_symlink():
            return target
        self._made.mkdir(parents=True, exist_ok=True)
        # Another sink's thread may be making the same one.
        scratch = target.with_name(f"{uuid.uuid4().hex}.mp4")
        try:
            if report.plays and report.kind == "video":  # but it is no MP4
                reader = FrameReader(report.path)
                encode_film(reader, scratch, rate=lambda: reader.rate, crf=_CRF)
            else:
                transcode(report.path, scratch)
            made = probe(scratch)
            if not made.plays:  # to close a film on a full disk can be silent
                raise EncoderFailed(f"{report.path.name}: what was made of it does not play")
            os.replace(scratch, target)
        except MediaError as error:
            if _may_pass(error):
                raise StoreError(f"{report.path.name} cannot be read now: {error}") from error
            raise MediaError(f"it does not play, and cannot be mended: {error}") from error
        finally:
            scratch.unlink(missing_ok=True)
        return target


def _identity(media: Path, status: os.stat_result) -> tuple[object, ...]:
    return (
        media, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def _is_unreadable(report: MediaReport) -> bool:
    return any(problem.slug == "unreadable" for problem in report.problems)


def _may_pass(error: BaseException | None) -> bool:
    """Say whether an error, or what caused it, may be over the next time."""
    while error is not None:
        if getattr(error, "errno", None) in _PASSING:
            return True
        error = error.__cause__
    return False

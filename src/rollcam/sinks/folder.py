"""`FolderSink`: a copy of each finished film, with its facts and columns, in a second folder."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rollcam.episode import Episode
from rollcam.errors import SettingError, SinkError, SinkRefused
from rollcam.publish.sink import Delivery
from rollcam.store import sidecar
from rollcam.store.layout import clean_name, replace_patiently
from rollcam.store.names import ALL_SUFFIXES, HIDDEN, MEDIA_SUFFIXES, SIDECAR_SUFFIX, STEPS_SUFFIX

_MAX_NAMES = 10_000
_MAX_RECORD = 64 * 1024


class FolderSink:
    """Copies finished films to a folder, such as a run's log directory.

    The copies bear the names of the originals, or `NAME_2` where somebody else's file lies: nothing
    that is not the sink's own is overwritten. Each file appears complete. A film that changed is
    copied again, over its old copy. Beside a text recording lies the film drawn of it. The folder
    can be listed and served like any other.

    Args:
        dir: The folder; made when it does not exist.

    Raises:
        SettingError: It cannot be made, or not be written to.
    """

    name = "folder"

    def __init__(self, dir: str | os.PathLike[str]) -> None:
        if not isinstance(dir, str | os.PathLike) or not os.fspath(dir):
            raise SettingError(f"FolderSink needs the path of a folder, not {dir!r}")
        self._root = Path(os.path.realpath(dir))
        self._records = self._root / HIDDEN / "copies"
        self.target = str(self._root)
        self.cli_options = f"--to folder --dir {shlex.quote(self.target)}"
        try:
            self._records.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(
                f"FolderSink cannot write to {self._root}: {error}; choose another folder"
            ) from error

    def publish(self, delivery: Delivery) -> str:
        """Copy one film, its facts and its columns; return the path of the film.

        Raises:
            SinkError: The disk is full, or gone.
            SinkRefused: The folder lies inside the recordings folder.
        """
        source = delivery.episode.folder
        if source is not None and self._root.is_relative_to(os.path.realpath(source)):
            raise SinkRefused(
                f"{self._root} lies in the recordings folder itself; choose one beside it"
            )
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            name, record = self._own_name(delivery.episode)
            return str(self._copy(delivery, name, record))
        except OSError as error:
            raise SinkError(f"{delivery.episode.name} cannot be copied: {error}") from error

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str]:
        """Return those whose copies are complete, of this very content, and still there.

        Raises:
            SinkError: The folder cannot be read.
        """
        try:
            return [d.episode.episode_id for d in deliveries if self._has(d)]
        except OSError as error:
            raise SinkError(f"{self._root} cannot be read: {error}") from error

    def close(self) -> None:
        """Nothing is held open."""

    def _has(self, delivery: Delivery) -> bool:
        for name, record in self._candidates(delivery.episode.name):
            facts = _read(record)
            if facts is None and not record.exists():
                return False
            if facts is None or facts.get("episode_id") != delivery.episode.episode_id:
                continue
            files = facts.get("files")
            if facts.get("sha256") != delivery.sha256 or not isinstance(files, dict):
                return False
            folder = self._root.joinpath(name).parent
            return all(_size(folder / Path(file).name) == size for file, size in files.items())
        return False

    def _own_name(self, episode: Episode) -> tuple[str, Path]:
        """Return the name that this episode's copies have, or take one that is free for them.

        What is taken is written down first, so that whoever goes on after a kill knows his own.
        """
        for name, record in self._candidates(episode.name):
            facts = _read(record)
            if facts is not None and facts.get("episode_id") == episode.episode_id:
                return name, record
            if any(os.path.lexists(self._root / f"{name}{suffix}") for suffix in ALL_SUFFIXES):
                continue
            try:
                with open(record, "xb") as file:
                    file.write(json.dumps({"episode_id": episode.episode_id}).encode())
                    file.flush()
                    os.fsync(file.fileno())
            except FileExistsError:
                continue
            return name, record
        raise SinkRefused(f"{episode.name} has no free name in {self._root}")

    def _candidates(self, wanted: str) -> Iterator[tuple[str, Path]]:
        try:
            clean = clean_name(wanted)
        except SettingError as error:
            raise SinkRefused(str(error)) from error
        for n in range(1, _MAX_NAMES):
            name = clean if n == 1 else f"{clean}_{n}"
            yield name, self._records / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.json"

    def _copy(self, delivery: Delivery, name: str, record: Path) -> Path:
        episode = delivery.episode
        folder = self._folder_of(name)
        stem = name.rpartition("/")[2]
        # A text episode's own film is its recording; the drawn one lies beside it.
        own = delivery.text or delivery.media
        suffix = ".cast" if delivery.text is not None and own.suffix != ".json" else own.suffix
        suffix = suffix if suffix in MEDIA_SUFFIXES else ".mp4"
        media = folder / f"{stem}{suffix}"
        drawn = folder / f"{stem}.mp4"
        files = {media.name: _copy_file(own, media)}
        if delivery.text is not None:
            files[drawn.name] = _copy_file(delivery.media, drawn)
        steps = episode.steps_path
        copied_steps = None
        if steps is not None and steps.is_file() and not steps.is_symlink():
            copied_steps = folder / f"{stem}{STEPS_SUFFIX}"
            files[copied_steps.name] = _copy_file(steps, copied_steps)
        is_original = own == episode.media_path
        facts = replace(
            episode, name=name, folder=self._root, media=media.name,
            steps=copied_steps.name if copied_steps else None,
            sha256=delivery.sha256 if is_original else _sha256(media),
            size_bytes=files[media.name],
        )  # fmt: skip
        if not is_original:  # a mended film is H.264 in an MP4, whatever it was made from
            facts = replace(facts, codec="h264", pix_fmt="yuv420p", content_type="video/mp4")
        target = folder / f"{stem}{SIDECAR_SUFFIX}"
        files[target.name] = _write(target, sidecar.to_json(facts).encode())
        done = {"episode_id": episode.episode_id, "sha256": delivery.sha256, "files": files}
        _write(record, json.dumps(done).encode())
        return drawn if delivery.text is not None else media

    def _folder_of(self, name: str) -> Path:
        """Make the folder that a name leads to, unless a link leads out of ours."""
        folder = (self._root / name).parent
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.resolve().is_relative_to(self._root):
            raise SinkRefused(f"{name!r} leads out of {self._root} by a link")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _read(record: Path) -> dict[str, Any] | None:
    """Return what was written down; `None` when nothing was, or half of it."""
    try:
        with open(record, "rb") as file:
            facts = json.loads(file.read(_MAX_RECORD))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy_file(source: Path, target: Path) -> int:
    """Copy so that the file appears complete or not at all; return its size."""
    scratch = _scratch(target)
    try:
        with open(source, "rb") as old, open(scratch, "xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
            size = new.tell()
        replace_patiently(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)
    return size


def _write(target: Path, data: bytes) -> int:
    scratch = _scratch(target)
    try:
        with open(scratch, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace_patiently(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)
    return len(data)


def _scratch(target: Path) -> Path:
    return target.with_name(f".{uuid.uuid4().hex}.rollcam-part")

"""Are the videos of a run really there, and do they play: for runs of the past, by whoever made them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rollcam.encode.probe import probe
from rollcam.errors import RollcamError, SettingError
from rollcam.sinks.wandb_api import RunOnServer, StoredFile, facts_of_file
from rollcam.sinks.wandb_log import VideoRow

HISTORY_TIMEOUT_S = 600.0

State = Literal["plays", "missing", "damaged", "unplayable", "repaired", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one video that a run's history names."""

    path: str
    """Name of the file in the run."""
    key: str
    """Key of the video in the history."""
    step: int | None
    """W&B's step of the row."""
    caption: str | None
    """As the row has it."""
    size_bytes: int
    """As the row has it."""
    state: State
    """`missing`: the server has no such file. `damaged`: it has other bytes than the row says.
    `unplayable`: the bytes are there, and browsers do not play them. `repaired`: it was missing or
    damaged, and was sent again. `unknown`: it could not be fetched this time."""
    reason: str | None = None
    """Why, in words."""

    @property
    def is_good(self) -> bool:
        """Whether it is there now, and plays."""
        return self.state in ("plays", "repaired")


def verify(run_path: str, *, repair_from: Path | None = None) -> Iterator[Verdict]:
    """Look at every video that the history of a run names; yield a verdict on each.

    Args:
        run_path: `entity/project/run_id`.
        repair_from: Folder with the films; what the server lacks is sent again from there, found by
            size and sha256.

    Raises:
        SettingError: `run_path` is none.
        SinkError: The server could not be asked.
    """
    parts = run_path.strip("/").split("/")
    if len(parts) != 3 or not all(parts):
        raise SettingError(f"a run is named entity/project/run_id, not {run_path!r}")
    server = RunOnServer("/".join(parts))
    rows = {
        row.path: row for row in server.videos(timeout_s=HISTORY_TIMEOUT_S)
    }  # a film that is named twice is one file
    listed = server.files(rows)
    copies = _Copies(repair_from)
    for row in rows.values():
        with tempfile.TemporaryDirectory(prefix="rollcam-verify-") as scratch:
            yield _look(server, row, listed.get(row.path), copies, Path(scratch))


class _Copies:
    """The films of a folder, by size; digests are computed for those that may be meant only."""

    def __init__(self, folder: Path | None) -> None:
        self._by_size: dict[int, list[Path]] = {}
        for path in sorted(folder.rglob("*")) if folder is not None else ():
            if path.is_file() and not path.is_symlink():
                self._by_size.setdefault(path.stat().st_size, []).append(path)

    def of(self, row: VideoRow) -> Path | None:
        for path in self._by_size.get(row.size_bytes, ()):
            try:
                if row.sha256 and facts_of_file(path).sha256 == row.sha256:
                    return path
            except OSError:
                continue
        return None


def _look(
    server: RunOnServer, row: VideoRow, listed: StoredFile | None, copies: _Copies, scratch: Path
) -> Verdict:
    try:
        if listed is None:
            found = _verdict(row, "missing", "the server does not list it")
        elif listed.size_bytes != row.size_bytes:
            reason = f"the server has {listed.size_bytes} bytes of {row.size_bytes}"
            found = _verdict(row, "damaged", reason)
        else:
            found = _judge(row, server.download(row.path, scratch))
        if found.state not in ("missing", "damaged"):
            return found
        copy = copies.of(row)
        if copy is None:
            return found
        return _repair(server, row, copy)
    except (RollcamError, OSError) as error:
        return _verdict(row, "unknown", str(error))


def _judge(row: VideoRow, media: Path) -> Verdict:
    facts = facts_of_file(media)
    if facts.size_bytes != row.size_bytes or (row.sha256 and facts.sha256 != row.sha256):
        return _verdict(row, "damaged", "the server's file is not the one that was logged")
    report = probe(media)
    if report.plays:
        return _verdict(row, "plays")
    return _verdict(row, "unplayable", " ".join(problem.message for problem in report.problems))


def _repair(server: RunOnServer, row: VideoRow, copy: Path) -> Verdict:
    judged = _judge(row, copy)
    server.upload(copy, row.path)
    listed = server.files([row.path]).get(row.path)
    if listed is None or not listed.holds(facts_of_file(copy)):
        return _verdict(row, "missing", "it was sent again, and the server does not list it whole")
    if judged.state != "plays":
        return judged
    return _verdict(row, "repaired", f"sent again from {copy}")


def _verdict(row: VideoRow, state: State, reason: str | None = None) -> Verdict:
    return Verdict(row.path, row.key, row.step, row.caption, row.size_bytes, state, reason)

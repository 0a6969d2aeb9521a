"""Reads W&B's transaction logs (`run-<id>.wandb`): what a run has on disk, offline runs above all.

The format is LevelDB's log (blocks of 32 KiB, records in up to many pieces) around protobuf
messages. wandb itself ships no reader since 0.30. A log is read while it grows and after its writer
was killed: what is whole counts, what is torn is left for the next look.
"""

from __future__ import annotations

import glob
import json
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollcam.errors import require

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_IDENT = struct.Struct("<4sHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_VIDEO = "video-file"
_N_LAST = 8
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class VideoRow:
    """One video as a row of a run's history names it."""

    key: str
    """Key of the video in the row, such as `rollcam/video`."""
    path: str
    """Name of the file in the run, such as `media/videos/...mp4`."""
    size_bytes: int
    """As the row has it."""
    sha256: str
    """As the row has it, in hex."""
    caption: str | None
    """Shown beside the video."""
    step: int | None
    """W&B's own step (`_step`) of the row."""
    row: Mapping[str, Any]
    """The whole row."""

    def fact(self, name: str) -> Any:
        """Return what the row says beside the video, such as `episode_id`; `None` when nothing."""
        return self.row.get(f"{self.key.rpartition('/')[0]}/{name}")


def videos_of(row: Mapping[str, Any]) -> Iterator[VideoRow]:
    """Find the videos that a row names; what is no video is passed over."""
    for key, value in row.items():
        if not isinstance(value, Mapping):
            continue
        found = value.get("videos") if value.get("_type") == "videos" else [value]
        for video in found if isinstance(found, list) else []:
            if isinstance(video, Mapping) and video.get("_type") == _VIDEO:
                made = _video(key, video, row)
                if made is not None:
                    yield made


def _video(key: str, video: Mapping[str, Any], row: Mapping[str, Any]) -> VideoRow | None:
    path, size, step = video.get("path"), video.get("size"), row.get("_step")
    if not isinstance(path, str) or not path:
        return None
    caption = video.get("caption")
    return VideoRow(
        key=key,
        path=path.replace("\\", "/"),
        size_bytes=size if isinstance(size, int) else 0,
        sha256=str(video.get("sha256") or ""),
        caption=None if caption is None else str(caption),
        step=step if isinstance(step, int) else None,
        row=row,
    )


class TransactionLog:
    """One log, read as far as it is whole; the next look goes on from there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_broken = False
        """Whether a record in the middle is damaged; nothing behind it is read."""
        self._offset = 0
        self._piece = b""
        self._last: deque[bytes] = deque(maxlen=_N_LAST)

    @property
    def files_dir(self) -> Path:
        """Folder of the run's files, the media among them."""
        return self.path.parent / "files"

    def has_ended(self) -> bool:
        """Say whether the run's end is in the log by now, behind which no row comes."""
        for _ in self._payloads():
            pass
        pb = require("wandb.proto.wandb_internal_pb2", extra="wandb")
        return any(record.HasField("exit") for record in _parsed(pb, self._last))

    def rows(self, *, containing: bytes = b"") -> Iterator[dict[str, Any]]:
        """Yield the rows of history that came since the last look.

        Args:
            containing: Only rows whose bytes hold this; quick, as the others are not parsed.
        """
        for record in self.records(containing=containing):
            if record.WhichOneof("record_type") == "history":
                yield _row_of(record.history)

    def records(self, *, containing: bytes = b"") -> Iterator[Any]:
        """Yield the protobuf records that came since the last look."""
        pb = require("wandb.proto.wandb_internal_pb2", extra="wandb")
        yield from _parsed(pb, (found for found in self._payloads() if containing in found))

    def _payloads(self) -> Iterator[bytes]:
        if self.is_broken:
            return
        try:
            file = self.path.open("rb")
        except OSError:
            return
        with file:
            if self._offset == 0 and not self._starts(file.read(_IDENT.size)):
                return
            file.seek(self._offset)
            while (piece := self._next_piece(file)) is not None:
                kind, data = piece
                self._piece = data if kind in (_FULL, _FIRST) else self._piece + data
                if kind in (_FULL, _LAST):
                    self._last.append(self._piece)
                    yield self._piece

    def _starts(self, head: bytes) -> bool:
        if len(head) < _IDENT.size:
            return False
        self.is_broken = _IDENT.unpack(head) != (b":W&B", 0xBEE1, 0)
        self._offset = _IDENT.size
        return not self.is_broken

    def _next_piece(self, file: Any) -> tuple[int, bytes] | None:
        """Return kind and bytes of the next piece, or `None` where the log ends, whole or torn."""
        left = _BLOCK - self._offset % _BLOCK
        if left < _HEADER.size:  # padding at the end of a block
            self._offset += left
            file.seek(self._offset)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        checksum, length, kind = _HEADER.unpack(header)
        data: bytes = file.read(length)
        if len(data) < length or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            return None
        if checksum != zlib.crc32(data, zlib.crc32(bytes([kind]))):
            self.is_broken = True
            return None
        self._offset += _HEADER.size + length
        return kind, data


def find_logs(wandb_dir: Path, run_id: str) -> list[Path]:
    """Return the logs of a run on this machine: every process that wrote to it has its own."""
    pattern = f"*run-*-{glob.escape(run_id)}/run-{glob.escape(run_id)}.wandb"
    return sorted(path for path in wandb_dir.glob(pattern) if path.is_file())


def await_end(path: Path, timeout_s: float) -> bool:
    """Wait until a run that was finished is on the disk whole; say whether it is.

    `run.finish()` only tells wandb-core that it is over, and returns before the log is written out.
    """
    log, deadline = TransactionLog(path), time.monotonic() + timeout_s
    while not log.has_ended():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _parsed(pb: Any, payloads: Iterable[bytes]) -> Iterator[Any]:
    for payload in payloads:
        record = pb.Record()
        try:
            record.ParseFromString(payload)
        except ValueError:  # protobuf's DecodeError: written by a version that we do not know
            continue
        yield record


def _row_of(history: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for item in history.item:
        keys = [item.key] if item.key else list(item.nested_key)
        try:
            value = json.loads(item.value_json)
        except ValueError:
            continue
        _put(row, keys, value)
    row.setdefault("_step", history.step.num)
    return row


def _put(row: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = row.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        row = inner
    row[keys[-1]] = value

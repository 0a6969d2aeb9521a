"""Event files of previews for TensorBoard's image tab, each preview written once.

An event file can only be appended to, and a process can die at any byte of it. So where a preview
is about to be written is noted first, in `previews.state`; who finds such a note looks there whether
the record is whole.

TensorBoard's data server keeps a series in order by throwing away what stands at the same step or a
later one when an earlier step arrives. A late film must not wipe out newer ones, so it goes into
another series, where it comes last. There are ten of these; a film that fits in none has no preview
(the stock tab shows ten pictures of a series at most) and stands in our own tab only.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import Any

from rollcam.encode.preview import Preview, animate, read_pictures
from rollcam.errors import require
from rollcam.sinks.facts import clean_id
from rollcam.store.layout import write_atomically

STATE = "previews.state"
MAX_SERIES = 10

_TAG = "rollout/film"
_FILE_VERSION = "brain.Event:2"
_EVENT_FILE = re.compile(r"events\.out\.tfevents\.[A-Za-z0-9_.-]{1,200}")
_HEADER = struct.Struct("<QI")
_MAX_RECORD = 64 * 2**20
_numbers = itertools.count()


class PreviewLog:
    """The previews of one log directory.

    Args:
        folder: Where the event files lie; it exists when `add` is called.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._pid = os.getpid()

    def add(self, key: str, film: Path, step: int, wall_time: float) -> None:
        """Write the preview of a film, unless it stands there already.

        Args:
            key: The name of this very film.
            film: The film.
            step: Where the preview belongs.
            wall_time: When the episode ended, in seconds since 1970.

        Raises:
            OSError: The folder cannot be written to.
            MediaError: There is no picture in the film.
            MissingDependencyError: Pillow is not installed.
        """
        state = self._read_state()
        noted = state["pending"].get(key)
        if noted is not None and self._is_written(noted):
            return
        series = _series_for(step, state["last_steps"])
        if series is None:
            return
        record = _record(
            animate(read_pictures(film, extra="tensorboard"), "apng"), series, step, wall_time
        )
        path = self._begun()
        try:
            # Opened each time: nothing is held open, and a file that was deleted is noticed.
            with open(path, "r+b") as file:
                state["last_steps"][series:] = [step, *state["last_steps"][series + 1 :]]
                state["pending"][key] = {"file": path.name, "offset": file.seek(0, os.SEEK_END)}
                self._write_state(state)
                file.write(record)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._path = None  # half a record hides all that stands behind it
            raise

    def forget(self, key: str) -> None:
        """The film's facts are in place: nobody will ask for its preview again."""
        state = self._read_state()
        if state["pending"].pop(key, None) is not None:
            self._write_state(state)

    def _begun(self) -> Path:
        """Return the event file of this process, begun when there is none."""
        if self._pid != os.getpid():  # a fork's child must not write into its parent's file
            self._path, self._pid = None, os.getpid()
        if self._path is None:
            host = clean_id(socket.gethostname())
            name = f"events.out.tfevents.{int(time.time()):010d}.{host}.{os.getpid()}.{next(_numbers)}.rollcam"
            header = _framed(_event(wall_time=time.time(), file_version=_FILE_VERSION))
            with open(self._folder / name, "xb") as file:
                file.write(header)
            self._path = self._folder / name
        return self._path

    def _is_written(self, noted: Any) -> bool:
        """Say whether the record that was noted stands whole where it was to be written."""
        name, offset = noted.get("file"), noted.get("offset")
        if not isinstance(name, str) or not _EVENT_FILE.fullmatch(name):
            return False
        if not isinstance(offset, int) or offset < 0:
            return False
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(offset)
                head = file.read(_HEADER.size)
                if len(head) < _HEADER.size:
                    return False
                length = _HEADER.unpack(head)[0]
                if length > _MAX_RECORD:
                    return False
                body = file.read(length)
                return head + body + file.read(4) == _framed(body) and len(body) == length
        except FileNotFoundError:
            return False

    def _read_state(self) -> dict[str, Any]:
        try:
            raw = json.loads((self._folder / STATE).read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            raw = None
        raw = raw if isinstance(raw, dict) else {}
        steps, pending = raw.get("last_steps"), raw.get("pending")
        steps = steps if isinstance(steps, list) else []
        pending = pending if isinstance(pending, dict) else {}
        return {
            "last_steps": [s for s in steps if isinstance(s, int)][:MAX_SERIES],
            "pending": {str(k): v for k, v in pending.items() if isinstance(v, dict)},
        }

    def _write_state(self, state: dict[str, Any]) -> None:
        path = self._folder / STATE
        write_atomically(path, json.dumps(state).encode(), path.with_suffix(".part"))


def _series_for(step: int, last_steps: list[int]) -> int | None:
    """Return the first series in which `step` would come last; None when there is none."""
    fitting = (i for i, last in enumerate(last_steps) if step > last)
    return next(fitting, len(last_steps) if len(last_steps) < MAX_SERIES else None)


def _record(preview: Preview, series: int, step: int, wall_time: float) -> bytes:
    proto = require("tensorboard.compat.proto.summary_pb2", extra="tensorboard")
    image = proto.Summary.Image(
        height=preview.height, width=preview.width, colorspace=3, encoded_image_string=preview.data
    )
    tag = _TAG if series == 0 else f"{_TAG}-{series + 1}"
    summary = proto.Summary(value=[proto.Summary.Value(tag=tag, image=image)])
    return _framed(_event(wall_time=wall_time, step=step, summary=summary))


def _event(**fields: Any) -> bytes:
    event = require("tensorboard.compat.proto.event_pb2", extra="tensorboard").Event(**fields)
    return bytes(event.SerializeToString())


def _framed(data: bytes) -> bytes:
    """Return `data` as a record of an event file, with its checksums."""
    module = require("tensorboard.summary.writer.record_writer", extra="tensorboard")
    buffer = io.BytesIO()
    module.RecordWriter(buffer).write(data)
    return buffer.getvalue()

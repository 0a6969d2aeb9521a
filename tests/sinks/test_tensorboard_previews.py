"""The event files of previews: what a full disk leaves behind, and what is held open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rollcam.errors import SinkError
from rollcam.sinks.tensorboard import TensorBoardSink
from tests.sinks.deliveries import record


def test_a_disk_that_was_full_hides_no_later_preview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = record(tmp_path / "films", 3)
    sink = TensorBoardSink(tmp_path / "run")
    sink.publish(films[0])
    real = os.fsync

    def full(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if name.startswith("events.out"):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 100)  # half a record
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SinkError, match="No space left"):
            sink.publish(films[1])
    for film in films[1:]:
        sink.publish(film)
    assert sorted(readable_steps(tmp_path / "run")) == [1000, 2000, 3000]
    open_files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert not [name for name in open_files if "events.out" in name]


def readable_steps(logdir: Path) -> list[int]:
    """What TensorBoard's own reader finds: it leaves a file at half a record."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    return [
        event.step
        for path in logdir.rglob("events.out.tfevents.*")
        for event in map(Event.FromString, RawEventFileLoader(str(path)).Load())
        if event.summary.value
    ]

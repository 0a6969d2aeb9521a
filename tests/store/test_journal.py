"""Journals: whatever happened to one, what can be understood of it is read, and nothing is raised."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcam.errors import SidecarError
from rollcam.store.journal import Journal, read_head, read_journal

HEAD = {"episode": {"name": "ep"}, "template": None}
ROWS = [("row", {"i": k, "columns": {"reward": 1.0}}) for k in range(5)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "01.journal"


def written(path: Path) -> bytes:
    journal = Journal(path, HEAD)
    journal.write("medium", {"suffix": ".mp4"})
    journal.write_all(ROWS)
    journal.write("context", {"iteration": 3})
    journal.write("end", {"terminated": True})
    journal.write("commit", {"name": "ep"})
    journal.close()
    return path.read_bytes()


def test_what_was_written_is_read(path: Path) -> None:
    written(path)
    told = read_journal(path)
    assert told.head["episode"] == {"name": "ep"}
    assert told.medium == {"suffix": ".mp4"}
    assert told.rows == [row for _, row in ROWS]
    assert told.context == {"iteration": 3}
    assert told.end == {"terminated": True}
    assert told.commit == {"name": "ep"}
    assert read_head(path)["episode"] == {"name": "ep"}


def test_each_line_is_with_the_system_when_write_returns(path: Path) -> None:
    journal = Journal(path, HEAD)
    for n, (kind, value) in enumerate(ROWS):
        journal.write(kind, value)
        assert len(read_journal(path).rows) == n + 1
    journal.close()


def test_torn_at_every_byte(path: Path) -> None:
    whole = written(path)
    n_before = 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        n_rows = len(read_journal(path).rows)
        assert n_before <= n_rows <= n_before + 1
        n_before = n_rows
    assert n_before == len(ROWS)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of file sizes")
def test_half_a_line_that_a_full_disk_left_spoils_no_other(path: Path) -> None:
    import resource
    import signal

    journal = Journal(path, HEAD)
    journal.write("row", {"i": 0})
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.write("row", {"i": 1, "columns": {"x": "y" * 1000}})
        journal.begin_anew("commit", {"name": "ep"})
        assert read_journal(path).commit == {"name": "ep"}
        with pytest.raises(OSError, match="too large"):
            journal.write("row", {"i": 2, "columns": {"x": "y" * 1000}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    journal.write("end", {"terminated": True})
    journal.close()
    told = read_journal(path)
    assert told.head["episode"] == {"name": "ep"}
    assert (told.commit, told.end) == ({"name": "ep"}, {"terminated": True})


def test_a_newer_one_is_left_to_a_newer_rollcam(path: Path) -> None:
    path.write_text('{"head": {"version": 2}}\n{"row": {"i": 0}}\n')
    with pytest.raises(SidecarError, match=r"version 2.*pip install -U rollcam"):
        read_journal(path)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"null", b"[]", b"1e999", b"{", b"\x00" * 100, b"\xff\xfe", b"[" * 100_000,
        b'{"row":' * 100_000, b'{"row": NaN}', b'{"row": [1]}', b'{"head": "x"}', b'{"row": "x"}',
        b'{"unknown": {"a": 1}}', b'{"commit": null}', b'{"end": 3}',
    ],
    ids=lambda line: repr(line[:20]),
)  # fmt: skip
@pytest.mark.parametrize("where", ["first", "amid", "last"])
def test_a_line_that_is_none_costs_no_other(path: Path, line: bytes, where: str) -> None:
    lines = written(path).splitlines()
    lines.insert({"first": 0, "amid": 4, "last": len(lines)}[where], line)
    path.write_bytes(b"\n".join(lines) + b"\n")
    told = read_journal(path)
    assert told.rows == [row for _, row in ROWS]
    assert told.commit == {"name": "ep"}
    assert bool(told.head) == (where != "first")


@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))
)
def test_anything_at_all(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("j") / "01.journal"
    path.write_bytes(data)
    read_journal(path)
    read_head(path)


def test_what_json_cannot_say_is_said_in_words(path: Path) -> None:
    values: dict[str, Any] = {"a": math.nan, "b": math.inf, "c": object(), "d": {1: 2}}
    journal = Journal(path, HEAD)
    journal.write("row", values)
    journal.close()
    (row,) = read_journal(path).rows
    assert (row["a"], row["b"], row["d"]) == ("nan", "inf", {"1": 2})
    assert b"NaN" not in path.read_bytes()
    assert json.loads(path.read_bytes().splitlines()[1])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes of this kind")
def test_a_pipe_makes_nobody_wait(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="no file"):
        read_journal(path)
    with pytest.raises(OSError, match="no file"):
        read_head(path)

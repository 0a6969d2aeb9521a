"""Ids are given once, whoever forks and whatever the clock says."""

from __future__ import annotations

import os
import sys
import time

import pytest
from ulid import ULID

from rollcam.episode import new_id


def test_an_id_is_a_ulid_of_now() -> None:
    before = time.time()
    given = ULID.from_str(new_id())
    assert before - 0.002 <= given.timestamp <= time.time()


def test_a_clock_that_stands_still_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5_000_000_000, 5_000_000_000, 4_000_000_000, 5_000_000_000] * 1000)
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    ids = [new_id() for _ in range(4000)]
    assert len(set(ids)) == len(ids)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_gives_other_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even within the same millisecond as its parent, which a clock that stands still makes sure of."""
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    new_id()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, new_id().encode())
        os._exit(0)
    own = new_id()
    assert os.waitpid(pid, 0)[1] == 0
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert len(theirs) == len(own)
    assert theirs != own

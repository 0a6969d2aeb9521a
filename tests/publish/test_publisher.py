"""Threads, and several processes with one folder: one publishes, the others record."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rollcam
from rollcam._publication import Publication, open_publisher
from rollcam.errors import SettingError, StoreError
from rollcam.publish.entry import State
from rollcam.publish.ledger import FILE_NAME, Ledger
from rollcam.publish.source import queue
from tests.example_sink.example_sink import ShelfSink
from tests.films import wait_until
from tests.publish.rig import add_film, add_films, python_path
from tests.publish.test_kill import PRELUDE


@contextmanager
def publishing(folder: Path, *sinks: ShelfSink | str) -> Iterator[Publication]:
    publication = open_publisher(folder, list(sinks))
    try:
        yield publication
    finally:
        publication.close(20)


def test_films_go_out_as_they_are_announced(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    with publishing(tmp_path / "films", sink) as publication:
        for k in range(3):
            publication.announce(add_film(tmp_path / "films", f"film-{k}"))
            assert publication.flush(20)
            assert len(sink.films()) == k + 1
        assert not publication.problems


def test_to_flush_before_the_first_film_settles_nothing(tmp_path: Path) -> None:
    """A sink may know its place only with the first film: the run that the trainer opens later."""
    sink = ShelfSink(tmp_path / "shelf")
    with publishing(tmp_path / "films", sink) as publication:
        assert publication.flush(5)
        sink.target = "the trainer's run"
        publication.announce(add_film(tmp_path / "films", "a"))
        assert publication.flush(20)
    (key,) = Ledger(tmp_path / "films" / ".rollcam" / FILE_NAME).counts()
    assert key == (sink.name, "the trainer's run")


def test_the_thread_outlives_quiet_times_and_ends_at_close(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    publication = open_publisher(tmp_path / "films", [sink])
    assert [t.name for t in threading.enumerate() if t.name.startswith("rollcam-publish")] == []
    publication.announce(add_film(tmp_path / "films", "a"))
    (thread,) = (t for t in threading.enumerate() if t.name == "rollcam-publish-shelf")
    assert publication.flush(20)
    assert thread.is_alive()
    assert publication.close(20)
    assert not thread.is_alive()
    assert publication.close(20)


def test_while_nothing_is_due_the_ledger_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opening takes the interpreter from the training a dozen times; a look at the file once."""
    monkeypatch.setattr("rollcam.publish.publisher.POLL_S", 0.02)
    marks: list[object] = []
    opened: list[object] = []
    mark, connect = Ledger.mark, sqlite3.connect

    def marking(ledger: Ledger) -> tuple[int, ...] | None:
        marks.append(mark(ledger))
        return marks[-1]  # type: ignore[return-value]

    def connecting(*args: Any, **settings: Any) -> sqlite3.Connection:
        if threading.current_thread().name.startswith("rollcam-publish"):
            opened.append(args)
        return connect(*args, **settings)

    monkeypatch.setattr(Ledger, "mark", marking)
    monkeypatch.setattr(sqlite3, "connect", connecting)
    sink = ShelfSink(tmp_path / "shelf")
    folder = tmp_path / "films"
    with publishing(folder, sink) as publication:
        publication.announce(add_film(folder, "a"))
        assert publication.flush(20)
        wait_until(lambda: marks[-3:] == [marks[-1]] * 3 != [None] * 3, "the ledger has settled")
        n_opened, n_marks = len(opened), len(marks)
        wait_until(lambda: len(marks) > n_marks + 10, "it was looked at")
        assert len(opened) == n_opened
        # What another process queues is seen all the same.
        other = Ledger(folder / ".rollcam" / "ledger.sqlite")
        queue(other, (sink.name, sink.target), [add_film(folder, "b")], time.time())
        wait_until(lambda: len(sink.films()) == 2, "it goes out")


def test_a_recorder_only_has_to_announce(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    with publishing(tmp_path / "films", sink) as publication:
        with rollcam.Recorder(tmp_path / "films", on_finished=publication.announce) as recorder:
            for k in range(4):
                recorder.begin()
                recorder.frame(np.full((32, 32, 3), 60 * k, np.uint8))
                recorder.end()
            recorder.begin()
            recorder.end()  # nothing was rendered, so nothing is published
        assert publication.flush(30)
        assert len(sink.films()) == 4
        assert not publication.problems


def test_a_sink_may_settle_its_target_late(tmp_path: Path) -> None:
    """W&B's does: the run of the trainer begins after the recorder was made."""
    sink = ShelfSink(tmp_path / "shelf")
    sink.target = "no run yet"
    with publishing(tmp_path / "films", sink) as publication:
        sink.target = "the run"
        publication.announce(add_film(tmp_path / "films", "a"))
        assert publication.flush(20)
    ledger = Ledger(tmp_path / "films" / ".rollcam" / "ledger.sqlite")
    assert list(ledger.counts()) == [("shelf", "the run")]


def test_a_folder_that_is_gone_is_told_once_and_breaks_nothing(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    film = add_film(tmp_path / "films", "a")
    with publishing(tmp_path / "gone", sink) as publication:
        shutil.rmtree(tmp_path / "gone")
        (tmp_path / "gone").write_text("a file where the folder was")
        publication.announce(film)
        ((cause, error),) = publication.problems
        assert cause == "publish:ledger"
        assert isinstance(error, StoreError)


def test_one_slow_sink_does_not_hold_up_another(tmp_path: Path) -> None:
    stuck, quick = ShelfSink(tmp_path / "stuck"), ShelfSink(tmp_path / "quick")
    (stuck.path / "hangs").touch()
    with publishing(tmp_path / "films", stuck, quick) as publication:
        publication.announce(add_film(tmp_path / "films", "a"))
        wait_until(lambda: len(quick.films()) == 1, "the quick one has it")
        assert not publication.flush(0.1)
        (stuck.path / "hangs").unlink()
        assert publication.flush(20)
    assert len(stuck.films()) == 1


def test_a_place_that_cannot_tell_at_the_end_has_what_was_handed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    (sink.path / "mute").touch()
    publication = open_publisher(tmp_path / "films", [sink])
    publication.announce(add_film(tmp_path / "films", "a"))
    wait_until(lambda: len(sink.films()) == 1, "it was handed over")
    assert publication.close(20)
    assert "not yet published" not in caplog.text
    (sink.path / "mute").unlink()
    with publishing(tmp_path / "films", sink) as publication:  # and whoever comes next asks again
        assert publication.flush(20)
    assert len(sink.films()) == 1


def test_announcing_costs_the_recorder_next_to_nothing_while_a_place_hangs(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    (sink.path / "hangs").touch()
    films = add_films(tmp_path / "films", 20)
    with publishing(tmp_path / "films", sink) as publication:
        began = time.monotonic()
        for film in films:
            publication.announce(film)
        assert time.monotonic() - began < 5  # 20 writes to the disk, and no wait for the place
        (sink.path / "hangs").unlink()
        assert publication.flush(30)


def test_recorders_with_the_same_folder_and_sinks_share_one_publisher(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    first = open_publisher(tmp_path / "films", [sink], run_id="a")
    second = open_publisher(tmp_path / "films", [sink], run_id="b")
    film = add_film(tmp_path / "films", "a")
    first.announce(film)
    second.announce(film)
    assert first.close(20)
    assert first.close(20)  # twice is once
    late = add_film(tmp_path / "films", "late")
    second.announce(late)
    assert second.flush(20)
    assert second.close(20)
    assert {episode_id for episode_id, _, _ in sink.films()} == {film.episode_id, late.episode_id}
    assert len(sink.films()) == 2
    assert not sink.is_closed  # it is its owner's
    third = open_publisher(tmp_path / "films", [sink])
    third.announce(add_film(tmp_path / "films", "b"))
    assert third.close(20)
    assert len(sink.films()) == 3


def test_a_sink_made_from_its_name_is_closed(tmp_path: Path) -> None:
    with publishing(tmp_path / "films", f"folder:{tmp_path / 'out'}") as publication:
        (sink,) = publication.sinks
        closed: list[bool] = []
        sink.close = lambda: closed.append(True)  # type: ignore[method-assign]
        publication.announce(add_film(tmp_path / "films", "a"))
    assert closed
    assert (tmp_path / "out" / "a.mp4").is_file()


def test_what_is_owed_is_not_to_be_deleted(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    (sink.path / "hangs").touch()
    film = add_film(tmp_path / "films", "a")
    with publishing(tmp_path / "films", sink) as publication:
        assert not publication.owes(film)
        publication.announce(film)
        assert publication.owes(film)
        (sink.path / "hangs").unlink()
        assert publication.flush(20)
        assert not publication.owes(film)


def test_the_collectors_close_does_not_wait(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path / "shelf")
    (sink.path / "hangs").touch()
    publication = open_publisher(tmp_path / "films", [sink])
    publication.announce(add_film(tmp_path / "films", "a"))
    began = time.monotonic()
    publication.close(wait=False)
    assert time.monotonic() - began < 1
    (sink.path / "hangs").unlink()
    wait_until(lambda: len(sink.films()) == 1, "it went out all the same")


@pytest.mark.parametrize("sinks", ["wandb", None, 7])
def test_sinks_is_a_list(tmp_path: Path, sinks: object) -> None:
    with pytest.raises(SettingError, match="list"):
        open_publisher(tmp_path, sinks)  # type: ignore[arg-type]


def test_the_same_sink_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="twice"):
        open_publisher(tmp_path, [ShelfSink(tmp_path / "a"), ShelfSink(tmp_path / "a")])


@contextmanager
def recorders(
    n: int, folder: Path, shelf: Path, code: str
) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(folder), str(shelf)]
    processes = [
        subprocess.Popen(
            [*command, str(k)], env=python_path(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )
        for k in range(n)
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=20)


MEMBER = """
publication = open_publisher(folder, [ShelfSink(shelf)], run_id=sys.argv[3])
for line in sys.stdin:
    if line.strip() == "close":
        publication.close(20)
        break
    publication.announce(next(e for e in episodes if e.name == line.strip()))
    print("announced", flush=True)
"""


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    if line != "close":
        assert process.stdout.readline() == "announced\n"


@pytest.mark.parametrize("end", ["kill", "close"])
def test_one_of_several_processes_publishes_and_another_takes_over(
    end: str, tmp_path: Path
) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 9)
    sink = ShelfSink(shelf)
    with recorders(3, folder, shelf, MEMBER) as members:
        for k, member in enumerate(members):
            tell(member, f"film-{k}")
        wait_until(lambda: len(sink.films()) == 3, "all three arrived", 60)
        pids = {pid for _, _, pid in sink.films()}
        assert len(pids) == 1
        holder = next(m for m in members if m.pid in pids)
        for k, member in enumerate(members):
            tell(member, f"film-{3 + k}")
        wait_until(lambda: len(sink.films()) == 6, "all six arrived", 60)
        assert {pid for _, _, pid in sink.films()} == pids
        if end == "kill":
            holder.send_signal(signal.SIGKILL)
        else:
            tell(holder, "close")
        assert holder.wait(30) == (-signal.SIGKILL if end == "kill" else 0)
        others = [m for m in members if m is not holder]
        for k, member in enumerate(others):
            tell(member, f"film-{6 + k}")
        wait_until(lambda: len(sink.films()) == 8, "another took over", 60)
        newest = {pid for _, _, pid in sink.films()[6:]}
        assert newest < {m.pid for m in others}
        assert len(newest) == 1
        for member in others:
            tell(member, "close")
            assert member.wait(30) == 0
    ids = [episode_id for episode_id, _, _ in sink.films()]
    assert len(ids) == len(set(ids)) == 8
    counts = Ledger(folder / ".rollcam" / "ledger.sqlite").counts()[("shelf", str(shelf))]
    assert counts[State.STORED] == 8


def test_what_a_dead_process_left_is_taken_over_without_a_new_film(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 3)
    sink = ShelfSink(shelf)
    (shelf / "hangs").touch()
    with recorders(2, folder, shelf, MEMBER) as (first, second):
        tell(first, "film-0")
        ledger = Ledger(folder / ".rollcam" / "ledger.sqlite")
        key = ("shelf", str(shelf))
        wait_until(lambda: ledger.counts()[key][State.SENDING] == 1, "it is being sent", 30)
        tell(second, "film-1")
        first.kill()
        first.wait(20)
        (shelf / "hangs").unlink()
        wait_until(lambda: len(sink.films()) == 2, "the second took over both", 60)
        wait_until(lambda: ledger.counts()[key][State.STORED] == 2, "both are confirmed", 60)
    assert {pid for _, _, pid in sink.films()} == {second.pid}


def test_a_thousand_films_are_queued_and_memory_stays(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 1000)
    shelf.mkdir()
    (shelf / "down").touch()
    code = """
        import psutil
        from rollcam.encode.probe import probe
        def used():
            return psutil.Process().memory_info().rss
        publication = open_publisher(folder, [ShelfSink(shelf)])
        for episode in episodes[:50]:
            publication.announce(episode)
        probe(episodes[0].media_path)
        (shelf / "down").unlink()
        assert publication.flush(60)
        (shelf / "down").touch()
        before = used()
        for episode in episodes[50:]:
            publication.announce(episode)
        queued = used()
        (shelf / "down").unlink()
        began = time.monotonic()
        assert publication.flush(240)
        drained = used()
        assert publication.close(20)
        print(queued - before, drained - before, time.monotonic() - began)
    """
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(folder), str(shelf)],
        capture_output=True, text=True, timeout=280, check=False, env=python_path(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    queued, drained, _ = map(float, done.stdout.split())
    assert queued < 8e6
    assert drained < 16e6
    assert len({episode_id for episode_id, _, _ in ShelfSink(shelf).films()}) == 1000

"""The ledger: durable, shared, and replaceable."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollcam.errors import StoreError
from rollcam.publish.entry import Entry, State
from rollcam.publish.ledger import Ledger
from tests.example_sink.example_sink import ShelfSink
from tests.films import wait_until
from tests.publish.rig import Rig, add_film, add_films, python_path, rig

KEY = ("shelf", "here")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / ".rollcam" / "ledger.sqlite")


@pytest.fixture
def made(tmp_path: Path) -> Rig:
    return rig(tmp_path / "films", ShelfSink(tmp_path / "shelf"))


def test_an_entry_comes_back_as_it_was(ledger: Ledger) -> None:
    entry = Entry(
        *KEY, "01A", "sub/ä\N{PILE OF POO} film", State.HANDED, "ab" * 32, 7, 8, True, 1, 2, 3, 4, 5,
        6.5, "me", "http://x", "it's", 1.0, 2.0, 3.0,
    )  # fmt: skip
    ledger.put([entry])
    assert ledger.find(KEY, ["01A", "01B"]) == {"01A": entry}
    assert ledger.find(("shelf", "there"), ["01A"]) == {}


def test_a_name_that_is_no_unicode_is_no_trouble(ledger: Ledger) -> None:
    ledger.put([Entry(*KEY, "01A", "bad-\udcff")])
    assert ledger.find(KEY, ["01A"])["01A"].name == "bad-\N{REPLACEMENT CHARACTER}"


def test_to_read_a_folder_writes_nothing(ledger: Ledger) -> None:
    assert ledger.counts() == {}
    assert ledger.owes("01A") == ()
    assert ledger.troubled(5) == []
    assert not ledger.exists
    assert not ledger.path.parent.exists()


def test_owes_until_it_is_stored(ledger: Ledger) -> None:
    for state in State:
        ledger.put([Entry(*KEY, "01A", "a", state), Entry("other", "x", "01A", "a", State.STORED)])
        owed = state in (State.QUEUED, State.SENDING, State.HANDED)
        assert ledger.owes("01A") == ((KEY,) if owed else ())


def test_change_leaves_alone_what_has_moved_on(ledger: Ledger) -> None:
    old = Entry(*KEY, "01A", "a")
    ledger.change([(None, old)])
    ledger.put([replace(old, state=State.SENDING, sent_at=5.0)])
    ledger.change([(old, replace(old, name="b")), (None, replace(old, name="c"))])
    found = ledger.find(KEY, ["01A"])["01A"]
    assert (found.state, found.name) == (State.SENDING, "a")


def test_calls_that_follow_each_other_open_the_file_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def counted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    ledger.put([Entry(*KEY, "01A", "a")])
    monkeypatch.setattr(sqlite3, "connect", counted)
    with ledger.together():
        assert ledger.owes("01A") == (KEY,)
        with ledger.together():  # of a caller's caller
            ledger.put([Entry(*KEY, "01B", "b")])
        assert set(ledger.find(KEY, ["01A", "01B"])) == {"01A", "01B"}
        assert len(opened) == 1
    with pytest.raises(sqlite3.ProgrammingError):
        opened[0].execute("select 1")
    assert ledger.owes("01B") == (KEY,)
    assert len(opened) == 2


def test_the_mark_changes_with_every_write_or_cannot_tell(ledger: Ledger) -> None:
    assert ledger.mark() is None
    marks = []
    for k in range(3):
        ledger.put([Entry(*KEY, "01A", "a", n_asked=k)])
        assert ledger.mark() is None, "written just now: the next write may leave no trace"
        wait_until(lambda: ledger.mark() is not None, "the clock of files has moved on")
        marks.append(ledger.mark())
        ledger.owes("01A")
        assert ledger.mark() == marks[-1]
    assert len(set(marks)) == 3
    ledger.path.unlink()
    assert ledger.mark() is None


def test_when_the_next_is_due_for_sending_and_for_asking(ledger: Ledger) -> None:
    assert ledger.next_due(KEY) == (None, None)
    ledger.put([Entry(*KEY, "01A", "a", State.STORED, due_at=1.0)])
    assert ledger.next_due(KEY) == (None, None)
    ledger.put([Entry(*KEY, "01B", "b", State.QUEUED, due_at=7.0)])
    ledger.put([Entry(*KEY, "01C", "c", State.QUEUED, due_at=5.0, must_ask=True)])
    assert ledger.next_due(KEY) == (7.0, 5.0)
    ledger.put([Entry(*KEY, "01D", "d", State.HANDED, due_at=3.0)])
    ledger.put([Entry(*KEY, "01E", "e", State.QUEUED, due_at=4.0)])
    assert ledger.next_due(KEY) == (4.0, 3.0)
    assert ledger.next_due(("shelf", "there")) == (None, None)


def test_what_broke_while_it_was_open_is_opened_anew(ledger: Ledger) -> None:
    ledger.put([Entry(*KEY, "01A", "a")])

    def fail() -> None:
        with ledger.together():
            assert ledger.owes("01A") == (KEY,)
            raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        fail()
    for path in ledger.path.parent.iterdir():
        path.unlink()
    assert ledger.owes("01A") == ()
    with ledger.together():
        ledger.put([Entry(*KEY, "01B", "b")])
        ledger.path.write_bytes(b"junk" * 1000)
        ledger.put([Entry(*KEY, "01C", "c")])
        assert ledger.owes("01C") == (KEY,)
    assert list(ledger.path.parent.glob("ledger.sqlite.broken-*"))


@pytest.mark.parametrize("junk", [b"junk" * 5000, b"SQLite format 3\0" + b"\xff" * 9000, "torn"])
def test_a_broken_ledger_is_set_aside(ledger: Ledger, junk: bytes | str) -> None:
    ledger.put([Entry(*KEY, f"{k:05}", "a") for k in range(2000)])
    if junk == "torn":
        size = ledger.path.stat().st_size
        with open(ledger.path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 8192))
    else:
        assert isinstance(junk, bytes)
        ledger.path.write_bytes(junk)
    ledger.put([Entry(*KEY, "01A", "a")])
    assert ledger.counts()[KEY][State.QUEUED] == 1
    (aside,) = ledger.path.parent.glob("ledger.sqlite.broken-*")
    assert aside.stat().st_size > 0


def test_a_database_of_somebody_elses_is_set_aside_too(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    db = sqlite3.connect(ledger.path)
    db.execute("create table users (name)")
    db.execute("pragma user_version=1")
    db.close()
    ledger.put([Entry(*KEY, "01A", "a")])
    assert list(ledger.path.parent.glob("ledger.sqlite.broken-*"))


def test_a_newer_ledger_is_left_alone(ledger: Ledger) -> None:
    ledger.put([Entry(*KEY, "01A", "a")])
    db = sqlite3.connect(ledger.path)
    db.execute("pragma user_version=2")
    db.close()
    before = ledger.path.read_bytes()
    with pytest.raises(StoreError, match="newer Rollcam"):
        ledger.put([Entry(*KEY, "01B", "b")])
    assert ledger.path.read_bytes() == before


def test_a_ledger_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / ".rollcam").write_text("a file where a folder belongs")
    with pytest.raises(StoreError, match="cannot be used"):
        Ledger(tmp_path / ".rollcam" / "ledger.sqlite").put([Entry(*KEY, "01A", "a")])


def test_many_processes_write_at_once(ledger: Ledger) -> None:
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from rollcam.publish.entry import Entry
        from rollcam.publish.ledger import Ledger
        ledger = Ledger(Path(sys.argv[1]))
        for k in range(40):
            ledger.change([(None, Entry("shelf", "here", f"{sys.argv[2]}-{k}", "a"))])
        """
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(ledger.path), str(n)], env=python_path())
        for n in range(4)
    ]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert ledger.counts()[KEY][State.QUEUED] == 160


@pytest.mark.parametrize("how", ["deleted", "corrupt"])
def test_a_lost_ledger_is_rebuilt_and_nothing_is_doubled(made: Rig, how: str) -> None:
    films = add_films(made.folder, 4)
    made.line._run_ids = {films[0].run_id}
    for film in films[:3]:
        made.line.add(film)
    made.steps()
    made.line.add(films[3])
    if how == "deleted":
        made.ledger.path.unlink()
    else:
        made.ledger.path.write_bytes(b"\0" * 30000)
    made.steps(until=lambda: len(made.sink.films()) == 4)
    made.steps()
    assert sorted(made.order()) == [f"film-{k}" for k in range(4)]
    assert set(made.states().values()) == {State.STORED}
    assert made.line.tally.n_sent == 4


def test_a_lost_ledger_of_a_dead_run_is_rebuilt_by_the_command(made: Rig) -> None:
    add_films(made.folder, 4)
    made.queue()
    made.steps(until=lambda: made.line.tally.n_sent == 2)
    made.ledger.path.unlink()
    after = made.again()
    after.queue(must_ask=True, again=True)
    after.steps()
    assert sorted(after.order()) == [f"film-{k}" for k in range(4)]
    assert (after.line.tally.n_sent, after.line.tally.n_already_there) == (2, 2)


def test_only_the_runs_own_films_come_back_by_themselves(made: Rig) -> None:
    """An old film in the folder is nobody's business until somebody says `rollcam publish`."""
    add_film(made.folder, "old", run_id="another run")
    ours = add_film(made.folder, "ours")
    made.line._run_ids = {ours.run_id}
    made.line.add(ours)
    made.steps()
    made.ledger.path.unlink()
    made.line.step()
    made.steps()
    assert made.order() == ["ours"]
    assert "old" not in made.states()

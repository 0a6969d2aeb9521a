"""`kill -9` between every pair of ledger states; after a restart everything is there exactly once."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rollcam.publish.entry import State
from tests.example_sink.example_sink import ShelfSink
from tests.publish.rig import Time, add_films, python_path, rig

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from rollcam._publication import open_publisher
from rollcam.publish.ledger import Ledger
from rollcam.store.files import list_episodes
from example_sink import ShelfSink

folder, shelf = Path(sys.argv[1]), Path(sys.argv[2])
episodes = list_episodes(folder).episodes

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def poll(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)  # between two looks; as `wait_until`, in a script that imports little

def die_at(state, when, n):
    real, seen = Ledger.put, []
    def put(self, entries):
        entries = list(entries)
        seen.extend(e for e in entries if e.state == state)
        due = len(seen) >= n and any(e.state == state for e in entries)
        if due and when == "before":
            die()
        real(self, entries)
        if due and when == "after":
            die()
    Ledger.put = put
"""


def run(code: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env=python_path(),
    )  # fmt: skip
    assert done.returncode == status, f"{done.returncode}\n{done.stderr}"
    return done


ANNOUNCE = """
publication = open_publisher(folder, [ShelfSink(shelf)])
for episode in episodes:
    publication.announce(episode)
poll(lambda: False)
"""

DEATHS = {
    "queued, nothing sent": """
        die_at("sending", "before", 1)
    """,
    "sending, not handed over": """
        die_at("sending", "after", 2)
    """,
    "in the middle of the hand-over": """
        def arrived(self, delivery):
            if len(self.films()) == 2:
                die()
        ShelfSink.arrived = arrived
    """,
    "handed over, not written down": """
        die_at("handed", "before", 2)
    """,
    "handed": """
        die_at("handed", "after", 3)
    """,
    "asked, not written down": """
        die_at("stored", "before", 1)
    """,
    "one stored": """
        die_at("stored", "after", 1)
    """,
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("successor", ["process", "command"])
def test_exactly_once_after_a_kill(death: str, successor: str, tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    films = add_films(folder, 4)
    run(textwrap.dedent(DEATHS[death]) + ANNOUNCE, folder, shelf, status=-signal.SIGKILL)
    if successor == "process":
        code = """
            publication = open_publisher(folder, [ShelfSink(shelf)])
            assert publication.flush(60)
            assert publication.close(10)
        """
        run(code, folder, shelf)
    else:
        command = ["-m", "rollcam", "publish", str(folder), "--to", f"shelf:{shelf}"]
        install = tmp_path / "site"
        add_entry_point(install)
        environment = python_path()
        environment["PYTHONPATH"] += f":{install}"
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=120, check=False,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    arrived = [episode_id for episode_id, _, _ in ShelfSink(shelf).films()]
    assert sorted(arrived) == sorted(film.episode_id for film in films)
    again = rig(folder, ShelfSink(shelf))
    assert set(again.states().values()) == {State.STORED}


def test_the_kill_between_queueing_and_the_ledger_costs_only_a_question(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 3)
    code = """
        Ledger.change = lambda self, changes: die()
        open_publisher(folder, [ShelfSink(shelf)]).announce(episodes[0])
    """
    run(code, folder, shelf, status=-signal.SIGKILL)
    after = rig(folder, ShelfSink(shelf), Time())
    after.queue(must_ask=True)
    after.steps()
    assert sorted(after.order()) == ["film-0", "film-1", "film-2"]


def test_down_for_the_whole_run(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    films = add_films(folder, 6)
    shelf.mkdir()
    (shelf / "down").touch()
    code = """
        publication = open_publisher(folder, [ShelfSink(shelf)])
        for episode in episodes:
            publication.announce(episode)
        poll(lambda: publication.problems)
        began = time.monotonic()
        assert not publication.close(30)
        assert time.monotonic() - began < 5
        assert len(publication.problems) == 1
    """
    done = run(code, folder, shelf)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "6 films are not yet published" in lines[0]
    assert f"rollcam publish {folder} --to shelf" in lines[0]
    (shelf / "down").unlink()
    after = rig(folder, ShelfSink(shelf))
    after.queue(again=True, must_ask=True)
    after.steps()
    arrived = [episode_id for episode_id, _, _ in after.sink.films()]
    assert sorted(arrived) == sorted(film.episode_id for film in films)


def test_a_place_that_hangs_costs_close_its_limit_and_no_more(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 2)
    shelf.mkdir()
    (shelf / "hangs").touch()
    code = """
        publication = open_publisher(folder, [ShelfSink(shelf)])
        for episode in episodes:
            publication.announce(episode)
        began = time.monotonic()
        assert not publication.close(1.0)
        assert 0.9 < time.monotonic() - began < 4
    """
    done = run(code, folder, shelf)
    assert "2 films are not yet published" in done.stderr
    (shelf / "hangs").unlink()
    after = rig(folder, ShelfSink(shelf), Time())
    after.steps()
    assert sorted(after.order()) == ["film-0", "film-1"]


def test_what_nobody_closed_is_delivered_at_the_end(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 8)
    code = """
        publication = open_publisher(folder, [ShelfSink(shelf)])
        for episode in episodes:
            publication.announce(episode)
    """
    assert run(code, folder, shelf).stderr == ""
    assert len(ShelfSink(shelf).films()) == 8


def test_children_of_multiprocessing_deliver_at_their_end(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 4)
    code = """
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        def film(k):
            publication = open_publisher(folder, [ShelfSink(shelf)])
            publication.announce(episodes[k])
            globals()["kept"] = publication
        context = multiprocessing.get_context("fork")
        for k in range(4):
            child = context.Process(target=film, args=(k,))
            child.start()
            child.join(60)
            assert child.exitcode == 0
    """
    run(code, folder, shelf)
    films = ShelfSink(shelf).films()
    assert len({episode_id for episode_id, _, _ in films}) == len(films) == 4
    assert len({pid for _, _, pid in films}) == 4


def test_a_forked_child_does_nothing_and_keeps_no_lock(tmp_path: Path) -> None:
    folder, shelf = tmp_path / "films", tmp_path / "shelf"
    add_films(folder, 3)
    code = """
        import warnings
        warnings.simplefilter("ignore")
        publication = open_publisher(folder, [ShelfSink(shelf)])
        publication.announce(episodes[0])
        assert publication.flush(30)
        if (child := os.fork()) == 0:
            publication.announce(episodes[1])
            assert not publication.flush(1)
            assert publication.close(1)
            poll(lambda: (shelf / "done").exists())
            os._exit(7)
        print(child, flush=True)
        die()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(folder), str(shelf)],
        stdout=subprocess.PIPE, text=True, env=python_path(),
    )  # fmt: skip
    try:
        assert process.wait(60) == -signal.SIGKILL
        # The child lives on; the films are for whoever comes next.
        after = rig(folder, ShelfSink(shelf), Time())
        after.queue()
        after.steps()
        assert len(after.sink.films()) == 3
    finally:
        (shelf / "done").touch()
        if process.stdout is not None:
            process.stdout.close()


def add_entry_point(folder: Path) -> None:
    """What an installed package of that name leaves beside its modules."""
    facts = folder / "rollcam_example_sink-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: rollcam-example-sink\nVersion: 1\n"
    )
    (facts / "entry_points.txt").write_text("[rollcam.sinks]\nshelf = example_sink:ShelfSink\n")

"""Claims: who lives is decided by a lock that the living hold, and by nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rollcam.store import claim
from rollcam.store.claim import Claim, Standing, claim_ids, looking_after, owner_of, standing_of
from tests.films import wait_until
from tests.process.scripts import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")

HOLDER = """
import os, sys, time
from pathlib import Path
from rollcam.store.claim import Claim
held = Claim(Path(sys.argv[1]), "run", os.getpid())
print(held.claim_id, flush=True)
{then}
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, then: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds a claim until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(then=then), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate(timeout=30)


def left_behind(folder: Path, **changes: Any) -> str:
    """The claim of a process that was killed; its words about itself changed."""
    with holder(folder) as (process, claim_id):
        process.kill()
        process.wait(timeout=30)
    path = folder / f"{claim_id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return claim_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_a_living_process_and_then_a_dead_one(folder: Path) -> None:
    with holder(folder) as (process, claim_id):
        assert standing_of(folder, claim_id) is Standing.ALIVE
        process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
        process.wait(timeout=30)
        assert standing_of(folder, claim_id) is Standing.DEAD


def test_our_own_claim_is_alive_for_us_too(folder: Path) -> None:
    own = Claim(folder, "run", os.getpid())
    assert standing_of(folder, own.claim_id) is Standing.ALIVE
    other = Claim(folder, "run", os.getpid())
    assert other.claim_id != own.claim_id
    own.release()
    own.release()
    assert claim_ids(folder) == [other.claim_id]
    other.release(keep=True)
    assert standing_of(folder, other.claim_id) is Standing.DEAD


def test_a_process_id_that_lives_again_says_nothing(folder: Path) -> None:
    """The pid in the file is that of this very process, which is alive."""
    claim_id = left_behind(folder, pid=os.getpid())
    assert standing_of(folder, claim_id) is Standing.DEAD


def test_one_looks_after_the_dead_at_a_time(folder: Path) -> None:
    claim_id = left_behind(folder)
    with looking_after(folder, claim_id) as first:
        assert first is Standing.DEAD
        assert standing_of(folder, claim_id) is Standing.ALIVE
        with looking_after(folder, claim_id) as second:
            assert second is Standing.ALIVE
    assert standing_of(folder, claim_id) is Standing.DEAD


@posix
@pytest.mark.parametrize("way", ["os.fork", "multiprocessing", "subprocess"])
def test_a_child_does_not_keep_it_alive(folder: Path, way: str) -> None:
    then = {
        "os.fork": """
child = os.fork()
if child == 0:
    time.sleep(60)  # it is killed before
    os._exit(0)
""",
        "multiprocessing": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
process.start()
child = process.pid
""",
        "subprocess": """
import subprocess
child = subprocess.Popen(["sleep", "60"], close_fds=False).pid
""",
    }[way]
    with holder(folder, then + "print(child, flush=True)") as (process, claim_id):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert standing_of(folder, claim_id) is Standing.ALIVE
            process.kill()
            process.wait(timeout=30)
            # The child closes its copy as soon as it runs: on a busy machine, that is a little later.
            wait_until(lambda: standing_of(folder, claim_id) is Standing.DEAD, "it is let go of")
            os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


@posix
def test_the_end_of_a_child_does_not_let_go_of_it(folder: Path) -> None:
    own = Claim(folder, "run", os.getpid())
    pid = os.fork()
    if pid == 0:
        own._lock.release(force=True)  # the worst that it could do
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert standing_of(folder, own.claim_id) is Standing.ALIVE
    own.release()


def test_somebody_who_reads_the_lock_file_does_not_let_go_of_it(folder: Path) -> None:
    """As `shutil.copytree` does; with POSIX record locks that would be the end of it."""
    own = Claim(folder, "run", os.getpid())
    (folder / f"{own.claim_id}.lock").read_bytes()
    assert standing_of(folder, own.claim_id) is Standing.ALIVE
    own.release()


# --- who cannot be asked --------------------------------------------------------------------------

ELSEWHERE = {"host": "node-7", "boot_id": "another", "machine_id": "another"}


def test_another_machine_is_left_alone_until_somebody_says_that_it_is_dead(folder: Path) -> None:
    claim_id = left_behind(folder, **ELSEWHERE)
    assert standing_of(folder, claim_id) is Standing.UNKNOWN
    with looking_after(folder, claim_id, dead_hosts=("node-8",)) as standing:
        assert standing is Standing.UNKNOWN
    with looking_after(folder, claim_id, dead_hosts=("node-7",)) as standing:
        assert standing is Standing.DEAD


def test_a_living_one_is_alive_whatever_is_said_of_its_host(folder: Path) -> None:
    own = Claim(folder, "run", os.getpid())
    with looking_after(folder, own.claim_id, dead_hosts=(own.owner.host,)) as standing:
        assert standing is Standing.ALIVE
    own.release()


def test_this_machine_before_it_was_started_anew(folder: Path) -> None:
    here = owner_of(folder, left_behind(folder))
    assert here is not None
    if here.machine_id is None:
        pytest.skip("this machine has no id")
    claim_id = left_behind(folder, boot_id="before", device=-1)
    assert standing_of(folder, claim_id) is Standing.DEAD
    # The same image on another machine: the id is the same, the name is not.
    claim_id = left_behind(folder, boot_id="before", host="clone")
    assert standing_of(folder, claim_id) is Standing.UNKNOWN


@pytest.mark.skipif(claim.boot_id() is None, reason="the kernel does not say when it was started")
def test_a_disk_that_is_mounted_twice(folder: Path) -> None:
    """Containers that mount a disk of the net each for itself do not see each other's locks."""
    claim_id = left_behind(folder, device=-1)
    assert standing_of(folder, claim_id) is Standing.UNKNOWN


def test_a_claim_that_does_not_say_whose_it_is(folder: Path) -> None:
    claim_id = left_behind(folder)
    (folder / f"{claim_id}.json").unlink()
    # The lock comes first: nothing was written under it yet.
    assert standing_of(folder, claim_id) is Standing.DEAD
    with looking_after(folder, claim_id, has_left=True) as standing:
        assert standing is Standing.UNKNOWN


def test_a_claim_that_is_gone(folder: Path) -> None:
    told = claim.Owner("gone", "run", "node-7", 1)
    with looking_after(folder, "gone", has_left=True, told=told) as standing:
        assert standing is Standing.UNKNOWN
    assert list(folder.iterdir()) == []
    with looking_after(
        folder, "gone", has_left=True, told=told, dead_hosts=("node-7",)
    ) as standing:
        assert standing is Standing.DEAD
        assert standing_of(folder, "gone") is Standing.ALIVE  # nobody else does the same


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '{"run_id": 1}', "[" * 100_000, '{"run_id":' * 50_000,
        '{"run_id": "r", "host": "h", "pid": Infinity}', '{"run_id": "r", "host": "h", "pid": "x"}',
        '{"run_id": "r", "host": "h", "pid": null}', "\udcff", "x" * 100_000,
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_hostile_words(folder: Path, text: str) -> None:
    claim_id = left_behind(folder)
    (folder / f"{claim_id}.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert owner_of(folder, claim_id) is None
    with looking_after(folder, claim_id, has_left=True) as standing:
        assert standing is Standing.UNKNOWN


@posix
@pytest.mark.parametrize("suffix", [".lock", ".json"])
def test_pipes_and_links_make_nobody_wait(folder: Path, suffix: str) -> None:
    claim_id = left_behind(folder)
    path = folder / f"{claim_id}{suffix}"
    path.unlink()
    os.mkfifo(path)
    with looking_after(folder, claim_id, has_left=True) as standing:
        assert standing is not Standing.ALIVE
    path.unlink()
    outside = folder.parent / "outside"
    outside.write_text("mine")
    path.symlink_to(outside)
    with looking_after(folder, claim_id, has_left=True) as standing:
        assert standing is Standing.UNKNOWN
    assert outside.read_text() == "mine"


# --- a folder that goes away ----------------------------------------------------------------------


@posix
def test_a_claim_is_put_back_under_its_own_name(folder: Path) -> None:
    """What grows under it must not seem to have been left by somebody dead."""
    claims = folder / "claims"
    claims.mkdir()
    own = Claim(claims, "run", os.getpid())
    before = own.claim_id
    own.renew()
    for path in claims.iterdir():
        path.unlink()
    claims.rmdir()
    claims.mkdir()
    own.renew()
    assert own.claim_id == before
    assert sorted(path.suffix for path in claims.iterdir()) == [".json", ".lock"]
    assert standing_of(claims, before) is Standing.ALIVE
    own.release()
    assert list(claims.iterdir()) == []


@posix
def test_another_file_in_place_of_the_lock_is_not_taken_for_it(folder: Path) -> None:
    own = Claim(folder, "run", os.getpid())
    lock = folder / f"{own.claim_id}.lock"
    lock.unlink()
    lock.touch()
    own.renew()
    assert standing_of(folder, own.claim_id) is Standing.ALIVE
    own.release()


@posix
def test_nobody_finds_a_renewed_claim_free(folder: Path) -> None:
    """One thread looks after the dead without rest, while the claim is deleted and renewed."""
    own = Claim(folder, "run", os.getpid())
    found, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            with looking_after(folder, own.claim_id, has_left=True) as standing:
                found.append(standing)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(200):
        (folder / f"{own.claim_id}.lock").unlink(missing_ok=True)
        own.renew()
    done.set()
    thread.join(30)
    own.release()
    assert Standing.DEAD not in found
    assert Standing.ALIVE in found

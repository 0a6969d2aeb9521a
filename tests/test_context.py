"""`rollcam.set_context`, and the note through which other processes read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.scripts import ROOT, TIMEOUT_S

IN_A_CHILD = """
import multiprocessing, os, sys, tempfile
import rollcam
from rollcam._context import process_context

fork = multiprocessing.get_context("fork")


def seen_by_a_child():
    ours, its = fork.Pipe()
    child = fork.Process(target=lambda: its.send(process_context()))
    child.start()
    assert ours.poll(30)
    told = ours.recv()
    child.join(30)
    return told
"""


def run(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IN_A_CHILD + body, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_plain_fork_of_the_trainer_does_not_speak_in_its_place() -> None:
    done = run("""
rollcam.set_context(iteration=1)
pid = os.fork()
if pid == 0:
    assert process_context() == {"iteration": 1}
    rollcam.set_context(iteration=99)
    assert process_context() == {"iteration": 99}
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert seen_by_a_child() == {"iteration": 1}
rollcam.set_context(iteration=2)
assert seen_by_a_child() == {"iteration": 2}
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_trainer_that_went_into_the_background_first_speaks_to_its_children() -> None:
    done = run("""
pid = os.fork()
if pid == 0:
    rollcam.set_context(iteration=5)
    assert seen_by_a_child() == {"iteration": 5}
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_of_temporary_files_does_not_end_the_training(tmp_path: Path) -> None:
    """Memory that is mapped onto a full disk is a bus error when it is written to."""
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        done = run(
            """
tempfile.tempdir = sys.argv[1]
with open(sys.argv[1] + "/ballast", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
rollcam.set_context(iteration=1)
assert process_context() == {"iteration": 1}
assert seen_by_a_child() == {}
os.unlink(sys.argv[1] + "/ballast")
rollcam.set_context(iteration=2)
assert seen_by_a_child() == {"iteration": 2}
""",
            str(small),
        )
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert done.returncode == 0, (done.returncode, done.stderr)

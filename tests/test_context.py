"""`rollcam.set_context`, and the note through which other processes read it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.films import episodes
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


EVERYWHERE = """
import multiprocessing, sys
from functools import partial
from pathlib import Path
import gymnasium as gym
import numpy as np
import rollcam
from rollcam.integrations.vector import RecordVideo as VectorRecordVideo
from tests.envs import CountingEnv

folder, start = Path(sys.argv[1]), sys.argv[2]


def filmed(number):
    env = CountingEnv(length=3, fps=25)
    return rollcam.RecordVideo(env, folder, rollcam.every(1), name_prefix=f"inner-{number}")


if __name__ == "__main__":
    rollcam.set_context(iteration=1, trial="a")
    vector = gym.vector.AsyncVectorEnv(
        [partial(filmed, 0), partial(CountingEnv, length=3, fps=25)],
        context=start, autoreset_mode=gym.vector.AutoresetMode.DISABLED,
    )
    vector = VectorRecordVideo(
        vector, folder, layout="separate", record_in="workers", env_indices=[1],
        episode_trigger=rollcam.every(1), name_prefix="worker",
    )
    recorder = rollcam.Recorder(folder, fps=25, name_prefix="own")
    alone = rollcam.RecordVideo(
        CountingEnv(length=3, fps=25), folder, rollcam.every(1), name_prefix="wrapper"
    )
    vector.reset()
    alone.reset()
    recorder.begin()
    recorder.set_context(trial="its own")
    for step in range(3):
        rollcam.set_context(iteration=2 + step)
        vector.step(np.zeros(2, int))
        alone.step(0)
        recorder.frame(np.zeros((48, 64, 3), np.uint8), reward=1.0)
    recorder.end()
    rollcam.set_context(iteration=99)
    for each in (vector, alone, recorder):
        each.close()
"""


@pytest.mark.parametrize(
    "start", ["spawn"] if sys.platform == "win32" else ["fork", "spawn", "forkserver"]
)
def test_one_word_reaches_every_recorder_here_and_in_the_workers(
    start: str, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(EVERYWHERE)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "films"), start],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = episodes(tmp_path / "films")
    names = ("inner-0", "worker-env-1", "own", "wrapper")
    assert set(found) == {f"{name}-episode-0" for name in names}
    for name in names:
        film = found[f"{name}-episode-0"]
        trial = "its own" if name == "own" else "a"
        assert film.context_at_start == {"iteration": 1, "trial": "a"}
        # How it stood at the last step; `Recorder.end` came after that step, and before 99.
        assert film.context_at_end == {"iteration": 4, "trial": trial}, name

"""Many processes that film short episodes into one folder, all of the same names."""

from __future__ import annotations

import os
import signal
import warnings
from collections import Counter
from pathlib import Path

import rollcam
from rollcam.episode import Episode
from tests import barcode
from tests.killing import check_folder, check_nothing_left

N_FRAMES = 3


def film_together(
    folder: Path, *, n_processes: int, n_episodes: int, name: str | None = None
) -> list[Episode]:
    """Let forked processes film, and check that every film is there, once and whole.

    Args:
        folder: The recordings folder.
        n_processes: Of how many writers.
        n_episodes: That each of them films.
        name: Template of the names; by default every process wants the same ones.
    """
    children = [_fork(folder, n_episodes, name) for _ in range(n_processes)]
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    assert statuses == [0] * n_processes, statuses
    films = check_folder(folder, n_flushed=0, n_done=n_processes * n_episodes)
    assert len(films) == n_processes * n_episodes
    assert len({film.name for film in films}) == len(films)
    assert {film.n_frames for film in films} == {N_FRAMES}
    pids = Counter(film.writer.pid for film in films if film.writer is not None)
    assert sorted(pids.values()) == [n_episodes] * n_processes
    check_nothing_left(folder)
    return films


def _fork(folder: Path, n_episodes: int, name: str | None) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(300)
            warnings.simplefilter("ignore")
            frames = [barcode.draw(k, 48, 32) for k in range(N_FRAMES)]
            recorder = rollcam.Recorder(folder, fps=25, name=name)
            for _ in range(n_episodes):
                recorder.begin()
                for frame in frames:
                    recorder.frame(frame, reward=1.0)
                recorder.end()
            recorder.close()
        except BaseException as error:  # noqa: BLE001 - a child must not go on as its parent
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid

"""Writers that are killed with SIGKILL at random moments, and what is left of their films.

A writer logs, unbuffered, what its training loop handed over, what the encoder began to take, and
what it had taken. So what a kill may cost is known to the frame. Used by
`tests/process/test_kill_trials.py`, and by `scripts/reliability.py` for the full run.
"""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rollcam
from rollcam._film import Film
from rollcam.recovery import recover
from rollcam.store.files import list_episodes
from tests import barcode
from tests.envs import AnsiEnv
from tests.films import wait_until
from tests.killing import (
    Said,
    check_folder,
    check_nothing_left,
    digests,
    frames_of,
    recovered,
    run_killed,
)

LIMIT_S = 60.0


@dataclass(frozen=True)
class Trial:
    """One run that is killed."""

    seed: int
    """Of all that is random in it."""
    kind: str
    """`pictures` or `text`."""
    n_writers: int
    """Processes that film into one folder."""
    is_group_kill: bool
    """Whether one signal kills them all, or each dies at a moment of its own."""


@dataclass
class Outcome:
    """What a run left; sums over its processes."""

    n_killed: int = 0
    """Processes that were killed."""
    n_finished: int = 0
    """Episodes that were offered as finished before the kill."""
    n_recovered: int = 0
    """Episodes that recovery finished."""
    n_begun: int = 0
    """Episodes with at least one written frame."""
    n_frames_taken: int = 0
    """Frames that the encoder had taken, of recovered episodes."""
    lost: Counter[int] = field(default_factory=Counter)
    """Recovered episodes, by how many frames are missing that the encoder had begun to take."""
    n_queued: int = 0
    """Frames that waited in memory, and died with it."""


def run_trial(trial: Trial, folder: Path, logs: Path) -> Outcome:
    """Run one trial; raise AssertionError where something is lost that may not be.

    Args:
        trial: What is done.
        folder: The recordings folder.
        logs: A folder for what the writers log.
    """
    chance = random.Random(trial.seed)
    logs.mkdir()
    children: list[int] = []
    try:
        for index in range(trial.n_writers):
            children.append(_start(trial, index, folder, logs / str(index)))
            os.setpgid(children[-1], children[0])
        _kill(trial, chance, children, logs)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
    assert statuses == [signal.SIGKILL] * trial.n_writers, statuses
    before = digests(folder)
    finished = check_unrecovered(folder)
    if chance.random() < 0.3:
        # Whoever recovers is killed, too.
        run_killed(_recover, folder, chance.randrange(60))
        assert {name: digests(folder).get(name) for name in before} == before
    recovered(folder)
    check_nothing_left(folder)
    films = check_folder(folder, n_flushed=0, n_done=0)
    outcome = Outcome(trial.n_writers, len(finished), len(films) - len(finished))
    told = [_read_log(path) for path in sorted(logs.iterdir())]
    _compare({film.episode_id: film for film in films}, told, outcome)
    return outcome


def check_unrecovered(folder: Path) -> set[str]:
    """Check that what is offered as finished before recovery is; return the episodes' ids."""
    listing = list_episodes(folder)
    assert not listing.problems
    for episode in listing.episodes:
        shown = frames_of(episode)
        assert shown == list(range(episode.n_frames)), episode
    return {episode.episode_id for episode in listing.episodes}


def _recover(folder: Path, _: Said) -> None:
    assert not recover(folder).problems


def _compare(films: dict[str, rollcam.Episode], told: list[_Log], outcome: Outcome) -> None:
    for log in told:
        for episode_id in log.done:
            assert films[episode_id].status == "complete", "it was told as finished"
        for episode_id, n_begun in log.begun.items():
            film, n_taken = films.get(episode_id), log.taken[episode_id]
            if n_taken == 0 and film is None:
                continue
            outcome.n_begun += 1
            assert film is not None, f"{episode_id} had {n_taken} frames and is lost"
            n_lost = n_begun - film.n_frames
            assert film.n_frames >= n_taken, (
                f"{n_taken} frames were taken, {film.n_frames} are there"
            )
            assert n_lost <= 1, f"{n_lost} frames are missing that the encoder had"
            if film.status == "truncated_by_crash":
                outcome.lost[max(0, n_lost)] += 1
                outcome.n_frames_taken += n_begun
        if log.handed:
            outcome.n_queued += max(0, log.handed - sum(log.begun.values()))


# --- the writer --------------------------------------------------------------------------------


def _start(trial: Trial, index: int, folder: Path, log: Path) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(LIMIT_S))
            warnings.simplefilter("ignore")
            _write_for_ever(trial, random.Random(trial.seed * 100 + index), folder, log)
        except BaseException as error:  # noqa: BLE001 - a child must not go on as its parent
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid


def _write_for_ever(trial: Trial, chance: random.Random, folder: Path, log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(word: str) -> None:
        os.write(descriptor, f"{word}\n".encode())

    _log_encoder(say)
    recorder = rollcam.Recorder(
        folder, fps=25, on_finished=lambda episode: say(f"done {episode.episode_id}")
    )
    size = chance.choice([(48, 32), (160, 120), (320, 240)])
    while True:
        recorder.begin()
        for k in range(chance.randrange(1, 80)):
            frame: Any = barcode.draw(k, *size) if trial.kind == "pictures" else AnsiEnv.text(k)
            recorder.frame(frame, reward=1.0)
            say("handed")
        ending = recorder.end(terminated=True)
        if chance.random() < 0.5:
            ending.result(timeout=LIMIT_S)


def _log_encoder(say: Any) -> None:
    add = Film.add

    def logged(film: Film, frame: Any, index: int) -> None:
        # Text and pictures: the growing file has its name once the first frame is there.
        if film.partial is not None:
            say(f"begun {film.partial.stem}")
            add(film, frame, index)
        else:
            add(film, frame, index)
            assert film.partial is not None
            say(f"begun {film.partial.stem}")
        say(f"taken {film.partial.stem}")

    Film.add = logged  # type: ignore[method-assign]


@dataclass
class _Log:
    handed: int = 0
    begun: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)


def _read_log(path: Path) -> _Log:
    log = _Log()
    for line in path.read_text().splitlines():
        match line.split():
            case ["handed"]:
                log.handed += 1
            case ["begun", episode_id]:
                log.begun[episode_id] += 1
            case ["taken", episode_id]:
                log.taken[episode_id] += 1
            case ["done", episode_id]:
                log.done.add(episode_id)
    return log


# --- the killer --------------------------------------------------------------------------------


def _kill(trial: Trial, chance: random.Random, children: list[int], logs: Path) -> None:
    """Kill the writers, each or all at once, some time after one of them has begun."""
    first = logs / str(chance.randrange(trial.n_writers))
    wait_until(lambda: first.exists() and first.stat().st_size, "a writer has begun", LIMIT_S)
    # No wait for anything: the moment of the kill is what is drawn by lot.
    if trial.is_group_kill:
        time.sleep(chance.random() * 0.6)
        os.killpg(children[0], signal.SIGKILL)
        return
    for pid in children:
        time.sleep(chance.random() * 0.6 / trial.n_writers)
        os.kill(pid, signal.SIGKILL)

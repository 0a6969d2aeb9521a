"""Kill a process between any two things that it does to files, and check what is left.

Used by `tests/process/test_kill_points.py`, and by `scripts/reliability.py` for the full run.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rollcam
from rollcam.encode.cast_read import read_cast
from rollcam.episode import Episode
from rollcam.recovery import Recovery, recover
from rollcam.store.files import list_episodes
from tests import barcode
from tests.envs import AnsiEnv

FILE_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}
)
"""What Python's audit hooks tell of. A write is not among them: a torn one is another test's."""

Step = Callable[[Path, "Said"], None]


class Said:
    """A pipe through which a process says what is done, for as long as it lives."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.die_at = b""
        """A word after which the process is killed."""

    def say(self, word: bytes) -> None:
        os.write(self._write, word + b"\n")
        if word == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(self) -> list[str]:
        """Return what was said, once the process is gone."""
        os.close(self._write)
        with os.fdopen(self._read, "rb") as file:
            return file.read().decode().split()


def die_before(n: int, folder: Path) -> None:
    """From here on, this process is killed before it does the `n`-th thing to a file in `folder`."""
    count = itertools.count()
    prefix = str(folder)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS or not str(args[0]).startswith(prefix):
            return
        if next(count) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def run_killed(step: Step, folder: Path, n: int | None) -> tuple[bool, list[str]]:
    """Run `step` in a forked child that dies before its `n`-th file operation.

    Returns:
        Whether it was killed, and what it had said before.
    """
    said = Said()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)
            warnings.simplefilter("ignore")
            if n is not None:
                die_before(n, folder)
            step(folder, said)
        except BaseException as error:  # noqa: BLE001 - a child of pytest must not go on as pytest
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    heard = said.heard()
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL, heard


N_FRAMES = 9


def film_pictures(folder: Path, said: Said) -> None:
    """Film two episodes that want the same name; say when frames are on the disk, and films done."""
    _film(folder, said, lambda k: barcode.draw(k, 48, 32))


def film_text(folder: Path, said: Said) -> None:
    """The same with text."""
    _film(folder, said, AnsiEnv.text)


def _film(folder: Path, said: Said, draw: Callable[[int], Any]) -> None:
    recorder = rollcam.Recorder(folder, fps=25, name="same")
    for _ in range(2):
        recorder.begin()
        for k in range(N_FRAMES):
            recorder.frame(draw(k), reward=1.0)
        assert recorder.flush()
        said.say(b"flushed")
        episode = recorder.end(terminated=True).result(timeout=30)
        assert episode.status == "complete", episode
        said.say(b"done")
    recorder.close()


def recover_it(folder: Path, said: Said) -> None:
    """A step that recovers."""
    done = recover(folder)
    assert not done.problems, done.problems


def frames_of(episode: Episode) -> list[int]:
    """Return which frames a film shows; every one of them is decoded."""
    assert episode.media_path is not None
    if not episode.is_text:
        return barcode.indices(episode.media_path)
    texts = [text for _, text in read_cast(episode.media_path).frames]
    shown = [next(k for k in range(4096) if f"step {k}\r\n" in text) for text in texts]
    return shown


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that is offered as finished."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".rollcam" not in path.relative_to(folder).parts
    }


def check_folder(folder: Path, *, n_flushed: int, n_done: int) -> list[Episode]:
    """Check what a folder offers after recovery: all of it, all playable, nothing twice."""
    listing = list_episodes(folder)
    assert not listing.problems, listing.problems
    films = [episode for episode in listing.episodes if episode.media is not None]
    assert len(films) == len(listing.episodes), listing.episodes
    ids = [episode.episode_id for episode in films]
    assert len(set(ids)) == len(ids), "an episode is there twice"
    assert len(films) >= n_flushed
    assert sum(episode.status == "complete" for episode in films) >= n_done
    for episode in films:
        shown = frames_of(episode)
        assert shown == list(range(len(shown))), (episode.name, shown)
        assert len(shown) == episode.n_frames, (episode.name, len(shown), episode.n_frames)
        data = episode.media_path.read_bytes()  # type: ignore[union-attr]
        assert hashlib.sha256(data).hexdigest() == episode.sha256
        assert (episode.folder, episode.n_dropped) == (folder, 0)
        columns = episode.read_steps()
        lengths = {name: len(column) for name, column in columns.items()}
        assert set(lengths.values()) == {episode.n_frames}, (episode, lengths)
    whole = [episode for episode in films if episode.n_frames == N_FRAMES]
    assert len(whole) >= n_flushed
    told = {path for e in films for path in (e.media_path, e.steps_path, e.sidecar_path)}
    there = {p for p in folder.rglob("*") if p.is_file() and ".rollcam" not in p.parts}
    assert there == told, f"nobody tells of {there - told}, and {told - there} are missing"
    return films


def check_nothing_left(folder: Path) -> None:
    """Check that recovery left nothing of the dead: neither films in the making, nor claims."""
    for corner in ("partial", "claims"):
        left = sorted((folder / ".rollcam" / corner).rglob("*"))
        assert left == [], left


def recovered(folder: Path) -> Recovery:
    """Recover, and check that nothing that was finished before has changed."""
    before = digests(folder)
    done = recover(folder)
    assert not done.problems, done.problems
    assert not done.left_alone, done.left_alone
    after = digests(folder)
    assert {name: after.get(name) for name in before} == before
    return done

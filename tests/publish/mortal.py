"""Processes that die on purpose, forked off one that has imported everything: quick, and real.

`python -m tests.publish.mortal JOBS ANSWERS` runs all jobs at once, each in a session of its own, and
writes down how each ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEATHS: dict[str, tuple[str, str, int]] = {
    "queued": ("queued", "after", 2),
    "before sending": ("sending", "before", 1),
    "sending": ("sending", "after", 2),
    "handed over": ("handed", "before", 2),
    "handed": ("handed", "after", 2),
    "asked": ("stored", "before", 1),
    "stored": ("stored", "after", 1),
}
"""Which write to the ledger is the last: of which state, whether it is made, and of which film."""

_LIMIT_S = 110.0


@dataclass(frozen=True)
class Job:
    """One process: it publishes a folder's films until it dies, or runs a command."""

    folder: str
    """The recordings."""
    sink: str
    """An expression that makes the sink, with what `_sinks` brings."""
    death: str = ""
    """Of `DEATHS`; empty: it lives, and runs the command that the dead one would have been told."""


@dataclass(frozen=True)
class End:
    """How a process ended."""

    status: int
    """Exit status; negative: the signal."""
    output: str
    """What it said."""


def run_all(jobs: Iterable[Job], scratch: Path, environment: Mapping[str, str]) -> list[End]:
    """Run jobs side by side, each in a fresh process."""
    scratch.mkdir(parents=True, exist_ok=True)
    given, told = scratch / "jobs.json", scratch / "ends.json"
    given.write_text(json.dumps([asdict(job) for job in jobs]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.publish.mortal", str(given), str(told)],
        env=dict(environment), capture_output=True, text=True, timeout=_LIMIT_S + 30, check=False,
        cwd=scratch,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [End(**end) for end in json.loads(told.read_text())]


def main(given: str, told: str) -> None:
    jobs = [Job(**job) for job in json.loads(Path(given).read_text())]
    _sinks("".join(job.sink for job in jobs))
    children = [_fork(job, Path(f"{told}-{number}")) for number, job in enumerate(jobs)]
    ends = []
    deadline = time.monotonic() + _LIMIT_S
    for number, child in enumerate(children):
        status = _wait(child, deadline)
        _end_session(child)  # wandb-core dies with its process, as on a machine that is taken away
        ends.append(End(status, Path(f"{told}-{number}").read_text()))
    Path(told).write_text(json.dumps([asdict(end) for end in ends]))


def _fork(job: Job, output: Path) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = _publish_and_die(job) if job.death else _go_on(job)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, this copy of the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _publish_and_die(job: Job) -> int:
    from rollcam import _publication
    from rollcam.store.files import list_episodes

    folder = Path(job.folder)
    sink = eval(job.sink, _sinks(job.sink))
    Path(f"{folder}-command").write_text(_publication.command_of(folder, sink))
    episodes = list_episodes(folder).episodes
    _die_at(*DEATHS[job.death], wait_for=Path(f"{folder}-seen"))
    _publication.resolve = lambda spec: sink  # type: ignore[assignment,return-value]
    publication = _publication.open_publisher(folder, ["a name, so that it is closed"])
    for episode in episodes:
        publication.announce(episode)
    publication.close(60)
    print("it lives")
    return 99


def _go_on(job: Job) -> int:
    """Type what the dead process would have told us to."""
    from rollcam.cli.main import cli

    program, *arguments = shlex.split(Path(f"{job.folder}-command").read_text())
    assert program == "rollcam"
    cli(arguments)
    return 0


def _die_at(state: str, when: str, n: int, *, wait_for: Path) -> None:
    from rollcam.publish.ledger import Ledger

    films: set[str] = set()

    def deadly(
        write: Callable[..., Any], films_of: Callable[[Any], set[str]]
    ) -> Callable[..., Any]:
        def wrapped(self: Ledger, entries: Iterable[Any]) -> None:
            entries = list(entries)
            is_due = len(films | films_of(entries)) >= n > len(films)
            films.update(films_of(entries))
            if is_due and when == "before":
                if state == "handed":
                    _wait_for(wait_for)
                os.kill(os.getpid(), signal.SIGKILL)
            write(self, entries)
            if is_due:
                os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    def written(entries: Any) -> set[str]:
        return {entry.episode_id for entry in entries if entry.state == state}

    if state == "queued":
        Ledger.change = deadly(  # type: ignore[method-assign]
            Ledger.change, lambda changes: written(new for _, new in changes)
        )
    else:
        Ledger.put = deadly(Ledger.put, written)  # type: ignore[method-assign]


def _wait_for(path: Path) -> None:
    """Give a place that is not prompt time to show what nobody has written down as handed over."""
    deadline = time.monotonic() + _LIMIT_S / 2
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)  # between two looks; that it never comes is no failure


def _sinks(wanted: str) -> dict[str, Any]:
    """Import the sinks that are named, and what they would import at their first film."""
    from importlib import import_module

    import rollcam.cli.main
    import rollcam.cli.publish  # noqa: F401

    found = {}
    for module, name, package in (
        ("folder", "FolderSink", ""), ("tensorboard", "TensorBoardSink", "tensorboard"),
        ("trackio", "TrackioSink", "trackio"), ("mlflow", "MlflowSink", "mlflow"),
        ("wandb", "WandbSink", "wandb"),
    ):  # fmt: skip
        if name in wanted:
            found[name] = getattr(import_module(f"rollcam.sinks.{module}"), name)
            if package:
                import_module(package)
    return found


def _wait(child: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)  # between two looks, until the deadline
    _end_session(child)
    os.waitpid(child, 0)
    return 124


def _end_session(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])

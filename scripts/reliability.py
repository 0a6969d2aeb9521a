"""Kill runs at random moments, count what is lost, and write `docs/reliability.md`.

    python scripts/reliability.py                the full run, about fifteen minutes on two cores
    python scripts/reliability.py --runs 20      a glance; the page stays as it is

Whatever is lost that may not be ends it with the trial that lost it, so that it can be run again:
`python scripts/reliability.py --seed 17 --runs 1`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.lab.machine import describe  # noqa: E402
from tests import killing  # noqa: E402 - the path comes first
from tests.crowd import film_together  # noqa: E402
from tests.kill_trials import Outcome, Trial, run_trial  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"
N_RUNS = 200
CROWD = (8, 200)
KINDS = ("pictures", "text")
STEPS = {"pictures": killing.film_pictures, "text": killing.film_text}
MAX_POINTS = 400
MACHINE = ("processor", "memory", "system", "Python", "av", "numpy")


def main() -> None:
    """Run everything, and write the page when it was the full run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=N_RUNS, help=f"default: {N_RUNS}")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rollcam-reliability-") as name:
        folder = Path(name)
        trials = list(itertools.islice(all_trials(arguments.seed), arguments.runs))
        outcomes = [run_one(trial, folder) for trial in trials]
        if arguments.runs < N_RUNS:
            return
        points = {kind: kill_points(kind, folder / f"points-{kind}") for kind in KINDS}
        crowd = crowd_seconds(folder / "crowd")
        disk = file_system(folder)
    minutes = (time.monotonic() - started) / 60
    PAGE.write_text(page(trials, outcomes, points, crowd, disk, minutes), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}; took {minutes:.0f} min")


def all_trials(first: int) -> Iterator[Trial]:
    """Yield trials: both kinds, 1 to 4 writers, one by one and as a group, in turns."""
    for seed in itertools.count(first):
        kind = KINDS[seed % 2]
        n_writers = 1 + seed // 2 % 4
        yield Trial(seed, kind, n_writers, is_group_kill=bool(seed // 8 % 2))


def run_one(trial: Trial, folder: Path) -> Outcome:
    """Run one trial in a folder of its own, which is removed when nothing was lost."""
    place = folder / f"trial-{trial.seed}"
    place.mkdir()
    outcome = run_trial(trial, place / "videos", place / "logs")
    shutil.rmtree(place)
    print(f"{trial}: {outcome}", flush=True)
    return outcome


def kill_points(kind: str, folder: Path) -> tuple[int, int]:
    """Kill a writer before each of its file operations, and a recoverer before each of its own.

    Returns:
        Moments at which a writer was killed, and pairs of a writer's and a recoverer's.
    """
    n_writers = n_pairs = 0
    for n in range(MAX_POINTS):
        left = folder / str(n)
        left.mkdir(parents=True)
        was_killed, said = killing.run_killed(STEPS[kind], left, n)
        for m in range(MAX_POINTS):
            copy = folder / f"{n}-{m}"
            shutil.copytree(left, copy)
            was_recoverer_killed, _ = killing.run_killed(killing.recover_it, copy, m)
            killing.recovered(copy)
            flushed, done = said.count("flushed"), said.count("done")
            killing.check_folder(copy, n_flushed=flushed, n_done=done)
            killing.check_nothing_left(copy)
            shutil.rmtree(copy)
            if not was_recoverer_killed:
                break
            n_pairs += 1
        shutil.rmtree(left)
        if not was_killed:
            break
        n_writers += 1
    print(f"{kind}: {n_writers} moments of a writer, {n_pairs} pairs", flush=True)
    return n_writers, n_pairs


def crowd_seconds(folder: Path) -> float:
    """Let eight processes film two hundred episodes each; return how long they took."""
    started = time.monotonic()
    film_together(folder, n_processes=CROWD[0], n_episodes=CROWD[1])
    return time.monotonic() - started


def file_system(folder: Path) -> str:
    """Return what kind of disk it was tried on."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind, *_ = line.split()
        if str(folder).startswith(mount) and len(mount) > len(best[0]):
            best = (mount, kind)
    return best[1]


def page(
    trials: list[Trial],
    outcomes: list[Outcome],
    points: dict[str, tuple[int, int]],
    crowd_s: float,
    disk: str,
    minutes: float,
) -> str:
    """Return the page."""
    rows = []
    for kind, n_writers in itertools.product(KINDS, range(1, 5)):
        chosen = [
            outcome
            for trial, outcome in zip(trials, outcomes, strict=True)
            if (trial.kind, trial.n_writers) == (kind, n_writers)
        ]
        rows.append(_row(f"{kind}, {n_writers}", chosen))
    rows.append(_row("**all**", outcomes))
    n_groups = sum(trial.is_group_kill for trial in trials)
    machine = describe()
    total = Counter[int]()
    for outcome in outcomes:
        total += outcome.lost
    return _PAGE.format(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        n_runs=len(trials),
        n_groups=n_groups,
        n_single=len(trials) - n_groups,
        rows="\n".join(rows),
        n_whole=total[0],
        n_less=total[1],
        points="\n".join(f"| {kind} | {a} | {b} |" for kind, (a, b) in points.items()),
        n_processes=CROWD[0],
        n_episodes=CROWD[1],
        n_crowd=CROWD[0] * CROWD[1],
        crowd_s=crowd_s,
        machine="\n".join(f"| {key} | {machine[key]} |" for key in MACHINE),
        disk=disk,
        minutes=minutes,
    )


def _row(label: str, outcomes: list[Outcome]) -> str:
    lost = Counter[int]()
    for outcome in outcomes:
        lost += outcome.lost
    cells = [
        len(outcomes),
        sum(o.n_killed for o in outcomes),
        sum(o.n_finished for o in outcomes),
        0,
        sum(o.n_recovered for o in outcomes),
        0,
        sum(o.n_frames_taken for o in outcomes),
        sum(n * times for n, times in lost.items()),
        max(lost, default=0),
        sum(o.n_queued for o in outcomes),
    ]
    return "| " + " | ".join([label, *map(str, cells)]) + " |"


_PAGE = """\
# What a kill costs

<!-- Written by scripts/reliability.py. Do not edit. -->

{n_runs} runs were killed with SIGKILL at random moments, {n_single} process by process and {n_groups} as a whole group
with one signal, on {at}. The script ends at the first loss that is not allowed, so a page that stands here says that
there was none:

- every film that was offered as finished was decoded, frame by frame, and shows what its sidecar says, before recovery
  and after it; frames carry their number (`tests/barcode.py`);
- no finished file (film, columns, sidecar) changed by a byte through recovery;
- every episode of which the encoder had taken a frame is there after recovery, once, with its columns as long as its
  film;
- nothing is left of the dead in `.rollcam/`, and no film lies without a sidecar.

In three of ten runs whoever recovered was killed, too, and somebody else went on.

| frames, writers | runs | processes killed | films finished before the kill | of these lost or changed | films recovered | episodes lost | frames the encoder had begun, of these | frames lost of these | at most, of one film | frames lost that waited in memory |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

Of the recovered films {n_whole} hold every frame that the encoder had begun to take, {n_less} lack the one in hand. Frames
that it had *finished* taking are all there: the writers log before and after each. What still waited in memory is lost
with it, as it must be; how much that is depends on how far the encoder is behind.

## Between any two file operations

A writer that films two episodes of one name was killed before each single operation on a file (open, link, rename,
remove, make a folder), and for each thing that this left, a recoverer before each of *its* operations. Every pair was
recovered again, and checked as above.

| frames | moments of the writer | pairs of moments |
| --- | ---: | ---: |
{points}

## One folder, many writers

{n_processes} processes filmed {n_episodes} episodes each into one folder, all with the same names: {n_crowd} films, each
there once, whole, and under a name of its own, in {crowd_s:.0f} s.

## Machine

| | |
| --- | --- |
{machine}
| file system | {disk} |
| took | {minutes:.0f} min, while other jobs ran on the machine |

## What this does not show

- A kill is not a power cut. Finished films and sidecars are synchronised to the disk before they get their names; a film
  in the making is not, and loses what the system had not written yet.
- One machine, one kind of file system, Linux. Windows and macOS were not tried, nor NFS or other disks of a network.
  There, claims of other machines are left alone and listed (`docs/decisions/0010-claims.md`).
- Moments inside a system call cannot be chosen; the random kills hit some of them.
"""


if __name__ == "__main__":
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    random.seed(0)
    main()

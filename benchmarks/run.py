"""Measure Rollcam against its peers, print the tables, write `docs/benchmarks.md`.

    python benchmarks/run.py                     everything, about twelve minutes on two cores
    python benchmarks/run.py --only total_cpu    one question; the page keeps the others' answers
    python benchmarks/run.py --quick             a glance; the page stays as it is

Each question is a file beside this one, and runs alone too: `python -m benchmarks.total_cpu`.
(`vlc_last_frame.py` needs VLC and most of an hour; it is not run from here.)
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402 - the path comes first
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: E402
from rich.progress import TimeElapsedColumn as Elapsed  # noqa: E402

from benchmarks.lab import machine, plan, report  # noqa: E402
from benchmarks.lab.neighbours import Patience  # noqa: E402

QUESTIONS = (
    "training_thread", "memory", "longest_call", "total_cpu", "lost_frames", "idle_cost", "presets",
    "vector_cost", "catalog_index", "recovery_time", "publish_throughput", "drain", "gallery",
    "gallery_page", "rllib_iteration",
)  # fmt: skip
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    """Run what was asked for."""
    arguments = _arguments()
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    console, started = report.console(), time.monotonic()
    names = arguments.only or QUESTIONS
    patience = Patience(0 if arguments.quick else arguments.patience)
    answers = answer(names, quick=arguments.quick, console=console, patience=patience)
    for one in answers.values():
        report.show(one, console)
    console.rule("[bold]All figures")
    console.print(report.figures_table([f for one in answers.values() for f in one["figures"]]))
    if arguments.json:
        _write_json(arguments.json, _results(answers))
    if not arguments.quick:
        results = _merged(answers)
        _write_json(RESULTS, results)
        PAGE.write_text(report.page(results), encoding="utf-8")
        console.print(f"written: {PAGE.relative_to(ROOT)}, {RESULTS.relative_to(ROOT)}")
    console.print(f"took {time.monotonic() - started:.0f} s")


def answer(
    names: Iterable[str], *, quick: bool, console: Console, patience: Patience
) -> dict[str, dict[str, Any]]:
    """Answer questions; films that several of them want are made once, in turns.

    Args:
        names: Of `QUESTIONS`.
        quick: Fewer and shorter.
        console: For the progress.
        patience: Waits for a quiet machine.
    """
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    films = plan.united(m.plan(quick) for m in modules.values() if hasattr(m, "plan"))
    answers = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=sum(films.values()) + len(modules))

        def on_trial(trial: Any) -> None:
            label = f"{trial.recorder}: {trial.source}, {trial.n_steps} steps"
            progress.update(task, description=label, advance=1)
            patience.wait()

        plan.measure(films, on_trial)
        for name, module in modules.items():
            progress.update(task, description=name, advance=1)
            patience.wait()
            found = module.run(quick=quick)
            at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
            others = plan.others_cores() if hasattr(module, "plan") else "not measured"
            answers[name] = {**found, "measured_at": at, "others_cores": others}
    return answers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter; writes no page")
    parser.add_argument(
        "--only", action="append", choices=QUESTIONS, metavar="NAME",
        help=f"one question, may be given again: {', '.join(QUESTIONS)}",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=float, default=90, metavar="SECONDS",
        help="how long to wait, in all, for others to leave the machine alone (default: 90)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write what was measured here, too")
    return parser.parse_args()


def _results(answers: dict[str, Any]) -> dict[str, Any]:
    return {"machine": machine.describe(), "answers": answers, "trials": plan.raw()}


def _merged(answers: dict[str, Any]) -> dict[str, Any]:
    """Return the answers together with older ones of the questions that were not asked."""
    results = _results(answers)
    if RESULTS.exists():
        old = json.loads(RESULTS.read_text(encoding="utf-8"))
        known = {**old["answers"], **answers}
        results["answers"] = {name: known[name] for name in QUESTIONS if name in known}
        results["trials"] = results["trials"] or old["trials"]
    return results


def _write_json(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

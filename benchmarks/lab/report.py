"""Answers as tables: in the terminal, and as the page `docs/benchmarks.md`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_VERDICT = {True: "holds", False: "**does not hold**", None: ""}

_HEAD = """\
# Benchmarks

<!-- Written by benchmarks/run.py (`make bench`) from benchmarks/results.json. Do not edit. -->

What filming costs, measured against Gymnasium's `RecordVideo`, Stable-Baselines3's `VecVideoRecorder` and a bare encode
with PyAV. `make bench` measures all of it again on your machine, in about twelve minutes on two cores, and writes this
page. Each film is made in a process of its own, so that memory and CPU are its own. What stands here is what came out,
also where a figure does not hold.

Times are CPU times where that is what counts; they are much steadier than wall times on a machine that does other
things as well. µs are millionths of a second, ms thousandths. A "frame" is 600x400 pixels in RGB, 720 kB, unless
something else is said. Films of CartPole are of Gymnasium's own renderer.
"""


def main(run: Callable[..., dict[str, Any]]) -> None:
    """Answer one question, in the terminal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer and shorter, to see it work")
    show(run(quick=parser.parse_args().quick), console())


def console() -> Console:
    """Return the terminal; in a pipe or a log, tables may be as wide as they are."""
    return Console() if sys.stdout.isatty() else Console(width=180)


def show(answer: dict[str, Any], console: Console) -> None:
    """Print one answer."""
    console.rule(f"[bold]{answer['title']}")
    for table in answer["tables"]:
        console.print(_rich_table(table["title"], table["columns"], table["rows"]))
    if answer["figures"]:
        console.print(figures_table(answer["figures"]))
    for note in answer["notes"]:
        console.print(Text(note, style="dim"))


def figures_table(figures: list[dict[str, Any]]) -> Table:
    """Return figures, limits and verdicts as a table for the terminal."""
    rows = [[f["what"], f["limit"], f["measured"], _VERDICT[f["holds"]]] for f in figures]
    return _rich_table("Figures", ["figure", "limit", "measured", ""], rows, n_text=4)


def page(results: dict[str, Any]) -> str:
    """Return the whole page.

    Args:
        results: What `run.py` keeps in `results.json`.
    """
    return "\n".join([_HEAD, *_figures(results), *_machine(results), *_answers(results)])


def _rich_table(title: str, columns: list[str], rows: list[list[str]], n_text: int = 1) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        is_text = index < n_text or not all(_is_number(row[index]) for row in rows)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(re.sub(r"[*`]", "", cell) for cell in row))
    return table


def _is_number(cell: str) -> bool:
    return not re.search("[A-Za-z]{3}", cell)


def _figures(results: dict[str, Any]) -> Iterator[str]:
    yield "## Figures\n"
    figures = [f for answer in results["answers"].values() for f in answer["figures"]]
    held = [f["holds"] for f in figures if f["holds"] is not None]
    yield f"{sum(held)} of {len(held)} hold.\n"
    rows = [[f["what"], f["limit"], f["measured"], _VERDICT[f["holds"]]] for f in figures]
    yield _markdown_table(["figure", "limit", "measured", ""], rows)


def _machine(results: dict[str, Any]) -> Iterator[str]:
    yield "## Machine and versions\n"
    rows = [[key, value] for key, value in results["machine"].items()]
    yield _markdown_table(["", ""], rows)


def _answers(results: dict[str, Any]) -> Iterator[str]:
    for name, answer in results["answers"].items():
        yield f"## {answer['title']}\n"
        yield f"{answer['how']}\n"
        for table in answer["tables"]:
            yield f"**{table['title']}**\n"
            yield _markdown_table(table["columns"], table["rows"])
        for note in answer["notes"]:
            yield f"{note}\n"
        yield (
            f"`python benchmarks/run.py --only {name}` · {answer['measured_at']} · "
            f"cores that others kept busy meanwhile: {answer['others_cores']}\n"
        )


def _markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    is_number = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    rule = ["---:" if number and i else "---" for i, number in enumerate(is_number)]
    lines = [" | ".join(cells) for cells in (columns, rule, *rows)]
    return "".join(f"| {line} |\n" for line in lines)

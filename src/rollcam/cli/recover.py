"""`rollcam recover`: finish what dead processes left in a recordings folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from rollcam.cli import HELP
from rollcam.cli.browse import episode_table, folder_argument, print_renderable, printable


@click.command(context_settings=HELP)
@folder_argument
@click.option(
    "--dead-host",
    "dead_hosts",
    multiple=True,
    metavar="NAME",
    help="A machine of a shared disk that is known to be dead; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def recover(folder: Path, dead_hosts: tuple[str, ...], as_json: bool) -> None:
    """Finish the films in DIR whose processes died.

    Films that somebody still writes are never touched. The exit status is 1 when something could
    not be finished.
    """
    from rollcam.recovery import recover as recover_folder

    done = recover_folder(folder, dead_hosts=dead_hosts)
    problems = [f"{path}: {error}" for path, error in done.problems]
    if as_json:
        told = {
            "recovered": [
                {"episode_id": e.episode_id, "name": e.name, "n_frames": e.n_frames}
                for e in done.recovered
            ],
            "removed": done.removed,
            "left_alone": done.left_alone,
            "problems": problems,
        }
        click.echo(json.dumps(told, indent=1))
    else:
        if done.recovered:
            print_renderable(episode_table(done.recovered, title=f"recovered in {folder}"))
        for label, lines in (("removed", done.removed), ("left alone", done.left_alone)):
            for line in lines:
                click.echo(f"{label}: {printable(line)}")
        if not (done.recovered or done.removed or done.left_alone or problems):
            click.echo(f"{folder} holds nothing that a dead process left.")
        for problem in problems:
            click.echo(f"not recovered: {printable(problem)}", err=True)
    sys.exit(1 if problems else 0)

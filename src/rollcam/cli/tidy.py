"""`rollcam reindex` and `rollcam prune`: looking after a recordings folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from rollcam.cli import HELP
from rollcam.cli.browse import episode_table, folder_argument, print_renderable
from rollcam.cli.opening import in_use, opened

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


@click.command(context_settings=HELP)
@folder_argument
def reindex(folder: Path) -> None:
    """Build the index of DIR anew from its sidecars; nothing else is touched."""
    with opened(folder) as catalog:
        catalog.reindex()
        n_problems = len(catalog.problems)
        click.echo(f"{len(catalog)} episodes in {folder} indexed, {n_problems} not readable")


def _bytes(ctx: click.Context, parameter: click.Parameter, told: str | None) -> int | None:
    if told is None:
        return None
    match = _SIZE.fullmatch(told)
    if match is None:
        raise click.BadParameter(f"{told!r} is no size; expected one such as 500MB, 2GB or 1.5GiB")
    number, unit, is_binary = match.groups()
    power = "kmgt".find(unit.lower()) + 1 if unit else 0
    return int(float(number) * (1024**power if is_binary else _UNITS[unit.lower()]))


_count = click.IntRange(1)


@click.command(context_settings=HELP)
@folder_argument
@click.option("--keep-last", type=_count, metavar="K", help="Keep the K newest.")
@click.option("--keep-best", type=_count, metavar="K", help="Keep the K of highest return.")
@click.option("--keep-worst", type=_count, metavar="K", help="Keep the K of lowest return.")
@click.option("--keep-failures", is_flag=True, help="Keep failures, and what a crash cut short.")
@click.option(
    "--max-bytes", callback=_bytes, metavar="SIZE",
    help="Of what stays, the oldest go until it fits into SIZE, such as 2GB.",
)  # fmt: skip
@click.option("--run", "run_id", metavar="RUN_ID", help="Only episodes of this run.")
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(folder: Path, dry_run: bool, yes: bool, **told: Any) -> None:
    """Delete episodes from DIR: all that no --keep option names, or the oldest above --max-bytes.

    Only files that a sidecar of Rollcam's names are deleted, the film first and the sidecar last.
    What a living process records, or a sink is still owed, stays.
    """
    from rollcam.store.retention import Rules

    rules, spare = Rules(**told), in_use(folder)
    with opened(folder) as catalog:
        going = catalog.to_prune(rules, spare=spare)
        if not going:
            click.echo(f"nothing to delete in {folder}")
            return
        total = sum(map(catalog.size_on_disk, going))
        print_renderable(episode_table(going, title=f"to be deleted from {folder}"))
        click.echo(f"{len(going)} of {len(catalog)} episodes, {total / 1e6:.1f} MB")
        if dry_run:
            return
        if not yes:
            click.confirm("Delete them?", abort=True)
        gone = catalog.remove(going, spare=spare)
    click.echo(f"{len(gone)} episodes deleted")
    if len(gone) < len(going):
        click.echo(f"{len(going) - len(gone)} changed or came into use meanwhile, and stay")

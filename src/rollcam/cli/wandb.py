"""`rollcam wandb-verify`: are the videos of a W&B run there, and do they play."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollcam.cli import HELP

if TYPE_CHECKING:
    from rollcam.sinks.wandb_verify import Verdict


@click.command(context_settings=HELP)
@click.argument("run_path")
@click.option(
    "--repair",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Send what is missing again, from the films in this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of lines.")
@click.pass_context
def wandb_verify(context: click.Context, run_path: str, repair: Path | None, as_json: bool) -> None:
    """Say of each video in the W&B run ENTITY/PROJECT/RUN_ID whether it is there, and plays.

    W&B reports "Synced" even when an upload failed for good; only the server knows. Every video is
    fetched once. The exit status is 1 if any is missing, damaged or will not play.
    """
    from rollcam.sinks.wandb_verify import verify

    verdicts = []
    for verdict in verify(run_path, repair_from=repair):
        verdicts.append(verdict)
        if not as_json:
            click.echo("\n".join(_lines(verdict)))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts], indent=1))
    else:
        n_good = sum(verdict.is_good for verdict in verdicts)
        noun = "video" if len(verdicts) == 1 else "videos"
        click.echo(f"{len(verdicts)} {noun}: {n_good} there, {len(verdicts) - n_good} not.")
    context.exit(0 if all(verdict.is_good for verdict in verdicts) else 1)


def _lines(verdict: Verdict) -> list[str]:
    from rollcam.cli.browse import printable

    step = "" if verdict.step is None else f"  (step {verdict.step})"
    lines = [f"{verdict.state:<10} {printable(verdict.path)}{step}"]
    if verdict.reason:
        lines.append(f"           {'' if verdict.is_good else 'why: '}{printable(verdict.reason)}")
    return lines

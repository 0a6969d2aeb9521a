"""`rollcam doctor`: does everything that filming needs work here, and if not, what to do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollcam._version import __version__
from rollcam.cli import HELP

if TYPE_CHECKING:
    from rollcam.doctor.finding import Finding

_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "failed": "red"}


@click.command(context_settings=HELP)
@click.argument("env_id", required=False)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("videos"),
    show_default=True,
    help="Where films are to lie.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="Limit of each check, in seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.pass_context
def doctor(
    context: click.Context, env_id: str | None, folder: Path, timeout_s: float, as_json: bool
) -> None:
    """Check the installation, encoders, the folder, rendering (of ENV_ID) and trackers.

    Each check runs in a process of its own, so that none can hang or crash the others. The exit
    status is 1 if any failed.
    """
    from rollcam.doctor.examine import examine

    findings = []
    for finding in examine(env_id, folder, timeout_s=timeout_s):
        findings.append(finding)
        if not as_json:
            _show(finding)
    n_failed = sum(finding.status == "failed" for finding in findings)
    if as_json:
        told = [dataclasses.asdict(finding) for finding in findings]
        answer = {"rollcam": __version__, "ok": not n_failed, "findings": told}
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(_verdict(findings))
    context.exit(1 if n_failed else 0)


def _verdict(findings: list[Finding]) -> str:
    n_failed, n_warned = (
        sum(finding.status == status for finding in findings) for status in ("failed", "warning")
    )
    if n_failed:
        return f"{n_failed} of {len(findings)} checks failed."
    return f"No check failed; warnings: {n_warned}." if n_warned else "All is well."


def _show(finding: Finding) -> None:
    from rollcam.cli.browse import printable

    status = click.style(f"{finding.status:8}", fg=_COLOURS[finding.status])
    click.echo(f"{status} {printable(finding.check)}: {printable(finding.message)}")
    if finding.cure:
        click.echo(f"{'':8} -> {printable(finding.cure)}")

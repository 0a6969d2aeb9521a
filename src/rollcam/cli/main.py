"""The command `rollcam`: a group that loads a verb's module only when the verb is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from rollcam._version import __version__
from rollcam.cli import HELP
from rollcam.errors import RollcamError

_VERBS = {
    "check": "rollcam.cli.media",
    "doctor": "rollcam.cli.doctor",
    "export": "rollcam.cli.gallery",
    "ls": "rollcam.cli.browse",
    "prune": "rollcam.cli.tidy",
    "publish": "rollcam.cli.publish",
    "record": "rollcam.cli.record",
    "recover": "rollcam.cli.recover",
    "reindex": "rollcam.cli.tidy",
    "serve": "rollcam.cli.gallery",
    "show": "rollcam.cli.browse",
    "status": "rollcam.cli.publish",
    "transcode": "rollcam.cli.media",
    "wandb-verify": "rollcam.cli.wandb",
}


class LazyGroup(click.Group):
    """Loads `rollcam.cli.<module>:<verb>` on first use, so that `rollcam ls` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, or `None` when there is none of that name."""
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(_VERBS[cmd_name])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; an error of ours is one line on stderr and exit status 1, never a traceback."""
        try:
            return super().main(*args, **kwargs)
        except RollcamError as error:
            from rollcam.cli.browse import printable

            click.echo(f"rollcam: {printable(str(error))}", err=True)
            sys.exit(1)


@click.group(cls=LazyGroup, context_settings=HELP)
@click.version_option(__version__, prog_name="rollcam")
def cli() -> None:
    """Film the episodes of reinforcement-learning agents, and look after the films."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: Without the program's name; default: those of the process.
    """
    cli.main(args=None if arguments is None else list(arguments), prog_name="rollcam")

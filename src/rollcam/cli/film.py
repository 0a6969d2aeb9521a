"""`rollcam film`: film the policy of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rollcam.cli import HELP
from rollcam.cli.record import JsonObject, episodes_option, out_option
from rollcam.errors import RollcamError


@click.command(context_settings=HELP)
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@episodes_option
@out_option
@click.option(
    "--env",
    help="An id of Gymnasium's, or module:callable, called with the env_config. Default: the "
    "checkpoint's own.",
)
@click.option(
    "--env-config", type=JsonObject(), default="{}", help="Keys for the env_config, as JSON."
)
@click.option("--seed", type=click.IntRange(0), help="Seed of the first episode.")
@click.option(
    "--explore/--no-explore",
    default=False,
    show_default=True,
    help="Draw actions from the policy's distribution.",
)
@click.option("--fps", type=float, help="Frames per second; default: the environment's.")
@click.option(
    "--codec", default="h264", show_default=True, help="h264, vp9, av1, or a hardware encoder."
)
@click.option(
    "--quality", default="standard", show_default=True, help="small, standard, high, or a CRF."
)
def film(checkpoint: Path, out: Path, episodes: int, quality: str, **settings: Any) -> None:
    """Film episodes that the policy of CHECKPOINT, of RLlib, plays.

    A checkpoint is a pickle, which runs code when it is read: only give those that you trust.
    """
    from rollcam.cli.browse import episode_table, print_renderable
    from rollcam.integrations.rllib_checkpoint import film_checkpoint

    finished = film_checkpoint(
        checkpoint,
        out,
        episodes=episodes,
        quality=int(quality) if quality.isdigit() else quality,
        **settings,
    )
    if finished:
        print_renderable(episode_table(finished, title=str(out)))
    if len(finished) < episodes:
        raise RollcamError(
            f"{len(finished)} of {episodes} films were made; `rollcam ls {out}` says which and why"
        )

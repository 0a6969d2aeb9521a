"""How the commands open a recordings folder: what dead processes left in it is finished first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rollcam.episode import Episode
    from rollcam.store.catalog import Catalog


def opened(folder: Path) -> Catalog:
    """Open a folder, and say on stderr what was recovered in it, or could not be.

    Raises:
        StoreError: There is no such folder.
    """
    from rollcam.cli.browse import printable
    from rollcam.recovery import recover
    from rollcam.store.catalog import Catalog

    done = recover(folder)
    for episode in done.recovered:
        line = f"recovered: {episode.name}, {episode.n_frames} frames, of a process that died"
        click.echo(printable(line), err=True)
    for line in done.left_alone:
        click.echo(f"left alone: {printable(line)}", err=True)
    for path, error in done.problems:
        click.echo(f"not recovered: {printable(f'{path}: {error}')}", err=True)
    return Catalog(folder)


def in_use(folder: Path) -> Callable[[Episode], bool]:
    """Return whether an episode must stay: its run is still written, or a sink still waits for it."""
    from rollcam.publish.ledger import FILE_NAME, Ledger
    from rollcam.recovery import LivingRuns
    from rollcam.store.names import HIDDEN

    living = LivingRuns(folder)

    def is_in_use(episode: Episode) -> bool:
        if episode.run_id in living:
            return True
        # A folder inside may be a recordings folder of its own.
        places = {folder, episode.folder or folder}
        return any(Ledger(p / HIDDEN / FILE_NAME).owes(episode.episode_id) for p in places)

    return is_in_use

"""`rollcam serve` and `rollcam export`: the gallery, from a server of our own or from any other."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollcam.cli import HELP
from rollcam.cli.browse import filters, printable

if TYPE_CHECKING:
    from rollcam.gallery.serve import Place


@click.command(context_settings=HELP)
@click.argument(
    "folders", metavar="DIR [DIR...]", nargs=-1, required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)  # fmt: skip
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
    help="Listen here; other than on this machine alone, a token is needed.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N",
    help="0: any free one. Default: 7655, or the next that is free.",
)  # fmt: skip
@click.option(
    "--token", metavar="TEXT", envvar="ROLLCAM_TOKEN",
    help="Whoever opens the page must know it. Default: none on this machine, else one made up.",
)  # fmt: skip
@click.option(
    "--name", "names", multiple=True, metavar="NAME",
    help="Another name of this machine that browsers may use, behind a proxy for instance.",
)  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def serve(
    folders: Sequence[Path],
    host: str,
    port: int | None,
    token: str | None,
    names: Sequence[str],
    no_browser: bool,
) -> None:
    """Show the episodes in DIR on a page: find one, watch it, compare several.

    Nothing is changed in DIR, but that what dead processes left there is finished first, and that
    an index and posters are kept in its .rollcam folder.
    """
    from rollcam.gallery.serve import serve as run

    def ready(place: Place) -> None:
        click.echo(f"Gallery: {place.url}  (Ctrl-C ends it)")
        if place.url_elsewhere is not None:
            click.echo(f"From other machines: {place.url_elsewhere}")
        if not no_browser and _has_screen():
            import webbrowser

            webbrowser.open(place.url)

    with contextlib.suppress(KeyboardInterrupt):
        run(folders, host=host, port=port, token=token, names=names, ready=ready)


def _has_screen() -> bool:
    """Return whether a browser would be seen: one that runs in the terminal would block it."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@click.command(context_settings=HELP)
@click.argument(
    "folders", metavar="DIR [DIR...]", nargs=-1, required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)  # fmt: skip
@click.option(
    "--out", required=True, metavar="SITE", type=click.Path(path_type=Path),
    help="The folder to make; with --zip the file.",
)  # fmt: skip
@click.option("--zip", "as_zip", is_flag=True, help="Make one zip file of it.")
@filters
def export(
    folders: Sequence[Path],
    out: Path,
    as_zip: bool,
    where: dict[str, Any],
    text: str | None,
    **choices: Sequence[str],
) -> None:
    """Write the page of the episodes in DIR as files that any static web host serves."""
    from rollcam.gallery.ask import Question
    from rollcam.gallery.export import export as run

    where.update({name: list(chosen) for name, chosen in choices.items() if chosen})
    done = run(folders, out, question=Question(where, text), as_zip=as_zip)
    for problem in done.problems:
        click.echo(f"left out: {printable(problem)}", err=True)
    click.echo(f"{done.n_episodes} episodes, {done.size_bytes / 1e6:.1f} MB: {done.path}")
    if not as_zip:
        click.echo(
            f"Look at it: python -m http.server --directory {shlex.quote(str(done.path))} and open "
            "http://localhost:8000 (a page opened as file:// loads nothing)"
        )

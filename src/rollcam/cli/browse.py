"""`rollcam ls` and `rollcam show`: what lies in a recordings folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollcam.cli import HELP
from rollcam.episode import Episode

if TYPE_CHECKING:
    from rich.console import RenderableType

_SORTS: dict[str, Callable[[Episode], Any]] = {
    "started": lambda e: e.started_at,
    "name": lambda e: e.name,
    "env": lambda e: e.env_id,
    "status": lambda e: str(e.status),
    "return": lambda e: e.episode_return,
    "length": lambda e: e.episode_length,
    "frames": lambda e: e.n_frames,
    "seed": lambda e: e.seed,
    "size": lambda e: e.size_bytes,
}

folder_argument = click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)


@click.command(context_settings=HELP)
@folder_argument
@click.option("--sort", type=click.Choice(sorted(_SORTS)), default="started", show_default=True)
@click.option("--reverse", is_flag=True, help="Largest, or newest, first.")
@click.option("--json", "as_json", is_flag=True, help="Print the sidecars as a JSON array.")
def ls(folder: Path, sort: str, reverse: bool, as_json: bool) -> None:
    """List the episodes in DIR, oldest first."""
    from rollcam.store.catalog import list_episodes

    listing = list_episodes(folder)
    episodes = sorted_by(listing.episodes, sort, reverse=reverse)
    if as_json:
        click.echo(json.dumps([_as_dict(episode) for episode in episodes], indent=1))
    elif episodes:
        print_renderable(episode_table(episodes, title=str(folder)))
    else:
        click.echo(
            f"{folder} holds no episodes. `rollcam record CartPole-v1 --out {folder}` films some."
        )
    for problem in listing.problems:
        click.echo(f"not listed: {printable(str(problem))}", err=True)


@click.command(context_settings=HELP)
@folder_argument
@click.argument("episode")
@click.option("--json", "as_json", is_flag=True, help="Print the sidecar as JSON.")
def show(folder: Path, episode: str, as_json: bool) -> None:
    """Show all that is known of one EPISODE in DIR: its name, its id, or the beginning of that."""
    from rich.table import Table

    from rollcam.store.catalog import find_episode

    found = find_episode(folder, episode)
    facts = _as_dict(found)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    table = Table(title=_plain_text(found.name), show_header=False, title_justify="left")
    table.add_column("field", style="bold")
    table.add_column("value", overflow="fold")
    for key, value in facts.items():
        if value not in (None, {}, []):
            text = value if isinstance(value, str) else json.dumps(value)
            table.add_row(key, _plain_text(text))
    columns = sorted(found.read_steps())
    if columns:
        table.add_row("step columns", _plain_text(", ".join(columns)))
    print_renderable(table)


def sorted_by(episodes: Iterable[Episode], sort: str, *, reverse: bool = False) -> list[Episode]:
    """Sort episodes by one of the keys of `ls --sort`; what lacks the value comes last."""
    key = _SORTS[sort]
    known = [episode for episode in episodes if key(episode) is not None]
    unknown = [episode for episode in episodes if key(episode) is None]
    return sorted(known, key=key, reverse=reverse) + unknown


def episode_table(episodes: Iterable[Episode], *, title: str) -> RenderableType:
    """Return a table of episodes, a row each; it fits a terminal of 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=_plain_text(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0),
    )
    table.add_column("episode", overflow="fold", min_width=20)
    table.add_column("ended", overflow="fold")
    for heading in ("return", "steps", "frames", "length", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for episode in episodes:
        cells = (
            f"{episode.name}{Path(episode.media).suffix}" if episode.media else episode.name,
            _ending(episode),
            "" if episode.episode_return is None else f"{episode.episode_return:.2f}",
            "" if episode.episode_length is None else str(episode.episode_length),
            _frames(episode),
            "" if episode.duration_s is None else f"{episode.duration_s:.1f} s",
            "" if episode.size_bytes is None else f"{episode.size_bytes / 1000:.1f} kB",
        )
        table.add_row(*map(_plain_text, cells))
    return table


def print_renderable(renderable: RenderableType) -> None:
    """Print to stdout; into a pipe without cutting lines at the width of a terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(renderable)


def _plain_text(text: str) -> Any:
    """Names and infos come from elsewhere: no markup, and no control characters to the terminal."""
    from rich.text import Text

    return Text(printable(text))


def printable(text: str) -> str:
    """Return text without control characters, which would reach into the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _ending(episode: Episode) -> str:
    if episode.status != "complete":
        return str(episode.status) + (f": {episode.reason}" if episode.reason else "")
    if episode.terminated or episode.truncated:
        return "terminated" if episode.terminated else "truncated"
    return "open end"


def _frames(episode: Episode) -> str:
    dropped = f" (-{episode.n_dropped})" if episode.n_dropped else ""
    return f"{episode.n_frames}{dropped}"


def _as_dict(episode: Episode) -> dict[str, Any]:
    from rollcam.store.sidecar import to_json

    facts: dict[str, Any] = json.loads(to_json(episode))
    return facts

"""`rollcam ls` and `rollcam show`: what lies in a recordings folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from rollcam.cli import HELP
from rollcam.cli.opening import opened
from rollcam.episode import Episode, EpisodeStatus, Kind, Mode

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS = {
    "started": "started_at",
    "env": "env_id",
    "return": "episode_return",
    "length": "episode_length",
    "frames": "n_frames",
    "size": "size_bytes",
}
"""Short words for the columns asked for most."""

folder_argument = click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which episodes are meant."""
    for option in reversed(
        [
            click.option("--env", "env_id", multiple=True, metavar="ID", help="Of this env."),
            click.option("--run", "run_id", multiple=True, metavar="RUN_ID", help="Of this run."),
            click.option("--mode", type=click.Choice(get_args(Mode)), multiple=True),
            click.option("--status", type=click.Choice([str(s) for s in EpisodeStatus]), multiple=True),
            click.option("--kind", type=click.Choice(get_args(Kind)), multiple=True),
            click.option(
                "--where", "-w", "--filter", "where", multiple=True, metavar="COLUMN=VALUE", callback=_conditions,
                help="A column's value, or its range: `return=10..`, "
                "`context_at_end.iteration=3..7`.",
            ),
            click.option("--text", metavar="WORDS", help="Words in names, env or metadata."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def _conditions(ctx: click.Context, parameter: click.Parameter, told: Sequence[str]) -> Any:
    found = {}
    for one in told:
        column, equals, value = one.partition("=")
        if not equals:
            raise click.BadParameter(f"{one!r} is no COLUMN=VALUE")
        low, dots, high = value.partition("..")
        key = _COLUMNS.get(column, column)
        found[key] = (_scalar(low), _scalar(high)) if dots else _scalar(value)
    return found


def _scalar(text: str) -> Any:
    """Return `text` as what a sidecar may hold: a number, true, false, nothing, or the text."""
    words = {"": None, "null": None, "true": True, "false": False}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@click.command(context_settings=HELP)
@folder_argument
@click.option(
    "--sort", default="started", show_default=True, metavar="COLUMN",
    help=f"{', '.join(sorted([*_COLUMNS, 'name', 'status', 'seed']))}, or any column of the sidecar.",
)  # fmt: skip
@click.option("--reverse", is_flag=True, help="Largest, or newest, first.")
@click.option("--limit", "-n", type=click.IntRange(0), metavar="N", help="At most so many.")
@filters
@click.option("--json", "as_json", is_flag=True, help="Print the sidecars as a JSON array.")
def ls(
    folder: Path,
    sort: str,
    reverse: bool,
    limit: int | None,
    as_json: bool,
    where: dict[str, Any],
    text: str | None,
    **choices: Sequence[str],
) -> None:
    """List the episodes in DIR, oldest first."""
    column = _COLUMNS.get(sort, sort)
    order = f"-{column}" if reverse else column
    where.update({name: list(chosen) for name, chosen in choices.items() if chosen})
    with opened(folder) as catalog:
        episodes = catalog.select(where=where, text=text, sort=order, limit=limit)
        n_all = len(catalog)
        problems = catalog.problems
    if as_json:
        click.echo(json.dumps([_as_dict(episode) for episode in episodes], indent=1))
    elif episodes:
        print_renderable(episode_table(episodes, title=str(folder)))
    elif n_all:
        click.echo(f"none of the {n_all} episodes in {folder} is asked for.")
    else:
        click.echo(
            f"{folder} holds no episodes. `rollcam record CartPole-v1 --out {folder}` films some."
        )
    for problem in problems:
        click.echo(f"not listed: {printable(str(problem))}", err=True)


@click.command(context_settings=HELP)
@folder_argument
@click.argument("episode")
@click.option("--json", "as_json", is_flag=True, help="Print the sidecar as JSON.")
def show(folder: Path, episode: str, as_json: bool) -> None:
    """Show all that is known of one EPISODE in DIR: its name, its id, or the beginning of that."""
    from rich.table import Table

    with opened(folder) as catalog:
        found = catalog.get(episode)
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

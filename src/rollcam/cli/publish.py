"""`rollcam publish` and `rollcam status`: bring films to trackers, and see what they are owed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollcam.cli import HELP
from rollcam.cli.browse import folder_argument, print_renderable, printable
from rollcam.cli.opening import opened

if TYPE_CHECKING:
    from rollcam.publish.entry import Entry
    from rollcam.publish.ledger import Ledger
    from rollcam.publish.line import Line
    from rollcam.publish.sink import Sink

_OPTIONS = {
    "wandb": {"project", "entity", "run_id", "mode", "key"},
    "mlflow": {"tracking_uri", "experiment", "run_id"},
    "tensorboard": {"logdir"},
    "trackio": {"project", "name", "server_url", "space_id"},
    "folder": {"dir"},
}
_NEEDED = {"wandb": "project", "tensorboard": "logdir", "trackio": "project", "folder": "dir"}
_N_REASONS = 20
_PATIENCE_S = 60.0


@click.command(context_settings=HELP)
@folder_argument
@click.option(
    "--to",
    "place",
    required=True,
    metavar="SINK",
    help="wandb, mlflow, tensorboard, trackio, folder, or what another package brings.",
)
@click.option("--project", help="Of Weights & Biases or Trackio.")
@click.option("--entity", help="Of Weights & Biases.")
@click.option(
    "--run-id",
    help="Of Weights & Biases (default: one of its own for each folder) or MLflow.",
)
@click.option(
    "--mode",
    type=click.Choice(["online", "offline"]),
    help="Of Weights & Biases.",
)
@click.option("--key", help="Of Weights & Biases: what the names of the films' keys begin with.")
@click.option("--tracking-uri", help="Of MLflow.")
@click.option("--experiment", help="Of MLflow.")
@click.option("--logdir", type=click.Path(file_okay=False), help="Of TensorBoard.")
@click.option("--name", help="Of the run, in Trackio (default: one for each recorder).")
@click.option("--server-url", help="Of Trackio.")
@click.option("--space-id", help="Of Trackio: a Hugging Face Space.")
@click.option("--dir", "dir_", type=click.Path(file_okay=False), help="Where `folder` copies to.")
@click.option(
    "--mb-per-minute", type=click.FloatRange(0.001), help="Megabytes to send per minute, at most."
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent; send and write nothing.")
@click.pass_context
def publish(
    context: click.Context,
    /,
    folder: Path,
    place: str,
    mb_per_minute: float | None,
    dry_run: bool,
    dir_: str | None,
    **options: str | None,
) -> None:
    """Bring the finished films in DIR to a tracker or a folder, once each, newest first.

    What the place has already is not sent again. The exit status is 1 if a film could not be sent.
    """
    given = {k: v for k, v in {**options, "dir": dir_}.items() if v is not None}
    place = _spelled_out(place, given)
    _check_options(place, given)
    if place == "wandb":
        # A run of its own for each folder, always the same one: who repeats the command goes on.
        digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
        given.setdefault("run_id", f"rollcam-{digest[:10]}")
    if dry_run:
        _print_plan(folder, place, given)
        return
    from rollcam.publish.registry import make, resolve

    sink = make(place, **given) if place in _OPTIONS else resolve(place)
    try:
        outcome = _deliver(folder, sink, mb_per_minute)
    finally:
        sink.close()
    _print_summary(outcome)
    context.exit(1 if outcome.has_failed else 0)


@click.command(context_settings=HELP)
@folder_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def status(folder: Path, as_json: bool) -> None:
    """Show what of DIR was published where, what is still owed, and what went wrong."""
    ledger = _ledger(folder)
    counts = ledger.counts()
    troubled = ledger.troubled(_N_REASONS)
    if as_json:
        click.echo(json.dumps(_as_json(counts, troubled), indent=1))
        return
    if not counts:
        click.echo(f"Nothing in {printable(str(folder))} was published, or is to be.")
        return
    print_renderable(_table(folder, counts))
    for entry in troubled:
        click.echo(f"{entry.sink}: {_trouble(entry)}", err=True)


@dataclass
class _Outcome:
    """What became of a folder's films."""

    label: str
    n_films: int
    n_sent: int
    n_there: int
    n_handed: int
    n_dropped: int
    n_failed: int
    n_left: int
    bytes_sent: int
    reasons: list[str]
    unread: list[str]

    @property
    def has_failed(self) -> bool:
        return bool(self.n_failed or self.n_left)


def _spelled_out(place: str, given: dict[str, str]) -> str:
    """Take `wandb:films` as `--to wandb --project films`, so that both go to the same run."""
    from rollcam.publish.registry import argument_of

    name, colon, argument = place.partition(":")
    option = argument_of(name)
    if option is None or not colon:
        return place
    flag = option.replace("_", "-")
    if given.setdefault(option, argument) != argument:
        raise click.UsageError(f"--to {place} and --{flag} {given[option]} contradict each other.")
    return name


def _check_options(place: str, given: dict[str, str]) -> None:
    allowed = _OPTIONS.get(place, set())
    for option in sorted(set(given) - allowed):
        flag = option.replace("_", "-")
        raise click.UsageError(f"--{flag} means nothing to --to {place}.")
    needed = _NEEDED.get(place)
    if needed is not None and not given.get(needed):
        raise click.UsageError(f"--to {place} needs --{needed.replace('_', '-')}.")


def _deliver(folder: Path, sink: Sink, mb_per_minute: float | None) -> _Outcome:
    from rollcam._outgoing import Outgoing
    from rollcam.publish.drain import drain
    from rollcam.publish.entry import State
    from rollcam.publish.line import Line
    from rollcam.store.files import list_episodes

    opened(folder).close()
    ledger, listing = _ledger(folder), list_episodes(folder)
    line = Line(
        ledger, sink, Outgoing(folder.resolve()), lock_folder=ledger.path.parent / "publish",
        bytes_per_min=None if mb_per_minute is None else int(mb_per_minute * 1e6),
        patience_s=_PATIENCE_S,
    )  # fmt: skip
    n_films, n_done_before = _queue(ledger, line, listing.episodes)
    try:
        with _bar(line) as progress:
            n_left = drain(line, progress=progress)
        sink.close()
        # Some places only know when their run has ended.
        line.ask_handed(limit=n_films)
    finally:
        line.release()
    n_left = line.n_pending()
    counts = ledger.counts().get(line.key, {})
    tally = line.tally
    has_trouble = n_left or tally.n_failed or tally.n_dropped
    troubled = ledger.troubled(_N_REASONS, line.key) if has_trouble else []
    return _Outcome(
        label=line.label,
        n_films=n_films,
        n_sent=tally.n_sent,
        n_there=n_done_before + tally.n_already_there,
        n_handed=max(0, counts.get(State.HANDED, 0) - line.n_pending(State.HANDED)),
        n_dropped=tally.n_dropped,
        n_failed=tally.n_failed,
        n_left=n_left,
        bytes_sent=tally.bytes_sent,
        reasons=[_trouble(e) for e in troubled],
        unread=[str(problem) for problem in listing.problems],
    )


def _queue(ledger: Ledger, line: Line, episodes: list[Any]) -> tuple[int, int]:
    """Queue what is not there yet; return how many films there are, and how many are there."""
    import time

    from rollcam.publish.entry import State
    from rollcam.publish.source import queue

    n_films = queue(ledger, line.key, episodes, time.time(), must_ask=True, again=True)
    known = ledger.find(line.key, [episode.episode_id for episode in episodes])
    return n_films, sum(entry.state is State.STORED for entry in known.values())


def _ledger(folder: Path) -> Ledger:
    from rollcam.publish.ledger import FILE_NAME, Ledger
    from rollcam.store.names import HIDDEN

    return Ledger(folder.resolve() / HIDDEN / FILE_NAME)


def _is_meant(target: str, place: str, given: dict[str, str]) -> bool:
    """Say whether a target in the ledger is the one that the options name."""
    path = given.get("dir") or given.get("logdir")
    if path is not None:
        return target == str(Path(path).resolve())
    # The tracking server and the mode are no part of a target.
    named = [v for k, v in given.items() if k in ("project", "entity", "run_id", "name")]
    return all(name in target for name in named)


def _print_plan(folder: Path, place: str, given: dict[str, str]) -> None:
    """Say what would be sent. No sink is made: to make one may open a run."""
    from rollcam.publish.entry import State
    from rollcam.publish.registry import check_name
    from rollcam.publish.source import is_finished
    from rollcam.store.files import list_episodes

    check_name(place)
    episodes = list_episodes(folder).episodes
    ledger = _ledger(folder)
    ids = [episode.episode_id for episode in episodes]
    name = place.partition(":")[0]
    keys = [key for key in ledger.counts() if key[0] == name and _is_meant(key[1], name, given)]
    stored = {
        entry.episode_id
        for key in keys
        for entry in ledger.find(key, ids).values()
        if entry.state is State.STORED
    }
    for episode in reversed(episodes):
        if not is_finished(episode):
            why = f"{episode.status}, there is no film"
            click.echo(f"no     {printable(episode.name)}  ({why})")
        elif episode.episode_id in stored:
            click.echo(f"there  {printable(episode.name)}")
        else:
            size = episode.size_bytes or 0
            click.echo(f"send   {printable(episode.name)}  ({size / 1000:.1f} kB)")
    n = sum(is_finished(e) and e.episode_id not in stored for e in episodes)
    click.echo(f"{n} of {len(episodes)} would be sent to {place}; nothing was.")


@contextlib.contextmanager
def _bar(line: Line) -> Iterator[Callable[[int], None]]:
    from rich.markup import escape

    from rollcam.cli.record import rich_progress

    with rich_progress() as progress:
        n_all = max(1, line.n_pending())
        task = progress.add_task(escape(printable(line.label)), total=n_all)

        def show(n_pending: int) -> None:
            progress.update(task, completed=max(0, n_all - n_pending))

        yield show


def _print_summary(outcome: _Outcome) -> None:
    films = "1 film" if outcome.n_films == 1 else f"{outcome.n_films} films"
    click.echo(f"{films}, to {printable(outcome.label)}:")
    rows = (
        (outcome.n_sent, f"sent ({outcome.bytes_sent / 1e6:.1f} MB)"),
        (outcome.n_there, "already there"),
        (outcome.n_handed, "handed over, and the place cannot say whether they arrived"),
        (outcome.n_dropped, "not to be sent"),
        (outcome.n_failed, "failed"),
        (outcome.n_left, "not delivered yet; the same command tries again"),
    )
    for n, what in rows:
        if n or what.startswith(("sent", "already", "failed")):
            click.echo(f"{n:7} {what}")
    for reason in outcome.reasons:
        click.echo(f"        {reason}", err=True)
    for reason in outcome.unread:
        click.echo(f"        not read: {printable(reason)}", err=True)


def _trouble(entry: Entry) -> str:
    return f"{entry.state} {printable(entry.name)}: {printable(entry.reason or '')}"


def _as_json(counts: dict[Any, Any], troubled: list[Entry]) -> dict[str, Any]:
    return {
        "sinks": [
            {"sink": sink, "target": target, **{str(state): n for state, n in of.items()}}
            for (sink, target), of in counts.items()
        ],
        "problems": [
            {
                "sink": e.sink, "target": e.target, "episode_id": e.episode_id, "name": e.name,
                "state": str(e.state), "attempts": e.attempts, "reason": e.reason,
            }
            for e in troubled
        ],
    }  # fmt: skip


def _table(folder: Path, counts: dict[Any, Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from rollcam.publish.entry import State

    table = Table(
        title=Text(printable(str(folder))), title_justify="left", box=SIMPLE_HEAD, show_edge=False
    )
    table.add_column("sink")
    table.add_column("target", overflow="fold")
    for state in State:
        table.add_column(str(state), justify="right", no_wrap=True)
    for (sink, target), of in counts.items():
        numbers = [str(of[state]) if of[state] else "" for state in State]
        table.add_row(Text(printable(sink)), Text(printable(target)), *numbers)
    return table

"""`rollcam check` and `rollcam transcode`: will a browser play it, and if not, mend it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollcam.cli import HELP
from rollcam.errors import RollcamError

if TYPE_CHECKING:
    from rollcam.encode.probe import MediaReport
    from rollcam.encode.transcode import TranscodeResult

_VIDEO_SUFFIXES = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif", ".mpg", ".mpeg", ".ogv", ".flv",
        ".wmv", ".m2ts", ".3gp", ".apng",
    }
)  # fmt: skip
_OURS = ".rollcam"  # films that are being written; to be judged when they are finished
_CAST_V1 = re.compile(rb'\s*\{\s*"version"\s*:\s*1\s*[,}]')

_PATHS = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)


@click.command(context_settings=HELP)
@_PATHS
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of lines.")
@click.pass_context
def check(context: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Say whether every browser plays the files at PATHS, and if not, why.

    Folders are searched for films and text recordings. The exit status is 1 if any will not play.
    """
    from rollcam.encode.probe import probe

    reports = []
    for path in _search(paths, with_text=True):
        try:
            report = probe(path)
        except RollcamError as error:  # gone since the search
            click.echo(f"rollcam: {_printable(error)}", err=True)
            context.exit(1)
        reports.append(report)
        if not as_json:
            click.echo("\n".join(_report_lines(report)))
    if as_json:
        click.echo(_json(reports))
    else:
        _print_verdict(reports)
    context.exit(0 if all(report.plays for report in reports) else 1)


@click.command(context_settings=HELP)
@_PATHS
@click.option("--in-place", is_flag=True, help="Replace each file, once the new one is verified.")
@click.option("--out", type=click.Path(path_type=Path), help="The MP4 to write; for one file only.")
@click.option(
    "--like",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A good film by the same recorder, for files whose index (moov) is missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of lines.")
@click.pass_context
def transcode(
    context: click.Context,
    paths: tuple[Path, ...],
    in_place: bool,
    out: Path | None,
    like: Path | None,
    as_json: bool,
) -> None:
    """Make films that every browser plays out of those at PATHS that do not.

    The originals stay, and the new films lie beside them as NAME-playable.mp4. Folders are searched
    for films; a text recording is drawn when it is named itself. The exit status is 1 if any could
    not be mended.
    """
    if out is not None and (in_place or len(paths) > 1 or paths[0].is_dir()):
        raise click.UsageError("--out takes one file, and not --in-place with it.")
    from rollcam.encode.transcode import transcode as mend

    results, n_failed = [], 0
    with _Bar() as bar:
        # Searched first: what is written now is not to be found.
        for path in list(_search(paths, with_text=False, skip_mended=not in_place)):
            try:
                result = mend(path, out, in_place=in_place, like=like, progress=bar.start(path))
            except RollcamError as error:
                n_failed += 1
                bar.say(f"failed   {_printable(error)}", err=True)
                continue
            results.append(result)
            if not as_json:
                bar.say("\n".join(_result_lines(result)))
    if as_json:
        click.echo(_json(results))
    elif not results and not n_failed:
        click.echo("There is nothing to mend.", err=True)
    context.exit(1 if n_failed else 0)


def _search(paths: Iterable[Path], *, with_text: bool, skip_mended: bool = False) -> Iterator[Path]:
    """Yield each named file, and what is media in each named folder.

    Args:
        paths: Files and folders.
        with_text: Whether folders are searched for text recordings too.
        skip_mended: Leave out what lies in a folder beside its own mended copy.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name != _OURS)
            for name in sorted(names):
                found = Path(folder, name)
                if not _is_media(found, with_text=with_text):
                    continue
                if not (skip_mended and _is_mended(found)):
                    yield found


def _is_media(path: Path, *, with_text: bool) -> bool:
    suffix = path.suffix.lower()
    if path.name.startswith(".") or not path.is_file():
        return False
    if suffix in _VIDEO_SUFFIXES:
        return True
    if not with_text or suffix not in (".cast", ".json"):
        return False
    return suffix == ".cast" or _is_cast_v1(path)


def _is_mended(path: Path) -> bool:
    copy = path.with_name(f"{path.stem}-playable.mp4")
    return copy.exists() and copy.stat().st_mtime >= path.stat().st_mtime


def _is_cast_v1(path: Path) -> bool:
    """Tell gym's text recordings from all the other JSON that lies in a folder of films."""
    try:
        with open(path, "rb") as file:
            return _CAST_V1.match(file.read(256)) is not None
    except OSError:
        return False


def _report_lines(report: MediaReport) -> Iterator[str]:
    yield f"{'plays' if report.plays else 'FAILS':8} {_printable(report.path)}{_facts(report)}"
    for problem in report.problems:
        yield f"{'':8} why: {_printable(problem.message)}"
    for note in report.notes:
        yield f"{'':8} note: {_printable(note.message)}"


def _facts(report: MediaReport) -> str:
    facts = [report.container, report.codec, report.pix_fmt]
    if report.width and report.height:
        facts.append(f"{report.width}x{report.height}")
    if report.n_frames:
        facts.append(f"{report.n_frames} frames")
    if report.duration_s is not None:
        facts.append(f"{report.duration_s:.2f} s")
    text = ", ".join(_printable(fact) for fact in facts if fact)
    return f"  ({text})" if text else ""


def _print_verdict(reports: list[MediaReport]) -> None:
    if not reports:
        click.echo("There are no films or text recordings here.", err=True)
        return
    n_bad = sum(not report.plays for report in reports)
    files = "1 file" if len(reports) == 1 else f"{len(reports)} files"
    click.echo(f"{files}: {len(reports) - n_bad} play, {n_bad} do not.")


def _result_lines(result: TranscodeResult) -> Iterator[str]:
    done = {"none": "right", "remux": "copied", "encode": "encoded"}[result.action]
    line = f"{done:8} {_printable(result.source)}"
    if result.target != result.source:
        line += f" -> {_printable(result.target)}"
    yield f"{line}  ({result.n_frames} frames, {result.duration_s or 0:.2f} s)"
    for note in result.notes:
        yield f"{'':8} note: {_printable(note)}"


def _printable(value: object) -> str:
    """Return text that a terminal shows as it is: a file's name may hold anything."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _json(items: Iterable[Any]) -> str:
    return json.dumps([dataclasses.asdict(item) for item in items], indent=2, default=str)


class _Bar:
    """A progress bar on stderr, where that is a terminal."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(
            console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=None)
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def start(self, path: Path) -> Callable[[int, int | None], None]:
        """Begin a file; what is returned is to be told the frames done, and how many there are."""
        from rich.markup import escape

        name = escape(_printable(path.name))
        self._progress.reset(self._task, description=name, total=None)

        def advance(done: int, total: int | None) -> None:
            self._progress.update(self._task, completed=done, total=total)

        return advance

    def say(self, text: str, *, err: bool = False) -> None:
        """Print lines, with the bar out of the way."""
        self._progress.stop()
        click.echo(text, err=err)
        self._progress.start()

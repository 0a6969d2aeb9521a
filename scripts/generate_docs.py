"""Write the generated pages of `docs/reference/`; with `--check`, say which are stale.

Each page is made from the code alone, the same on every machine: `make docs`, `make check`.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rollcam import errors
from rollcam.store.schema import json_schema

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "docs/reference"
WIDTH = 96
"""Columns of the commands' help."""

NOTICE = "<!-- Written by scripts/generate_docs.py; `make docs` writes it anew. -->"

TODO = {
    "RollcamError": "Catch this one for all of Rollcam's errors; the message says which it is.",
    "MissingDependencyError": "Run the `pip install` command that the message names.",
    "UsageError": "Call `begin`, then `frame` as often as you like, then `end`; make a new "
    "recorder after `close`.",
    "SettingError": "Change the argument that the message names to one of the values it allows.",
    "CaptureError": "Look at what your environment renders; one of the two errors below says more.",
    "RenderModeError": 'Make the environment with `render_mode="rgb_array"`, or `"ansi"` for text.',
    "FrameError": "Return `(H, W, 3)` uint8 RGB from `render()`, or a kind that the message lists.",
    "EncodeError": "Look at the message, and at the error that it was raised from, for the cause.",
    "CodecUnavailable": 'Use another codec, such as `codec="h264"`, or a build of PyAV that has '
    "this one.",
    "EncoderFailed": "Look at the cause, which is often a full disk: make room, and film again.",
    "MediaError": "Ask `rollcam check` what is wrong with the file; `rollcam transcode` mends "
    "what can be mended.",
    "StoreError": "Make the folder, or make it writable, or name another one.",
    "EpisodeNotFound": "Ask `rollcam ls` for the names and ids, and write more of the id where "
    "it stands for several.",
    "SidecarError": "Leave a foreign file alone, get a broken one back from a copy, or update "
    "Rollcam for a newer one; the film itself plays without it.",
    "SinkError": "Wait: the film stays in the folder and is sent again, and the message says what the "
    "tracker answered.",
    "SinkRefused": "Mend what the message names, and send the film again.",
    "RollcamWarning": "Filter this one to silence, or to raise, all of Rollcam's warnings.",
    "FrameMendedWarning": "Render `(H, W, 3)` uint8 RGB of one size to be rid of it; the film is "
    "whole either way.",
    "DroppedFramesWarning": "Film smaller or fewer frames, use a quicker codec, or raise "
    "`queue_bytes`.",
    "RecordingFailedWarning": "Read `reason` in the sidecar and remove the cause; with "
    '`on_error="raise"` the training stops instead.',
    "NameTakenWarning": "Choose another folder, prefix or `name`, or clear the folder with "
    "`resume=False`.",
}
"""What to do about each error and warning of `rollcam.errors`, in one sentence."""


def pages() -> dict[str, str]:
    """Return each generated file: its path from the root of the repository, and its text."""
    made = {
        "sidecar.schema.json": schema_page(),
        "sidecar.md": sidecar_page(),
        "errors.md": errors_page(),
        "cli.md": cli_page(),
    }
    return {f"{FOLDER}/{name}": text for name, text in made.items()}


def schema_page() -> str:
    """Return the JSON Schema of the sidecar."""
    return json.dumps(json_schema(), indent=2) + "\n"


def sidecar_page() -> str:
    """Return the page on the sidecar's fields, made from its JSON Schema."""
    schema = json_schema()
    defs = schema["$defs"]
    required = ", ".join(f"`{name}`" for name in schema["required"])
    odd = ", ".join(_code(text) for text in defs["Number"]["anyOf"][1]["enum"])
    choices = defs["EpisodeStatus"]["oneOf"]
    lines = [
        NOTICE,
        "",
        "# Sidecar",
        *_paragraph(
            "Beside each film `NAME.mp4` (or `.cast`) lies `NAME.meta.json`: the facts of the "
            "episode. It is written last, so a film that has one is finished. The same for "
            "programs: [JSON Schema](sidecar.schema.json)."
        ),
        *_paragraph(
            f"Always there: {required}. A field that a file lacks has its default (`null`, unless "
            "one is named). Fields that are not listed are kept when a sidecar is written again."
        ),
        *_paragraph(f"Numbers that JSON cannot say are the strings {odd}."),
        *_table(schema),
        "",
        "## Status",
        "",
        "| value | meaning |",
        "| --- | --- |",
        *(f"| `{choice['const']}` | {choice['description']} |" for choice in choices),
        "",
        "## Writer",
        *_table(defs["Writer"]),
    ]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """Return the page on errors and warnings.

    Raises:
        SystemExit: One lacks its sentence in `TODO`, or has one there and does not exist.
    """
    classes: list[type[Exception]] = [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == errors.__name__
    ]
    odd = {found.__name__ for found in classes} ^ TODO.keys()
    if odd:
        sys.exit(f"TODO of {Path(__file__).name} and rollcam.errors differ in: {sorted(odd)}")
    classes.sort(key=lambda found: inspect.getsourcelines(found)[1])
    lines = [
        NOTICE,
        "",
        "# Errors and warnings",
        *_paragraph(
            "All live in `rollcam.errors`. A constructor raises; after that, training goes on, and "
            "an error becomes one warning and a sidecar with status `failed` and the reason, "
            'unless you ask for `on_error="raise"`.'
        ),
    ]
    for found in classes:
        lines += _error(found)
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """Return the help of every command."""
    from rollcam.cli.main import cli

    top = _context(cli, "rollcam", None)
    lines = [NOTICE, "", "# Commands", "", "```text", cli.get_help(top), "```"]
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None, f"`rollcam` lists {name} and does not have it"
        text = command.get_help(_context(command, name, top))
        lines += ["", f"## `rollcam {name}`", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def stale(root: Path = ROOT) -> dict[str, str]:
    """Return those of `pages` that are missing under `root`, or not what they should be."""
    return {path: text for path, text in pages().items() if _read(root / path) != text.encode()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them.

    Args:
        arguments: Of the command line; default: those of the process.

    Returns:
        The exit status: 1 when `--check` found a stale page.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; name stale pages")
    parser.add_argument("--root", type=Path, default=ROOT, help="root of the repository")
    options = parser.parse_args(arguments)
    found = stale(options.root)
    if options.check:
        for path in found:
            print(f"{path} is stale; `make docs` writes it anew", file=sys.stderr)
        return 1 if found else 0
    for path, text in found.items():
        target = options.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())
        print(f"wrote {path}")
    return 0


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _paragraph(text: str) -> list[str]:
    return ["", *textwrap.wrap(text, 120, break_on_hyphens=False)]


def _error(found: type[Exception]) -> list[str]:
    # A warning has no slug: it is filtered by its class, which is what people look for.
    anchor = getattr(found, "slug", found.__name__)
    bases = " and ".join(f"`{base.__name__}`" for base in found.__bases__)
    words = " ".join(inspect.cleandoc(found.__doc__ or "").split())
    return [
        "",
        f'<a id="{anchor}"></a>',
        "",
        f"## {found.__name__}",
        *_paragraph(f"{words} A kind of {bases}."),
        *_paragraph(f"**What to do:** {TODO[found.__name__]}"),
    ]


def _table(schema: dict[str, Any]) -> list[str]:
    rows = []
    for name, field in schema["properties"].items():
        meaning = field["description"].replace("|", "\\|")
        if field.get("default") not in (None, {}):
            meaning += f" Default: {_code(field['default'])}."
        rows.append(f"| `{name}` | {_type(field)} | {meaning} |")
    return ["", "| field | type | meaning |", "| --- | --- | --- |", *rows]


_NAMES: dict[str, str] = {
    "#/$defs/Number": "number",
    "#/$defs/EpisodeStatus": "[status](#status)",
    "#/$defs/Writer": "[writer](#writer)",
}


def _type(field: dict[str, Any]) -> str:
    """Return a field's type in words."""
    if "$ref" in field:
        return _NAMES[field["$ref"]]
    if "enum" in field:
        return " or ".join(map(_code, field["enum"]))
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    names = field["type"] if isinstance(field["type"], list) else [field["type"]]
    label = " or ".join(names)
    return f"{label} of scalars" if "additionalProperties" in field else label


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


if __name__ == "__main__":
    sys.exit(main())

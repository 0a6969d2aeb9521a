"""Films in a TensorBoard log directory: how the sink lays them down and the plugin finds them.

    runs/ppo-1/events.out.tfevents…        the trainer's
    runs/ppo-1/rollcam/<episode>_<sha>.mp4  a film
    runs/ppo-1/rollcam/<episode>.json       its facts, written last: the film is there when this is
    runs/ppo-1/rollcam/events.out.tfevents… the previews, for the stock image tab

Nothing that is read here is trusted: a log directory may have come from anywhere.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

FOLDER = "rollcam"
"""The folder inside a run's log directory that holds its films."""
FACTS_SUFFIX = ".json"
MAX_FACTS_BYTES = 64 * 1024
"""A larger file is not ours."""

_SCHEMA = 1
_FILE = re.compile(r"[A-Za-z0-9_-]{1,200}\.mp4")
_MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Film:
    """What stands beside a film in a log directory."""

    episode_id: str
    """Of the episode."""
    sha256: str
    """Of the episode's own media file, in hex."""
    file: str
    """Name of the film in the same folder."""
    step: int
    """Where on the axis it belongs."""
    caption: str
    """One line for people."""
    name: str
    """The episode's name in the recordings folder."""
    mode: str
    """`train` or `eval`."""
    ended_at: str
    """When the episode ended, UTC, ISO 8601; empty when nobody knows."""
    size_bytes: int
    """Of the film."""
    fps: float | None
    """Frames per second; sets the size of the plugin's single steps."""
    scalars: Mapping[str, float]
    """Such as `return` and `length`."""


def facts_json(film: Film) -> bytes:
    """Return the facts as they stand in a file."""
    return (json.dumps({"schema_version": _SCHEMA, **asdict(film)}, indent=1) + "\n").encode()


def read_facts(path: Path) -> Film | None:
    """Read a film's facts; None where the file is none of ours, or broken."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FACTS_BYTES:
            return None
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or raw.get("schema_version") != _SCHEMA:
        return None
    file, step, size = raw.get("file"), raw.get("step"), raw.get("size_bytes")
    if not isinstance(file, str) or not _FILE.fullmatch(file):
        return None
    if not _is_count(step) or not _is_count(size):
        return None
    return Film(
        file=file,
        step=step,
        size_bytes=size,
        fps=_number(raw.get("fps")),
        scalars=_scalars(raw.get("scalars")),
        episode_id=_text(raw.get("episode_id")),
        sha256=_text(raw.get("sha256")),
        caption=_text(raw.get("caption")),
        name=_text(raw.get("name")),
        mode=_text(raw.get("mode")),
        ended_at=_text(raw.get("ended_at")),
    )


def is_whole(folder: Path, film: Film) -> bool:
    """Say whether a film's file lies in `folder`: a plain file of the size that its facts tell."""
    try:
        status = os.lstat(folder / film.file)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == film.size_bytes


def _text(value: Any) -> str:
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _scalars(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    numbers = {_text(key)[:80]: _number(item) for key, item in list(value.items())[:50]}
    return {key: number for key, number in numbers.items() if number is not None}

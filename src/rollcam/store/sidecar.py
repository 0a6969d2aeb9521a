"""The sidecar: the truth about one episode, as JSON beside its film. A format, so a promise.

Fields are those of `rollcam.episode.Episode`; the JSON schema and the reference page are made from
its docstrings. Unknown fields are kept. Numbers that JSON cannot say (a return of NaN) are written
as the strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import reprlib
import stat
import sys
import types
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np

from rollcam.episode import SCHEMA_VERSION, Episode, EpisodeStatus, Writer
from rollcam.errors import SidecarError
from rollcam.store.names import SIDECAR_SUFFIX

MAX_BYTES = 4 * 2**20
"""A sidecar larger than this is not ours."""

MAX_DEPTH = 100
"""Objects and arrays that are nested deeper than this are written in words."""

NOT_WRITTEN = ("folder", "extra")
"""Fields of an `Episode` that do not stand in its sidecar."""

REQUIRED = ("schema_version", "episode_id", "run_id", "name", "status")
"""Fields without which a file is no sidecar."""

ODD_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""How numbers are written that JSON cannot say."""

_HINTS = get_type_hints(Episode)
_FIELDS = tuple(field for field in dataclasses.fields(Episode) if field.name not in NOT_WRITTEN)
_NAMES = frozenset(field.name for field in _FIELDS) | {"empty", "broken"}
_FILES = ("media", "steps")
_PLAIN_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]*")
_LARGEST = int(sys.float_info.max)
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_UNFIT = object()
_Fit: TypeAlias = Callable[[Any, str], Any]
_WORDS = {
    types.NoneType: "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


DEFAULTS: Mapping[str, Any] = {
    field.name: {} if field.default is dataclasses.MISSING else field.default
    for field in dataclasses.fields(Episode)
    if field.name not in REQUIRED or field.default is not dataclasses.MISSING
}
"""What the fields are that a sidecar does not have."""


def to_json(episode: Episode) -> str:
    """Return the sidecar's text.

    Where it would be larger than `MAX_BYTES`, the largest of the free-form fields are left out, and
    say so.
    """
    return _fitting(as_dict(episode))


def as_dict(episode: Episode) -> dict[str, Any]:
    """Return what stands in the sidecar, with gym's two words for the status beside ours."""
    fields = {field.name: getattr(episode, field.name) for field in _FIELDS}
    # gym's VideoRecorder wrote these two, and its readers look for them.
    gym_words = {
        "empty": episode.status is EpisodeStatus.EMPTY or episode.media is None,
        "broken": episode.status is EpisodeStatus.FAILED,
    }
    first = {"schema_version": episode.schema_version}
    plain: dict[str, Any] = _plain({**first, **episode.extra, **fields, **gym_words})
    unknown = episode.extra.get("writer")
    if isinstance(unknown, Mapping) and plain["writer"]:
        plain["writer"] = {**_plain(unknown), **plain["writer"]}
    return plain


def as_json(value: Mapping[str, Any]) -> str:
    """Return `value` on one line of JSON; what JSON cannot say is said in words."""
    return json.dumps(_plain(value), separators=(",", ":"))


def as_number(value: Any) -> float | None:
    """Return a number as a sidecar writes it, the odd ones included; `None` for what is none."""
    if isinstance(value, str):
        return ODD_FLOATS.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isinstance(value, float) or -_LARGEST <= value <= _LARGEST else None


def from_json(text: str | bytes, *, where: Path | None = None) -> Episode:
    """Read a sidecar's text.

    Args:
        text: JSON.
        where: The sidecar's path; gives the episode its folder and its name.

    Raises:
        SidecarError: It is no JSON, no sidecar of Rollcam's, broken, or of a newer version.
    """
    fields = fields_from_json(text, where=where)
    if where is not None:
        fields["folder"], fields["name"] = _place(where, fields["name"])
    return Episode(**fields)


def fields_from_json(text: str | bytes, *, where: Path | str | None = None) -> dict[str, Any]:
    """Read a sidecar's text as the fields of an `Episode`, for whoever reads very many.

    Args:
        text: JSON.
        where: The sidecar's path; gives the episode its name.

    Returns:
        The fields that it has, checked, and under `extra` the unknown ones.

    Raises:
        SidecarError: It is no JSON, no sidecar of Rollcam's, broken, or of a newer version.
    """
    label = where or "the sidecar"
    raw = _fields_of(text, label)
    try:
        known, extra = _told_apart(raw)
    except TypeError as error:
        raise SidecarError(f"{label}: {error}") from error
    known["extra"] = extra
    if where is not None:
        is_plain = "/" not in known["name"]
        stem = os.path.basename(where).removesuffix(SIDECAR_SUFFIX)
        known["name"] = stem if is_plain else _place(Path(where), known["name"])[1]
    return known


def read(path: Path) -> Episode:
    """Read a sidecar.

    Raises:
        SidecarError: It cannot be read, or is none.
    """
    try:
        _, data = load(path)
    except OSError as error:
        raise SidecarError(f"{path} cannot be read: {error}") from error
    return from_json(data, where=path)


def load(path: Path | str) -> tuple[os.stat_result, bytes]:
    """Load a sidecar's bytes, with what the file system says of the very file that they are from.

    Raises:
        OSError: It cannot be read.
        SidecarError: It is no file, or too large.
    """
    # Opened without waiting: a pipe's other end may never come.
    descriptor = os.open(path, _READ_ONLY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SidecarError(f"{path} is no file")
        if status.st_size > MAX_BYTES:
            raise SidecarError(f"{path} is larger than {MAX_BYTES} bytes and no sidecar")
        data = os.read(descriptor, status.st_size + 1)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size)):
            data += more
    finally:
        os.close(descriptor)
    return status, data


def _fields_of(text: str | bytes, label: Path | str) -> dict[str, Any]:
    if not text or text.isspace():
        raise SidecarError(f"{label} is no JSON: it is empty")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"{label} is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise SidecarError(f"{label} was not written by Rollcam: it is no JSON object")
    missing = [key for key in REQUIRED if key not in raw]
    if missing:
        raise SidecarError(f"{label} was not written by Rollcam: it lacks {', '.join(missing)}")
    version = raw["schema_version"]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        shown = reprlib.repr(version)
        raise SidecarError(f"{label} has schema_version {shown}; expected a whole number from 1")
    if version > SCHEMA_VERSION:
        raise SidecarError(
            f"{label} has schema_version {reprlib.repr(version)}, and this Rollcam reads up to "
            f"{SCHEMA_VERSION}; update it with: pip install -U rollcam"
        )
    return raw


def _told_apart(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields that are known, as an `Episode` has them, and the others.

    Raises:
        TypeError: A value is not what its field takes.
    """
    known = _TABLE.checked(raw)
    extra = {name: raw[name] for name in raw if name not in _NAMES}
    for name in _FILES:
        if known.get(name) is not None and not _is_file_name(known[name]):
            raise TypeError(_told(name, known[name], "the name of a file beside it"))
    writer = raw.get("writer")
    if writer and not writer.keys() <= _WRITER_NAMES:
        extra["writer"] = {k: v for k, v in writer.items() if k not in _WRITER_NAMES}
    return known, extra


def _place(where: Path, told: str) -> tuple[Path, str]:
    """Return the folder and the name of a sidecar, which may have been moved since."""
    stem = where.name.removesuffix(SIDECAR_SUFFIX)
    if "/" not in told:
        return where.parent, stem
    parts = told.split("/")[:-1]
    own_parts = [parent.name for parent in where.parents][: len(parts)][::-1]
    # The name of the root is empty, so above a match there is always one more parent.
    if parts and parts == own_parts and not {"", ".."} & set(parts):
        return where.parents[len(parts)], "/".join([*own_parts, stem])
    return where.parent, stem


def _is_file_name(name: str) -> bool:
    if _PLAIN_FILE_NAME.fullmatch(name):
        return True
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return name not in ("", "..") and Path(name).name == name and "\0" not in name


def _fitting(plain: dict[str, Any]) -> str:
    """Return `plain` as JSON of at most `MAX_BYTES`, for the sake of which large values go."""
    text = json.dumps(plain, indent=1) + "\n"
    if len(text) <= MAX_BYTES:
        return text
    known = {field.name for field in _FIELDS}
    sizes = {
        key: len(json.dumps(value, indent=1))
        for key, value in plain.items()
        if isinstance(value, dict) or key not in known
    }
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        plain[key] = {"left_out": f"{sizes[key]} bytes: larger than a sidecar may be"}
        text = json.dumps(plain, indent=1) + "\n"
        if len(text) <= MAX_BYTES:
            break
    return text


def _plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Return `value` as JSON can say it; what it cannot is said in words."""
    # Most are these, and each of the questions below takes its time.
    if type(value) in _ALREADY_PLAIN:
        return value
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else repr(float(value))
    # What holds itself, twice, would take for ever long before it is too deep.
    if len(above) == MAX_DEPTH or id(value) in above:
        return reprlib.repr(value)
    above = (*above, id(value))
    if isinstance(value, Enum):
        return _plain(value.value, above)
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), above)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, above) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, above) for item in value]
    return str(value)[:500]


_ALREADY_PLAIN = frozenset({type(None), bool, int, str})


def _told(path: str, value: Any, expected: str) -> str:
    return f"{path} is {reprlib.repr(value)}; expected {expected}"


class _Table:
    """What the fields of a dataclass take, made ready once: a folder may hold 100,000 sidecars.

    Args:
        hints: The fields' annotations, by name.
        path: Where the fields stand, for messages.
    """

    def __init__(self, hints: Mapping[str, Any], path: str = "") -> None:
        rules = {name: _Rule(hint) for name, hint in hints.items()}
        self._rules = tuple((name, rule.as_is, rule.checked) for name, rule in rules.items())
        self._whole = tuple((name, rule) for name, rule in rules.items() if int in rule.as_is)
        self._path = path

    def checked(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that are there, as the dataclass wants them.

        Raises:
            TypeError: A value is not what its field takes.
        """
        path = self._path
        # Under our own strings for the names: Python finds an argument much sooner by those than by
        # equal ones out of the JSON.
        known = {
            name: value if type(value := raw[name]) in as_is else checked(value, path + name)
            for name, as_is, checked in self._rules
            if name in raw
        }
        for name, rule in self._whole:
            value = known.get(name, 0)
            if value is not None and not -_LARGEST <= value <= _LARGEST:
                raise TypeError(_told(path + name, value, rule.expected))
        return known


class _Rule:
    """What a field of one type takes.

    Args:
        hint: The field's annotation.
    """

    def __init__(self, hint: Any) -> None:
        is_union = get_origin(hint) in (Union, types.UnionType)
        options = get_args(hint) if is_union else (hint,)
        self.as_is = frozenset(kind for option in options for kind in _as_is(option))
        """Types whose every value, as JSON gives it, is right without a look; but for a whole number
        that no float can hold: it would raise later, in whoever divides it."""
        self.expected = " or ".join(map(_expected, options))
        """In words."""
        self._fits: dict[type, _Fit] = {}
        for option in options:
            for kind, fit in _fits(option).items():
                self._fits.setdefault(kind, fit)

    def checked(self, value: Any, path: str) -> Any:
        """Return a value that is not right as it is; raise TypeError with what was expected."""
        fit = self._fits.get(type(value), _unfit)
        if (result := fit(value, path)) is _UNFIT:
            raise TypeError(_told(path, value, self.expected))
        return result


def _expected(hint: Any) -> str:
    if get_origin(hint) is Literal or hint is EpisodeStatus:
        choices = get_args(hint) or [status.value for status in EpisodeStatus]
        return " or ".join(map(repr, choices))
    return _WORDS.get(hint, "an object")


def _as_is(hint: Any) -> tuple[type, ...]:
    if hint in (bool, str, int, float, types.NoneType):
        return (hint,)
    return (dict,) if get_args(hint)[1:] == (Any,) else ()


def _fits(hint: Any) -> dict[type, _Fit]:
    """Return what makes of a value what `hint` wants, or `_UNFIT`, by the value's type."""
    if hint in (bool, str, int, types.NoneType):
        return {}
    if hint is float:
        return {int: _float, str: lambda value, path: ODD_FLOATS.get(value, _UNFIT)}
    if get_origin(hint) is Literal or hint is EpisodeStatus:
        choices = {str(choice): choice for choice in get_args(hint) or EpisodeStatus}
        return {str: lambda value, path: choices.get(value, _UNFIT)}
    if hint is Writer:
        return {dict: _writer}
    of = get_args(hint)[1]
    known = frozenset(get_args(of))
    return {dict: lambda value, path: _mapping(value, known, of, path)}


def _unfit(value: Any, path: str) -> Any:
    return _UNFIT


def _float(value: int, path: str) -> Any:
    return float(value) if -_LARGEST <= value <= _LARGEST else _UNFIT


def _mapping(value: dict[str, Any], known: frozenset[type], of: Any, path: str) -> dict[str, Any]:
    if known.issuperset(map(type, value.values())):
        return value
    for key, item in value.items():
        if not isinstance(item, of):
            expected = " or ".join(map(_expected, get_args(of)))
            shown = key if key.isidentifier() else reprlib.repr(key)
            raise TypeError(_told(f"{path}.{shown:.80}", item, expected))
    return value


def _writer(value: dict[str, Any], path: str) -> Writer:
    missing = [key for key in ("host", "pid") if key not in value]
    if missing:
        raise TypeError(f"{path} lacks {', '.join(missing)}")
    return Writer(**_WRITER_TABLE.checked(value))


_TABLE = _Table({field.name: _HINTS[field.name] for field in _FIELDS})
_WRITER_HINTS = get_type_hints(Writer)
_WRITER_TABLE = _Table(_WRITER_HINTS, "writer.")
_WRITER_NAMES = _WRITER_HINTS.keys()

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
_Fit: TypeAlias = Callable[[Any, str], tuple[bool, Any]]
_Read: TypeAlias = Callable[[dict[str, Any], str], Any]
_WORDS = {
    types.NoneType: "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


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
    fits, number = _fit_number(value, float)
    return float(number) if fits else None


def from_json(text: str | bytes, *, where: Path | None = None) -> Episode:
    """Read a sidecar's text.

    Args:
        text: JSON.
        where: The sidecar's path; gives the episode its folder and its name.

    Raises:
        SidecarError: It is no JSON, no sidecar of Rollcam's, broken, or of a newer version.
    """
    label = where or "the sidecar"
    raw = _fields_of(text, label)
    try:
        known, extra = _told_apart(raw)
    except TypeError as error:
        raise SidecarError(f"{label}: {error}") from error
    folder = None
    if where is not None:
        folder, known["name"] = _place(where, known["name"])
    return Episode(**known, extra=extra, folder=folder)


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


def load(path: Path) -> tuple[os.stat_result, bytes]:
    """Load a sidecar's bytes, with what the file system said of them just before.

    Raises:
        OSError: It cannot be read.
        SidecarError: It is no file, or too large.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise SidecarError(f"{path} is no file")
    if status.st_size > MAX_BYTES:
        raise SidecarError(f"{path} is larger than {MAX_BYTES} bytes and no sidecar")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
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
    # Under our own strings for the names: Python finds an argument much sooner by those than by
    # equal ones out of the JSON.
    known = {
        name: value if type(value := raw[name]) in as_is else rule.checked(value, name)
        for name, as_is, rule in _TABLE
        if name in raw
    }
    extra = {name: raw[name] for name in raw if name not in _NAMES}
    for name in _WHOLE:
        value = known.get(name, 0)
        if value is not None and not -_LARGEST <= value <= _LARGEST:
            _RULES[name].checked(value, name)
    for name in _FILES:
        if known.get(name) is not None and not _is_file_name(known[name]):
            raise TypeError(_told(name, known[name], "the name of a file beside it"))
    writer = raw.get("writer")
    if writer and not _WRITER_RULES.keys() >= writer.keys():
        extra["writer"] = {k: v for k, v in writer.items() if k not in _WRITER_RULES}
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


def _told(path: str, value: Any, expected: str) -> str:
    return f"{path} is {reprlib.repr(value)}; expected {expected}"


class _Rule:
    """What a field of one type takes, made ready once: a folder may hold 100,000 sidecars.

    Args:
        hint: The field's annotation.
    """

    def __init__(self, hint: Any) -> None:
        is_union = get_origin(hint) in (Union, types.UnionType)
        self._options = get_args(hint) if is_union else (hint,)
        self._fits = [_fitting_to(option) for option in self._options]
        plain = {option for option in self._options if option in (bool, str, float)}
        # A whole number may be too large for a float: that is looked at apart.
        plain |= {int} & set(self._options)
        if types.NoneType in self._options:
            plain.add(types.NoneType)
        if any(get_args(option)[1:] == (Any,) for option in self._options):
            plain.add(dict)
        self.as_is = frozenset(plain)
        """Types whose every value, as JSON gives it, is right without a look."""

    def checked(self, value: Any, path: str) -> Any:
        """Return `value` as the field wants it; raise TypeError with what was expected."""
        for fit in self._fits:
            fits, result = fit(value, path)
            if fits:
                return result
        raise TypeError(_told(path, value, " or ".join(map(_expected, self._options))))


def _expected(hint: Any) -> str:
    if get_origin(hint) is Literal or hint is EpisodeStatus:
        choices = get_args(hint) or [status.value for status in EpisodeStatus]
        return " or ".join(map(repr, choices))
    return _WORDS.get(hint, "an object")


def _fitting_to(hint: Any) -> _Fit:
    """Return what says whether a value fits `hint`, and gives it as `hint` wants it."""
    if hint in (bool, str, types.NoneType):
        return lambda value, path: (isinstance(value, hint), value)
    if hint is int:
        return lambda value, path: _fit_number(value, int)
    if hint is float:
        return lambda value, path: _fit_number(value, float)
    if get_origin(hint) is Literal or hint is EpisodeStatus:
        choices = {str(choice): choice for choice in get_args(hint) or EpisodeStatus}
        return lambda value, path: (
            isinstance(value, str) and value in choices,
            choices.get(value) if isinstance(value, str) else None,
        )
    if hint is Writer:
        return lambda value, path: _fit_object(value, _writer, path)
    of = get_args(hint)[1]
    known = frozenset() if of is Any else frozenset(get_args(of))
    return lambda value, path: _fit_object(value, lambda v, p: _mapping(v, known, of, p), path)


def _fit_number(value: Any, hint: type[int] | type[float]) -> tuple[bool, Any]:
    if hint is float and isinstance(value, str):
        return value in ODD_FLOATS, ODD_FLOATS.get(value)
    if isinstance(value, bool) or not isinstance(value, int | hint):
        return False, None
    # A whole number that no float can hold would raise later, in whoever divides it.
    fits = isinstance(value, float) or -_LARGEST <= value <= _LARGEST
    return fits, hint(value) if fits else None


def _fit_object(value: Any, read: _Read, path: str) -> tuple[bool, Any]:
    return (True, read(value, path)) if isinstance(value, dict) else (False, None)


def _mapping(value: dict[str, Any], known: frozenset[type], of: Any, path: str) -> dict[str, Any]:
    if of is Any or known.issuperset(map(type, value.values())):
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
    known = {
        key: rule.checked(value[key], f"{path}.{key}")
        for key, rule in _WRITER_RULES.items()
        if key in value
    }
    return Writer(**known)


_RULES = {field.name: _Rule(_HINTS[field.name]) for field in _FIELDS}
_WRITER_RULES = {name: _Rule(hint) for name, hint in get_type_hints(Writer).items()}
_WHOLE = tuple(name for name, rule in _RULES.items() if int in rule.as_is)
_TABLE = tuple((name, rule.as_is, rule) for name, rule in _RULES.items())

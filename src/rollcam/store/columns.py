"""What episodes can be filtered and sorted by: the index's columns, and questions in its terms."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rollcam.episode import Episode
from rollcam.errors import SettingError

COLUMNS = {
    "episode_id": "TEXT",
    "run_id": "TEXT",
    "name": "TEXT",
    "env_id": "TEXT",
    "mode": "TEXT",
    "kind": "TEXT",
    "seed": "INTEGER",
    "episode_index": "INTEGER",
    "step_index": "INTEGER",
    "n_frames": "INTEGER",
    "n_dropped": "INTEGER",
    "episode_return": "REAL",
    "episode_length": "INTEGER",
    "duration_s": "REAL",
    "size_bytes": "INTEGER",
    "started_at": "TEXT",
    "ended_at": "TEXT",
    "terminated": "INTEGER",
    "truncated": "INTEGER",
    "codec": "TEXT",
    "status": "TEXT",
    "worker": "TEXT",
    "vector_index": "INTEGER",
    "iteration": "NUMERIC",
}
"""The columns that are quick; every other field is reached by its dotted name (`fps`,
`context_at_end.num_env_steps`, `final_info.success`, `metadata.lr.actor`, `writer.host`)."""

_BOOLS = ("terminated", "truncated")
_FIELDS = tuple(COLUMNS)[: -len(("status", "worker", "vector_index", "iteration"))]
_OTHERS = (
    "reason", "media", "steps", "content_type", "pix_fmt", "width", "height", "fps", "output_fps",
    "n_encoded", "sha256", "schema_version",
)  # fmt: skip
_MAPS = ("context_at_start", "context_at_end", "final_info", "metadata", "extra")
_WRITER = ("host", "pid", "worker", "vector_index")
_MAX_KEYS = 300
_MAX_TEXT = 200
_MAX_SHOWN = 500
_MAX_FACTS = 2**16
_MAX_SEARCH = 4000
_MAX_DEPTH = 4
_LARGEST = 2**63 - 1
_FACTS = (*_OTHERS, *_MAPS)
_fields = operator.itemgetter(*_FIELDS)
_facts = operator.itemgetter(*_FACTS)
_maps = operator.itemgetter(*_MAPS)
_searched = operator.itemgetter("name", "env_id", "episode_id", "run_id", "reason")
_NAMES = tuple(field.name for field in dataclasses.fields(Episode))
_ENCODE = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=dict
).encode


def fields_of(episode: Episode) -> dict[str, Any]:
    """Return an episode's fields, in which terms the functions below are: the index makes no episodes."""
    return {name: getattr(episode, name) for name in _NAMES}


def values_of(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`."""
    writer = fields["writer"]
    return (
        *_fields(fields),
        fields["status"].value,
        writer and writer.worker,
        writer and writer.vector_index,
        _iteration(fields),
    )


def facts_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return every other scalar and the free-form fields of an episode, nested as they are."""
    facts = dict(zip(_FACTS, _facts(fields), strict=True))
    writer = fields["writer"]
    if writer is not None:
        facts["writer"] = {"host": writer.host, "pid": writer.pid}
    return facts


def search_text(fields: Mapping[str, Any]) -> str:
    """Return what a text search looks through: names, ids, environment, reason, metadata."""
    words = list(_searched(fields))
    if fields["writer"] is not None:
        words += [fields["writer"].host, fields["writer"].worker]
    if fields["metadata"]:
        words.append(facts_text(fields["metadata"]))
    return "\n".join(word for word in words if word)[:_MAX_SEARCH].casefold()


def facts_text(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON that SQLite reads as Python does; what it would not is left out."""
    try:
        text = _ENCODE(facts)
        if len(text) <= _MAX_FACTS:
            return text
    except (ValueError, RecursionError):  # NaN and infinity are no JSON
        pass
    text = _ENCODE(_small(facts, _MAX_DEPTH))
    return text if len(text) <= _MAX_FACTS else "{}"


def shape_of(fields: Mapping[str, Any]) -> Any:
    """Return something hashable that says which names an episode brings."""
    shape: list[Any] = []
    for values in _maps(fields):
        if values:
            shape.append(tuple(values))
            shape += [tuple(inner) for inner in values.values() if type(inner) is dict]
        else:
            shape.append(None)
    return tuple(shape)


def keys_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the dotted names of the free-form fields, for a menu."""
    return tuple(
        key
        for name in _MAPS
        for key, _ in islice(_scalars(name, facts[name] or {}), _MAX_KEYS)
        if _is_key(key)
    )


def record_of(episode: Episode) -> dict[str, Any]:
    """Return every scalar of an episode as it is, nested ones under their dotted names."""
    record = {name: getattr(episode, name) for name in (*_FIELDS, *_OTHERS)}
    record["status"] = episode.status.value
    if episode.writer is not None:
        parts = {part: getattr(episode.writer, part) for part in _WRITER}
        record.update(_scalars("writer", parts))
    for name in _MAPS:
        record.update(_scalars(name, getattr(episode, name) or {}))
    # Half a character, which JSON can say, is no text to others.
    return {storable(k): storable(v) if isinstance(v, str) else v for k, v in record.items()}


def storable(value: Any) -> Any:
    """Return a scalar as SQLite can hold it: 64-bit numbers, well-formed text; NaN is nothing."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        return float(value)
    return value


def _iteration(fields: Mapping[str, Any]) -> int | float | None:
    for name in ("context_at_end", "context_at_start"):
        context = fields[name]
        for key in ("iteration", "training_iteration"):
            value = context.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
    return None


def _scalars(name: str, values: Mapping[str, Any], depth: int = 1) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        dotted = f"{name}.{key}"
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            yield from _scalars(dotted, value, depth + 1)
        elif value is None or isinstance(value, bool | int | float | str):
            yield dotted, value


def _small(value: Any, depth: int) -> Any:
    """Return facts without what is deep, long, endless or no number; large maps are cut."""
    if isinstance(value, Mapping):
        if not depth:
            return None
        some = islice(value.items(), _MAX_KEYS)
        return {str(k)[:_MAX_TEXT]: _small(item, depth - 1) for k, item in some}
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    is_plain = value is None or isinstance(value, int | float)
    return value if is_plain and abs(value or 0) <= _LARGEST else None


def _is_key(key: str) -> bool:
    """Return whether a key can stand in a path of SQLite's JSON, which knows no escapes."""
    return len(key) <= _MAX_TEXT and key.isprintable() and not {'"', "\\"} & set(key)


@dataclass(frozen=True, slots=True)
class Query:
    """Which episodes, in which order; see `rollcam.Catalog.select` for what each part means."""

    where: Mapping[str, Any]
    """Column to value, choices, or `(low, high)`."""
    text: str | None = None
    """Words that must all be found."""
    sort: str | Sequence[str] = "started_at"
    """Columns; `-` in front for largest first."""

    @property
    def is_filtered(self) -> bool:
        """Whether there is any condition."""
        return bool(self.where or self.text)

    def conditions(self) -> tuple[str, list[Any]]:
        """Return the SQL behind `WHERE`, over `episode e` and `words w`, and its values.

        Raises:
            SettingError: A column or a value cannot be.
        """
        parts, values = ["e.problem IS NULL"], []
        for column, wanted in self.where.items():
            part, some = _condition(expression(column), column, wanted)
            parts.append(part)
            values += some
        for word in (self.text or "").casefold().split():
            parts.append("instr(w.search, ?) > 0")
            values.append(storable(word))
        return " AND ".join(parts), values

    def order(self) -> str:
        """Return the SQL behind `ORDER BY`: what lacks the value comes last, either way.

        Raises:
            SettingError: A column cannot be.
        """
        keys = [self.sort] if isinstance(self.sort, str) else list(self.sort)
        is_newest_first = bool(keys) and keys[0].startswith("-")
        way = " DESC" if is_newest_first else ""
        parts = []
        for key in keys:
            column = expression(key.removeprefix("-"))
            # SQLite takes what is missing for smallest.
            first = "" if key.startswith("-") else f"{column} IS NULL, "
            parts.append(f"{first}{column}{' DESC' if key.startswith('-') else ''}")
        if not {"started_at", "-started_at"} & set(keys):
            parts.append(f"e.started_at{way}")
        return ", ".join([*parts, f"e.episode_id{way}", "e.path"])


def expression(column: str) -> str:
    """Return the SQL of a column.

    Raises:
        SettingError: There can be no such column.
    """
    if column in COLUMNS:
        return f"e.{column}"
    is_known = isinstance(column, str) and (column in _OTHERS or "." in column)
    if not is_known or not _is_key(column):
        raise SettingError(
            f"there is no column {column!r:.100}; there are {', '.join(COLUMNS)}, "
            f"{', '.join(_OTHERS)}, and dotted names such as context_at_end.iteration"
        )
    first, *rest = column.replace("'", "''").split(".")
    paths = [f'$."{first}"' + "".join(f'."{part}"' for part in rest)]
    if len(rest) > 1:  # a trainer's counters may have dots in their names
        paths.insert(0, f'$."{first}"."{".".join(rest)}"')
    parts = [f"json_extract(w.facts, '{path}')" for path in paths]
    return parts[0] if len(parts) == 1 else f"COALESCE({', '.join(parts)})"


def shown(column: str) -> str:
    """Return the SQL of a column for a list; text of any length is no use there, so it is cut.

    Raises:
        SettingError: There can be no such column.
    """
    sql = expression(column)
    return f"substr({sql}, 1, {_MAX_SHOWN})" if COLUMNS.get(column) == "TEXT" else sql


def as_told(column: str, value: Any) -> Any:
    """Return a value from the index as the sidecar tells it."""
    return bool(value) if column in _BOOLS and value is not None else value


def _condition(sql: str, column: str, wanted: Any) -> tuple[str, list[Any]]:
    if isinstance(wanted, tuple):
        return _range(sql, column, wanted)
    if isinstance(wanted, Collection) and not isinstance(wanted, str | bytes | Mapping):
        choices = [_value(column, choice) for choice in wanted]
        marks = ", ".join("?" * sum(choice is not None for choice in choices))
        part = f"{sql} IN ({marks})"
        if None in choices:
            part = f"({part} OR {sql} IS NULL)"
        return part, [choice for choice in choices if choice is not None]
    return f"{sql} IS ?", [_value(column, wanted)]


def _range(sql: str, column: str, wanted: tuple[Any, ...]) -> tuple[str, list[Any]]:
    if len(wanted) != 2:
        raise SettingError(
            f"{column}={wanted!r:.100} is no range; give (low, high), either of them None, "
            f"or a list of choices"
        )
    parts: list[str] = []
    values = []
    for sign, bound in zip((">=", "<="), wanted, strict=True):
        if bound is not None:
            parts.append(f"{sql} {sign} ?")
            values.append(_value(column, bound))
    return " AND ".join(parts or [f"{sql} IS NOT NULL"]), values


def _value(column: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        # An EpisodeStatus is a str as well.
        plain = str(value) if isinstance(value, str) else value
        return storable(plain)
    item = getattr(value, "item", None)  # a numpy scalar
    if item is not None and getattr(value, "shape", None) == ():
        return _value(column, item())
    raise SettingError(f"{column} is compared with {value!r:.100}; expected a number or text")

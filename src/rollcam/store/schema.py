"""The sidecar's JSON Schema, made from `rollcam.episode`: annotations give types, docstrings words."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rollcam.episode import SCHEMA_VERSION, Episode, EpisodeStatus, Writer
from rollcam.store.sidecar import NOT_WRITTEN, ODD_FLOATS, REQUIRED

Schema = dict[str, Any]

_SIMPLE = {types.NoneType: "null", bool: "boolean", int: "integer", str: "string"}
_DERIVED = {
    "empty": "There is no film. Derived when writing, for readers of gym's recorder.",
    "broken": "The film failed. Derived when writing, for readers of gym's recorder.",
}


def json_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a sidecar.

    It allows what `rollcam.store.sidecar.from_json` reads, and fields that are not known yet.

    Raises:
        ValueError: A field of `rollcam.episode` has no docstring.
    """
    properties = _properties(Episode)
    version = properties.pop("schema_version")
    del version["default"]  # an Episode has one, a sidecar must name its own
    first = {"schema_version": {**version, "minimum": 1, "maximum": SCHEMA_VERSION}}
    derived = {
        name: {"type": "boolean", "description": meaning} for name, meaning in _DERIVED.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Rollcam sidecar, version {SCHEMA_VERSION}",
        "description": inspect.cleandoc(Episode.__doc__ or "").partition("\n")[0],
        "type": "object",
        "properties": {**first, **properties, **derived},
        "required": list(REQUIRED),
        "additionalProperties": True,
        "$defs": {
            "Number": {
                "description": "A number; those that JSON cannot say are strings.",
                "anyOf": [{"type": "number"}, {"enum": list(ODD_FLOATS)}],
            },
            "EpisodeStatus": _choices(EpisodeStatus),
            "Writer": _object(Writer),
        },
    }


def _object(of: type[Any]) -> Schema:
    return {
        "description": inspect.cleandoc(of.__doc__ or ""),
        "type": "object",
        "properties": _properties(of),
        "required": [field.name for field in dataclasses.fields(of) if not _default(field)],
        "additionalProperties": True,
    }


def _choices(of: type[Enum]) -> Schema:
    words = _docstrings(of)
    return {
        "description": inspect.cleandoc(of.__doc__ or ""),
        "oneOf": [{"const": member.value, "description": words[member.name]} for member in of],
    }


def _properties(of: type[Any]) -> dict[str, Schema]:
    words, hints = _docstrings(of), get_type_hints(of)
    properties = {}
    for field in dataclasses.fields(of):
        if field.name in NOT_WRITTEN:
            continue
        meaning = {"description": words[field.name]}
        properties[field.name] = {**_schema(hints[field.name]), **meaning, **_default(field)}
    return properties


def _default(field: dataclasses.Field[Any]) -> Schema:
    """Return what stands for a field that the file lacks; nothing when it may not lack it."""
    if field.default is not dataclasses.MISSING:
        return {"default": field.default}
    if field.default_factory is not dataclasses.MISSING:
        return {"default": field.default_factory()}
    return {}


def _schema(hint: Any) -> Schema:
    if get_origin(hint) in (Union, types.UnionType):
        return _any_of([_schema(option) for option in get_args(hint)])
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if hint is float:
        return {"$ref": "#/$defs/Number"}
    if hint in (EpisodeStatus, Writer):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    _, of = get_args(hint)  # a mapping
    return (
        {"type": "object"} if of is Any else {"type": "object", "additionalProperties": _schema(of)}
    )


def _any_of(options: list[Schema]) -> Schema:
    """Join alternatives; those that are but a type become one list of types."""
    simple = [option["type"] for option in options if option.keys() == {"type"}]
    others = [option for option in options if option.keys() != {"type"}]
    joined: list[Schema] = [{"type": simple[0] if len(simple) == 1 else simple}] if simple else []
    return joined[0] if not others else {"anyOf": [*others, *joined]}


def _docstrings(of: type[Any]) -> dict[str, str]:
    """Return the docstring below each field (or member) of a class of `rollcam.episode`.

    Raises:
        ValueError: A field has none.
    """
    module = ast.parse(inspect.getsource(inspect.getmodule(of) or of))
    body = next(
        n.body for n in module.body if isinstance(n, ast.ClassDef) and n.name == of.__name__
    )
    found = {}
    for node, below in zip(body, [*body[1:], None], strict=True):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name):
            continue
        value = below.value if isinstance(below, ast.Expr) else None
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
            raise ValueError(f"{of.__name__}.{target.id} has no docstring below it")
        found[target.id] = " ".join(value.value.split()).replace("`None`", "`null`")
    return found

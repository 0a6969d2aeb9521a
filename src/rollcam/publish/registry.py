"""Sinks by name: Rollcam's own, and those that other packages bring by entry point."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rollcam.errors import MissingDependencyError, RollcamError, SettingError
from rollcam.publish.sink import Sink

GROUP = "rollcam.sinks"
"""The entry-point group for sinks: `name = "package.module:factory"`."""

_METHODS = ("publish", "stored", "close")


@dataclass(frozen=True, slots=True)
class _Own:
    """A sink of Rollcam's: named, not imported, so that no room reaches up to another."""

    module: str
    factory: str
    argument: str
    needs_argument: bool = False


_OWN = {
    "folder": _Own("rollcam.sinks.folder", "FolderSink", "dir", needs_argument=True),
    "mlflow": _Own("rollcam.sinks.mlflow", "MlflowSink", "experiment"),
    "tensorboard": _Own(
        "rollcam.sinks.tensorboard", "TensorBoardSink", "logdir", needs_argument=True
    ),
    "trackio": _Own("rollcam.sinks.trackio", "TrackioSink", "project", needs_argument=True),
    "wandb": _Own("rollcam.sinks.wandb", "WandbSink", "project"),
}


def resolve(spec: str | Sink) -> Sink:
    """Return the sink that was asked for.

    Args:
        spec: A sink; or a name, such as `wandb`, `folder:/mnt/films`, `tensorboard:LOGDIR`,
            `trackio:PROJECT`, `mlflow:EXPERIMENT`, or one that another package brings. What stands
            behind the colon is the first argument of a foreign factory.

    Raises:
        SettingError: There is no such sink, it lacks its argument, or it is no sink.
        MissingDependencyError: The package that it needs is not installed.
    """
    if not isinstance(spec, str):
        return checked(spec)
    name, colon, argument = spec.partition(":")
    if name in _OWN:
        own = _OWN[name]
        if own.needs_argument and not argument:
            raise SettingError(f"the sink {name!r} needs its {own.argument}: '{name}:...'")
        return make(name, **({own.argument: argument} if argument else {}))
    factory = _load(_entry_point(name))
    return checked(_made(name, lambda: factory(argument) if colon else factory()))


def make(name: str, /, **settings: Any) -> Sink:
    """Make one of Rollcam's own sinks.

    Args:
        name: One of `own_names()`.
        settings: Arguments of its class.

    Raises:
        SettingError: The arguments cannot work.
        MissingDependencyError: The package that it needs is not installed.
    """
    own = _OWN[name]
    factory = getattr(importlib.import_module(own.module), own.factory)
    return checked(_made(name, lambda: factory(**settings)))


def own_names() -> list[str]:
    """Return the names of Rollcam's own sinks."""
    return sorted(_OWN)


def argument_of(name: str) -> str | None:
    """Return what stands behind the colon, in `NAME:...`, for one of our own; `None` for others."""
    return _OWN[name].argument if name in _OWN else None


def check_name(spec: str) -> None:
    """Say whether there is a sink of that name, without making one.

    Raises:
        SettingError: There is none.
    """
    name = spec.partition(":")[0]
    if name not in _OWN:
        _entry_point(name)


def foreign_names() -> list[str]:
    """Return the names of the sinks that other packages bring."""
    return sorted({point.name for point in entry_points(group=GROUP)} - set(_OWN))


def checked(sink: Any) -> Sink:
    """Return `sink`, if it is one.

    Raises:
        SettingError: It is none.
    """
    missing = [name for name in _METHODS if not callable(getattr(sink, name, None))]
    missing += [
        name
        for name in ("name", "target")
        if not (isinstance(getattr(sink, name, None), str) and getattr(sink, name))
    ]
    if isinstance(sink, type) or missing:
        what = "a class, not an object" if isinstance(sink, type) else f"no {', no '.join(missing)}"
        raise SettingError(
            f"{sink!r} is no sink: it is or has {what}. A sink is a name such as 'wandb', or an "
            "object as rollcam.publish.sink.Sink describes it"
        )
    found: Sink = sink
    return found


def _made(name: str, construct: Callable[[], Any]) -> Any:
    try:
        return construct()
    except RollcamError:
        raise
    except Exception as error:  # whatever another's constructor may raise
        raise SettingError(
            f"the sink {name!r} could not be made: {type(error).__name__}: {error}"
        ) from error


def _entry_point(name: str) -> EntryPoint:
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        known = ", ".join([*own_names(), *foreign_names()])
        raise SettingError(
            f"there is no sink {name!r}; there are {known}. Does a package bring it that is not "
            f"installed? Then: pip install THAT-PACKAGE"
        )
    values = {point.value for point in found}
    if len(values) > 1:
        raise SettingError(
            f"several packages bring a sink {name!r}: {', '.join(sorted(values))}; uninstall all "
            "but one"
        )
    return found[0]


def _load(point: EntryPoint) -> Callable[..., Any]:
    try:
        factory = point.load()
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist else point.value.partition(".")[0]
        raise MissingDependencyError(
            f"the sink {point.name!r} of {package} cannot be loaded ({error}). "
            f'Install it, and what it needs, with: pip install "{package}"'
        ) from error
    if not callable(factory):
        raise SettingError(f"the sink {point.name!r} ({point.value}) is nothing to call")
    result: Callable[..., Any] = factory
    return result

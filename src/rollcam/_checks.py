"""Checks of arguments: what came, and what was expected."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

from rollcam.errors import SettingError


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise `SettingError` unless `value` is one of `choices`."""
    if value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def check_callable(name: str, value: Any, what: str) -> None:
    """Raise `SettingError` unless `value` is `None` or can be called."""
    if value is not None and not callable(value):
        raise SettingError(f"{name} must be a callable {what}, not {value!r}")


def check_type(name: str, value: Any, types: tuple[type, ...], what: str) -> None:
    """Raise `SettingError` unless `value` is of one of `types`; a bool is no number."""
    is_number = isinstance(value, bool) and bool not in types
    if not isinstance(value, types) or is_number:
        raise SettingError(f"{name} must be {what}, not {value!r}")


def check_count(name: str, value: Any, what: str, *, at_least: int = 1) -> None:
    """Raise `SettingError` unless `value` is a whole number of at least `at_least`."""
    check_type(name, value, (int,), what)
    if value < at_least:
        raise SettingError(f"{name} must be at least {at_least}, not {value}")


def check_encode_in(value: Any) -> None:
    """Raise `SettingError` unless `value` says where to encode, and that can be had here."""
    check_choice("encode_in", value, ("thread", "process"))
    if value == "process" and os.name == "nt":
        raise SettingError(
            "encode_in='process' needs descriptors and shared memory as Linux and macOS have them; on "
            "Windows use encode_in='thread'"
        )


def is_count(value: Any) -> bool:
    """Return whether it is a whole number, of any framework's type, that is not negative."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 0


def checked_length(video_length: Any) -> int:
    """Return `video_length`, or raise `SettingError` when it is no number of steps."""
    if not is_count(video_length):
        raise SettingError(f"video_length must be a number of steps, not {video_length!r}")
    return int(video_length)

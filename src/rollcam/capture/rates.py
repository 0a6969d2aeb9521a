"""Frames per second: where the number comes from, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from rollcam.errors import SettingError

DEFAULT_FPS = 30
"""What gym and Gymnasium assume when an environment does not say."""

_KEYS = ("render_fps", "video.frames_per_second")
_OUTPUT_KEY = "video.output_frames_per_second"


def checked_fps(value: Any, source: str) -> float:
    """Return `value` when it can be a frame rate.

    Args:
        value: Frames per second; an integer comes back as one.
        source: Where the value stood, for the message.

    Raises:
        SettingError: A boolean, zero, negative, not finite, above 1000 or no number at all.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SettingError(
            f"{source} must be a number of frames per second above 0, not {value!r} "
            f"({type(value).__name__})"
        )
    try:
        rate = float(value)
    except OverflowError:
        rate = math.inf
    if not math.isfinite(rate) or not 0.001 <= rate <= 1000:
        raise SettingError(
            f"{source} must be frames per second between 0.001 and 1000, not {value!r}"
        )
    return int(rate) if rate.is_integer() else rate


def input_fps(fps: float | None, metadata: Mapping[str, Any]) -> float:
    """Choose the rate of capture: the argument, else the environment's metadata, else 30.

    Args:
        fps: The user's argument, or `None`.
        metadata: The environment's `metadata`.

    Raises:
        SettingError: The first of them that is given is no frame rate.
    """
    if fps is not None:
        return checked_fps(fps, "fps")
    for key in _KEYS:
        if metadata.get(key) is not None:
            return checked_fps(metadata[key], f"the environment's metadata[{key!r}]")
    return DEFAULT_FPS


def file_fps(output_fps: float | None, metadata: Mapping[str, Any], fps: float) -> float:
    """Choose the rate of the file: the argument, else the environment's metadata, else `fps`."""
    if output_fps is not None:
        return checked_fps(output_fps, "output_fps")
    if metadata.get(_OUTPUT_KEY) is not None:
        return checked_fps(metadata[_OUTPUT_KEY], f"the environment's metadata[{_OUTPUT_KEY!r}]")
    return fps

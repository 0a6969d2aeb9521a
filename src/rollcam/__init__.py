"""Rollcam: a flight recorder for reinforcement-learning rollouts.

Public names load lazily, so that `import rollcam` costs nothing and pulls in no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rollcam._version import __version__

if TYPE_CHECKING:
    from rollcam._camera import Camera
    from rollcam._context import set_context
    from rollcam.capture.keep import keep_all, keep_best, keep_failures, keep_last, keep_worst
    from rollcam.capture.triggers import capped_cubic, every, on_demand
    from rollcam.episode import Episode, EpisodeStatus
    from rollcam.errors import (
        CodecUnavailable,
        FrameError,
        MissingDependencyError,
        RenderModeError,
        RollcamError,
        RollcamWarning,
        SettingError,
        StoreError,
        UsageError,
    )
    from rollcam.integrations.gymnasium import RecordVideo
    from rollcam.integrations.legacy_gym import VideoRecorder
    from rollcam.recorder import Recorder
    from rollcam.recovery import Recovery, recover
    from rollcam.store.catalog import Catalog

_HOMES = {
    "Camera": "rollcam._camera",
    "Catalog": "rollcam.store.catalog",
    "CodecUnavailable": "rollcam.errors",
    "Episode": "rollcam.episode",
    "EpisodeStatus": "rollcam.episode",
    "FrameError": "rollcam.errors",
    "MissingDependencyError": "rollcam.errors",
    "RecordVideo": "rollcam.integrations.gymnasium",
    "Recorder": "rollcam.recorder",
    "Recovery": "rollcam.recovery",
    "RenderModeError": "rollcam.errors",
    "RollcamError": "rollcam.errors",
    "RollcamWarning": "rollcam.errors",
    "SettingError": "rollcam.errors",
    "StoreError": "rollcam.errors",
    "UsageError": "rollcam.errors",
    "VideoRecorder": "rollcam.integrations.legacy_gym",
    "capped_cubic": "rollcam.capture.triggers",
    "every": "rollcam.capture.triggers",
    "keep_all": "rollcam.capture.keep",
    "keep_best": "rollcam.capture.keep",
    "keep_failures": "rollcam.capture.keep",
    "keep_last": "rollcam.capture.keep",
    "keep_worst": "rollcam.capture.keep",
    "on_demand": "rollcam.capture.triggers",
    "recover": "rollcam.recovery",
    "set_context": "rollcam._context",
}

__all__ = [
    "Camera",
    "Catalog",
    "CodecUnavailable",
    "Episode",
    "EpisodeStatus",
    "FrameError",
    "MissingDependencyError",
    "RecordVideo",
    "Recorder",
    "Recovery",
    "RenderModeError",
    "RollcamError",
    "RollcamWarning",
    "SettingError",
    "StoreError",
    "UsageError",
    "VideoRecorder",
    "__version__",
    "capped_cubic",
    "every",
    "keep_all",
    "keep_best",
    "keep_failures",
    "keep_last",
    "keep_worst",
    "on_demand",
    "recover",
    "set_context",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'rollcam' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

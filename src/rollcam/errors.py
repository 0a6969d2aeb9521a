"""Every error that Rollcam raises, and `require` for optional packages.

The tree::

    RollcamError
    ├── MissingDependencyError (ImportError)
    ├── UsageError (RuntimeError)
    ├── SettingError (ValueError)
    ├── CaptureError
    │   ├── RenderModeError (ValueError)
    │   └── FrameError (ValueError)
    ├── EncodeError
    │   ├── CodecUnavailable
    │   ├── EncoderFailed
    │   └── MediaError
    ├── StoreError
    │   ├── EpisodeNotFound (LookupError)
    │   └── SidecarError
    └── SinkError
        └── SinkRefused
    RollcamWarning (UserWarning)
    ├── FrameMendedWarning
    ├── DroppedFramesWarning
    ├── RecordingFailedWarning
    └── NameTakenWarning
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import ClassVar


class RollcamError(Exception):
    """Anything that went wrong inside Rollcam."""

    slug: ClassVar[str] = "rollcam-error"
    """Anchor of this error's paragraph in ``docs/reference/errors.md``."""


class MissingDependencyError(RollcamError, ImportError):
    """An optional package is needed and cannot be imported."""

    slug = "missing-dependency"


class UsageError(RollcamError, RuntimeError):
    """A call came in the wrong order: a frame before `begin`, anything after `close`."""

    slug = "usage"


class SettingError(RollcamError, ValueError):
    """An argument has a value that cannot work."""

    slug = "setting"


class CaptureError(RollcamError):
    """A frame could not be taken."""

    slug = "capture"


class RenderModeError(CaptureError, ValueError):
    """The environment's render mode gives nothing that can be filmed."""

    slug = "render-mode"


class FrameError(CaptureError, ValueError):
    """What `render()` returned is no frame and cannot be mended into one."""

    slug = "frame"


class EncodeError(RollcamError):
    """A file could not be encoded, read or mended."""

    slug = "encode"


class CodecUnavailable(EncodeError):  # noqa: N818 - named as the field says it
    """The codec asked for is not in this build of FFmpeg, or does not open on this machine."""

    slug = "codec-unavailable"


class EncoderFailed(EncodeError):  # noqa: N818 - named as the field says it
    """The encoder or the disk gave up in the middle of a film; the first error is the cause."""

    slug = "encoder-failed"


class MediaError(EncodeError):
    """A media file cannot be read, or cannot be mended."""

    slug = "media"


class StoreError(RollcamError):
    """The recordings folder could not be read or written."""

    slug = "store"


class EpisodeNotFound(StoreError, LookupError):  # noqa: N818 - named as the field says it
    """No episode in the folder answers to that name."""

    slug = "episode-not-found"


class SidecarError(StoreError):
    """A sidecar cannot be read: broken, foreign, or written by a newer Rollcam."""

    slug = "sidecar"


class SinkError(RollcamError):
    """A sink could not take a film this time; it is tried again later."""

    slug = "sink"


class SinkRefused(SinkError):  # noqa: N818 - it says what the sink did
    """A sink will never take this film, or lacks what it needs; it is not tried again."""

    slug = "sink-refused"


class RollcamWarning(UserWarning):
    """Something was mended, dropped or lost, and training goes on."""


class FrameMendedWarning(RollcamWarning):
    """A frame was not `(H, W, 3)` uint8 and was turned into one."""


class DroppedFramesWarning(RollcamWarning):
    """Frames were dropped because the encoder did not keep up; the sidecar says how many."""


class RecordingFailedWarning(RollcamWarning):
    """A film was lost; its sidecar says why."""


class NameTakenWarning(RollcamWarning):
    """A file of that name exists; the new film got a suffix."""


def require(module: str, *, extra: str | None = None, package: str | None = None) -> ModuleType:
    """Import `module`, or say which pip command brings it.

    Args:
        module: The dotted name to import.
        extra: The extra of Rollcam that brings it, if there is one.
        package: The name on the package index where it differs from the module's.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: It is not installed, or something else of that name is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = f"rollcam[{extra}]" if extra else (package or module.partition(".")[0])
        raise MissingDependencyError(
            f"{module!r} is needed for this and cannot be imported ({error}). "
            f'Install it with: pip install "{wanted}"'
        ) from error

"""The settings that adapters hand on to `Recorder` as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from rollcam.capture.keep import KeepPolicy
from rollcam.encode.codecs import Quality
from rollcam.episode import Context, EncodeIn, EpisodeCallback, Mode, OnError, OnFull
from rollcam.publish.sink import Sink


class FilmSettings(TypedDict, total=False):
    """Keyword arguments of `rollcam.Recorder`, under the same names; see there."""

    output_fps: float | None
    keep: KeepPolicy | None
    codec: str
    quality: Quality
    on_error: OnError
    on_full: OnFull
    encode_in: EncodeIn
    metadata: Mapping[str, Any] | None
    context: Context | Callable[[], Context] | None
    name: str | None
    resume: bool
    mode: Mode
    info_keys: tuple[str, ...]
    on_finished: EpisodeCallback | None
    max_bytes: int | None
    run_id: str | None
    sinks: Sequence[str | Sink]


_OF_THE_SPEC = {
    "output_fps", "codec", "quality", "on_error", "on_full", "encode_in", "name", "resume", "mode",
    "max_bytes", "run_id",
}  # fmt: skip


def for_spec(settings: FilmSettings) -> dict[str, Any]:
    """Return the settings that are part of an environment's spec.

    Those that hold the trainer (context, callbacks, metadata) are not.
    """
    return {key: value for key, value in settings.items() if key in _OF_THE_SPEC}

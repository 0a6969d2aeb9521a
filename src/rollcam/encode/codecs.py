"""The codecs on offer, the presets of quality, and whether an encoder opens on this machine."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rollcam.encode.aside import Aside, TimedOut
from rollcam.errors import CodecUnavailable, SettingError, require

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

Quality = str | int
"""`"small"`, `"standard"`, `"high"`, or the encoder's own quantiser (CRF)."""

DEFAULT_QUALITY = "standard"

_ENCODERS: Mapping[str, tuple[str, ...]] = {
    # x264 is what PyPI's wheel of PyAV brings; an LGPL build of FFmpeg has one of the others.
    "h264": ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf"),
    "vp9": ("libvpx-vp9",),
    "av1": ("libsvtav1", "libaom-av1"),
}

# CRF of each preset. Measured in docs/decisions/0005-codec-and-quality.md.
_CRF: Mapping[str, Mapping[str, int]] = {
    "libx264": {"small": 30, "standard": 23, "high": 16},
    "libvpx-vp9": {"small": 42, "standard": 32, "high": 20},
    "libsvtav1": {"small": 45, "standard": 35, "high": 22},
    "libaom-av1": {"small": 42, "standard": 32, "high": 20},
}
_MAX_CRF = 63

STOPPED_S = 5
"""An encoder silent that long over one frame has stopped; if it has not, only its work is doubled."""
_MAX_TRIES = 3

# Nothing here may hold a frame back: at `kill -9` what the encoder holds is lost, and the last
# frames are those that matter. No B-frames: with fragments they shift the timeline (playback.md 2).
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "libx264": {"preset": "veryfast", "tune": "zerolatency", "bf": "0"},
    "libvpx-vp9": {
        "deadline": "realtime", "cpu-used": "8", "b": "0", "lag-in-frames": "0",
        "auto-alt-ref": "0",
    },
    # Faster presets, and layers of frames, left bar codes of the frame before standing here and there.
    "libsvtav1": {
        "preset": "8",
        "svtav1-params": "pred-struct=1:rtc=1:lp=1:lookahead=0:hierarchical-levels=0",
    },
    "libaom-av1": {"usage": "realtime", "cpu-used": "8", "b": "0", "lag-in-frames": "0"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoder that opens on this machine, with its settings."""

    family: str
    """`h264`, `vp9` or `av1`."""
    encoder: str
    """FFmpeg's name of the encoder."""
    options: Mapping[str, str]
    """FFmpeg options, quality included."""

    def version(self) -> dict[str, Any]:
        """Return what stands in the sidecar as `encoder_version`."""
        av = _av()
        libraries = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
        return {
            "backend": "PyAV",
            "version": av.__version__,
            "libavcodec": libraries.get("libavcodec"),
            "encoder": self.encoder,
            "options": dict(self.options),
        }


def choose_codec(codec: str = "h264", quality: Quality = DEFAULT_QUALITY) -> Codec:
    """Choose an encoder and see that it opens: being listed says nothing.

    Args:
        codec: `h264`, `vp9`, `av1`, or FFmpeg's own name of an encoder of these, such as
            `h264_nvenc`.
        quality: `small`, `standard`, `high`, or a CRF from 0 (best) to 63; x264 takes what is
            nearest in 1 to 51.

    Raises:
        SettingError: No such codec or quality.
        CodecUnavailable: No encoder of that name opens on this machine.
    """
    _check_quality(quality)
    family = _family(codec)
    candidates = _ENCODERS[family] if codec == family else (codec,)
    reasons = []
    for encoder in candidates:
        reason = _why_closed(encoder, quality)
        if reason is None:
            return Codec(family, encoder, _options(encoder, quality))
        reasons.append(f"{encoder}: {reason}")
    raise CodecUnavailable(
        f"codec {codec!r} does not open on this machine ({'; '.join(reasons)}); "
        f"use codec='h264', which comes with PyAV's wheel"
    )


def listed_encoders(families: Iterable[str]) -> list[str]:
    """Return FFmpeg's names of the encoders of these families that this build lists.

    Args:
        families: `h264`, `vp9`, `av1`; the encoders come in this order, software first.
    """
    available = set(_av().codecs_available)
    found = []
    for family in families:
        known = [name for name in _ENCODERS[family] if name in available]
        hardware = (name for name in available if name.startswith(f"{family}_"))
        found += [
            *known,
            *sorted(name for name in hardware if _encodes(name) and name not in known),
        ]
    return found


def _encodes(name: str) -> bool:
    """Whether there is an encoder of that name: some are decoders alone."""
    av = _av()
    try:
        return bool(av.Codec(name, "w").is_encoder)
    except (av.FFmpegError, ValueError):
        return False


def _family(codec: str) -> str:
    if isinstance(codec, str):
        for family, encoders in _ENCODERS.items():
            if codec == family or codec in encoders or codec.startswith(f"{family}_"):
                return family
    raise SettingError(
        f"codec must be one of {', '.join(_ENCODERS)}, or FFmpeg's name of an encoder for one of "
        f"them such as 'h264_nvenc', not {codec!r}"
    )


def _check_quality(quality: Quality) -> None:
    is_crf = isinstance(quality, int) and not isinstance(quality, bool) and 0 <= quality <= _MAX_CRF
    if not is_crf and quality not in ("small", "standard", "high"):
        raise SettingError(
            f"quality must be 'small', 'standard', 'high' or a CRF from 0 to {_MAX_CRF}, "
            f"not {quality!r}"
        )


def _options(encoder: str, quality: Quality) -> dict[str, str]:
    options = dict(_OPTIONS.get(encoder, {"bf": "0"}))
    # Hardware encoders have no CRF; there the preset is left to the driver.
    crf = quality if isinstance(quality, int) else _CRF.get(encoder, {}).get(quality)
    if crf is not None and encoder in _CRF:
        # x264 knows 0 to 51, and at 0 writes a profile that no browser plays.
        options["crf"] = str(min(max(crf, 1), 51) if encoder == "libx264" else crf)
    # One thread: more cost CPU and bytes (playback.md 1), and hang a forked child at its exit.
    return options | {"threads": "1"}


@contextlib.contextmanager
def same_priority(encoder: str) -> Iterator[None]:
    """Undo what SVT-AV1 does to the scheduler where it may: under root, it makes itself realtime.

    It gives its threads, and the one that opens it, SCHED_FIFO at priority 99; a training loop that
    got that would lock everybody else out of its processor, the kernel's own work included.

    Args:
        encoder: FFmpeg's name; others than SVT-AV1 leave the scheduler alone.
    """
    if encoder != "libsvtav1" or not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    before = set(_threads())
    try:
        yield
    finally:
        own = threading.get_native_id()
        for thread in _threads():
            if thread == own or thread not in before:
                with contextlib.suppress(OSError):  # it may have ended meanwhile
                    os.sched_setscheduler(thread, policy, parameters)


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]


def can_stop(encoder: str) -> bool:
    """Whether this encoder can stop for good in the middle of a film (docs/decisions/0005).

    Args:
        encoder: FFmpeg's name.
    """
    return encoder == "libsvtav1"


def _why_closed(encoder: str, quality: Quality) -> str | None:
    """Return why the encoder does not encode here, if it does not."""
    if not can_stop(encoder):
        return _tried(encoder, quality)
    _av()  # to import it is no part of what is timed
    for k in range(_MAX_TRIES):
        aside = Aside("rollcam-encoder")
        try:
            return aside.call(lambda: _tried(encoder, quality), STOPPED_S << k)
        except TimedOut:
            continue
        finally:
            aside.end()
    return f"it stopped {_MAX_TRIES} times"


@functools.lru_cache(maxsize=64)
def _tried(encoder: str, quality: Quality) -> str | None:
    """Open the encoder and encode one small frame; return what went wrong, if anything."""
    av = _av()
    try:
        context = av.CodecContext.create(encoder, "w")
        set_up(context, 320, 240, 30, options=_options(encoder, quality))
        frame = av.VideoFrame(320, 240, "yuv420p")
        frame.pts = 0
        with same_priority(encoder):
            packets = [*context.encode(frame), *context.encode(None)]
    except (av.FFmpegError, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None if packets else "it encoded nothing"


def set_up(
    context: VideoCodecContext, width: int, height: int, rate: Any, *, options: Mapping[str, str]
) -> None:
    """Set size, format, colours and options of an encoder that is not open yet.

    The colours are tagged with the matrix that they are converted with, BT.601 as swscale does it:
    untagged, Firefox and, from 720 lines, Chromium show (255, 24, 0) for pure red. 6 is `smpte170m`
    and 1 is `tv` range in FFmpeg's enumerations (ITU-T H.273, tables 2 to 4).
    """
    context.width, context.height = width, height
    context.pix_fmt = "yuv420p"
    context.framerate = rate
    context.colorspace = context.color_primaries = context.color_trc = 6
    context.color_range = 1
    context.options = dict(options)


def _av() -> Any:
    # SVT-AV1 prints its whole configuration to stderr unless this is set before it opens.
    os.environ.setdefault("SVT_LOG", "1")
    return require("av")

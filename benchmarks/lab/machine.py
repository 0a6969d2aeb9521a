"""What it was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "rollcam", "gymnasium", "moviepy", "imageio-ffmpeg", "stable-baselines3", "av", "numpy",
    "pygame-ce", "ale-py",
)  # fmt: skip


def describe() -> dict[str, str]:
    """Return machine and versions, ready to print."""
    import psutil

    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": _system(),
        "Python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "FFmpeg in PyAV": _libavcodec(),
        "FFmpeg of moviepy": _moviepys_ffmpeg(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}, {platform.machine()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _libavcodec() -> str:
    import av

    return "libavcodec " + ".".join(map(str, av.library_versions["libavcodec"]))


def _moviepys_ffmpeg() -> str:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_version())
    except (ImportError, OSError, RuntimeError) as error:
        return f"unknown ({error})"

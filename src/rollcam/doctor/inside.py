"""The checks themselves; each runs in a child process (`python -m rollcam.doctor.inside`)."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rollcam.errors import RollcamError, SettingError, require

Told = dict[str, Any]
"""`status`, `message` and `cure` of a finding, and more where the parent goes by it."""

_N_FRAMES = 10
_TEXT_MODULES = ("PIL", "pyte", "pymupdf_fonts")
_CONNECT_S = 5.0
_LOOK_S = 0.5
_LITTLE_BYTES = 2**30
_TOO_LITTLE_BYTES = 100 * 2**20


def installation(packages: list[str]) -> Told:
    """Import what Rollcam stands on, and say the versions."""
    for name in ("numpy", "click", "rich", "ulid", "filelock"):
        require(name)
    av = require("av")
    versions = [f"Python {sys.version.split()[0]}", f"PyAV {av.__version__}"]
    versions += [f"FFmpeg's libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"]
    for name in packages:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return _ok(", ".join(versions))


def encoders(families: list[str]) -> Told:
    """List the encoders of FFmpeg that Rollcam could use."""
    from rollcam.encode.codecs import listed_encoders

    return {**_ok("listed"), "encoders": listed_encoders(families)}


def codec(encoder: str) -> Told:
    """Open an encoder and encode a frame: being listed says nothing."""
    from rollcam.encode.codecs import choose_codec

    try:
        choose_codec(encoder)
    except RollcamError as error:
        return {"status": "failed", "message": str(error)}
    return _ok("opens, and encodes")


def text() -> Told:
    """See whether text can be drawn as video."""
    missing = [name for name in _TEXT_MODULES if importlib.util.find_spec(name) is None]
    if not missing:
        return _ok("text episodes are recorded, and can be drawn as video")
    return {
        "status": "note",
        "message": f"text episodes are recorded, and not drawn as video: no {', '.join(missing)}",
        "cure": 'pip install "rollcam[text]"',
    }


def folder(path: str) -> Told:
    """Film a few frames where films are to lie, see that the film plays, and remove it."""
    import tempfile

    wanted = Path(path)
    at = next(parent for parent in (wanted, *wanted.parents) if parent.exists())
    where = str(at) if at == wanted else f"{at} (there is no {wanted} yet)"
    if not at.is_dir():
        return _failed(f"{at} is no folder", "name another folder with --folder")
    free = shutil.disk_usage(at).free
    try:
        with tempfile.TemporaryDirectory(prefix=".rollcam-doctor-", dir=at) as own:
            problem = _film(Path(own))
    except (OSError, RollcamError) as error:
        return _failed(
            f"no film can be written to {where}: {error}",
            "see who may write there (ls -ld), and whether the disk is full (df -h)",
        )
    if problem:
        return _failed(f"a film of {_N_FRAMES} frames in {where} went wrong: {problem}", None)
    message = f"a film of {_N_FRAMES} frames was written to {where}, and plays; {_size(free)} free"
    if free < _LITTLE_BYTES:
        status = "failed" if free < _TOO_LITTLE_BYTES else "warning"
        cure = "make room, or bound the films: max_bytes= of every recorder, `rollcam prune`"
        return {"status": status, "message": message, "cure": cure}
    return _ok(message)


def _film(where: Path) -> str | None:
    import numpy as np

    from rollcam.encode.probe import probe
    from rollcam.recorder import Recorder

    with Recorder(where, fps=10, on_error="raise") as recorder:
        recorder.begin()
        for index in range(_N_FRAMES):
            recorder.frame(np.full((48, 64, 3), index * 20, np.uint8))
        episode = recorder.end().result(timeout=60)
    if episode.status != "complete" or episode.media_path is None:
        return f"{episode.status}: {episode.reason}"
    report = probe(episode.media_path)
    return None if report.plays else "; ".join(problem.message for problem in report.problems)


def render(env_id: str) -> Told:
    """Make an environment as a training script does, and render it a few times."""
    sys.path.insert(0, os.getcwd())
    gym = require("gymnasium", extra="gymnasium")
    plain = gym.make(env_id)
    modes = list(plain.metadata.get("render_modes") or [])
    fps = plain.metadata.get("render_fps")
    plain.close()
    mode = next((mode for mode in ("rgb_array", "ansi") if mode in modes), None)
    if mode is None:
        return _failed(
            f"{env_id} renders neither pixels nor text; it offers {modes}",
            "the environment lacks a render mode that can be filmed: only its author can add one",
        )
    env = gym.make(env_id, render_mode=mode)
    env.reset(seed=0)
    env.action_space.seed(0)
    frame = env.render()
    started = time.perf_counter()
    for _ in range(5):
        env.step(env.action_space.sample())
        frame = env.render()
    each_ms = (time.perf_counter() - started) / 5 * 1000
    env.close()
    return _judged(env_id, mode, frame, each_ms, fps)


def _judged(env_id: str, mode: str, frame: Any, each_ms: float, fps: Any) -> Told:
    import numpy as np

    from rollcam.capture.frames import BufferPool, FrameTaker, Taken, to_rgb

    taken = FrameTaker(BufferPool(0), lambda cause, message: None).take(frame)
    if taken is None:
        return _failed(f"{env_id} returned no frame from render() in mode {mode}", None)
    speed = f"{each_ms:.1f} ms for a step and its frame"
    if not isinstance(taken, Taken):
        return _ok(f"{env_id} renders text, {speed}")
    picture = to_rgb(taken)
    rate = f"{fps} frames per second" if fps else "no render_fps, so films get 30 frames per second"
    size = f"{picture.shape[1]}x{picture.shape[0]} pixels, {speed}, {rate}"
    if not np.any(picture):
        cure = "see whether another graphics library draws it: MUJOCO_GL=egl, or osmesa"
        return {"status": "warning", "message": f"{env_id} renders black: {size}", "cure": cure}
    return _ok(f"{env_id} renders {size}")


def tracker(name: str) -> Told:
    """See whether a tracker's package is there and whole, and whether one is logged in."""
    package = {"mlflow": "mlflow-skinny"}.get(name, name)
    if importlib.util.find_spec(name) is None:
        return {
            "status": "note",
            "message": "not installed",
            "cure": f'for sinks=["{name}"]: pip install "rollcam[{name}]"',
        }
    module = importlib.import_module(name)
    if name == "tensorboard":
        module = importlib.import_module("tensorboard.version")
        version = getattr(module, "VERSION", None)
    else:
        version = getattr(module, "__version__", None)
    if version is None:
        where = getattr(module, "__file__", None) or list(getattr(module, "__path__", []))
        return _failed(
            f"something else of that name is imported: {where}",
            f"rename it, or install the real one: pip install {package}",
        )
    told = _ACCOUNTS[name]()
    return {**told, "message": f"{name} {version}: {told['message']}"}


def _wandb() -> Told:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        mode = os.environ["WANDB_MODE"]
        return _ok(f"WANDB_MODE={mode}; nothing is sent from here, `wandb sync` does it later")
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    if os.environ.get("WANDB_API_KEY"):
        return _ok(f"a key for {host} stands in WANDB_API_KEY (not tried)")
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return _ok("a token stands in WANDB_IDENTITY_TOKEN_FILE (not tried)")
    if _has_netrc(host):
        return _ok(f"logged in to {host} (not tried)")
    return {
        "status": "warning",
        "message": f"not logged in to {host}",
        "cure": "run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline",
    }


def _has_netrc(host: str) -> bool:
    import netrc

    given = os.environ.get("NETRC")
    paths = [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in paths:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
    return False


def _mlflow() -> Told:
    mlflow = importlib.import_module("mlflow")
    uri = str(mlflow.get_tracking_uri())
    scheme = uri.partition(":")[0]
    if scheme in ("databricks", "databricks-uc", "uc"):
        return _ok("tracks into a Databricks workspace (not tried)")
    if scheme not in ("http", "https"):
        return _ok(f"tracks into {_kind_of_place(uri)}; no login is needed")
    try:
        parts = urlsplit(uri)
        # Without what stands before the @: it may be a password.
        host, port = parts.hostname or "", parts.port or (443 if scheme == "https" else 80)
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except ValueError:
        return {
            "status": "warning",
            "message": "MLFLOW_TRACKING_URI is no address",
            "cure": "export MLFLOW_TRACKING_URI=http://HOST:PORT",
        }
    except OSError as error:
        return {
            "status": "warning",
            "message": f"nobody answers at {host}:{port} ({error})",
            "cure": "see MLFLOW_TRACKING_URI, and whether the server runs; films wait on disk until then",
        }
    return _ok(f"a server answers at {host}:{port}")


def _kind_of_place(uri: str) -> str:
    scheme, colon, _ = uri.partition(":")
    if not colon or scheme == "file":
        return "a folder"
    if scheme == "sqlite":
        return "a SQLite file"
    return f"a database, by {scheme} (not tried)"


def _tensorboard() -> Told:
    return _ok("writes into a folder; no login is needed")


def _trackio() -> Told:
    space = os.environ.get("TRACKIO_SPACE_ID")
    if not space:
        return _ok("keeps its runs on this machine; no login is needed")
    if importlib.import_module("huggingface_hub").get_token():
        return _ok(f"a Hugging Face token for the Space {space} is there (not tried)")
    return {
        "status": "warning",
        "message": f"no Hugging Face token for the Space {space}",
        "cure": "run `hf auth login`, or set HF_TOKEN",
    }


_ACCOUNTS: dict[str, Callable[[], Told]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
TRACKERS = tuple(sorted(_ACCOUNTS))
"""The trackers that are looked for."""

_CHECKS: dict[str, Callable[..., Told]] = {
    check.__name__: check
    for check in (installation, encoders, codec, text, folder, render, tracker)
}


def _ok(message: str) -> Told:
    return {"status": "ok", "message": message}


def _failed(message: str, cure: str | None) -> Told:
    return {"status": "failed", "message": message, "cure": cure}


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def _end_with(doctor: int) -> None:
    """End this process, and what it started, once the doctor was killed and cannot do it."""
    while os.getppid() == doctor:
        time.sleep(_LOOK_S)
    if os.getpgrp() == os.getpid():  # a group of our own, as the doctor starts us
        os.killpg(os.getpid(), signal.SIGKILL)


def main(answer: str, check: str, arguments: str) -> None:
    """Run a check and write what it says.

    Args:
        answer: The file to write.
        check: Name of the check.
        arguments: Its keyword arguments, as JSON.
    """
    if check not in _CHECKS:
        raise SettingError(f"there is no check {check!r}")
    if hasattr(os, "killpg"):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    told = _CHECKS[check](**json.loads(arguments))
    Path(answer).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

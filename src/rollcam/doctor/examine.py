"""All checks, one after another, each in a process of its own and limited in time."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rollcam.doctor.child import Limit, Outcome, run
from rollcam.doctor.cures import cure_for, last_line, settings_to_try
from rollcam.doctor.finding import Finding, Status
from rollcam.doctor.inside import TRACKERS

TIMEOUT_S = 60.0
"""Limit of each check, in seconds."""

_FAMILIES = ("h264", "vp9", "av1")
_PACKAGES = (
    "rollcam",
    "numpy",
    "gymnasium",
    "torch",
    "mujoco",
    "pygame-ce",
    "pygame",
    "stable-baselines3",
)
_REINSTALL = "pip install --force-reinstall rollcam"
_BUILT_IN = ("libx264", "libopenh264", "libvpx-vp9", "libaom-av1", "libsvtav1")

Check = Callable[[], Finding]


def examine(env_id: str | None, where: Path, *, timeout_s: float = TIMEOUT_S) -> Iterator[Finding]:
    """Yield what is found, in a fixed order, each as soon as it is known.

    Args:
        env_id: The environment to render; `None`: a small one of each renderer that is installed.
        where: Where films are to lie.
        timeout_s: Limit of each check, in seconds.
    """
    limit = Limit(timeout_s)
    yield installation(limit)
    checks: list[Check] = [functools.partial(codec, name, limit) for name in _listed(limit)]
    checks += [functools.partial(text, limit), functools.partial(folder, where, limit)]
    if env_id is not None:
        checks.append(functools.partial(rendering, env_id, limit))
    else:
        checks += usual(limit)
    checks += [functools.partial(tracker, name, limit) for name in TRACKERS]
    # Two at a time: most of each is importing.
    pool = ThreadPoolExecutor(2, thread_name_prefix="rollcam-doctor")
    try:
        for future in [pool.submit(check) for check in checks]:
            yield future.result()
    finally:
        limit.stop.set()  # after Ctrl-C: nobody waits for the rest
        pool.shutdown(wait=True, cancel_futures=True)


def installation(limit: Limit) -> Finding:
    """Import what Rollcam stands on."""
    outcome = run("installation", {"packages": _PACKAGES}, limit=limit, env={})
    return _finding("installation", outcome, cure=_REINSTALL)


def _listed(limit: Limit) -> list[str]:
    """Return the encoders that can be tried."""
    told = run("encoders", {"families": _FAMILIES}, limit=limit, env={}).result or {}
    names = told.get("encoders")
    listed = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return listed or ["h264"]


def codec(encoder: str, limit: Limit) -> Finding:
    """Open an encoder."""
    check = f"codec {encoder}"
    if encoder == "libsvtav1" and getattr(os, "geteuid", lambda: 1)() == 0:
        message = (
            "not opened: under root it gives itself a realtime priority, which can hang a machine"
        )
        return Finding(check, "note", message, 'codec="h264" is what every browser plays')
    finding = _finding(check, run("codec", {"encoder": encoder}, limit=limit, env={}))
    if finding.status != "failed":
        return finding
    if encoder in ("h264", "libx264"):
        return Finding(check, "failed", finding.message, "pip install --force-reinstall av")
    if encoder in _BUILT_IN:
        return Finding(check, "warning", finding.message)
    # As it is on most machines.
    return Finding(check, "note", "listed, but it does not open: no such hardware, or no driver")


def text(limit: Limit) -> Finding:
    """See whether text episodes can be drawn as video."""
    return _finding("text", run("text", {}, limit=limit, env={}))


def folder(where: Path, limit: Limit) -> Finding:
    """Film a few frames there."""
    arguments = {"path": os.path.abspath(where)}
    return _finding("folder", run("folder", arguments, limit=limit, env={}))


def tracker(name: str, limit: Limit) -> Finding:
    """See whether a tracker is installed, and whether one is logged in."""
    outcome = run("tracker", {"name": name}, limit=limit, env={})
    cure = f'pip install --force-reinstall "rollcam[{name}]"'
    finding = _finding(f"tracker {name}", outcome, cure=cure)
    if outcome.result is None:  # films are recorded without it
        return Finding(finding.check, "warning", finding.message, finding.cure)
    return finding


def rendering(env_id: str, limit: Limit) -> Finding:
    """Render an environment; where that fails, try what may help."""
    check = f"rendering {env_id}"
    outcome = run("render", {"env_id": env_id}, limit=limit, env={})
    if outcome.result is not None and outcome.result.get("status") != "warning":
        return _finding(check, outcome)
    is_black = outcome.result is not None
    told = f"{outcome.output}\n{'OpenGL' if is_black else outcome.ending}"
    for settings in settings_to_try(told, dict(os.environ)):
        again = run("render", {"env_id": env_id}, limit=limit, env=settings)
        if (again.result or {}).get("status") == "ok":
            words = " ".join(f"{key}={value}" for key, value in settings.items())
            # Tried a moment ago, so this is no guess.
            cure = f"export {words}: with that it renders (tried just now)"
            return Finding(check, "failed", _said(outcome), cure)
    return _finding(check, outcome, cure=cure_for(told))


def usual(limit: Limit) -> list[Check]:
    """Return checks of a small environment of each renderer that is installed."""
    checks: list[Check] = [functools.partial(_usual, name, limit) for name in _usual_envs()]
    return checks or [_no_renderer]


def _usual(env_id: str, limit: Limit) -> Finding:
    """Render an environment that nobody asked for: its failing is no more than a warning."""
    finding = rendering(env_id, limit)
    return replace(finding, status="warning") if finding.status == "failed" else finding


def _usual_envs() -> list[str]:
    found = {
        "CartPole-v1": ("gymnasium", "pygame"),
        "InvertedPendulum-v5": ("gymnasium", "mujoco"),
    }
    return [
        name
        for name, modules in found.items()
        if all(importlib.util.find_spec(module) is not None for module in modules)
    ]


def _no_renderer() -> Finding:
    """Say why nothing was rendered: whoever follows the quickstart will miss it."""
    missing = "pygame" if importlib.util.find_spec("gymnasium") else "gymnasium"
    return Finding(
        "rendering",
        "note",
        f"not tried: {missing} is not installed, which draws Gymnasium's own environments such as "
        f"CartPole",
        'pip install "gymnasium[classic-control]", or name an environment of yours: `rollcam doctor '
        "ENV_ID`",
    )


def _finding(check: str, outcome: Outcome, *, cure: str | None = None) -> Finding:
    told: dict[str, Any] | None = outcome.result
    if told is None:
        return Finding(check, "failed", _said(outcome), cure)
    status: Status = told["status"] if told.get("status") in get_args(Status) else "failed"
    known = told.get("cure")
    return Finding(check, status, str(told.get("message", "")), str(known) if known else None)


def _said(outcome: Outcome) -> str:
    if outcome.result is not None:
        return str(outcome.result.get("message", ""))
    line = last_line(outcome.output)
    return f"{outcome.ending}: {line}" if line else outcome.ending

"""What holds for every test: a clean environment, no thread of ours left over, one Chromium."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser import Browser

THREAD_TIMEOUT_S = 5.0
BROWSERS = ("ROLLCAM_CHROMIUM", "ROLLCAM_FIREFOX")  # which program to use

# No window is wanted, and on a server none can be had; set before any environment is imported.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
# Trackio reads these once, when it is imported, by whichever test does it first.
TRACKIO_HOME = tempfile.TemporaryDirectory(prefix="rollcam-trackio-", ignore_cleanup_errors=True)
os.environ.update(TRACKIO_DIR=TRACKIO_HOME.name, HF_HOME=TRACKIO_HOME.name, HF_HUB_OFFLINE="1")
# A shell that starts `make test` in the background has Ctrl-C ignored, in the tests' own processes too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform == "linux":
    # Software rendering of MuJoCo; EGL exists on Linux only.
    os.environ.setdefault("MUJOCO_GL", "egl")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The session's Chromium, started by the first test that asks for it."""
    from tests.browser import Browser

    try:
        opened = Browser()
    except FileNotFoundError as error:  # not a skip: unplayed films are what this project is about
        pytest.fail(str(error), pytrace=False)
    with opened:
        yield opened


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting or account of the person who runs the tests reaches them, nor the reverse."""
    for name in os.environ:
        if name.startswith(("WANDB_", "ROLLCAM_")) and name not in BROWSERS:
            monkeypatch.delenv(name)
    home = tmp_path.with_name(tmp_path.name + "-wandb")  # beside it: tests list what they wrote
    for kind in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{kind}", str(home / kind.lower()))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail the test that leaves one of our threads alive, and none of those that come after it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_TIMEOUT_S
    left = [t for t in threading.enumerate() if t.name.startswith("rollcam-") and t not in before]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    names = sorted(t.name for t in left if t.is_alive())
    if names:
        pytest.fail(f"threads still alive {THREAD_TIMEOUT_S:.0f} s after the test: {names}")


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    """What a test tells all recorders of the process (`rollcam.set_context`) ends with it."""
    yield
    from rollcam import _context

    if _context._here.told:
        _context._here.told.clear()
        _context.set_context()


@pytest.fixture(autouse=True)
def no_realtime() -> Iterator[None]:
    """Fail the test that leaves the process realtime, as SVT-AV1 does under root: it can hang a machine."""
    yield
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        pytest.fail("the test left the process with a realtime priority")

"""The doctor and renderers that fail: each failure is a real one, in a real child process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rollcam.doctor.child import Limit, run
from rollcam.doctor.cures import cure_for
from rollcam.doctor.examine import rendering, usual
from tests.films import wait_until

LIMIT = Limit(60)

ENVS = """
import ctypes, os, pathlib, subprocess, sys, time
import gymnasium as gym
import numpy as np


class Env(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, what="fine", render_mode=None):
        self.what, self.render_mode = what, render_mode
        if what == "blind":
            self.metadata = {"render_modes": ["human"]}

    def reset(self, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self):
        print("drawing")
        if self.what == "crash":
            ctypes.string_at(0)
        if self.what == "exit":
            os._exit(3)
        if self.what == "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            pathlib.Path("pids.txt").write_text(f"{os.getpid()} {child.pid}")
            time.sleep(600)  # the doctor ends it, and the child with it
        if self.what == "library":
            ctypes.CDLL("libOSMesa.so.99")
        if self.what == "none":
            return None
        return np.full((30, 40, 3), 0 if self.what == "black" else 9, np.uint8)


for what in ("fine", "crash", "exit", "hang", "library", "none", "black", "blind"):
    gym.register(f"{what.title()}-v0", entry_point=Env, kwargs={"what": what})
"""


@pytest.fixture
def own_envs(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "own_envs.py").write_text(ENVS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_environment_that_renders(own_envs: Path) -> None:
    finding = rendering("own_envs:Fine-v0", LIMIT)
    assert (finding.status, finding.cure) == ("ok", None)
    assert "40x30 pixels" in finding.message
    assert "10 frames per second" in finding.message


def test_text_and_pixels_of_gymnasiums_own() -> None:
    assert "renders 256x256 pixels" in rendering("FrozenLake-v1", LIMIT).message


@pytest.mark.skipif(sys.platform != "linux", reason="EGL exists on Linux only")
def test_mujoco_without_a_screen_is_told_what_was_seen_to_help(monkeypatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    finding = rendering("InvertedPendulum-v5", LIMIT)
    assert finding.status == "failed"
    assert "OpenGL" in finding.message or "GLFW" in finding.message
    assert finding.cure == "export MUJOCO_GL=egl: with that it renders (tried just now)"


def test_pygame_without_a_screen_is_told_what_was_seen_to_help(monkeypatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    finding = rendering("CartPole-v1", LIMIT)
    assert finding.status == "failed"
    assert "not available" in finding.message
    assert finding.cure == "export SDL_VIDEODRIVER=dummy: with that it renders (tried just now)"


@pytest.mark.parametrize(
    ("env_id", "message", "cure"),
    [
        ("Crash-v0", r"it crashed \(SIGSEGV\)", None),
        ("Exit-v0", "exit status 3: drawing", None),
        ("None-v0", "returned no frame", None),
        ("Blind-v0", r"neither pixels nor text; it offers \['human'\]", "only its author"),
        ("Library-v0", "libOSMesa", "libosmesa6"),
    ],
)
def test_what_goes_wrong_stays_in_the_child(
    own_envs: Path, monkeypatch, env_id: str, message: str, cure: str | None
) -> None:
    # Both are set to what would be tried: then nothing is.
    monkeypatch.setenv("MUJOCO_GL", "egl")
    finding = rendering(f"own_envs:{env_id}", LIMIT)
    assert finding.status == "failed"
    assert re.search(message, finding.message), finding.message
    assert (cure in finding.cure) if cure else finding.cure is None


def test_black_frames_are_a_warning(own_envs: Path) -> None:
    finding = rendering("own_envs:Black-v0", LIMIT)
    assert (finding.status, "renders black" in finding.message) == ("warning", True)


def test_what_hangs_is_ended_with_all_that_it_started(own_envs: Path) -> None:
    pids = own_envs / "pids.txt"
    limit = Limit(60)

    def stop_when_it_hangs() -> None:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it draws", 30)
        limit.stop.set()

    watcher = threading.Thread(target=stop_when_it_hangs)
    watcher.start()
    finding = rendering("own_envs:Hang-v0", limit)
    watcher.join(10)
    assert finding.status == "failed"
    assert "did not come to an end" in finding.message
    for pid in map(int, pids.read_text().split()):
        wait_until(lambda pid=pid: not is_running(pid), "it has ended", 30)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_what_hangs_ends_when_the_doctor_was_killed(own_envs: Path) -> None:
    code = (
        "from rollcam.doctor.child import Limit, run; "
        "run('render', {'env_id': 'own_envs:Hang-v0'}, limit=Limit(60), env={})"
    )
    doctor = subprocess.Popen([sys.executable, "-c", code])
    pids = own_envs / "pids.txt"
    try:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it draws", 30)
    finally:
        doctor.kill()
        doctor.wait(20)
    for pid in map(int, pids.read_text().split()):
        wait_until(lambda pid=pid: not is_running(pid), "it has ended", 30)


def test_the_limit_is_kept(own_envs: Path) -> None:
    started = time.monotonic()
    finding = rendering("own_envs:Hang-v0", Limit(1))
    assert "did not come to an end within 1 s" in finding.message
    assert time.monotonic() - started < 30


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_unknown_environment_and_a_missing_package() -> None:
    assert "pprint_registry" in rendering("Walk-v9", LIMIT).cure
    finding = rendering("no_such_package:Walk-v0", LIMIT)
    assert finding.status == "failed"
    assert "no_such_package" in finding.cure


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "libgl1"),
        ("OSError: libEGL.so.1: cannot open", "libegl1"),
        ("AttributeError: 'NoneType' object has no attribute 'eglQueryString'", "libegl1"),
        ("ImportError: libgthread-2.0.so.0: cannot open", "libglib2.0-0"),
        ("pygame.error: No available video device", "SDL_VIDEODRIVER=dummy"),
        ('pyglet.canvas.xlib.NoSuchDisplayException: Cannot connect to "None"', "xvfb-run"),
        ('run `pip install "gymnasium[box2d]"`', 'pip install "gymnasium[box2d]"'),
        ("ModuleNotFoundError: No module named 'Box2D'", "'Box2D'"),
        ("gymnasium.error.Error: Malformed environment ID: .", "pprint_registry"),
        ("ValueError: something else", None),
    ],
)
def test_cures(text: str, cure: str | None) -> None:
    found = cure_for(text)
    assert (cure in found) if cure else found is None


def test_a_child_that_answers_nonsense_is_a_failure(tmp_path: Path) -> None:
    outcome = run("no-such-check", {}, limit=LIMIT, env={})
    assert outcome.result is None
    assert "there is no check" in outcome.output


def test_the_doctor_needs_no_gymnasium(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "gymnasium.py").write_text("raise ImportError('not here')")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    finding = rendering("CartPole-v1", LIMIT)
    assert "rollcam[gymnasium]" in finding.cure


def test_where_nothing_can_draw_that_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert len(usual(LIMIT)) == 1
    monkeypatch.setitem(sys.modules, "pygame", None)
    (finding,) = [check() for check in usual(LIMIT)]
    assert (finding.check, finding.status) == ("rendering", "note")
    assert "pygame is not installed" in finding.message
    assert 'pip install "gymnasium[classic-control]"' in finding.cure


def test_importing_the_doctor_is_light() -> None:
    code = (
        "import sys, json, rollcam.doctor.examine; "
        "print(json.dumps([m for m in ('numpy', 'av', 'gymnasium') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == []

"""From what a renderer said when it failed to what helps."""

from __future__ import annotations

import re

_EGL = "apt-get install libegl1 libopengl0 libgl1-mesa-dri, then: export MUJOCO_GL=egl"

# The first that is found counts. Debian's and Ubuntu's names of packages.
_CURES: tuple[tuple[str, str], ...] = (
    (
        r"(?:NameNotFound|NamespaceNotFound|VersionNotFound|Malformed environment ID)",
        "see the name (`gymnasium.pprint_registry()` lists them); an environment of another package "
        "needs its module before a colon: `rollcam doctor ale_py:ALE/Pong-v5`",
    ),
    (r"libEGL\.so|eglQueryString|initialize a EGL|eglGetDisplay|EGL_\w+", _EGL),
    (
        r"libOSMesa|OSMesa|glGetError",
        "apt-get install libosmesa6, then: export MUJOCO_GL=osmesa; or, faster: " + _EGL,
    ),
    (r"libGL\.so", "apt-get install libgl1 (for OpenCV, `pip install opencv-python-headless` will do)"),
    (r"libGLU\.so", "apt-get install libglu1-mesa"),
    (r"libOpenGL\.so", "apt-get install libopengl0"),
    (r"lib(?:glib|gthread)-2", "apt-get install libglib2.0-0"),
    (r"lib(?:X11|Xext|Xrender|SM)\.so", "apt-get install libx11-6 libxext6 libxrender1 libsm6"),
    (r"OpenGL platform library has not been loaded|gladLoadGL|GLFW", "export MUJOCO_GL=egl. If that "
     "fails: " + _EGL),
    (r"No available video device|x11 not available|video system not initialized|wayland not available",
     "export SDL_VIDEODRIVER=dummy"),
    (r"NoSuchDisplay|[Cc]annot connect to|DISPLAY|cannot open display",
     "it wants a screen: apt-get install xvfb, and start the script with `xvfb-run -a`"),
)  # fmt: skip

_PIP = re.compile(r"pip install ['\"`]?([\w.-]+(?:\[[\w., -]+\])?)")
_MISSING = re.compile(r"No module named '([\w.]+)'")


def cure_for(text: str) -> str | None:
    """Return what to do about a failure of a renderer, or `None` when nobody knows.

    Args:
        text: What it printed: a traceback, as a rule.
    """
    for pattern, cure in _CURES:
        if re.search(pattern, text):
            return cure
    told = _PIP.search(text)
    if told:
        return f'pip install "{told[1]}"'
    missing = _MISSING.search(text)
    return f"install the package that brings the module {missing[1]!r}" if missing else None


def settings_to_try(text: str, now: dict[str, str]) -> list[dict[str, str]]:
    """Return environment variables that may help, the likeliest first; those in force are left out.

    Args:
        text: What the renderer printed, and how it ended.
        now: The environment variables.
    """
    tries: list[dict[str, str]] = []
    if re.search(r"pygame|SDL|video device|x11 not|wayland not", text):
        tries.append({"SDL_VIDEODRIVER": "dummy"})
    if re.search(r"mujoco|OpenGL|EGL|GLFW|glfw|OSMesa|GLError|crashed", text):
        tries += [{"MUJOCO_GL": "egl"}, {"MUJOCO_GL": "osmesa"}]
    return [each for each in tries if any(now.get(key) != value for key, value in each.items())]


def last_line(text: str) -> str:
    """Return the last line that says something: what the exception was."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""

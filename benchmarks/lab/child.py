"""Work in a process of its own: its memory and its CPU are nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_QUIET = {
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "XDG_RUNTIME_DIR": tempfile.gettempdir(),
    "PYTHONWARNINGS": "ignore",
    "SVT_LOG": "1",
}


class Child:
    """A running `python -m module arguments.json result.json`.

    Args:
        module: Module that calls `child_main`.
        arguments: What its work is called with.
        python: The interpreter; default: this one.
    """

    def __init__(
        self, module: str, arguments: Mapping[str, Any], *, python: Path | None = None
    ) -> None:
        self._label = f"{module} {dict(arguments)}"[:300]
        self._folder = tempfile.TemporaryDirectory()
        given, self._result = (Path(self._folder.name, name) for name in ("in.json", "out.json"))
        given.write_text(json.dumps(arguments), encoding="utf-8")
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", module, str(given), str(self._result)],
            cwd=ROOT, env={**os.environ, **_QUIET}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def result(self) -> Any:
        """Wait for the child and return what its work returned."""
        _, errors = self._process.communicate()
        with self._folder:
            if self._process.returncode:
                raise RuntimeError(f"{self._label} failed:\n{errors}")
            return json.loads(self._result.read_text(encoding="utf-8"))


def run_child(module: str, arguments: Mapping[str, Any], *, python: Path | None = None) -> Any:
    """Run one child and return its result."""
    return Child(module, arguments, python=python).result()


def child_main(work: Callable[..., Any]) -> None:
    """Be that child: call `work` with the arguments and write down what it returns."""
    given, result = map(Path, sys.argv[1:3])
    answer = work(**json.loads(given.read_text(encoding="utf-8")))
    result.write_text(json.dumps(answer), encoding="utf-8")

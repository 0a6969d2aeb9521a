"""`rollcam doctor`, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rollcam.doctor.inside import TRACKERS


def doctor(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rollcam", "doctor", *map(str, arguments)],
        capture_output=True, text=True, timeout=240, env=os.environ,
    )  # fmt: skip


def test_json_tells_everything(tmp_path: Path) -> None:
    done = doctor("FrozenLake-v1", "--folder", tmp_path, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (0, True), done.stdout
    checks = [finding["check"] for finding in told["findings"]]
    assert checks[:2] == ["installation", "codec libx264"]
    assert checks[-len(TRACKERS) :] == [f"tracker {name}" for name in TRACKERS]
    assert {"text", "folder", "rendering FrozenLake-v1"} <= set(checks)
    assert all(set(f) == {"check", "status", "message", "cure"} for f in told["findings"])
    assert not list(tmp_path.iterdir())


def test_a_failure_is_the_exit_status_and_says_what_to_do(tmp_path: Path) -> None:
    done = doctor("Walk-v9", "--folder", tmp_path)
    assert done.returncode == 1, done.stdout
    assert "failed   rendering Walk-v9" in done.stdout
    assert "-> see the name" in done.stdout
    assert "1 of " in done.stdout.splitlines()[-1], done.stdout
    assert "Traceback" not in done.stdout + done.stderr

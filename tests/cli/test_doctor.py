"""`rollcam doctor`, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rollcam.cli.main import cli
from rollcam.doctor import examine
from rollcam.doctor.finding import Finding
from rollcam.doctor.inside import TRACKERS


def test_json_tells_everything(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rollcam", "doctor", "Walk-v9", "--folder", tmp_path, "--json"],
        capture_output=True, text=True, timeout=240, env=os.environ,
    )  # fmt: skip
    told = json.loads(done.stdout)
    failed = [f["check"] for f in told["findings"] if f["status"] == "failed"]
    assert (done.returncode, told["ok"], failed) == (1, False, ["rendering Walk-v9"]), done.stdout
    checks = [finding["check"] for finding in told["findings"]]
    assert checks[:2] == ["installation", "codec libx264"]
    assert checks[-len(TRACKERS) :] == [f"tracker {name}" for name in TRACKERS]
    assert {"text", "folder"} <= set(checks)
    assert all(set(f) == {"check", "status", "message", "cure"} for f in told["findings"])
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warning", 0), ("failed", 1)])
def test_lines_say_what_to_do(monkeypatch, status: Any, code: int) -> None:
    def found(*arguments: Any, **settings: Any) -> Iterator[Finding]:
        yield Finding("installation", "ok", "fine")
        yield Finding("rendering A\x1b[2J", status, "it said \x07", "export B=c\r")

    monkeypatch.setattr(examine, "examine", found)
    done = CliRunner().invoke(cli, ["doctor", "A"])
    assert done.exit_code == code
    lines = done.stdout.splitlines()
    assert lines[0] == "ok       installation: fine"
    assert lines[1] == f"{status:8} rendering A\ufffd[2J: it said \ufffd"
    assert lines[2] == "         -> export B=c\ufffd"
    verdicts = {
        "ok": "All is well.",
        "warning": "No check failed; warnings: 1.",
        "failed": "1 of 2 checks failed.",
    }
    assert lines[3] == verdicts[status]


def test_limits_that_cannot_be() -> None:
    done = CliRunner().invoke(cli, ["doctor", "--timeout", "0"])
    assert done.exit_code == 2
    assert "--timeout" in done.stderr

"""The set-up keeps its promises: pins without addresses, commands that are listed, one version."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pinned_names(file_name: str = "constraints.txt") -> list[str]:
    text = (ROOT / file_name).read_text(encoding="utf-8")
    return [line.partition("==")[0] for line in text.splitlines()]


def test_pins_are_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []


def test_each_package_is_pinned_once_and_ours_not_at_all():
    names = pinned_names()
    assert names == sorted(set(names))
    assert "rollcam" not in names


def test_every_dependency_that_is_named_is_pinned():
    settings = project()
    groups = [
        settings["project"]["dependencies"],
        *settings["project"]["optional-dependencies"].values(),
        *settings["dependency-groups"].values(),
    ]
    named = {re.match(r"[A-Za-z0-9._-]+", line)[0] for group in groups for line in group}
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for name in named} - {"rollcam"}
    # What only the second environment holds is pinned there.
    pinned = {*pinned_names(), *pinned_names("constraints-rllib.txt")}
    assert wanted - pinned == set()


def test_torch_is_pinned_alike_everywhere():
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    groups = project()["dependency-groups"]
    assert all("torch==2.13.0" in groups[name] for name in ("test", "bench"))


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_help_lists_every_command():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
    rules = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    assert rules == commands
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert set(re.findall(r"^ +make ([a-z-]+) +\S", shown, re.MULTILINE)) == commands


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_an_old_python_is_refused_by_name(tmp_path: Path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    venv = tmp_path / "venv"
    done = subprocess.run(
        ["make", "--no-print-directory", f"PYTHON={old}", f"venv={venv}", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not venv.exists()


def test_the_version_stands_in_one_place():
    assert project()["project"].get("version") is None
    assignment = re.compile(r"^__version__\b.*=", re.MULTILINE)
    sources = (ROOT / "src").rglob("*.py")
    found = [p.name for p in sources if assignment.search(p.read_text(encoding="utf-8"))]
    assert found == ["_version.py"]


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_has_the_commands_without_make():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    groups = set(re.findall(r"--group ([a-z]+)", readme))
    assert groups == set(project()["dependency-groups"])

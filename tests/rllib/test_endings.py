"""Whatever ends a run: the films of all episodes are there, or are recovered, and are published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rollcam.cli.main import cli
from rollcam.episode import Episode
from rollcam.recovery import recover
from tests.films import wait_until
from tests.rllib.rollouts import films_of

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 200.0

KEEPS_ALL = ("stop", "local-stop", "end", "local-end", "exception", "SIGINT", "SIGTERM")
"""Where the open episodes are finished by the run itself."""
RECOVERED = ("shutdown", "runner-killed", "SIGKILL", "local-SIGKILL")
"""Where they are recovered afterwards."""


@pytest.mark.parametrize("how", [*KEEPS_ALL, *RECOVERED])
def test_no_film_is_lost(how: str, tmp_path: Path) -> None:
    _run(tmp_path, how)
    folder = tmp_path / "films"
    _wait_until_nobody_writes(folder)
    recover(folder)

    films = films_of(folder)
    begun = {str(f.extra["rllib"]["episode_id"]): f for f in films}
    assert len(begun) == len(films)
    assert set(begun) == _ids(tmp_path, "start")
    ended = _ids(tmp_path, "end")
    for episode_id, film in begun.items():
        is_open = episode_id not in ended
        if how in KEEPS_ALL:
            assert film.status == "complete"
            assert film.extra["rllib"]["outcome"] == ("interrupted" if is_open else "finished")
        elif not is_open:
            # It may have been on its way to the disk in that moment.
            assert film.status in ("complete", "truncated_by_crash")
        assert film.n_frames >= 1
        if film.status == "complete":
            assert film.n_frames == (film.episode_length or 0) + 1
    if how in KEEPS_ALL:
        assert _copies(tmp_path) == len(films)
    _publish(folder, tmp_path / "copies")
    assert _copies(tmp_path) == len(films)
    assert _opened(films, ended)


def _run(folder: Path, how: str) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src{os.pathsep}{ROOT}"}
    log = (folder / "log").open("w")
    with log, subprocess.Popen(
        [sys.executable, str(ROOT / "tests/rllib/ending.py"), str(folder), how],
        stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder,
    ) as process:  # fmt: skip
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert (folder / "trained").exists(), (folder / "log").read_text()[-3000:]


def _wait_until_nobody_writes(folder: Path) -> None:
    """Runners that nobody stopped end shortly after their driver; until then, they live."""
    growing = folder / ".rollcam" / "partial"

    def is_quiet() -> bool:
        recover(folder)
        return not any(growing.glob("*/*"))

    wait_until(is_quiet, "nobody writes any more", 30, every_s=0.1)


def _ids(folder: Path, event: str) -> set[str]:
    lines = [
        json.loads(line)
        for path in (folder / "journal").iterdir()
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return {line["id"] for line in lines if line["event"] == event}


def _opened(films: list[Episode], ended: set[str]) -> bool:
    """Say whether there was an open episode at all, without which nothing was tried."""
    return any(str(film.extra["rllib"]["episode_id"]) not in ended for film in films)


def _copies(folder: Path) -> int:
    return len(list((folder / "copies").rglob("*.mp4")))


def _publish(folder: Path, copies: Path) -> None:
    arguments = ["publish", str(folder), "--to", "folder", "--dir", str(copies)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output

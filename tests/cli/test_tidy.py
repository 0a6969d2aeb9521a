"""`rollcam ls` with filters, `prune` and `reindex`, run as a user runs them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollcam.store.files import list_episodes
from rollcam.store.layout import HIDDEN
from tests.hammer import put


def rollcam(*arguments: object, status: int = 0, answer: str = "") -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "rollcam", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, input=answer,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def films(tmp_path: Path) -> Path:
    (tmp_path / HIDDEN).mkdir()
    for number, value in enumerate([3.0, math.nan, 9.0, 1.0, None]):
        name = f"film-{number}"
        put(
            tmp_path, name, media=f"{name}.mp4", episode_return=value, seed=number, size_bytes=1000,
            started_at=f"2026-11-21T10:00:0{number}+00:00", env_id=f"Env-v{number % 2}",
            mode="eval" if number == 2 else "train", run_id=f"run-{number % 2}",
            context_at_end={"iteration": number * 10}, metadata={"note": f"note {number}"},
        )  # fmt: skip
        (tmp_path / f"{name}.mp4").write_bytes(b"x" * 1000)
    (tmp_path / "mine.txt").write_bytes(b"mine")
    return tmp_path


def listed(films: Path, *arguments: object) -> list[int]:
    return [each["seed"] for each in json.loads(rollcam("ls", films, "--json", *arguments)[0])]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [0, 1, 2, 3, 4]),
        (["--reverse", "--limit", 2], [4, 3]),
        (["--sort", "return", "--reverse"], [2, 0, 3, 4, 1]),
        (["--sort", "context_at_end.iteration", "--reverse", "-n", 1], [4]),
        (["--env", "Env-v1"], [1, 3]),
        (["--env", "Env-v1", "--env", "Env-v0", "--run", "run-0"], [0, 2, 4]),
        (["--mode", "eval"], [2]),
        (["--status", "failed"], []),
        (["--where", "return=2.."], [0, 2]),
        (["-w", "iteration=10..30", "-w", "seed=..2"], [1, 2]),
        (["-w", "seed=3"], [3]),
        (["-w", "return="], [1, 4]),
        (["-w", "metadata.note=note 4"], [4]),
        (["--text", "NOTE film-2"], [2]),
    ],
    ids=str,
)
def test_ls_filters(films: Path, arguments: list[object], expected: list[int]) -> None:
    assert listed(films, *arguments) == expected


def test_ls_says_what_is_wrong(films: Path) -> None:
    assert (
        "there is no column 'nonsense'" in rollcam("ls", films, "--sort", "nonsense", status=1)[1]
    )
    assert "no COLUMN=VALUE" in rollcam("ls", films, "--where", "seed", status=2)[1]
    assert "none of the 5 episodes" in rollcam("ls", films, "--env", "none")[0]


def test_prune_shows_what_would_go(films: Path) -> None:
    out, _ = rollcam("prune", films, "--keep-best", 2, "--keep-last", 1, "--dry-run")
    assert "film-1" in out
    assert "film-3" in out
    assert "film-2" not in out
    assert "2 of 5 episodes" in out
    assert len(list_episodes(films).episodes) == 5


def test_prune_asks_first(films: Path) -> None:
    rollcam("prune", films, "--keep-last", 1, answer="n\n", status=1)
    rollcam("prune", films, "--keep-last", 1, answer="", status=1)
    assert len(list_episodes(films).episodes) == 5
    out, _ = rollcam("prune", films, "--keep-last", 1, answer="y\n")
    assert "4 episodes deleted" in out
    assert sorted(path.name for path in films.iterdir()) == [
        HIDDEN, "film-4.meta.json", "film-4.mp4", "mine.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--keep-worst", 1], [3]),
        (["--keep-last", 1, "--run", "run-1"], [0, 2, 3, 4]),
        (["--max-bytes", "1GB"], [0, 1, 2, 3, 4]),
        (["--max-bytes", "3kib"], [4]),
        (["--max-bytes", "0"], []),
    ],
    ids=str,
)
def test_prune_by_rules(films: Path, arguments: list[object], left: list[int]) -> None:
    rollcam("prune", films, "--yes", *arguments)
    found = [episode.seed for episode in list_episodes(films).episodes]
    # Sidecars count: with them, a film takes some 2.5 kB.
    assert found == left
    assert (films / "mine.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 1, "no rule says what stays"),
        (["--run", "run-0"], 1, "no rule says what stays"),
        (["--keep-last", 0], 2, "--keep-last"),
        (["--max-bytes", "many"], 2, "is no size"),
    ],
    ids=str,
)
def test_prune_says_what_is_wrong(
    films: Path, arguments: list[object], status: int, message: str
) -> None:
    assert message in rollcam("prune", films, "--yes", *arguments, status=status)[1]
    assert len(list_episodes(films).episodes) == 5


def test_reindex(films: Path) -> None:
    (films / "foreign.meta.json").write_text("{}")
    (films / HIDDEN / "index.sqlite").write_bytes(b"nonsense")
    assert "5 episodes" in rollcam("reindex", films)[0]
    out, _ = rollcam("reindex", films)
    assert "1 not readable" in out
    assert listed(films) == [0, 1, 2, 3, 4]
    rollcam("reindex", films / "none", status=2)

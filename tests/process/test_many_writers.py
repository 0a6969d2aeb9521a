"""Many processes, one folder: nobody overwrites or deletes what is another's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.crowd import film_together

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")


def test_eight_processes_film_many_short_episodes(tmp_path: Path) -> None:
    """Two hundred each in `scripts/reliability.py`."""
    films = film_together(tmp_path, n_processes=8, n_episodes=20)
    names = sorted(film.name for film in films)
    assert "rl-video-episode-0" in names
    assert "rl-video-episode-0_8" in names
    assert "rl-video-episode-0_9" not in names, "a suffix was left out"


def test_all_race_for_one_name(tmp_path: Path) -> None:
    films = film_together(tmp_path, n_processes=8, n_episodes=5, name="one")
    numbers = {film.name for film in films}
    assert numbers == {"one", *(f"one_{k}" for k in range(2, 41))}

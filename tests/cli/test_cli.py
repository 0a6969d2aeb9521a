"""`rollcam record`, `ls` and `show`, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollcam.store.files import list_episodes
from tests import barcode


def rollcam(*arguments: object, cwd: Path | None = None, status: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "rollcam", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, cwd=cwd, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    rollcam("record", "CartPole-v1", "--episodes", 5, "--every", 2, "--out", folder, "--seed", 1)
    return folder


def test_record_films_every_nth_episode_with_its_seed(films: Path) -> None:
    episodes = list_episodes(films).episodes
    assert [(e.episode_index, e.seed, e.env_id) for e in episodes] == [
        (0, 1, "CartPole-v1"), (2, 3, "CartPole-v1"), (4, 5, "CartPole-v1"),
    ]  # fmt: skip
    for episode in episodes:
        assert len(barcode.decode(episode.media_path)) == episode.episode_length + 1


def test_record_is_repeatable_with_a_seed(films: Path, tmp_path: Path) -> None:
    rollcam("record", "CartPole-v1", "--out", tmp_path, "--seed", 1)
    again, first = list_episodes(tmp_path).episodes[0], list_episodes(films).episodes[0]
    assert again.sha256 == first.sha256


def test_record_prints_a_table_and_keeps_progress_off_stdout(tmp_path: Path) -> None:
    out, err = rollcam("record", "FrozenLake-v1", "--out", tmp_path, "--env-kwargs",
                       '{"render_mode": "ansi", "map_name": "8x8"}')  # fmt: skip
    assert "FrozenLake-v1-episode-0.cast" in out
    assert "100%" in err


def test_record_with_a_policy_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def left(observation):\n    return 0\n")
    rollcam("record", "CartPole-v1", "--policy", "mine:left", "--out", "v", "--fps", 10,
            "--codec", "vp9", cwd=tmp_path)  # fmt: skip
    [episode] = list_episodes(tmp_path / "v").episodes
    assert set(episode.read_steps()["action"][1:]) == {0}
    assert (episode.fps, episode.codec) == (10, "vp9")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["Nope-v1"], 1, "there is no environment 'Nope-v1'"),
        (["CartPole-v1", "--fps", "0"], 1, "fps must be frames per second"),
        (["CartPole-v1", "--codec", "gif"], 1, "codec must be one of"),
        (["CartPole-v1", "--policy", "nothing"], 1, "neither 'random' nor module:callable"),
        (["CartPole-v1", "--policy", "os:sep"], 1, "no callable"),
        (["CartPole-v1", "--env-kwargs", "{"], 2, "is no JSON"),
        (["CartPole-v1", "--env-kwargs", '{"nonsense": 1}'], 1, "could not be made"),
        (["CartPole-v1", "--episodes", "0"], 2, "--episodes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_record_says_what_is_wrong(tmp_path: Path, arguments, status, message) -> None:
    _, err = rollcam("record", *arguments, cwd=tmp_path, status=status)
    assert message in err


def test_ls_lists_sorts_and_prints_json(films: Path) -> None:
    out, _ = rollcam("ls", films)
    assert out.count("CartPole-v1-episode-") == 3
    told = json.loads(rollcam("ls", films, "--sort", "length", "--reverse", "--json")[0])
    lengths = [episode["episode_length"] for episode in told]
    assert lengths == sorted(lengths, reverse=True)
    assert {"episode_id", "sha256", "context_at_end"} <= told[0].keys()


def test_ls_of_an_empty_folder_says_how_to_film(tmp_path: Path) -> None:
    assert "rollcam record" in rollcam("ls", tmp_path)[0]
    rollcam("ls", tmp_path / "absent", status=2)


def test_ls_names_what_it_cannot_read_and_escapes_what_is_hostile(tmp_path: Path) -> None:
    (tmp_path / "foreign.meta.json").write_text('{"content_type": "video/mp4"}')
    hostile = {
        "schema_version": 1, "episode_id": "01", "run_id": "02", "name": "x", "status": "failed",
        "reason": "\x1b]0;evil\x07 [bold]markup[/bold]",
    }  # fmt: skip
    (tmp_path / "x.meta.json").write_text(json.dumps(hostile))
    out, err = rollcam("ls", tmp_path)
    assert "foreign.meta.json was not written by Rollcam" in err
    assert "\x1b" not in out
    assert "[bold]markup[/bold]" in out


def test_show(films: Path) -> None:
    out, _ = rollcam("show", films, "CartPole-v1-episode-2")
    assert "episode_return" in out
    assert "step columns" in out
    told = json.loads(rollcam("show", films, "CartPole-v1-episode-2.mp4", "--json")[0])
    by_id = json.loads(rollcam("show", films, told["episode_id"], "--json")[0])
    assert told == by_id
    _, err = rollcam("show", films, "nothing", status=1)
    assert "rollcam ls" in err


def test_help_and_version() -> None:
    out, _ = rollcam("--help")
    for verb in ("record", "ls", "show", "check", "transcode"):
        assert verb in out
    assert "rollcam, version" in rollcam("--version")[0]
    rollcam("nonsense", status=2)

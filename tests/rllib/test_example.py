"""`examples/flatland` from one command: its films, its W&B run, its trial's folder; `rollcam film`."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import rollcam
from rollcam.episode import EpisodeStatus
from rollcam.errors import SettingError
from rollcam.integrations.rllib import UNKNOWN
from rollcam.integrations.rllib_checkpoint import film_checkpoint
from rollcam.sinks.facts import caption_of, step_of
from rollcam.sinks.wandb_log import TransactionLog, VideoRow, videos_of
from tests.barcode import decode

# Four processes that import torch and Ray, one after the other: minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/flatland"
TIMEOUT_S = 400.0
NAME = re.compile(r"flatland-(\d{6})-(\d{9,10})\.(\d{3})\.(\d{5,6})\.(\d+)")


def in_a_home_of_its_own(home: Path, **more: str) -> dict[str, str]:
    """An environment without accounts, in which nothing is written outside `home`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "ROLLCAM_"))}
    (home / "wandb").mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "HOME": str(home),
        "NETRC": str(home / "netrc"),
        "PYTHONPATH": str(ROOT / "src"),
        "WANDB_DIR": str(home / "wandb"),
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_CONFIG_DIR": str(home / "config"),
        "WANDB_DATA_DIR": str(home / "data"),
        "WANDB_ERROR_REPORTING": "false",
        "PYTHONWARNINGS": "ignore",
        **more,
    }


def run(arguments: list[str], cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=in_a_home_of_its_own(home),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def a_copy(folder: Path) -> Path:
    target = folder / "recipe"
    shutil.copytree(EXAMPLE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def film_something(folder: Path, name: str) -> None:
    with rollcam.Recorder(folder, fps=10) as recorder:
        recorder.begin(name)
        recorder.frame(np.zeros((32, 32, 3), np.uint8))
        recorder.end()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`python train.py -f recording/ppo.yaml`, where an older run has left its films."""
    folder = tmp_path_factory.mktemp("flatland")
    recipe, home = a_copy(folder), folder / "home"
    film_something(recipe / "flatland", "of-an-older-run")
    (recipe / "flatland/notes.txt").write_text("mine")
    done = run(["train.py", "-f", "recording/ppo.yaml"], recipe, home)
    assert done.returncode == 0, done.stderr[-5000:]
    (trial,) = (home / "ray_results/flatland-ppo").iterdir()
    return SimpleNamespace(
        output=done.stdout,
        films=recipe / "flatland",
        home=home,
        trial=trial,
        episodes=list(rollcam.Catalog(recipe / "flatland")),
    )


def rows_of(home: Path) -> list[VideoRow]:
    """What the offline run says of its films."""
    (log,) = home.glob("wandb/wandb/offline-run-*/*.wandb")
    return [video for row in TransactionLog(log).rows() for video in videos_of(row)]


def test_every_episode_has_one_film_with_its_last_frame(trained) -> None:
    results = [
        json.loads(line) for line in (trained.trial / "result.json").read_text().splitlines()
    ]
    assert [result["training_iteration"] for result in results] == [1, 2, 3, 4, 5, 6]
    finished = [e for e in trained.episodes if e.terminated or e.truncated]
    assert len(finished) >= 6
    # Those that were cut when the training ended are filmed, too: one in each environment.
    assert len(trained.episodes) - len(finished) <= 1
    for episode in trained.episodes:
        assert episode.status == EpisodeStatus.COMPLETE
        assert episode.n_frames == episode.episode_length + 1
        assert episode.n_dropped == 0
    numbers = sorted(episode.episode_index for episode in trained.episodes)
    assert numbers == list(range(len(trained.episodes)))
    assert (
        sum(episode.episode_length for episode in finished)
        <= results[-1]["num_env_steps_sampled_lifetime"]
    )


def test_names_are_made_of_the_episodes_own_numbers(trained) -> None:
    names = [episode.name for episode in trained.episodes]
    for episode in trained.episodes:
        found = NAME.fullmatch(episode.name)
        assert found, episode.name
        iteration, steps, percentage, number, pid = map(int, found.groups())
        assert iteration == episode.context_at_end["iteration"] != UNKNOWN
        assert steps == episode.context_at_end["num_env_steps_sampled_lifetime"]
        assert percentage == episode.final_info["percentage_complete"]
        assert number == episode.episode_index
        assert pid == episode.writer.pid
    assert {int(name[9:15]) for name in names} == {1, 2, 3, 4, 5, 6}
    # As text they are in the order in which they were made; the percentage stands before the number.
    by_iteration = sorted(trained.episodes, key=lambda e: e.ended_at)
    assert [n[:15] for n in sorted(names)] == [e.name[:15] for e in by_iteration]


def test_what_the_trains_did_is_in_the_sidecars(trained) -> None:
    for episode in trained.episodes:
        info = episode.final_info
        assert info["n_agents"] == 2
        assert info["elapsed_steps"] == episode.episode_length
        arrivals = [info["arrived_at/0"], info["arrived_at/1"]]
        n_arrived = sum(step is not None for step in arrivals)
        assert info["n_arrived"] == n_arrived
        assert info["percentage_complete"] == 50 * n_arrived
        assert max([step for step in arrivals if step] or [0]) <= episode.episode_length


def test_the_folder_was_cleared_of_old_films_and_of_nothing_else(trained) -> None:
    assert "of-an-older-run" not in {episode.name for episode in trained.episodes}
    assert not (trained.films / "of-an-older-run.mp4").exists()
    assert (trained.films / "notes.txt").read_text() == "mine"


def test_the_films_are_in_the_trials_folder_too(trained) -> None:
    copies = {episode.episode_id: episode for episode in rollcam.Catalog(trained.trial)}
    assert set(copies) == {episode.episode_id for episode in trained.episodes}
    for episode in trained.episodes:
        copy = copies[episode.episode_id]
        assert copy.media_path.read_bytes() == episode.media_path.read_bytes()
        assert copy.final_info == episode.final_info
    assert {p.name for p in trained.trial.glob("checkpoint_*")} == {
        "checkpoint_000003",
        "checkpoint_000006",
    }


def test_the_wandb_run_holds_each_film_once(trained) -> None:
    rows = {row.fact("episode_id"): row for row in rows_of(trained.home)}
    assert len(rows) == len(rows_of(trained.home)) == len(trained.episodes)
    for episode in trained.episodes:
        row = rows[episode.episode_id]
        assert row.sha256 == episode.sha256
        assert row.caption == caption_of(episode)
        assert row.fact("step") == step_of(episode)
        assert row.fact("context/iteration") == episode.context_at_end["iteration"]


def test_the_films_play_in_chromium(trained, browser) -> None:
    newest = max(trained.episodes, key=lambda episode: episode.ended_at)
    for episode in (trained.episodes[0], newest):
        last = episode.n_frames - 1
        report = browser.probe(
            episode.media_path, fps=episode.fps, seek_to=[0, last], play=episode is newest
        )
        assert report.first == "loadeddata", report.error_message
        assert report.error_code is None
        assert report.duration_s == pytest.approx(episode.n_frames / episode.fps, abs=0.2)
        assert (report.width, report.height) == (episode.width, episode.height)
        assert len(decode(episode.media_path)) >= episode.n_frames
        assert report.ended is (episode is newest)


def test_cartpole_films_its_evaluation_only(tmp_path: Path) -> None:
    """The second configuration, filmed because of the flags; here it joins what lies in its folder."""
    recipe, home = a_copy(tmp_path), tmp_path / "home"
    told = yaml.safe_load((recipe / "recording/cartpole.yaml").read_text())
    config = told["cartpole-ppo"]["config"]
    films = config.pop("evaluation_config")["env_config"]
    del films["render"], config["evaluation_interval"]
    config["env_config"] = {**films, "resume": True}
    config["num_envs_per_worker"] = 1  # a second one's episode would be cut
    told["cartpole-ppo"]["stop"]["training_iteration"] = 2
    (recipe / "joining.yaml").write_text(yaml.safe_dump(told))
    film_something(recipe / "cartpole", "of-an-older-run")

    done = run(["train.py", "-f", "joining.yaml", "--eval", "--record"], recipe, home)

    assert done.returncode == 0, done.stderr[-5000:]
    films = {episode.name: episode for episode in rollcam.Catalog(recipe / "cartpole")}
    assert films.pop("of-an-older-run").media_path.is_file()
    (episode,) = films.values()
    assert episode.mode == "eval"
    assert episode.n_frames == episode.episode_length + 1
    (told_by_rllib,) = home.glob("ray_results/cartpole-ppo/*/result.json")
    result = json.loads(told_by_rllib.read_text().splitlines()[-1])
    for counter in ("iteration", "num_env_steps_sampled_lifetime"):
        of_rllib = result["training_iteration" if counter == "iteration" else counter]
        assert episode.context_at_end[counter] == of_rllib
    assert [row.fact("episode_id") for row in rows_of(home)] == [episode.episode_id]
    (checkpoint,) = home.glob("ray_results/cartpole-ppo/*/checkpoint_000002")
    check_film(checkpoint, tmp_path / "filmed", home, env_id="CartPole-v1", arguments=[])


def test_a_checkpoint_of_flatland_is_filmed(trained, tmp_path: Path) -> None:
    arguments = ["--env", "rollcam.integrations.flatland:make_flatland_env"]
    found = check_film(
        trained.trial / "checkpoint_000006",
        tmp_path,
        trained.home,
        env_id=None,
        arguments=arguments,
    )
    for episode in found:
        assert "percentage_complete" in episode.final_info


def test_an_environment_that_only_the_script_knew(trained, tmp_path: Path) -> None:
    checkpoint = trained.trial / "checkpoint_000003"
    with pytest.raises(SettingError, match=r"knows the environment 'flatland' here.*--env module"):
        film_checkpoint(checkpoint, tmp_path)
    for wrong in ("nobody:knows", "json:nothing", "rollcam.integrations.flatland:FPS"):
        with pytest.raises(SettingError, match=wrong):
            film_checkpoint(checkpoint, tmp_path, env=wrong)


def test_folders_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"has no class_and_ctor_args\.pkl"):
        film_checkpoint(tmp_path, tmp_path / "films")
    for data in (b"", b"no pickle", pickle.dumps([1, 2])):
        (tmp_path / "class_and_ctor_args.pkl").write_bytes(data)
        with pytest.raises(SettingError, match="cannot be read"):
            film_checkpoint(tmp_path, tmp_path / "films")
    assert not (tmp_path / "films").exists()


def check_film(
    checkpoint: Path, out: Path, home: Path, *, env_id: str | None, arguments: list[str]
) -> list[rollcam.Episode]:
    command = ["-m", "rollcam", "film", str(checkpoint), "--episodes", "2", "--out", str(out)]
    done = run([*command, "--seed", "5", *arguments], home, home)
    assert done.returncode == 0, done.stderr[-5000:]
    found = list(rollcam.Catalog(out))
    assert len(found) == 2
    for episode in found:
        assert episode.mode == "eval"
        assert episode.terminated or episode.truncated
        assert episode.n_frames == episode.episode_length + 1
        assert episode.metadata["checkpoint"] == str(checkpoint)
        # Where the training stood when the checkpoint was written.
        assert episode.context_at_start["iteration"] == int(checkpoint.name[-6:])
        if env_id is not None:
            assert episode.env_id == env_id
    return found

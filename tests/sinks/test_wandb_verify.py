"""`rollcam wandb-verify` on runs whose uploads went well, badly, or were never worth it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.encode.bad_films import film, mpeg4
from tests.sinks.wandb_scripts import ROOT, run_script
from tests.sinks.wandb_server import WandbServer


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


@pytest.fixture
def past(tmp_path: Path, server: WandbServer) -> Path:
    """A run of the past, logged by hand: two good films, one of old gym's, one row without any."""
    folder = tmp_path / "films"
    (folder / "empty").mkdir(parents=True)
    film(folder / "good.mp4")
    film(folder / "other.mp4", n=7)
    mpeg4(folder / "old.mp4")
    run_script(
        f"""
        run = wandb.init(project="p", id="r")
        folder = Path({str(folder)!r})
        run.log({{"a": wandb.Video(str(folder / "good.mp4"), caption="first")}}, step=3)
        run.log({{"nested/b": [wandb.Video(str(folder / "other.mp4"))], "loss": 1}}, step=4)
        run.log({{"a": wandb.Video(str(folder / "old.mp4"))}}, step=5)
        run.log({{"loss": 2}}, step=6)
        run.finish()
        """,
        folder / "empty",
        settings=server.environment(),
    )
    return folder


def verify(server: WandbServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    home = Path(os.environ["WANDB_DIR"])
    return subprocess.run(
        [sys.executable, "-m", "rollcam", "wandb-verify", *arguments],
        cwd=home, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, **server.environment(), "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


def test_a_run_is_judged_video_by_video_and_repaired(past: Path, server: WandbServer) -> None:
    run = server.run("r")
    names = {row.get("_step"): row for row in run.history}
    good, other = names[3]["a"]["path"], names[4]["nested/b"]["videos"][0]["path"]

    done = verify(server, "ent/p/r")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"plays      {good}  (step 3)"
    assert lines[1] == f"plays      {other}  (step 4)"
    assert lines[2].startswith("unplayable ")
    assert "MPEG-4 Part 2" in lines[3]
    assert lines[4] == "3 videos: 2 there, 1 not."

    run.files.pop(good)
    run.files[other] = run.files[other][:-1] + b"?"
    judged = json.loads(verify(server, "ent/p/r", "--json").stdout)
    assert [(v["state"], v["step"], v["caption"]) for v in judged] == [
        ("missing", 3, "first"), ("damaged", 4, None), ("unplayable", 5, None),
    ]  # fmt: skip

    done = verify(server, "ent/p/r", "--repair", str(past / "empty"))
    assert "missing " in done.stdout
    assert good not in run.files
    done = verify(server, "ent/p/r", "--repair", str(past), "--json")
    assert [v["state"] for v in json.loads(done.stdout)] == ["repaired", "repaired", "unplayable"]
    assert done.returncode == 1
    assert run.files[good] == (past / "good.mp4").read_bytes()
    assert run.files[other] == (past / "other.mp4").read_bytes()


def test_a_run_whose_videos_all_play(tmp_path: Path, server: WandbServer) -> None:
    film(tmp_path / "good.mp4")
    (tmp_path / "none").mkdir()
    run_script(
        f"""
        run = wandb.init(project="p", id="r")
        run.log({{"a": wandb.Video({str(tmp_path / "good.mp4")!r})}})
        run.finish()
        """,
        tmp_path / "none",
        settings=server.environment(),
    )
    done = verify(server, "ent/p/r")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 video: 1 there, 0 not.")


@pytest.mark.parametrize(
    ("run_path", "said"),
    [("nothing", "entity/project/run_id"), ("ent/p/unknown", "asking for the history")],
)
def test_a_run_that_is_none(tmp_path: Path, server: WandbServer, run_path: str, said: str) -> None:
    Path(os.environ["WANDB_DIR"]).mkdir(parents=True)
    done = verify(server, run_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_lead_out_of_the_run_are_not_followed(
    tmp_path: Path, server: WandbServer
) -> None:
    Path(os.environ["WANDB_DIR"]).mkdir(parents=True)
    run = server.run("r")
    name = "../../../../tmp/evil.mp4"
    video = {"_type": "video-file", "path": name, "size": 3, "sha256": ""}
    run.lines["wandb-history.jsonl"] = {0: json.dumps({"_step": 0, "a": video})}
    run.created.add(name)
    run.files[name] = b"abc"
    done = verify(server, "ent/p/r", "--json")
    assert done.returncode == 1, done.stderr
    (verdict,) = json.loads(done.stdout)
    assert verdict["state"] == "unknown"
    assert "outside its folder" in verdict["reason"]

"""The gallery as files: the same answers at the same places, and nothing that was not asked for."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rollcam.cli.main import cli
from rollcam.errors import StoreError
from rollcam.gallery import export as exporting
from rollcam.gallery.ask import Question
from rollcam.gallery.export import export
from tests.envs import AnsiEnv, CountingEnv
from tests.films import film
from tests.gallery.serving import Served, put

POSTERS = ["poster-best.jpg", "poster-first.jpg", "poster-last.jpg", "poster-middle.jpg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported") / "videos"
    film("RecordVideo", CountingEnv(length=6, fps=10), root, n_episodes=2)
    film("RecordVideo", AnsiEnv(length=3, fps=10), root / "text", n_episodes=1)
    put(root, "bare", 7, status="failed", reason="No Disk", env_id=None)
    return root


@pytest.fixture(autouse=True)
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A page of two files in place of ours, which has its own tests."""
    static = tmp_path / "static-page"
    (static / "js").mkdir(parents=True)
    (static / "index.html").write_text("the page")
    (static / "js" / "main.js").write_text("the script")
    monkeypatch.setattr(exporting, "STATIC", static)
    yield
    shutil.rmtree(static)


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_the_files_are_the_servers_answers(folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = export([folder], site)
    assert (done.path, done.n_episodes, done.problems) == (site, 4, [])
    assert (site / "index.html").read_text() == "the page"
    assert (site / "js" / "main.js").is_file()
    files = [path for path in site.rglob("*") if path.is_file()]
    assert done.size_bytes == sum(path.stat().st_size for path in files)
    listed = _json(site / "api" / "list.json")
    with Served(folder) as served:
        more = [name for name in listed["columns"][26:] if name != "search"]
        told = served.json(f"/api/list.json?limit=1000&columns={','.join(more)}")
        assert [row[:-1] for row in listed["rows"]] == told["rows"]
        for row in listed["rows"]:
            place = site / "api" / "e" / row[0]
            facts = _json(place / "facts.json")
            assert facts == served.json(f"/api/e/{row[0]}/facts.json")
            for address in (facts["steps"], (facts["media"] or {}).get("url")):
                if address is not None:
                    assert (site / address).read_bytes() == served.get(f"/{address}").body
            names = sorted(path.name for path in place.glob("poster-*"))
            assert names == (POSTERS if facts["poster"] else [])
        gallery, live = _json(site / "api" / "gallery.json"), served.json("/api/gallery.json")
    assert gallery["is_static"] is True
    assert "rollcam serve" in gallery["server_needed"]
    assert (gallery["n"], gallery["x"]) == (4, live["x"])


def test_only_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    export([folder], tmp_path / "site", question=Question({"codec": "asciicast"}))
    listed = _json(tmp_path / "site" / "api" / "list.json")
    assert [row[listed["columns"].index("codec")] for row in listed["rows"]] == ["asciicast"]
    assert len(list((tmp_path / "site" / "api" / "e").iterdir())) == 1
    search = listed["rows"][0][listed["columns"].index("search")]
    assert search == search.casefold()
    assert "rl-video-episode-0" in search


def test_it_appears_whole_or_not_at_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="no episode"):
        export([folder], tmp_path / "site", question=Question({"seed": 99}))

    copyfile = shutil.copyfile

    def full(source: Any, target: Any, **how: Any) -> Any:
        if Path(target).name.startswith("media"):
            raise OSError(28, "No space left on device")
        return copyfile(source, target, **how)

    with monkeypatch.context() as patch:
        patch.setattr(exporting.shutil, "copyfile", full)
        with pytest.raises(StoreError, match="No space left"):
            export([folder], tmp_path / "site")
    assert [path.name for path in tmp_path.iterdir()] == ["static-page"]
    (tmp_path / "site").mkdir()
    export([folder], tmp_path / "site")  # an empty folder is no hindrance
    before = sorted((tmp_path / "site").rglob("*"))
    with pytest.raises(StoreError, match="there already"):
        export([folder], tmp_path / "site")
    assert sorted((tmp_path / "site").rglob("*")) == before
    with pytest.raises(StoreError, match="no folder"):
        export([folder], tmp_path / "none" / "site")


def test_what_is_too_much_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollcam.gallery.export.MAX_POINTS", 3)
    done = export([folder], tmp_path / "site")
    assert done.n_episodes == 3
    assert done.problems == ["all but the first 3 of 4 episodes; choose fewer by --filter"]


def test_names_that_disks_mix_up(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    names = [
        "Ab",
        "aB",
        "ab",
        "x" * 150,
        "x" * 150 + "y",
        "sp ace",
        "ümlaut",
        "q?#%",
        "a!b",
        "dir/a.b",
    ]
    for n, name in enumerate(names):
        put(folder, name, n)
    export([folder], tmp_path / "site")
    listed = _json(tmp_path / "site" / "api" / "list.json")
    assert sorted(row[2] for row in listed["rows"]) == sorted(names)
    handles = [row[0] for row in listed["rows"]]
    assert len({handle.lower() for handle in handles}) == len(names)
    for row in listed["rows"]:
        assert re.fullmatch(r"[A-Za-z0-9_.!~-]{1,120}", row[0])
        facts = _json(tmp_path / "site" / "api" / "e" / row[0] / "facts.json")
        assert (facts["id"], facts["sidecar"]["name"], facts["row"]) == (
            row[0],
            row[2],
            row[: len(facts["row"])],
        )


def test_what_cannot_be_shown_is_left_out(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "videos"
    shutil.copytree(folder, copy)
    (copy / "rl-video-episode-0.mp4").write_bytes(b"no film")
    (copy / "rl-video-episode-0.steps.json").write_text("nothing")
    (copy / "rl-video-episode-1.mp4").unlink()
    (copy / "rl-video-episode-1.mp4").symlink_to("/etc/passwd")
    done = export([copy], tmp_path / "site")
    assert done.n_episodes == 4
    assert len(done.problems) == 2
    first = _json(tmp_path / "site" / "api" / "e" / "videos!rl-video-episode-0" / "facts.json")
    assert (first["steps"], first["poster"]) == (None, None)
    assert first["media"]
    second = tmp_path / "site" / "api" / "e" / "videos!rl-video-episode-1"
    assert sorted(path.name for path in second.iterdir()) == ["facts.json", "steps.json"]
    assert _json(second / "facts.json")["media"] is None


def test_export_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    arguments = [
        "export",
        str(folder),
        "--out",
        str(tmp_path / "site"),
        "--filter",
        "return=20..",
        "--zip",
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("2 episodes")
    with zipfile.ZipFile(tmp_path / "site.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert len(json.loads(archive.read("site/api/list.json"))["rows"]) == 2
    assert "site/api/e/videos!rl-video-episode-1/media.mp4" in names
    assert {name.partition("/")[0] for name in names} == {"site"}
    assert not (tmp_path / "site").exists()


def test_the_command_says_how_to_look_at_it(folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "a site"
    result = CliRunner().invoke(cli, ["export", str(folder), "--out", str(site)])
    assert result.exit_code == 0, result.output
    assert f"python -m http.server --directory '{site}'" in result.output
    assert (site / "index.html").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_from_the_command_line(folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "rollcam", "serve", str(folder), "--no-browser", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            line = child.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line
            with urllib.request.urlopen(found[0] + "api/gallery.json", timeout=20) as reply:
                assert json.load(reply)["n"] == 4
            with urllib.request.urlopen(found[0] + "api/events", timeout=20) as stream:
                assert stream.readline() == b"retry: 2000\n"
                child.send_signal(number)
                child.wait(20)
            assert child.returncode == (0 if number == signal.SIGINT else -signal.SIGTERM)
            assert child.stderr.read() == ""
        finally:
            child.kill()

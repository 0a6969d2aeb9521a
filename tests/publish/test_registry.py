"""Sinks by name: Rollcam's own, those of an installed package, and clear words for the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollcam.errors import MissingDependencyError, SettingError
from rollcam.publish.registry import foreign_names, own_names, resolve
from rollcam.publish.sink import Sink
from rollcam.sinks.folder import FolderSink
from tests.example_sink.example_sink import ShelfSink
from tests.publish.rig import add_films, python_path

EXAMPLE = Path(__file__).parents[1] / "example_sink"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, installed for real into a folder of its own."""
    # A copy, since building leaves files beside the sources.
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "example_sink.py"):
        (source / name).write_bytes((EXAMPLE / name).read_bytes())
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
        "--no-build-isolation", "--target", str(target), str(source),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return target


def fake_package(site: Path, name: str, entry_point: str) -> None:
    facts = site / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[rollcam.sinks]\n{entry_point}\n")


def test_our_own_are_found_by_name(tmp_path: Path) -> None:
    assert own_names() == ["folder", "mlflow", "tensorboard", "trackio", "wandb"]
    sink = resolve(f"folder:{tmp_path / 'out'}")
    assert isinstance(sink, FolderSink)
    assert isinstance(sink, Sink)
    assert sink.target == str(tmp_path / "out")


def test_an_object_is_taken_as_it_is(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path)
    assert resolve(sink) is sink


@pytest.mark.parametrize("name", ["folder", "folder:", "tensorboard", "trackio:"])
def test_an_argument_that_is_needed_is_asked_for(name: str) -> None:
    with pytest.raises(SettingError, match=r"needs its (dir|logdir|project): '\w+:\.\.\.'"):
        resolve(name)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(
        SettingError, match=r"no sink 'neptune'; there are folder, mlflow.*pip install"
    ):
        resolve("neptune")


@pytest.mark.parametrize("bad", [7, object(), ShelfSink, None])
def test_what_is_no_sink_is_refused(bad: object) -> None:
    with pytest.raises(SettingError, match="is no sink"):
        resolve(bad)  # type: ignore[arg-type]


def test_a_sink_without_a_target_is_refused(tmp_path: Path) -> None:
    sink = ShelfSink(tmp_path)
    sink.target = ""
    with pytest.raises(SettingError, match="no target"):
        resolve(sink)


def test_another_packages_sink_by_name(site: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    assert "shelf" in foreign_names()
    sink = resolve(f"shelf:{tmp_path / 'shelf'}")
    assert type(sink).__module__ == "example_sink"
    assert sink.target == str(tmp_path / "shelf")
    with pytest.raises(SettingError, match="could not be made: TypeError"):
        resolve("shelf")


def test_the_command_line_knows_it(site: Path, tmp_path: Path) -> None:
    films = add_films(tmp_path / "films", 2)
    environment = {**python_path()}
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(site)])
    command = ["-m", "rollcam", "publish", str(tmp_path / "films"), "--to", f"shelf:{tmp_path}/s"]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=120, check=False,
        env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 sent" in done.stdout
    arrived = {episode_id for episode_id, _, _ in ShelfSink(tmp_path / "s").films()}
    assert arrived == {film.episode_id for film in films}


def test_a_package_that_lacks_something_says_the_pip_command(tmp_path: Path, monkeypatch) -> None:
    fake_package(tmp_path, "broken_films", "broken = not_there_at_all:Sink")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError, match='pip install "broken_films"'):
        resolve("broken")


def test_two_packages_with_one_name_are_told_apart(tmp_path: Path, monkeypatch) -> None:
    fake_package(tmp_path, "one", "same = one:Sink")
    fake_package(tmp_path, "two", "same = two:Sink")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        SettingError, match="several packages bring a sink 'same': one:Sink, two:Sink"
    ):
        resolve("same")


def test_nobody_takes_our_names(tmp_path: Path, monkeypatch) -> None:
    fake_package(tmp_path, "thief", "folder = thief:Sink")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert isinstance(resolve(f"folder:{tmp_path / 'out'}"), FolderSink)
    assert "folder" not in foreign_names()

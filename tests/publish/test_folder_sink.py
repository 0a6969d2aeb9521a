"""`FolderSink`: complete copies, again when changed, and never over somebody else's file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import rollcam
from rollcam.encode.probe import probe
from rollcam.errors import SettingError
from rollcam.publish.entry import State
from rollcam.sinks.folder import FolderSink
from rollcam.store.files import list_episodes
from tests.publish.rig import Rig, add_film, add_films, rig


@pytest.fixture
def made(tmp_path: Path) -> Rig:
    return rig(tmp_path / "films", FolderSink(tmp_path / "out"))  # type: ignore[arg-type]


def out(made: Rig) -> Path:
    return Path(made.sink.target)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".rollcam" not in path.parts
    }


def publish(made: Rig) -> None:
    made.queue(again=True)
    made.steps()


def test_the_copy_is_a_folder_of_recordings_like_the_original(made: Rig) -> None:
    with rollcam.Recorder(made.folder, fps=10) as recorder:
        recorder.begin(name="sub/a")
        recorder.frame("x", reward=1.0)
        recorder.frame("y", reward=2.0)
        episode = recorder.end().result(timeout=60)
    add_films(made.folder, 2)
    publish(made)
    first, second = tree(made.folder), tree(out(made))
    drawn = second.pop("sub/a.mp4")
    assert sorted(first) == sorted(second)
    same = [name for name in first if first[name] == second[name]]
    assert set(first) - set(same) <= {name for name in first if name.endswith(".meta.json")}
    listing = list_episodes(out(made))
    assert not listing.problems
    copy = next(e for e in listing.episodes if e.episode_id == episode.episode_id)
    assert (copy.name, copy.sha256, copy.read_steps()) == (
        "sub/a", episode.sha256, episode.read_steps(),
    )  # fmt: skip
    (out(made) / "drawn.mp4").write_bytes(drawn)
    assert probe(out(made) / "drawn.mp4").plays


def test_a_changed_film_is_copied_over_its_own_copy(made: Rig) -> None:
    film = add_film(made.folder, "a")
    publish(made)
    assert film.media_path is not None
    film.media_path.write_bytes(film.media_path.read_bytes() + b"\0\0\0\x08free")
    made.queue()
    entry = made.ledger.next_queued(made.line.key, made.time.now())
    assert entry is not None
    assert not made.sink.stored([made.line._source.prepare(entry).delivery])
    publish(made)
    assert sorted(tree(out(made))) == ["a.meta.json", "a.mp4"]
    assert tree(out(made))["a.mp4"] == film.media_path.read_bytes()


@pytest.mark.parametrize("foreign", ["a.mp4", "a.meta.json", "a.steps.json"])
def test_somebody_elses_file_is_never_overwritten(made: Rig, foreign: str) -> None:
    (out(made) / foreign).write_bytes(b"theirs")
    add_film(made.folder, "a")
    publish(made)
    publish(made)
    assert (out(made) / foreign).read_bytes() == b"theirs"
    names = set(tree(out(made)))
    assert names == {foreign, "a_2.mp4", "a_2.meta.json"}
    facts = json.loads((out(made) / "a_2.meta.json").read_text())
    assert (facts["name"], facts["media"]) == ("a_2", "a_2.mp4")


def test_two_folders_can_go_to_one(tmp_path: Path) -> None:
    for k in range(2):
        made = rig(tmp_path / f"films-{k}", FolderSink(tmp_path / "out"))  # type: ignore[arg-type]
        add_film(made.folder, "a")
        publish(made)
    assert sorted(tree(tmp_path / "out")) == ["a.meta.json", "a.mp4", "a_2.meta.json", "a_2.mp4"]


@pytest.mark.parametrize("n_calls", range(1, 7))
def test_a_copy_that_died_half_way_is_finished_in_its_place(
    made: Rig, n_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    real, seen = os.fsync, []

    def fsync(fd: int) -> None:
        seen.append(fd)
        if len(seen) == n_calls:
            raise Died
        real(fd)

    add_film(made.folder, "a")
    publish_one = made.sink.publish
    made.queue()
    entry = made.ledger.next_queued(made.line.key, made.time.now())
    assert entry is not None
    delivery = made.line._source.prepare(entry).delivery
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        try:
            publish_one(delivery)
        except Died:
            assert not made.sink.stored([delivery])
    publish(made)
    assert sorted(tree(out(made))) == ["a.meta.json", "a.mp4"]
    assert made.states() == {"a": State.STORED}


def test_a_copy_that_somebody_deleted_is_not_there(made: Rig) -> None:
    add_film(made.folder, "a")
    publish(made)
    (out(made) / "a.mp4").unlink()
    made.ledger.path.unlink()
    made.queue(must_ask=True)
    made.steps()
    assert sorted(tree(out(made))) == ["a.meta.json", "a.mp4"]


def test_no_link_leads_out_of_the_folder(made: Rig, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out(made) / "sub").symlink_to(elsewhere)
    (made.folder / "sub").mkdir(parents=True)
    add_film(made.folder, "sub/a", media="a.mp4")
    publish(made)
    assert list(elsewhere.iterdir()) == []
    assert set(made.states().values()) == {State.FAILED}


def test_a_folder_in_the_recordings_folder_is_refused(tmp_path: Path) -> None:
    made = rig(tmp_path / "films", FolderSink(tmp_path / "films" / "out"))  # type: ignore[arg-type]
    add_film(made.folder, "a")
    publish(made)
    (entry,) = made.ledger.troubled(5)
    assert "in the recordings folder itself" in (entry.reason or "")


def test_a_disk_that_fails_is_tried_again(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    add_film(made.folder, "a")
    made.queue()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("rollcam.sinks.folder.os.fsync", full)
        made.line.step()
    (entry,) = made.ledger.troubled(5)
    assert entry.state is State.QUEUED
    assert "No space left" in (entry.reason or "")
    made.steps()
    assert sorted(tree(out(made))) == ["a.meta.json", "a.mp4"]


@pytest.mark.parametrize("bad", ["", None, 7])
def test_a_folder_is_a_path(bad: object) -> None:
    with pytest.raises(SettingError, match="path of a folder"):
        FolderSink(bad)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="choose another"):
        FolderSink(tmp_path / "file" / "out")

"""Only what plays is published: texts are drawn, what does not play is mended, the rest stays."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rollcam
from rollcam._outgoing import Outgoing
from rollcam._publication import open_publisher
from rollcam.encode.probe import probe
from rollcam.episode import Episode
from rollcam.publish.entry import Entry, State
from rollcam.publish.sink import Delivery
from rollcam.store.files import list_episodes
from tests import barcode
from tests.encode.bad_films import film, mpeg4, without_moov
from tests.example_sink.example_sink import ShelfSink
from tests.films import wait_until
from tests.publish.rig import Rig, add_film, rig


class Curious(ShelfSink):
    """Keeps what it was handed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.seen: list[tuple[Delivery, bool, bytes]] = []

    def publish(self, delivery: Delivery) -> str:
        report = probe(delivery.media)
        self.seen.append((delivery, report.plays, delivery.media.read_bytes()))
        return super().publish(delivery)


@pytest.fixture
def made(tmp_path: Path) -> Rig:
    return rig(tmp_path / "films", Curious(tmp_path / "shelf"))


def sent(made: Rig) -> tuple[Delivery, bool, bytes]:
    made.queue()
    made.steps()
    (one,) = made.sink.seen  # type: ignore[attr-defined]
    assert not list((made.folder / ".rollcam" / "outgoing").glob("*"))
    return one


def text_film(folder: Path) -> Episode:
    with rollcam.Recorder(folder, fps=10) as recorder:
        recorder.begin(name="text")
        for k in range(4):
            recorder.frame(f"step {k}\n")
        return recorder.end().result(timeout=60)


@contextmanager
def opened(path: Path) -> Iterator[list[str]]:
    """Note how often Python opens a file for reading."""
    times: list[str] = []
    is_on = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if is_on and event == "open" and str(arguments[0]) == str(path):
            times.append(event)

    sys.addaudithook(note)  # for good: it can only be told not to listen
    try:
        yield times
    finally:
        is_on = False


def put(made: Rig, name: str, source: Path) -> Episode:
    """Give an episode another media file, as somebody's copy or tool may have."""
    episode = add_film(made.folder, name)
    assert episode.media_path is not None
    shutil.move(source, episode.media_path)
    return episode


def test_a_film_that_plays_goes_out_as_it_is(made: Rig) -> None:
    episode = add_film(made.folder, "a")
    delivery, plays, data = sent(made)
    assert plays
    assert delivery.media == episode.media_path
    assert delivery.text is None
    assert delivery.sha256 == episode.sha256
    assert data == delivery.media.read_bytes()


def test_a_film_is_read_once_and_again_when_its_content_changed(tmp_path: Path) -> None:
    episode = add_film(tmp_path, "a")
    media = episode.media_path
    assert media is not None
    wait_until(lambda: time.time_ns() - media.stat().st_ctime_ns > 10**8, "the file is old enough")
    source = Outgoing(tmp_path)
    entry = Entry("shelf", "here", episode.episode_id, episode.name)
    with opened(media) as times:
        first = source.prepare(entry).delivery
        assert times
        times.clear()
        assert source.prepare(entry).delivery == first
        assert not times
    status, data = media.stat(), bytearray(media.read_bytes())
    data[-1] ^= 1
    media.write_bytes(bytes(data))
    os.utime(media, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert source.prepare(entry).delivery.sha256 != first.sha256


def test_a_film_just_made_is_not_read_and_is_once_it_changed(tmp_path: Path) -> None:
    episode = add_film(tmp_path, "a")
    media = episode.media_path
    assert media is not None
    wait_until(lambda: time.time_ns() - media.stat().st_ctime_ns > 10**8, "the file is old enough")
    source = Outgoing(tmp_path)
    source.trust(episode)
    entry = Entry("shelf", "here", episode.episode_id, episode.name)
    with opened(media) as times:
        trusted = source.prepare(entry).delivery
        assert not times
    assert trusted == Outgoing(tmp_path).prepare(entry).delivery
    data = bytearray(media.read_bytes())
    data[-1] ^= 1
    media.write_bytes(bytes(data))
    assert source.prepare(entry).delivery.sha256 not in (None, trusted.sha256)


@pytest.mark.parametrize("how", ["other bytes", "other encoder", "large", "no hash", "gone"])
def test_what_may_not_be_what_its_sidecar_says_is_read(tmp_path: Path, how: str) -> None:
    episode = add_film(tmp_path, "a")
    media = episode.media_path
    assert media is not None
    if how == "other bytes":
        media.write_bytes(media.read_bytes() + b"\0\0\0\x08free")
    changed = {
        "other encoder": {"encoder_version": {"encoder": "libsvtav1"}},
        "large": {"width": 7680},
        "no hash": {"sha256": None},
        "gone": {"name": "b"},
    }.get(how, {})
    source = Outgoing(tmp_path)
    source.trust(replace(episode, **changed))
    with opened(media) as times:
        source.prepare(Entry("shelf", "here", episode.episode_id, episode.name))
        assert times


def test_a_text_episode_goes_out_drawn_with_its_recording_beside_it(made: Rig) -> None:
    episode = text_film(made.folder)
    delivery, plays, data = sent(made)
    assert plays
    assert delivery.media.suffix == ".mp4"
    assert delivery.text == episode.media_path
    assert delivery.sha256 == episode.sha256
    copy = made.folder.parent / "copy.mp4"
    copy.write_bytes(data)
    assert probe(copy).n_frames == 4


@pytest.mark.parametrize("kind", ["mpeg4", "yuv444p", "without moov"])
def test_what_browsers_do_not_play_is_mended_first(made: Rig, kind: str) -> None:
    source = made.folder.parent / "bad.mp4"
    if kind == "mpeg4":
        mpeg4(source)
    elif kind == "yuv444p":
        film(source, pix_fmt="yuv444p")
    else:
        add_film(made.folder, "a")
        film(made.folder / "good.mp4", 40, container={})  # what its frames are coded like
        without_moov(film(source, 40, container={}))
    before = source.read_bytes()
    episode = put(made, "a", source)
    _, plays, data = sent(made)
    assert plays
    assert data != before
    assert episode.media_path is not None
    assert episode.media_path.read_bytes() == before  # the original is never touched
    copy = made.folder.parent / "copy.mp4"
    copy.write_bytes(data)
    assert barcode.indices(copy) == list(range(len(barcode.indices(copy))))
    assert len(barcode.indices(copy)) >= 8


def test_a_film_that_plays_but_is_no_mp4_becomes_one(made: Rig) -> None:
    source = made.folder.parent / "a.webm"
    film(source, codec="libvpx-vp9", options={}, container={})
    assert probe(source).plays
    episode = add_film(made.folder, "a", media="a.webm")
    assert episode.media_path is not None
    shutil.move(source, episode.media_path)
    delivery, plays, _ = sent(made)
    assert plays
    assert delivery.media.suffix == ".mp4"


@pytest.mark.parametrize("data", [b"", b"no film at all", b"\0" * 5000])
def test_what_cannot_be_mended_has_failed_and_says_why(made: Rig, data: bytes) -> None:
    episode = add_film(made.folder, "a")
    assert episode.media_path is not None
    episode.media_path.write_bytes(data)
    made.queue()
    made.steps()
    entry = made.ledger.find(made.line.key, [episode.episode_id])[episode.episode_id]
    assert entry.state is State.FAILED
    assert "cannot be mended" in (entry.reason or "")
    assert made.sink.films() == []


def no_more_files(_path: object, *_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("reader", ["sidecar.load", "sha256_of", "probe", "FrameReader"])
def test_a_film_that_cannot_be_read_now_is_tried_again(
    made: Rig, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropped, it would be owed to nobody: never sent, and free to be deleted."""
    if reader == "FrameReader":
        source = made.folder.parent / "bad.mp4"
        mpeg4(source)
        put(made, "a", source)
    else:
        add_film(made.folder, "a")
    made.queue()
    with monkeypatch.context() as patch:
        if reader == "sidecar.load":
            patch.setattr("rollcam.store.sidecar.load", no_more_files)
        elif reader == "sha256_of":
            patch.setattr("rollcam._outgoing.sha256_of", no_more_files)
        elif reader == "probe":
            patch.setattr("rollcam.encode.probe._probe_content", no_more_files)
        else:
            patch.setattr("av.open", no_more_files)
        made.line.step()
    (entry,) = made.ledger.of_episode(list_episodes(made.folder).episodes[0].episode_id)
    assert entry.state is State.QUEUED
    assert "Too many open files" in (entry.reason or "")
    made.steps()
    assert made.order() == ["a"]


def test_a_disk_that_is_full_while_a_text_is_drawn_is_tried_again(made: Rig) -> None:
    text_film(made.folder)
    made.queue()
    (made.folder / ".rollcam" / "outgoing").write_text("in the way")
    made.line.step()
    assert set(made.states().values()) == {State.QUEUED}
    (made.folder / ".rollcam" / "outgoing").unlink()
    made.steps()
    assert made.order() == ["text"]


def test_two_sinks_share_what_was_drawn_and_the_last_one_removes_it(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    episode = text_film(folder)
    first, second = Curious(tmp_path / "first"), Curious(tmp_path / "second")
    (second.path / "hangs").touch()
    publication = open_publisher(folder, [first, second])
    try:
        publication.announce(episode)
        deadline = time.monotonic() + 30
        while not first.films():
            assert time.monotonic() < deadline
        assert list((folder / ".rollcam" / "outgoing").glob("*.mp4"))
        (second.path / "hangs").unlink()
        assert publication.flush(30)
        # `flush` looks at the ledger; the file goes a moment later.
    finally:
        publication.close(20)
    assert [len(sink.films()) for sink in (first, second)] == [1, 1]
    assert first.seen[0][2] == second.seen[0][2]
    assert not list((folder / ".rollcam" / "outgoing").iterdir())


def test_what_the_dead_left_half_made_is_swept_away(made: Rig) -> None:
    corner = made.folder / ".rollcam" / "outgoing"
    corner.mkdir(parents=True)
    for name in ("old.mp4", "new.mp4"):
        (corner / name).write_bytes(b"half")
    os.utime(corner / "old.mp4", (1, 1))
    add_film(made.folder, "a")
    made.queue()
    made.steps()
    assert [path.name for path in corner.iterdir()] == ["new.mp4"]

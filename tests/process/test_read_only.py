"""A folder that may not be written to, for people who are not root, whom nothing keeps from writing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rollcam
from rollcam.errors import RecordingFailedWarning
from rollcam.recovery import recover
from tests import barcode
from tests.films import episodes
from tests.process.scripts import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no modes")

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A recordings folder of nobody's; pytest's own folders let nobody in."""
    place = Path(tempfile.mkdtemp(prefix="rollcam-read-only-"))
    place.chmod(0o755)
    made = place / "videos"
    made.mkdir()
    if os.getuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    # What is imported on first use has to be imported by now: nobody may not read the packages either.
    with rollcam.Recorder(place / "warm-up", fps=25) as recorder:
        film(recorder)
    with rollcam.Catalog(place / "warm-up") as catalog:
        assert len(catalog) == 1
    yield made
    shutil.rmtree(place)


def film(recorder: rollcam.Recorder) -> rollcam.Episode:
    recorder.begin()
    for index in range(8):
        recorder.frame(barcode.draw(index), reward=1.0)
    return recorder.end(terminated=True).result(timeout=60)


def as_nobody(do: Callable[[], None]) -> None:
    """Do something in a child that has no rights beyond those of the modes."""
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            do()
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("which", ["", ".rollcam/partial", ".rollcam/claims"])
def test_it_is_refused_at_construction(which: str, folder: Path) -> None:
    def refused() -> None:
        with rollcam.Recorder(folder, fps=25) as recorder:
            film(recorder)
        (folder / which).chmod(0o555)
        with pytest.raises(rollcam.StoreError, match="cannot be written to"):
            rollcam.Recorder(folder)
        with rollcam.Catalog(folder) as catalog:
            assert len(catalog) == 1
        assert recover(folder).problems == []
        (folder / which).chmod(0o755)

    as_nobody(refused)


def test_a_film_that_ends_meanwhile_is_finished_later(folder: Path) -> None:
    def meanwhile() -> None:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with rollcam.Recorder(folder, fps=25) as recorder:
                assert film(recorder).status == "complete"
                folder.chmod(0o555)
                lost = film(recorder)
                assert (lost.status, lost.media) == ("failed", None)
                assert "rollcam recover" in (lost.reason or "")
                folder.chmod(0o755)
                assert film(recorder).status == "complete"
        assert [w.category for w in said] == [RecordingFailedWarning]
        (recovered,) = recover(folder).recovered
        assert (recovered.name, recovered.n_frames) == ("rl-video-episode-1", 8)
        found = episodes(folder)
        assert len(found) == 3
        for episode in found.values():
            assert barcode.indices(episode.media_path) == list(range(8))

    as_nobody(meanwhile)


def test_what_a_dead_process_left_is_listed_and_not_called_another_machines(folder: Path) -> None:
    run(
        """
        recorder = rollcam.Recorder(folder, fps=25)
        recorder.begin()
        for k in range(8):
            recorder.frame(barcode.draw(k))
        recorder.flush()
        die()
        """,
        folder,
        status=-signal.SIGKILL,
    )
    if os.getuid() == 0:
        for path in folder.rglob("*"):
            os.chown(path, NOBODY, NOBODY)

    def listed() -> None:
        claims = folder / ".rollcam" / "claims"
        locked = [*claims.iterdir(), claims, folder]
        for path in locked:
            path.chmod(0o555)
        (line,) = recover(folder).left_alone
        assert "may not be written to" in line
        for path in reversed(locked):
            path.chmod(0o755)
        (episode,) = recover(folder).recovered
        assert episode.n_frames == 8

    as_nobody(listed)

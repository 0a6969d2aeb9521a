"""The short way into the darkroom: whatever changes on the way, the film is the one that a thread makes."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rollcam
from rollcam._chute import Chute
from rollcam._worker import Worker
from rollcam.darkroom.process import RING_BYTES
from rollcam.darkroom.room import RemoteEncoder
from rollcam.episode import Episode
from rollcam.errors import FrameMendedWarning, RecordingFailedWarning
from tests import barcode
from tests.films import wait_until
from tests.killing import frames_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="refused on Windows")

N = 40

Make = Callable[[rollcam.Recorder, int], Any]


@pytest.fixture
def n_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the frames that go the short way: tests of it mean nothing when none do."""
    counted = [0]
    take = Chute.take

    def counting(self: Chute, *args: Any) -> bool:
        is_taken = take(self, *args)
        counted[0] += is_taken
        return is_taken

    monkeypatch.setattr(Chute, "take", counting)
    return counted


def filmed(folder: Path, encode_in: Any, make: Make, **settings: Any) -> Episode:
    with rollcam.Recorder(folder, fps=25, encode_in=encode_in, **settings) as recorder:
        if encode_in == "process":
            (lane,) = recorder._engine._lanes
            wait_until(
                lambda: bool(lane.darkroom and lane.darkroom.is_ready), "the process is ready"
            )
        recorder.begin(seed=3)
        recorder.frame(barcode.draw(0, 64, 48))
        # What comes before the film is open there takes the ordinary way.
        recorder.flush()
        for k in range(1, N):
            make(recorder, k)
        return recorder.end(terminated=True).result(timeout=60)


def plain(recorder: rollcam.Recorder, k: int) -> None:
    recorder.frame(barcode.draw(k, 64, 48), reward=0.5, action=np.int64(k), info={"k": k})


def told(recorder: rollcam.Recorder, k: int) -> None:
    if k % 10 == 5:
        recorder.set_context(iteration=k)
    recorder.frame(barcode.draw(k, 64, 48), reward=np.float32(k), action=[k, 0.5])


def of_many_kinds(recorder: rollcam.Recorder, k: int) -> None:
    frame: Any = barcode.draw(k, 64, 48)
    if k % 7 == 0:
        recorder.flush()  # what is not like the frame before waits, and so does what comes after it
    elif k % 7 == 3:
        frame = frame / np.float32(255)
    elif k % 7 == 4:
        frame = np.asfortranarray(frame)
    elif k % 7 == 5:
        frame = [frame]
    elif k % 7 == 6:
        recorder.frame(None, reward=1.0, info={"k": -k})
    infos: Any = ({"k": k}, None, {"other": 1}, {"k": [1, 2]})[k % 4]
    recorder.capture(lambda: frame, reward=None if k % 3 else 1.0, info=infos)


def ending_early(recorder: rollcam.Recorder, k: int) -> None:
    """The episode ends; its film goes on, as where nobody resets."""
    recorder.frame(barcode.draw(k, 64, 48), reward=1.0, info={"k": k}, truncated=k == N // 2)


def overwritten_afterwards(recorder: rollcam.Recorder, k: int) -> None:
    frame = barcode.draw(k, 64, 48)
    recorder.capture(lambda: frame, reward=1.0)
    frame[:] = 0


@pytest.mark.filterwarnings("ignore::rollcam.errors.FrameMendedWarning")
@pytest.mark.parametrize(
    "make",
    [plain, told, of_many_kinds, ending_early, overwritten_afterwards],
    ids=lambda m: m.__name__,
)
def test_the_film_is_the_one_that_a_thread_makes(
    make: Make, tmp_path: Path, n_taken: list[int]
) -> None:
    settings: dict[str, Any] = {"info_keys": ("k",), "context": {"policy": 7}}
    here = filmed(tmp_path / "thread", "thread", make, **settings)
    assert n_taken == [0]
    there = filmed(tmp_path / "process", "process", make, **settings)
    assert n_taken[0] > 5
    assert (there.status, there.n_frames, there.n_dropped) == ("complete", N, 0)
    assert frames_of(there) == list(range(N))
    for name in (
        "sha256", "n_encoded", "episode_return", "episode_length", "terminated", "truncated",
        "final_info", "context_at_start", "context_at_end", "seed",
    ):  # fmt: skip
        assert getattr(there, name) == getattr(here, name), name
    assert there.read_steps() == here.read_steps()


def test_a_renderer_that_fails_is_not_called_again(tmp_path: Path, n_taken: list[int]) -> None:
    called: list[int] = []

    def make(recorder: rollcam.Recorder, k: int) -> None:
        def render() -> Any:
            called.append(k)
            if k == 20:
                raise ValueError("no display")
            return barcode.draw(k, 64, 48)

        recorder.capture(render, reward=1.0)

    with pytest.warns(RecordingFailedWarning, match="no display"):
        made = filmed(tmp_path, "process", make)
    assert n_taken[0] > 10
    assert called == list(range(1, 21))
    assert (made.status, made.episode_length, made.episode_return) == ("failed", N - 1, N - 1)


def test_what_there_is_to_tell_is_told_with_the_next_frame(
    tmp_path: Path, n_taken: list[int]
) -> None:
    def make(recorder: rollcam.Recorder, k: int) -> None:
        if k == 20:
            recorder._engine.problems.append(("keep", ValueError("nine")))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        assert [w for w in caught if "nine" in str(w.message)] == caught
        assert len(caught) == (k == 20)

    filmed(tmp_path, "process", make)
    assert n_taken[0] > 10


def test_a_note_too_large_for_the_ring_goes_by_itself(tmp_path: Path) -> None:
    # All different: what is said twice, a pickle says once.
    words = {f"note_{n}": f"{n:0500}" for n in range(40_000)}
    assert len(words) * 500 > RING_BYTES
    seen: list[dict[str, Any]] = []

    def make(recorder: rollcam.Recorder, k: int) -> None:
        if k == 20:
            recorder.set_context(**words)
        recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        if k == N - 1:
            recorder.flush()
            (journal,) = (tmp_path / ".rollcam").rglob("*.journal")
            seen.extend(json.loads(line) for line in journal.read_text().splitlines() if line)

    made = filmed(tmp_path, "process", make)
    assert (made.status, made.n_frames) == ("complete", N)
    assert frames_of(made) == list(range(N))
    (context,) = (line["context"] for line in seen if "context" in line)
    assert context == words
    assert [line["row"]["i"] for line in seen if "row" in line] == list(range(N))


def test_another_film_that_fails_does_not_hold_it_up(tmp_path: Path, n_taken: list[int]) -> None:
    """Who hears of a failure asks once whose it was."""
    with rollcam.Recorder(tmp_path, fps=25, encode_in="process") as recorder:
        (lane,) = recorder._engine._lanes
        wait_until(lambda: bool(lane.darkroom and lane.darkroom.is_ready), "the process is ready")
        cameras = [recorder.camera(vector_index=k) for k in range(2)]
        for camera in cameras:
            camera.begin()
            camera.frame(barcode.draw(0, 64, 48))
        recorder.flush()
        doomed = cameras[0]._take
        assert doomed is not None
        encoder = doomed.film.elsewhere
        assert encoder is not None
        # A picture that the encoder refuses: of another size than the film's.
        assert encoder._process.put(encoder._number, barcode.draw(1, 32, 32), _note(1))
        recorder.flush()
        with pytest.warns(RecordingFailedWarning, match="shape"):
            for k in range(1, N):
                cameras[1].frame(barcode.draw(k, 64, 48), reward=1.0)
                cameras[0].frame(barcode.draw(k, 64, 48), reward=1.0)
                if k == 1:
                    recorder.flush()
        assert "shape" in str(cameras[0].error)
        lost, made = (camera.end().result(timeout=60) for camera in cameras)
    assert (lost.status, made.status) == ("failed", "complete")
    assert "shape" in (lost.reason or "")
    assert frames_of(made) == list(range(N))
    assert n_taken[0] > N / 4


def test_every_row_is_in_the_journal_however_early_the_film_was_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_taken: list[int]
) -> None:
    """Here the background thread is always done before the training thread goes on."""
    submit = Worker.submit

    def at_once(self: Worker[Any], *args: Any, **settings: Any) -> bool:
        is_taken = submit(self, *args, **settings)
        self.flush(20)
        return is_taken

    monkeypatch.setattr(Worker, "submit", at_once)
    with rollcam.Recorder(tmp_path, fps=25, encode_in="process") as recorder:
        (lane,) = recorder._engine._lanes
        wait_until(lambda: bool(lane.darkroom and lane.darkroom.is_ready), "the process is ready")
        recorder.begin()
        for k in range(N):
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        recorder.flush()
        (journal,) = (tmp_path / ".rollcam").rglob("*.journal")
        told = [json.loads(line) for line in journal.read_text().splitlines() if line]
        assert [line["row"]["i"] for line in told if "row" in line] == list(range(N))
        assert n_taken[0] > N / 2
        recorder.end()


def test_a_forked_child_renders_nothing(tmp_path: Path, n_taken: list[int]) -> None:
    def make(recorder: rollcam.Recorder, k: int) -> None:
        if k == 20:
            assert n_taken[0] > 5
            child = os.fork()
            if child == 0:
                try:
                    recorder.capture(lambda: os._exit(3), reward=1.0)
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        recorder.capture(lambda: barcode.draw(k, 64, 48), reward=1.0)

    made = filmed(tmp_path, "process", make)
    assert frames_of(made) == list(range(N))


def test_a_handler_that_interrupts_it_costs_no_other_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C arrives when the frame is in the ring, and nothing here has heard of that yet."""
    hand_on = RemoteEncoder.hand_on

    def interrupted(self: RemoteEncoder, picture: Any, index: int, row: Any) -> bool:
        is_taken = hand_on(self, picture, index, row)
        if index == 20:
            raise KeyboardInterrupt
        return is_taken

    monkeypatch.setattr(RemoteEncoder, "hand_on", interrupted)
    interrupts = []

    def make(recorder: rollcam.Recorder, k: int) -> None:
        try:
            recorder.frame(barcode.draw(k, 64, 48), reward=1.0)
        except KeyboardInterrupt:
            interrupts.append(k)

    made = filmed(tmp_path, "process", make)
    assert interrupts == [20]
    assert (made.status, made.n_frames, made.n_encoded) == ("complete", N, N)
    assert frames_of(made) == list(range(N))
    assert made.read_steps()["return"] == [None, *(float(k) for k in range(1, N))]


def _note(index: int) -> bytes:
    from rollcam.darkroom.wire import Note

    return Note(index).packed()


def test_warnings_of_mended_frames_come_as_ever(tmp_path: Path) -> None:
    with pytest.warns(FrameMendedWarning, match="changed their size"):
        filmed(
            tmp_path,
            "process",
            lambda r, k: r.frame(barcode.draw(k, *((64, 48), (32, 24))[k == 30])),
        )

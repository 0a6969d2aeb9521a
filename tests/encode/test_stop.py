"""SVT-AV1 can stop for good in the middle of a film: another encoder goes on, and no frame is lost.

The fault itself needs an overloaded machine and luck; here a call into the encoder stays away for as
long as the test says, as seen there: all of the encoder's threads wait for ever.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import rollcam
from rollcam.encode import codecs, packets
from rollcam.encode.aside import Aside, TimedOut
from rollcam.encode.codecs import choose_codec
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import VideoEncoder
from rollcam.errors import CodecUnavailable, EncoderFailed
from tests import barcode
from tests.films import wait_until

N = 20
LINE = Timeline(Fraction(30), Fraction(30))


class Stop:
    """Keeps calls from coming back, until the test is over."""

    def __init__(self) -> None:
        self.n_calls = 0
        self.over = threading.Event()
        self.in_wait: list[threading.Thread] = []

    def wait(self) -> None:
        self.in_wait.append(threading.current_thread())
        assert self.over.wait(60)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stop]:
    monkeypatch.setattr(packets, "STOPPED_S", 1)
    monkeypatch.setattr(codecs, "STOPPED_S", 1)
    made = Stop()
    yield made
    made.over.set()
    for thread in made.in_wait:
        thread.join(20)
        assert not thread.is_alive(), "what came back after all has not ended"


def stop_at(
    stop: Stop, monkeypatch: pytest.MonkeyPatch, method: str, calls: set[int], *, is_taken: bool
) -> None:
    """Let the calls of these numbers stay away, before or after the encoder took the frame."""
    original = getattr(packets._Opened, method)

    def stopping(opened: Any, *args: Any) -> Any:
        stop.n_calls += 1
        is_due = stop.n_calls - 1 in calls
        if is_due and not is_taken:
            stop.wait()
        found = original(opened, *args)
        if is_due and is_taken:
            stop.wait()
        return found

    monkeypatch.setattr(packets._Opened, method, stopping)


def film(path: Path) -> list[int | None]:
    encoder = VideoEncoder(path, 64, 48, LINE, choose_codec("av1"))
    for k in range(N):
        encoder.add(barcode.draw(k, 64, 48), k)
        encoder.flush()
        assert encoder.n_encoded == k + 1
    end = encoder.finish(N)
    made = path.with_name("made.mp4")
    encoder.deliver(made, end)
    return barcode.indices(made)


@pytest.mark.parametrize("is_taken", [True, False], ids=["in its hands", "not taken"])
@pytest.mark.parametrize("calls", [{0}, {N - 1}, {3, 5, 6}], ids=str)
def test_another_one_goes_on_and_no_frame_is_lost(
    calls: set[int],
    is_taken: bool,
    stop: Stop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    stop_at(stop, monkeypatch, "encode", calls, is_taken=is_taken)
    with caplog.at_level(logging.WARNING, "rollcam"):
        assert film(tmp_path / "growing.mp4") == list(range(N))
    assert len(stop.in_wait) == len(calls)
    assert len(caplog.messages) >= len(calls)  # on a slow machine, one more may have seemed to stop
    assert all(m.startswith("libsvtav1 stopped, ") for m in caplog.messages)


def test_what_an_encoder_holds_when_it_stops_is_encoded_again(
    stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Today's gives a packet for each frame at once; one that is late by two loses none either."""
    original = packets._Opened.encode
    late: dict[int, list[Any]] = {}

    def encode(opened: Any, frame: Any) -> list[Any]:
        stop.n_calls += 1
        if stop.n_calls == 8:
            stop.wait()
        held = late.setdefault(id(opened), [])
        held += original(opened, frame)
        given = held[:] if frame is None else held[:-2]
        del held[: len(given)]
        return given

    monkeypatch.setattr(packets._Opened, "encode", encode)
    encoder = VideoEncoder(tmp_path / "growing.mp4", 64, 48, LINE, choose_codec("av1"))
    for k in range(N):
        encoder.add(barcode.draw(k, 64, 48), k)
    assert encoder.n_encoded == N - 2
    encoder.deliver(tmp_path / "made.mp4", encoder.finish(N))
    assert barcode.indices(tmp_path / "made.mp4") == list(range(N))
    assert len(stop.in_wait) == 1


@pytest.mark.parametrize("is_taken", [True, False])
def test_one_that_has_given_everything_may_stop(
    is_taken: bool,
    stop: Stop,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    original = packets._Opened.encode

    def encode(opened: Any, frame: Any) -> list[Any]:
        if frame is None and not is_taken:
            stop.wait()
        found = original(opened, frame)
        if frame is None and is_taken:
            stop.wait()
        return found

    monkeypatch.setattr(packets._Opened, "encode", encode)
    assert film(tmp_path / "growing.mp4") == list(range(N))
    assert len(stop.in_wait) == 1


def test_one_that_stops_as_it_opens_or_closes_costs_its_time_only(
    stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = packets._open

    def open_second(*args: Any) -> Any:
        stop.n_calls += 1
        if stop.n_calls == 1:
            stop.wait()
        return opened(*args)

    monkeypatch.setattr(packets, "_open", open_second)
    monkeypatch.setattr("rollcam.encode.aside._END_S", 0.5)
    close = packets._Opened.close

    def closing(opened: Any) -> None:
        if threading.current_thread() not in stop.in_wait:
            stop.wait()
        close(opened)

    monkeypatch.setattr(packets._Opened, "close", closing)
    assert film(tmp_path / "growing.mp4") == list(range(N))
    assert len(stop.in_wait) == 2


def test_one_that_always_stops_costs_the_film_and_says_so(
    stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with rollcam.Recorder(tmp_path, fps=30, codec="av1") as recorder:
        with monkeypatch.context() as patched:
            stop_at(stop, patched, "encode", set(range(2, 99)), is_taken=False)
            recorder.begin(name="struck")
            with pytest.warns(
                rollcam.RollcamWarning, match=r"stopped \d+ times in one film, 4 of them"
            ):
                for k in range(N):
                    recorder.frame(barcode.draw(k, 64, 48))
                recorder.flush()
                recorder.frame(barcode.draw(N, 64, 48))
            struck = recorder.end().result(timeout=60)
        assert struck.status == "failed"
        assert "use codec='h264'" in (struck.reason or "")
        recorder.begin(name="after")
        for k in range(N):
            recorder.frame(barcode.draw(k, 64, 48))
        after = recorder.end().result(timeout=60)
    assert after.media_path is not None
    assert barcode.indices(after.media_path) == list(range(N))


def test_an_encoder_that_stops_while_it_is_tried_is_tried_again(
    stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = codecs._tried
    stays_away = {0}

    def trying(*args: Any) -> Any:
        stop.n_calls += 1
        if stop.n_calls - 1 in stays_away:
            stop.wait()
        return tried(*args)

    monkeypatch.setattr(codecs, "_tried", trying)
    assert choose_codec("av1").encoder == "libsvtav1"
    stays_away.update(range(2, 5))
    with pytest.raises(CodecUnavailable, match="libsvtav1: it stopped 3 times"):
        choose_codec("av1")
    assert choose_codec("av1").encoder == "libsvtav1", "that it stopped is not remembered"


def test_other_encoders_are_called_without_a_detour(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    encoder = VideoEncoder(tmp_path / "growing.mp4", 64, 48, LINE, choose_codec("h264"))
    assert set(threading.enumerate()) == before
    encoder.close()


def test_a_call_aside_returns_raises_and_stays_away() -> None:
    aside = Aside("rollcam-aside")
    assert aside.call(threading.current_thread, 5).name == "rollcam-aside"

    def fail() -> None:
        raise EncoderFailed("as told")

    with pytest.raises(EncoderFailed, match="as told"):
        aside.call(fail, 5)
    over, freed = threading.Event(), threading.Event()
    with pytest.raises(TimedOut):
        aside.call(lambda: over.wait(60), 1)
    assert not aside.is_usable
    aside.end(freed.set)
    assert not freed.is_set()
    over.set()
    assert freed.wait(20), "it came back after all, and frees what it has"


def test_where_no_thread_is_to_be_had_it_is_called_without_a_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As at the interpreter's end, from Python 3.12 on: films that are open are finished all the same."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert film(tmp_path / "growing.mp4") == list(range(N))


def test_a_process_does_not_pile_up_what_was_left_behind(
    stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packets, "_MAX_LEFT_BEHIND", 2)
    stop_at(
        stop, monkeypatch, "encode", {2, 5, 8}, is_taken=False
    )  # the last: frame 6, given anew twice
    encoder = VideoEncoder(tmp_path / "growing.mp4", 64, 48, LINE, choose_codec("av1"))
    for k in range(6):
        encoder.add(barcode.draw(k, 64, 48), k)
    with pytest.raises(EncoderFailed, match="in this process, and each time its memory"):
        encoder.add(barcode.draw(6, 64, 48), 6)
    encoder.close()


def test_one_that_opens_late_is_closed_where_it_opened(
    stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened, made = packets._open, []

    def open_late(*args: Any) -> Any:
        stop.n_calls += 1
        if stop.n_calls == 1:
            stop.wait()
        made.append(opened(*args))
        return made[-1]

    monkeypatch.setattr(packets, "_open", open_late)
    assert film(tmp_path / "growing.mp4") == list(range(N))
    assert len(made) == 1
    stop.over.set()
    wait_until(lambda: len(made) == 2 and made[1]._container is None, "it is closed")


def test_an_aside_that_nobody_holds_ends() -> None:
    before = set(threading.enumerate())
    aside = Aside("rollcam-aside")
    (thread,) = set(threading.enumerate()) - before
    del aside
    gc.collect()
    wait_until(lambda: not thread.is_alive(), "it has ended")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_in_a_forked_child_it_is_of_no_use_and_nothing_waits_for_it() -> None:
    aside = Aside("rollcam-aside")
    child = os.fork()
    if not child:
        is_usable = aside.is_usable
        aside.end()
        os._exit(17 if is_usable else 0)
    assert os.waitpid(child, 0)[1] == 0
    aside.end()

"""One line, stepped by hand against a real shelf: what is sent, asked, retried and dropped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rollcam.errors import StoreError
from rollcam.publish.entry import State
from rollcam.publish.sink import Delivery
from tests.example_sink.example_sink import ShelfSink
from tests.publish.rig import Rig, add_film, add_films, rig


@pytest.fixture
def made(tmp_path: Path) -> Rig:
    return rig(tmp_path / "films", ShelfSink(tmp_path / "shelf"))


def test_everything_arrives_once_and_is_confirmed(made: Rig) -> None:
    add_films(made.folder, 5)
    made.queue()
    made.steps()
    assert sorted(made.order()) == [f"film-{k}" for k in range(5)]
    assert set(made.states().values()) == {State.STORED}
    made.queue(again=True)
    made.steps()
    assert len(made.sink.films()) == 5
    assert (made.line.tally.n_sent, made.line.tally.n_stored) == (5, 5)


class SlowShelf(ShelfSink):
    """One whose films take a while to arrive, and that counts how often it is asked."""

    confirm_after_s = 5.0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[int] = []

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str] | None:
        self.asked.append(len(deliveries))
        return super().stored(deliveries)


def test_a_place_where_films_arrive_late_is_asked_late_and_for_several_at_once(
    tmp_path: Path,
) -> None:
    made = rig(tmp_path / "films", SlowShelf(tmp_path / "shelf"))
    for k in range(3):
        made.line.add(add_film(made.folder, f"film-{k}"))
        while not (wait_s := made.line.step()):
            continue
        assert set(made.states().values()) == {State.HANDED}
        assert made.sink.asked == []
        made.time.time += min(1.5, wait_s)
    made.steps(until=lambda: State.HANDED not in made.states().values())
    assert made.sink.asked[0] < 3, "those that were not due had to wait"
    assert sum(made.sink.asked) == 3
    assert len(made.sink.asked) == 2


def test_who_waits_for_the_answer_has_it_at_once(tmp_path: Path) -> None:
    made = rig(tmp_path / "films", SlowShelf(tmp_path / "shelf"))
    add_films(made.folder, 2)
    made.queue()
    while not made.line.step():
        continue
    before = made.time.passed
    made.line.confirm_soon()
    while not made.line.step():
        continue
    assert made.sink.asked == [2]
    made.line.add(add_film(made.folder, "another"))
    made.steps()
    assert set(made.states().values()) == {State.STORED}
    assert made.time.passed - before < SlowShelf.confirm_after_s


def test_newest_first_with_a_slot_for_the_oldest(made: Rig) -> None:
    add_films(made.folder, 9)
    made.queue()
    made.steps()
    assert made.order() == [f"film-{k}" for k in (8, 7, 6, 0, 5, 4, 3, 1, 2)]


def test_what_comes_late_overtakes_the_backlog(made: Rig) -> None:
    add_films(made.folder, 6)
    made.queue()
    made.line.step()
    made.line.add(add_film(made.folder, "late"))
    made.steps()
    assert made.order()[:2] == ["film-5", "late"]


def test_a_place_that_is_down_is_left_alone_for_longer_each_time(made: Rig) -> None:
    (made.sink.path / "down").touch()
    add_films(made.folder, 3)
    made.queue()
    waits = []
    while len(waits) < 11:
        wait_s = made.line.step()
        if wait_s:
            waits.append(wait_s)
            made.time.time += wait_s
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    (made.sink.path / "down").unlink()
    made.steps()
    assert sorted(made.order()) == ["film-0", "film-1", "film-2"]
    # One cause, one word; the log has the others.
    assert len(made.line._problems) == 1
    cause, error = made.line._problems[0]
    assert cause == "publish:shelf:SinkError"
    assert "the shelf is down" in str(error)


def test_jitter_takes_up_to_a_quarter_off(tmp_path: Path) -> None:
    from rollcam.publish.pace import Backoff

    assert Backoff(lambda: 0.999).after(3) == pytest.approx(6.0, abs=0.01)
    assert Backoff(lambda: 0.0).after(400) == 300


def test_one_film_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    class Picky(ShelfSink):
        def publish(self, delivery):
            if delivery.episode.name == "film-2" and (self.path / "picky").exists():
                raise ConnectionError("not this one")
            return super().publish(delivery)

    made = rig(tmp_path / "films", Picky(tmp_path / "shelf"))
    (made.sink.path / "picky").touch()
    add_films(made.folder, 3)
    made.queue()
    made.steps(until=lambda: made.line.tally.n_stored == 2)
    assert sorted(made.order()) == ["film-0", "film-1"]
    (made.sink.path / "picky").unlink()
    made.steps()
    assert sorted(made.order()) == ["film-0", "film-1", "film-2"]


def test_what_is_refused_has_failed_and_says_why(made: Rig) -> None:
    (made.sink.path / "refuses").touch()
    film = add_film(made.folder, "a")
    made.queue()
    made.steps()
    entry = made.ledger.find(made.line.key, [film.episode_id])[film.episode_id]
    assert (entry.state, entry.attempts) == (State.FAILED, 1)
    assert "takes no film such as a" in (entry.reason or "")
    made.queue()
    made.steps()
    assert made.states() == {"a": State.FAILED}  # not by itself
    (made.sink.path / "refuses").unlink()
    made.queue(again=True)
    made.steps()
    assert made.states() == {"a": State.STORED}


def test_what_is_lost_on_the_way_is_sent_again_and_fails_in_the_end(made: Rig) -> None:
    (made.sink.path / "loses").touch()
    add_films(made.folder, 2)
    made.queue()
    made.steps()
    assert set(made.states().values()) == {State.FAILED}
    assert made.line.tally.n_sent == 6
    assert made.time.passed >= 900  # three times the patience, since films may be on their way
    (entry, *_) = made.ledger.troubled(5)
    assert "never arrived" in (entry.reason or "")


def test_what_is_lost_once_arrives_the_second_time(made: Rig) -> None:
    (made.sink.path / "loses").touch()
    add_film(made.folder, "a")
    made.queue()
    made.steps(until=lambda: made.line.tally.n_sent == 1)
    (made.sink.path / "loses").unlink()
    made.steps()
    assert made.order() == ["a"]
    assert made.states() == {"a": State.STORED}


def test_a_place_that_cannot_tell_leaves_films_handed(made: Rig) -> None:
    (made.sink.path / "mute").touch()
    add_films(made.folder, 3)
    made.queue()
    made.steps()
    assert set(made.states().values()) == {State.HANDED}
    assert len(made.sink.films()) == 3
    assert made.ledger.counts()[made.line.key][State.HANDED] == 3
    assert made.ledger.owes(made.sink.films()[0][0])  # so its film is not deleted
    (made.sink.path / "mute").unlink()
    made.queue(again=True)
    made.steps()
    assert set(made.states().values()) == {State.STORED}
    assert len(made.sink.films()) == 3


def test_a_film_in_doubt_is_sent_to_a_place_that_cannot_tell(made: Rig) -> None:
    (made.sink.path / "mute").touch()
    add_film(made.folder, "a")
    made.queue(must_ask=True)
    made.steps()
    assert made.order() == ["a"]  # rather twice than never; the protocol asks sinks to see to that


def test_a_changed_film_goes_out_again_and_a_touched_one_does_not(made: Rig) -> None:
    changed, touched = add_film(made.folder, "changed"), add_film(made.folder, "touched")
    made.queue()
    made.steps()
    assert changed.media_path is not None
    assert touched.media_path is not None
    os.utime(touched.media_path, (1, 1))
    data = bytearray(changed.media_path.read_bytes())
    changed.media_path.write_bytes(data + b"\0\0\0\x08free")
    made.queue()
    made.steps()
    assert made.order() == ["touched", "changed", "changed"]
    assert len({sha256 for _, sha256, _ in made.sink.films()}) == 2
    made.queue()
    made.steps()
    assert len(made.sink.films()) == 3


def test_a_film_that_changes_while_it_is_handed_over_goes_out_again(tmp_path: Path) -> None:
    class Slow(ShelfSink):
        def arrived(self, delivery):
            if len(self.films()) == 1:
                with open(delivery.episode.media_path, "ab") as file:
                    file.write(b"\0\0\0\x08free")

    made = rig(tmp_path / "films", Slow(tmp_path / "shelf"))
    add_film(made.folder, "a")
    made.queue()
    made.steps()
    assert made.order() == ["a", "a"]
    assert made.time.passed < 10  # at once, not when the first one counts as lost
    assert len({sha256 for _, sha256, _ in made.sink.films()}) == 2


@pytest.mark.parametrize("gone", ["media", "both", "another", "link"])
def test_a_film_that_is_gone_is_dropped_with_the_reason(made: Rig, gone: str) -> None:
    film = add_film(made.folder, "a")
    made.queue()
    assert film.media_path is not None
    assert film.sidecar_path is not None
    if gone == "link":
        elsewhere = made.folder.parent / "secret.mp4"
        shutil.move(film.media_path, elsewhere)
        film.media_path.symlink_to(elsewhere)
    elif gone == "another":
        add_film(made.folder, "a")
    else:
        film.media_path.unlink()
        if gone == "both":
            film.sidecar_path.unlink()
    made.steps()
    entry = made.ledger.find(made.line.key, [film.episode_id])[film.episode_id]
    assert entry.state == State.DROPPED
    assert entry.reason in (
        "the film was deleted",
        "the film was deleted, and another one has its name",
        "a.mp4 is a link out of the folder",
    )
    assert made.sink.films() == []


def test_a_ledger_from_elsewhere_leads_nowhere(made: Rig) -> None:
    outside = add_film(made.folder.parent / "private", "a")
    inside = add_film(made.folder, "b")
    made.queue()
    (entry,) = made.ledger.find(made.line.key, [inside.episode_id]).values()
    bad = replace(entry, episode_id=outside.episode_id, name="../private/a")
    made.ledger.put([bad])
    made.steps()
    assert made.order() == ["b"]
    assert (
        made.ledger.find(made.line.key, [outside.episode_id])[outside.episode_id].state == "dropped"
    )


@pytest.mark.parametrize("status", ["failed", "empty"])
def test_what_is_no_finished_film_is_never_queued(made: Rig, status: str) -> None:
    add_film(made.folder, "a", status=status)
    add_film(made.folder, "b", n_frames=0)
    add_film(made.folder, "c", media=None)
    made.queue()
    assert made.ledger.counts() == {}


def test_a_recovered_film_is_published(made: Rig) -> None:
    add_film(made.folder, "a", status="truncated_by_crash")
    made.queue()
    made.steps()
    assert made.order() == ["a"]


def test_the_budget_holds_in_every_minute(tmp_path: Path) -> None:
    made = rig(tmp_path / "films", ShelfSink(tmp_path / "shelf"))
    size = add_films(made.folder, 7)[0].size_bytes
    made = rig(made.folder, made.sink, made.time, bytes_per_min=3 * (size or 0) + 1)
    sent_at = []
    made.sink.arrived = lambda _: sent_at.append(made.time.passed)  # type: ignore[method-assign]
    made.queue()
    made.steps()
    assert len(sent_at) == 7
    for at in sent_at:
        assert sum(at <= other < at + 60 for other in sent_at) <= 3
    assert 120 <= made.time.passed < 140


def test_one_film_larger_than_the_budget_goes_alone(tmp_path: Path) -> None:
    made = rig(tmp_path / "films", ShelfSink(tmp_path / "shelf"), bytes_per_min=10)
    add_films(made.folder, 3)
    made.queue()
    made.steps()
    assert len(made.sink.films()) == 3
    assert made.time.passed >= 120


def test_a_clock_that_is_set_back_stops_nothing(made: Rig) -> None:
    (made.sink.path / "down").touch()
    add_films(made.folder, 2)
    made.queue()
    made.line.step()
    (made.sink.path / "down").unlink()
    made.time.time -= 10 * 365 * 86400
    made.time.start = made.time.time
    made.steps()
    assert len(made.sink.films()) == 2
    assert made.time.passed < 60


def test_a_sink_that_raises_anything_is_asked_again(tmp_path: Path) -> None:
    class Rude(ShelfSink):
        n = 0

        def publish(self, delivery):
            self.n += 1
            if self.n == 1:
                raise SystemExit("away with you")
            return super().publish(delivery)

        def stored(self, deliveries):
            return 7 if self.n < 2 else super().stored(deliveries)

    made = rig(tmp_path / "films", Rude(tmp_path / "shelf"))
    add_film(made.folder, "a")
    made.queue()
    made.steps(until=lambda: made.line.n_failures == 3)
    made.sink.n = 2  # type: ignore[attr-defined]
    made.steps()
    assert made.order() == ["a"]


def test_until_the_place_is_asked_again_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    class Slow(ShelfSink):
        n = 0

        def stored(self, deliveries):
            self.n += 1
            return super().stored(deliveries) if self.n > 4 else []

    made = rig(tmp_path / "films", Slow(tmp_path / "shelf"))
    add_film(made.folder, "a")
    made.queue()
    made.steps()
    assert made.states() == {"a": State.STORED}
    assert len(made.time.waits) <= 5, made.time.waits


@pytest.mark.parametrize("call", ["publish", "stored"])
def test_ctrl_c_ends_it_and_loses_nothing(tmp_path: Path, call: str) -> None:
    class Slow(ShelfSink):
        def interrupted(self, *_: object) -> None:
            raise KeyboardInterrupt

    sink = Slow(tmp_path / "shelf")
    made = rig(tmp_path / "films", sink)
    add_film(made.folder, "a")
    made.queue(must_ask=call == "stored")
    setattr(sink, call, sink.interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.line.step()
    delattr(sink, call)
    made.steps()
    assert made.order() == ["a"]


def test_an_answer_that_got_lost_doubles_nothing(tmp_path: Path) -> None:
    class Deaf(ShelfSink):
        def publish(self, delivery):
            super().publish(delivery)
            raise TimeoutError("no answer")

    made = rig(tmp_path / "films", Deaf(tmp_path / "shelf"))
    add_films(made.folder, 3)
    made.queue()
    made.steps()
    assert len(made.sink.films()) == 3
    assert set(made.states().values()) == {State.STORED}


def test_a_disk_that_is_full_is_told_and_nothing_is_sent_unrecorded(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_film(made.folder, "a")
    made.queue()
    real = made.ledger.put

    def full(entries):
        raise StoreError("no room")

    monkeypatch.setattr(made.ledger, "put", full)
    with pytest.raises(StoreError):
        made.line.step()
    assert made.sink.films() == []
    monkeypatch.setattr(made.ledger, "put", real)
    made.steps()
    assert made.order() == ["a"]

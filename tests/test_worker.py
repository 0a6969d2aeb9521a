"""`Worker`: order, the bound in bytes, limits of every wait, failure, fork, and the thread's life."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from rollcam._worker import Worker

LIMIT_S = 20.0
SOON_S = 5.0  # what must not wait takes less, even on a busy machine; LIMIT_S is what it would wait


class Held:
    """A handler that holds each item until it is let go, and notes what it got."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, bool]] = []
        self.began = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)

    def __call__(self, item: object, more: bool) -> None:
        self.seen.append((item, more))
        self.began.release()
        assert self.let_go.acquire(timeout=LIMIT_S)

    def wait_for_next(self) -> None:
        assert self.began.acquire(timeout=LIMIT_S)

    def release(self, n: int = 1) -> None:
        self.let_go.release(n)

    @property
    def items(self) -> list[object]:
        return [item for item, _ in self.seen]


class Call(threading.Thread):
    """One call on a thread of its own, its answer and how long it took."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.answer: object = None
        self.took_s = 0.0
        self.start()

    def run(self) -> None:
        start = time.monotonic()
        self.answer = self._call()
        self.took_s = time.monotonic() - start

    def is_waiting(self) -> bool:
        self.join(0.05)
        return self.is_alive()

    def result(self) -> object:
        self.join(LIMIT_S)
        assert not self.is_alive()
        return self.answer


def until(condition: Callable[[], bool]) -> None:
    tick, deadline = threading.Event(), time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        tick.wait(0.002)


def threads(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == f"rollcam-{name}"]


@pytest.fixture
def held() -> Iterator[Held]:
    handler = Held()
    yield handler
    handler.release(1000)


def test_items_come_in_order_on_a_daemon_thread_of_that_name():
    seen = []
    worker = Worker(
        "order", lambda item, more: seen.append((item, threading.current_thread())), max_bytes=10**6
    )
    assert all(worker.submit(i, 1, timeout_s=0) for i in range(500))
    assert worker.close(LIMIT_S)
    assert [item for item, _ in seen] == list(range(500))
    (thread,) = {thread for _, thread in seen}
    assert thread.name == "rollcam-order"
    assert thread.daemon
    assert worker.waiting_bytes == 0
    assert worker.error is None


def test_more_says_whether_others_wait(held: Held):
    worker = Worker("more", held, max_bytes=100)
    worker.submit("a", 1, timeout_s=0)
    held.wait_for_next()
    for item in "bcd":
        worker.submit(item, 1, timeout_s=0)
    held.release(4)
    assert worker.close(LIMIT_S)
    assert held.seen == [("a", False), ("b", True), ("c", True), ("d", False)]


def test_the_bound_blocks_the_producer_until_there_is_room(held: Held):
    worker = Worker("bound", held, max_bytes=100)
    assert worker.submit("a", 60, timeout_s=0)
    held.wait_for_next()
    assert worker.submit("b", 40, timeout_s=0)  # the item in hand counts: exactly full
    assert not worker.submit("x", 1, timeout_s=0)
    producer = Call(lambda: worker.submit("c", 61, timeout_s=LIMIT_S))
    assert producer.is_waiting()
    assert worker.waiting_bytes == 100
    held.release()  # a: 40 wait, which leaves room for 60
    held.wait_for_next()
    assert producer.is_waiting()
    assert worker.waiting_bytes == 40
    held.release()
    assert producer.result() is True
    held.release()
    assert worker.close(LIMIT_S)
    assert held.items == ["a", "b", "c"]


def test_a_wait_for_room_ends_in_time(held: Held):
    worker = Worker("timeout", held, max_bytes=10)
    worker.submit("a", 10, timeout_s=0)
    held.wait_for_next()
    late = Call(lambda: worker.submit("late", 1, timeout_s=0.1))
    assert late.result() is False
    assert 0.1 <= late.took_s < SOON_S
    now = Call(lambda: worker.submit("now", 1, timeout_s=0))
    assert now.result() is False
    assert now.took_s < SOON_S
    held.release()
    assert worker.close(LIMIT_S)
    assert held.items == ["a"]


def test_an_item_larger_than_the_bound_is_taken_when_nothing_waits(held: Held):
    worker = Worker("large", held, max_bytes=10)
    assert worker.submit("large", 1000, timeout_s=0)
    held.wait_for_next()
    assert not worker.submit("second", 1000, timeout_s=0)
    assert not worker.submit("small", 1, timeout_s=0)
    assert worker.submit("no bytes at all", 0, timeout_s=0)
    held.release(2)
    assert worker.flush(LIMIT_S)
    assert worker.submit("third", 1000, timeout_s=0)
    held.release()
    assert worker.close(LIMIT_S)
    assert held.items == ["large", "no bytes at all", "third"]


@pytest.mark.parametrize("error", [ValueError("first"), SystemExit(3), KeyboardInterrupt()])
def test_what_the_handler_raises_is_kept_and_the_next_item_is_taken(error: BaseException):
    done = []

    def handle(item: int, more: bool) -> None:
        if item == 1:
            raise error
        if item == 3:
            raise OSError("second")
        done.append(item)

    worker = Worker("raises", handle, max_bytes=10)
    for i in range(6):
        assert worker.submit(i, 5, timeout_s=LIMIT_S)
    assert worker.flush(LIMIT_S)
    assert len(threads("raises")) == 1
    assert worker.close(LIMIT_S)
    assert done == [0, 2, 4, 5]
    assert worker.error is error
    assert worker.waiting_bytes == 0


def test_an_item_is_gone_from_memory_before_its_room_is_given_on():
    class Item:
        pass

    worker = Worker("memory", lambda item, more: None, max_bytes=10)
    item = Item()
    remains = weakref.ref(item)
    worker.submit(item, 10, timeout_s=0)
    del item
    assert worker.submit(None, 10, timeout_s=LIMIT_S)
    assert remains() is None
    assert worker.close(LIMIT_S)


def test_flush_says_whether_it_came_in_time(held: Held):
    worker = Worker("flush", held, max_bytes=10)
    assert worker.flush(0)  # nothing was submitted, no thread runs
    worker.submit("a", 1, timeout_s=0)
    held.wait_for_next()  # in hand, nothing waits: not done yet all the same
    assert not worker.flush(0)
    assert not worker.flush(0.05)
    waiting = [Call(lambda: worker.flush(LIMIT_S)) for _ in range(3)]
    assert all(call.is_waiting() for call in waiting)
    held.release()
    assert [call.result() for call in waiting] == [True] * 3
    assert all(call.took_s < SOON_S for call in waiting)
    assert worker.close(LIMIT_S)


def test_flush_does_not_wait_for_what_comes_after_it(held: Held):
    worker = Worker("flush-so-far", held, max_bytes=10)
    worker.submit("before", 1, timeout_s=0)
    held.wait_for_next()
    waiting = Call(lambda: worker.flush(LIMIT_S))
    assert waiting.is_waiting()
    worker.submit("after", 1, timeout_s=0)
    held.release()
    assert waiting.result() is True
    assert waiting.took_s < SOON_S
    held.release()
    assert worker.close(LIMIT_S)
    assert held.items == ["before", "after"]


def test_close_handles_what_waits_and_ends_the_thread(held: Held):
    worker = Worker("close", held, max_bytes=100, idle_s=LIMIT_S)
    for item in "abc":
        worker.submit(item, 1, timeout_s=0)
    held.release(3)
    assert worker.close(LIMIT_S)
    assert held.items == ["a", "b", "c"]
    assert threads("close") == []
    assert not worker.submit("d", 1, timeout_s=0)
    assert worker.flush(0)
    assert worker.close(0)


def test_close_without_any_work():
    worker = Worker("unused", lambda item, more: None, max_bytes=1)
    assert worker.close(0)
    assert not worker.submit(1, 1, timeout_s=LIMIT_S)
    assert threads("unused") == []


def test_close_that_does_not_come_in_time(held: Held):
    worker = Worker("late", held, max_bytes=2, idle_s=LIMIT_S)
    worker.submit("a", 1, timeout_s=0)
    worker.submit("b", 1, timeout_s=0)
    blocked = Call(lambda: worker.submit("c", 1, timeout_s=LIMIT_S))
    assert blocked.is_waiting()
    closing = Call(lambda: worker.close(0.1))
    assert blocked.result() is False  # a closed worker lets nobody wait for room
    assert blocked.took_s < SOON_S
    assert closing.result() is False
    assert not worker.submit("d", 0, timeout_s=0)
    held.release(2)  # what was taken is done all the same, and then the thread ends
    until(lambda: threads("late") == [])
    assert held.items == ["a", "b"]
    assert worker.close(0)


def test_nothing_is_taken_while_close_waits(held: Held):
    worker = Worker("closing", held, max_bytes=10)
    worker.submit("a", 1, timeout_s=0)
    held.wait_for_next()
    closing = Call(lambda: worker.close(LIMIT_S))
    assert closing.is_waiting()
    assert not worker.submit("b", 1, timeout_s=0)
    held.release()
    assert closing.result() is True
    assert held.items == ["a"]


def test_an_idle_thread_ends_and_the_next_item_starts_another():
    seen = []
    worker = Worker(
        "idle", lambda i, more: seen.append((i, threading.current_thread())), max_bytes=1, idle_s=0
    )
    for i in range(3):
        assert worker.submit(i, 1, timeout_s=LIMIT_S)
        assert worker.flush(LIMIT_S)
        until(lambda: threads("idle") == [])
    assert [i for i, _ in seen] == [0, 1, 2]
    assert len({id(thread) for _, thread in seen}) == 3
    assert worker.close(0)


def test_a_busy_producer_is_paced_until_the_thread_has_caught_up(held: Held):
    worker = Worker("pace", held, max_bytes=100, pace_after=2, pace_down_to=1, pace_s=LIMIT_S)
    worker.submit("a", 1, timeout_s=0)
    held.wait_for_next()
    for item in "bc":  # two may wait
        free = Call(lambda item=item: worker.submit(item, 1, timeout_s=0))
        assert free.result() is True
        assert free.took_s < SOON_S
    paced = Call(lambda: worker.submit("d", 1, timeout_s=0))
    assert paced.is_waiting()
    assert worker.waiting_bytes == 4  # it is taken already; only its producer rests
    for _ in "ab":
        held.release()
        held.wait_for_next()
        assert paced.is_waiting()
    held.release()  # c is done, and one is left
    assert paced.result() is True
    assert paced.took_s < SOON_S
    held.wait_for_next()
    for item in range(5):
        unpaced = Call(lambda item=item: worker.submit(item, 0, timeout_s=0))
        assert unpaced.result() is True
        assert unpaced.took_s < SOON_S
    held.release(6)
    assert worker.close(LIMIT_S)
    assert held.items == ["a", "b", "c", "d", 0, 1, 2, 3, 4]


def test_close_lets_a_paced_producer_go(held: Held):
    worker = Worker("pace-close", held, max_bytes=100, pace_after=1, pace_s=LIMIT_S)
    worker.submit("a", 1, timeout_s=0)
    held.wait_for_next()
    worker.submit("b", 1, timeout_s=0)
    paced = Call(lambda: worker.submit("c", 1, timeout_s=0))
    assert paced.is_waiting()
    assert not worker.close(0)
    assert paced.result() is True
    assert paced.took_s < SOON_S
    held.release(3)
    until(lambda: threads("pace-close") == [])
    assert held.items == ["a", "b", "c"]


def test_a_pause_ends_in_time_and_the_first_item_has_none(held: Held):
    worker = Worker("pause", held, max_bytes=100, pace_after=0, pace_s=0.1)
    second = Call(lambda: worker.submit("a", 1, timeout_s=0) and worker.submit("b", 1, timeout_s=0))
    held.wait_for_next()
    assert second.result() is True
    assert second.took_s < SOON_S
    held.release(2)
    assert worker.close(LIMIT_S)
    unpaced = Worker("first", lambda item, more: None, max_bytes=1, pace_after=0, pace_s=LIMIT_S)
    first = Call(lambda: unpaced.submit("a", 1, timeout_s=0))
    assert first.result() is True
    assert first.took_s < SOON_S
    assert unpaced.close(LIMIT_S)


def test_many_producers():
    n_producers, n_items, bound = 8, 300, 50
    seen: list[tuple[int, int]] = []
    peak = []

    def handle(item: tuple[int, int], more: bool) -> None:
        seen.append(item)
        peak.append(worker.waiting_bytes)

    worker = Worker("many", handle, max_bytes=bound, pace_after=2, pace_s=0.001)

    def produce(who: int) -> bool:
        sizes = (1, 20, 7, 13)
        return all(worker.submit((who, i), sizes[i % 4], timeout_s=LIMIT_S) for i in range(n_items))

    producers = [Call(lambda who=who: produce(who)) for who in range(n_producers)]
    assert all(producer.result() for producer in producers)
    assert worker.close(LIMIT_S)
    assert len(seen) == n_producers * n_items
    for who in range(n_producers):
        assert [i for owner, i in seen if owner == who] == list(range(n_items))
    assert max(peak) <= bound
    assert worker.waiting_bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python >= 3.12: we have threads
def test_in_a_forked_child_every_call_returns_at_once_and_the_parent_goes_on(held: Held):
    inside, go_on = threading.Event(), threading.Event()

    class Size(int):
        """Keeps its thread inside `submit`, so that the child inherits a lock that is held."""

        def __radd__(self, other: int) -> int:
            inside.set()
            go_on.wait(LIMIT_S)
            return other + int(self)

    worker = Worker("fork", held, max_bytes=10)
    worker.submit("a", 1, timeout_s=0)
    held.wait_for_next()
    locked = Call(lambda: worker.submit("b", Size(1), timeout_s=0))
    assert inside.wait(LIMIT_S)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answers = b"raised"
        try:
            got = (worker.submit("c", 1, timeout_s=99), worker.flush(99), worker.close(99))
            answers = repr(got).encode()
        finally:
            os.write(writer, answers)
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], SOON_S)
        assert ready, "the child waits"
        assert os.read(reader, 100) == b"(False, False, False)"
    finally:
        os.close(reader)
        if not ready:
            os.kill(pid, 9)
        os.waitpid(pid, 0)
    go_on.set()
    assert locked.result() is True
    held.release(3)
    assert worker.submit("d", 1, timeout_s=0)
    assert worker.close(LIMIT_S)
    assert held.items == ["a", "b", "d"]


def test_on_its_own_thread_it_never_waits_for_itself():
    """What the garbage collector or a user's callback closes there must not wait for ever."""
    done, took_s = [], []

    def handle(item: str, more: bool) -> None:
        done.append(item)
        if item == "a":
            start = time.monotonic()
            assert not worker.flush(LIMIT_S)
            assert worker.close(LIMIT_S)
            took_s.append(time.monotonic() - start)

    ready = threading.Event()
    worker = Worker(
        "own", lambda item, more: ready.wait(LIMIT_S) and handle(item, more), max_bytes=9
    )
    for item in "abc":
        assert worker.submit(item, 1, timeout_s=0)
    ready.set()
    until(lambda: threads("own") == [])
    assert done == ["a", "b", "c"]
    assert worker.error is None
    assert took_s[0] < SOON_S
    assert not worker.submit("d", 1, timeout_s=0)


def test_the_interpreters_end_waits_for_what_was_closed_on_its_own_thread():
    script = """
import threading
from rollcam._worker import Worker

ready, begun, never = threading.Event(), threading.Event(), threading.Event()

def handle(item, more):
    if item == 0:
        ready.wait(20)
        worker.close(20)
        begun.set()
    never.wait(0.1)  # the main thread has come to its end by then
    print(item, flush=True)

worker = Worker("end", handle, max_bytes=99)
for item in range(3):
    worker.submit(item, 1, timeout_s=0)
ready.set()
begun.wait(20)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == ["0", "1", "2"]
    assert run.stderr == ""


def test_close_may_come_in_the_middle_of_submit(held: Held):
    """As a signal handler's does: it runs between two lines of whatever its thread is at."""

    class Closing(int):
        def __radd__(self, other: int) -> int:
            answers.append(worker.close(LIMIT_S))
            return other + int(self)

    answers: list[bool] = []
    worker = Worker("signal", held, max_bytes=10)
    held.release(2)
    worker.submit("a", 1, timeout_s=0)
    held.wait_for_next()
    assert worker.submit("b", Closing(1), timeout_s=0)
    assert answers == [True]
    assert held.items == ["a", "b"]
    until(lambda: threads("signal") == [])


def test_where_no_thread_starts_the_caller_does_the_work():
    done = []
    usual = threading.stack_size()
    worker = Worker(
        "inline", lambda i, more: done.append((i, worker.flush(0))), max_bytes=1, idle_s=LIMIT_S
    )
    start = time.monotonic()
    threading.stack_size(1 << 44)  # more than there is: "can't start new thread"
    try:
        for i in range(3):
            assert worker.submit(i, 1, timeout_s=0)
        assert worker.close(LIMIT_S)
    finally:
        threading.stack_size(usual)
    assert done == [(0, False), (1, False), (2, False)]
    assert time.monotonic() - start < SOON_S
    assert worker.error is None

"""The memory that pictures go through, and the messages that speak of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcam.darkroom.ring import Outlet, Ring
from rollcam.darkroom.wire import Kind, Message, Unpacker, packed

SHAPE = (4, 5, 3)
SIZE = 128
"""Of a record: up to 64 bytes of words, and a picture of at most 64 bytes."""


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring(3 * SIZE)
    yield ring
    ring.close()


def picture(value: int, height: int = 4) -> npt.NDArray[np.uint8]:
    return np.arange(height * 5 * 3, dtype=np.uint8).reshape(height, 5, 3) + np.uint8(value)


def taken(outlet: Outlet) -> tuple[int, bytes, npt.NDArray[np.uint8]] | None:
    """Take out what was put first."""
    record = outlet.look()
    if record is None:
        return None
    copied = record.picture.copy()
    outlet.free(record.position)
    return record.film, record.words, copied


class Observation(np.ndarray):  # type: ignore[type-arg]
    """An array with more to it."""


ORDERS = {
    "as it is": lambda p: p,
    "width first": lambda p: p.transpose(1, 0, 2).copy().transpose(1, 0, 2),
    "colours first": lambda p: p.transpose(2, 0, 1).copy().transpose(1, 2, 0),
    "upside down": lambda p: p[::-1].copy()[::-1],
    "every other row": lambda p: np.repeat(p, 2, axis=0)[::2],
    "read only": lambda p: np.frombuffer(p.tobytes(), np.uint8).reshape(SHAPE),
    "of a subclass": lambda p: p.view(Observation),
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_picture_comes_through_whatever_its_memory_is_like(order: str, ring: Ring) -> None:
    outlet = Outlet(ring.fd)
    assert ring.put(5, ORDERS[order](picture(7)), b"said of it")
    found = taken(outlet)
    assert found is not None
    assert found[:2] == (5, b"said of it")
    assert (found[2] == picture(7)).all()
    assert outlet.look() is None


def test_there_is_room_for_as_many_as_fit_and_again_once_they_are_free(ring: Ring) -> None:
    outlet = Outlet(ring.fd)
    for value in range(3):
        assert ring.put(1, picture(value), b"%d" % value)
    assert not ring.put(1, picture(3), b"3")
    assert ring.waiting_bytes == 3 * SIZE
    found = taken(outlet)
    assert found is not None
    assert (found[2] == picture(0)).all()
    assert ring.put(1, picture(3), b"3")
    assert not ring.put(1, picture(4), b"4")
    rest = [found for _ in range(3) if (found := taken(outlet)) is not None]
    assert [words for _, words, _ in rest] == [b"1", b"2", b"3"]
    assert all((found[2] == picture(int(found[1]))).all() for found in rest)
    assert ring.waiting_bytes == 0
    assert ring.position == outlet.position


def test_what_was_not_taken_out_stays_when_the_other_end_is_opened_later(ring: Ring) -> None:
    assert ring.put(1, picture(1), b"")
    outlet = Outlet(ring.fd)
    found = taken(outlet)
    assert found is not None
    assert (found[2] == picture(1)).all()


@pytest.mark.parametrize("n_behind", [1, 3])
def test_the_memory_in_front_is_used_again(n_behind: int) -> None:
    """It is in the processors' caches; the whole ring going by would sweep them."""
    ring = Ring(20 * SIZE)
    outlet = Outlet(ring.fd)
    places = set()
    for value in range(100):
        assert ring.put(1, picture(value), b"words")
        if value < n_behind - 1:
            continue
        record = outlet.look()
        assert record is not None
        assert (record.picture == picture(value - n_behind + 1)).all()
        places.add(record.picture.__array_interface__["data"][0])
        outlet.free(record.position)
    assert len(places) == n_behind
    ring.close()


@pytest.mark.parametrize("n_before", [0, 1, 2, 19, 20, 21, 39, 1000])
def test_an_empty_ring_has_all_its_room_before_anybody_looks(n_before: int) -> None:
    """While a film is being opened, nobody does; its first frames come all the same."""
    ring = Ring(20 * SIZE)
    outlet = Outlet(ring.fd)
    for value in range(n_before):
        assert ring.put(1, picture(value % 200), b"words")
        assert taken(outlet) is not None
    assert all(ring.put(2, picture(value), b"words") for value in range(20))
    assert not ring.put(2, picture(20), b"words")
    for value in range(20):
        found = taken(outlet)
        assert found is not None
        assert (found[2] == picture(value)).all()
    ring.close()


def test_records_without_end_find_no_room_however_small() -> None:
    ring = Ring(2**16)
    outlet = Outlet(ring.fd)
    n = next(k for k in range(2000) if not ring.put(k, picture(k % 200), b""))
    assert n == 256
    assert taken(outlet) is not None
    assert ring.put(n, picture(n % 200), b"")
    assert not ring.put(n, picture(0), b"")
    for k in range(1, n + 1):
        found = taken(outlet)
        assert found is not None
        assert found[0] == k
        assert (found[2] == picture(k % 200)).all()
    assert outlet.look() is None
    ring.close()


def test_what_is_larger_than_the_ring_is_refused(ring: Ring) -> None:
    assert not ring.put(1, picture(0, 60), b"")
    assert not ring.put(1, picture(0), b"w" * 4 * SIZE)
    assert ring.put(1, picture(0), b"")


def test_a_put_that_is_interrupted_costs_nothing_but_itself(ring: Ring) -> None:
    """Ctrl-C comes between any two lines; a training may catch it and go on."""
    outlet = Outlet(ring.fd)

    class Interrupted(list):  # type: ignore[type-arg]
        def __setitem__(self, *place: Any) -> None:
            super().__setitem__(*place)
            raise KeyboardInterrupt

    for value in range(2):
        assert ring.put(1, picture(value), b"words")
    places, ring._places = ring._places, Interrupted(ring._places)
    with pytest.raises(KeyboardInterrupt):
        ring.put(1, picture(2), b"words")
    places[:] = ring._places
    ring._places = places
    assert ring.waiting_bytes == 2 * SIZE
    assert ring.put(1, picture(3), b"words")
    assert not ring.put(1, picture(4), b"words")
    for value in (0, 1, 3):
        found = taken(outlet)
        assert found is not None
        assert (found[2] == picture(value)).all()
    assert taken(outlet) is None


def test_films_that_went_wrong_are_counted(ring: Ring) -> None:
    outlet = Outlet(ring.fd)
    outlet.note_failure()
    outlet.note_failure()
    outlet.free(64)
    assert ring.n_failed == 2


def test_who_sleeps_is_to_be_woken(ring: Ring) -> None:
    outlet = Outlet(ring.fd)
    assert not ring.is_asleep
    outlet.sleep(True)
    assert ring.is_asleep
    outlet.sleep(False)
    assert not ring.is_asleep


@given(
    st.lists(
        st.one_of(st.tuples(st.integers(1, 12), st.integers(0, 150)), st.just(None)), max_size=200
    )
)
def test_nothing_is_overwritten_before_it_is_free(does: list[tuple[int, int] | None]) -> None:
    """Numbers put a picture of so many rows with so many words, `None` takes out the oldest."""
    ring = Ring(12 * 64)
    outlet = Outlet(ring.fd)
    waiting: deque[tuple[int, int, bytes]] = deque()
    try:
        for number, action in enumerate(does):
            if action is not None:
                rows, n_words = action
                value, words = number % 251, bytes([number % 256]) * n_words
                if ring.put(number + 1, picture(value, rows), words):
                    waiting.append((number + 1, rows, words))
                else:
                    assert waiting, "it is empty"
            elif waiting:
                film, rows, words = waiting.popleft()
                found = taken(outlet)
                assert found is not None
                assert found[:2] == (film, words)
                assert (found[2] == picture((film - 1) % 251, rows)).all()
            else:
                assert outlet.look() is None
    finally:
        ring.close()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Kind),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=50),
            st.integers(0, 2**64 - 1),
        )
    ),
    st.integers(1, 40),
)
def test_messages_come_through_in_whatever_pieces(
    told: list[tuple[Kind, int, bytes, int]], size: int
) -> None:
    data = b"".join(packed(kind, film, {"n": note}, at) for kind, film, note, at in told)
    unpacker = Unpacker()
    heard = [m for at in range(0, len(data), size) for m in unpacker.feed(data[at : at + size])]
    assert heard == [Message(kind, film, {"n": note}, at) for kind, film, note, at in told]

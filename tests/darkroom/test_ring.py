"""The memory that pictures go through, and the messages that speak of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcam.darkroom.ring import Outlet, Ring, Slot
from rollcam.darkroom.wire import Kind, Message, Unpacker, packed

SHAPE = (4, 5, 3)
SIZE = 4 * 5 * 3


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring(3 * SIZE)
    yield ring
    ring.close()


def picture(value: int, height: int = 4) -> npt.NDArray[np.uint8]:
    return np.arange(height * 5 * 3, dtype=np.uint8).reshape(height, 5, 3) + np.uint8(value)


def seen(outlet: Outlet, slot: Slot, shape: tuple[int, ...] = SHAPE) -> npt.NDArray[np.uint8]:
    return outlet.picture({"at": slot.at, "shape": shape, "strides": slot.strides})


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
    given_picture = ORDERS[order](picture(7))
    slot = ring.put(given_picture)
    assert slot is not None
    assert (seen(outlet, slot) == picture(7)).all()


def test_there_is_room_for_as_many_as_fit_and_again_once_they_are_free(ring: Ring) -> None:
    outlet = Outlet(ring.fd)
    slots = [ring.put(picture(value)) for value in range(3)]
    assert ring.put(picture(3)) is None
    assert ring.waiting_bytes == 3 * SIZE
    for value, slot in enumerate(slots):
        assert slot is not None
        assert (seen(outlet, slot) == picture(value)).all()
    assert slots[0] is not None
    outlet.free(slots[0].end)
    fourth = ring.put(picture(3))
    assert fourth is not None
    assert fourth.at == slots[0].at
    assert ring.put(picture(4)) is None


def test_what_was_not_told_is_taken_back(ring: Ring) -> None:
    for _ in range(10):
        assert ring.put(picture(1)) is not None
        ring.take_back()
    assert ring.waiting_bytes == 0
    assert [ring.put(picture(1)) is None for _ in range(4)] == [False, False, False, True]


def test_an_empty_ring_begins_at_its_front(ring: Ring) -> None:
    outlet = Outlet(ring.fd)
    places = set()
    for value in range(20):
        slot = ring.put(picture(value))
        assert slot is not None
        places.add(slot.at)
        outlet.free(slot.end)
    assert len(places) == 1


def test_films_that_went_wrong_are_counted(ring: Ring) -> None:
    outlet = Outlet(ring.fd)
    outlet.note_failure()
    outlet.note_failure()
    outlet.free(5)
    assert ring.n_failed == 2


@given(st.lists(st.one_of(st.integers(1, 8), st.just(0), st.just(-1)), max_size=200))
def test_nothing_is_overwritten_before_it_is_free(does: list[int]) -> None:
    """A number puts a picture of so many rows, 0 takes out the oldest, -1 takes the last one back."""
    ring = Ring(10 * 15 + 7)
    outlet = Outlet(ring.fd)
    waiting: deque[tuple[Slot, int, int]] = deque()
    was_put = False
    try:
        for number, action in enumerate(does):
            if action > 0:
                slot = ring.put(picture(number % 251, action))
                was_put = slot is not None
                if slot is not None:
                    waiting.append((slot, number % 251, action))
                else:
                    assert waiting, "an empty ring has room for any of these"
            elif action == 0 and waiting:
                outlet.free(waiting.popleft()[0].end)
                was_put = False
            elif action == -1 and was_put:
                ring.take_back()
                waiting.pop()
                was_put = False
            for slot, value, rows in waiting:
                assert (seen(outlet, slot, (rows, 5, 3)) == picture(value, rows)).all()
    finally:
        ring.close()


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=50))),
    st.integers(1, 40),
)
def test_messages_come_through_in_whatever_pieces(
    told: list[tuple[Kind, int, bytes]], size: int
) -> None:
    data = b"".join(packed(kind, film, {"n": note}) for kind, film, note in told)
    unpacker = Unpacker()
    heard = [m for at in range(0, len(data), size) for m in unpacker.feed(data[at : at + size])]
    assert heard == [Message(kind, film, {"n": note}) for kind, film, note in told]

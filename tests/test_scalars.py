"""What an `info`, an action or a counter becomes: plain Python, or nothing."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
import pytest

from rollcam.episode import as_scalar


class Turn(enum.IntEnum):
    LEFT = 3


class Name(str):
    __slots__ = ()


class Word(enum.StrEnum):
    UP = "up"


class Odd(int):
    """A number whose own class cannot be trusted to convert it."""

    def __int__(self) -> int:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (0.5, 0.5),
        ("text", "text"),
        (Turn.LEFT, 3),
        (Odd(5), 5),
        (np.float64(0.25), 0.25),
        (np.int8(4), 4),
        (np.bool_(True), True),
        (np.array(6), 6),
        (Name("a"), "a"),
        (Word.UP, "up"),
        ("x" * 600, "x" * 500),
    ],
)
def test_scalars_become_plain(value: Any, plain: Any) -> None:
    """Plain to the class: another process, which knows none of the training's, reads them."""
    is_scalar, found = as_scalar(value)
    assert (is_scalar, found) == (True, plain)
    assert type(found) is type(plain)


def test_odd_floats_stay_what_they_are() -> None:
    assert math.isnan(as_scalar(np.float64("nan"))[1])  # type: ignore[arg-type]
    assert as_scalar(np.float64("-inf")) == (True, -math.inf)


@pytest.mark.parametrize("value", [[1], (1, 2), {}, np.zeros(2), object(), b"bytes", 1j])
def test_what_is_no_scalar_is_left_out(value: Any) -> None:
    assert as_scalar(value) == (False, None)

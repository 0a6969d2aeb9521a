"""Rates: where the number comes from, and which are refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from rollcam.capture.rates import DEFAULT_FPS, checked_fps, file_fps, input_fps
from rollcam.errors import SettingError

GOOD = {
    30: 30,
    1: 1,
    29.97: 29.97,
    0.5: 0.5,
    0.001: 0.001,
    1000: 1000,
    60.0: 60,
    np.int64(15): 15,
    np.uint8(24): 24,
    np.float32(12.5): 12.5,
    np.float64(50): 50,
    Fraction(30000, 1001): 30000 / 1001,
    Fraction(25): 25,
}
BAD = [
    True,
    False,
    np.True_,
    0,
    -1,
    -0.5,
    0.0,
    0.0009,
    1001,
    10**400,
    -(10**400),
    float("nan"),
    float("inf"),
    float("-inf"),
    np.float64("nan"),
    "30",
    "",
    b"30",
    None,
    1j,
    Decimal(30),
    [30],
    (30,),
    np.array(30),
    np.array([30]),
    {},
]


@pytest.mark.parametrize("value", GOOD, ids=repr)
def test_good_rates(value: Any):
    rate = checked_fps(value, "fps")
    assert rate == GOOD[value]
    assert type(rate) is (int if rate == int(rate) else float)


@pytest.mark.parametrize("value", BAD, ids=lambda value: repr(value)[:20])
def test_bad_rates_say_where_they_stood_and_what_they_were(value: Any):
    with pytest.raises(SettingError) as caught:
        checked_fps(value, "the argument x")
    assert str(caught.value).startswith("the argument x must be ")
    assert "frames per second" in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("fps", "metadata", "expected"),
    [
        (None, {}, DEFAULT_FPS),
        (None, {"render_modes": ["rgb_array"]}, 30),
        (None, {"render_fps": 50}, 50),
        (None, {"video.frames_per_second": 15}, 15),
        (None, {"render_fps": 50, "video.frames_per_second": 15}, 50),
        (None, {"render_fps": None, "video.frames_per_second": 15}, 15),
        (None, {"render_fps": None, "video.frames_per_second": None}, 30),
        (None, {"video.output_frames_per_second": 15}, 30),
        (None, {"render_fps": np.int64(20)}, 20),
        (12.5, {"render_fps": 50}, 12.5),
        (24, {"render_fps": 0}, 24),  # what the argument overrules does not matter
    ],
)
def test_the_rate_of_capture(fps: float | None, metadata: dict[str, Any], expected: float):
    assert input_fps(fps, metadata) == expected


@pytest.mark.parametrize(
    ("output_fps", "metadata", "expected"),
    [
        (None, {}, 50),
        (None, {"render_fps": 20, "video.frames_per_second": 20}, 50),
        (None, {"video.output_frames_per_second": 15}, 15),
        (None, {"video.output_frames_per_second": None}, 50),
        (60, {"video.output_frames_per_second": 15}, 60),
    ],
)
def test_the_rate_of_the_file(output_fps: float | None, metadata: dict[str, Any], expected: float):
    assert file_fps(output_fps, metadata, 50) == expected


@pytest.mark.parametrize(
    "bad", [value for value in BAD if value is not None], ids=lambda v: repr(v)[:20]
)
def test_what_is_refused_is_named(bad: Any):
    with pytest.raises(SettingError, match=r"^fps must"):
        input_fps(bad, {"render_fps": 30})
    with pytest.raises(SettingError, match=r"^the environment's metadata\['render_fps'\] must"):
        input_fps(None, {"render_fps": bad, "video.frames_per_second": 30})
    with pytest.raises(SettingError, match=r"^the environment's metadata\['video.frames_per_sec"):
        input_fps(None, {"video.frames_per_second": bad})
    with pytest.raises(SettingError, match=r"^output_fps must"):
        file_fps(bad, {}, 30)
    with pytest.raises(
        SettingError, match=r"^the environment's metadata\['video.output_frames_per"
    ):
        file_fps(None, {"video.output_frames_per_second": bad}, 30)

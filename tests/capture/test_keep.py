"""Keep policies: what stays and what has to go, episode after episode."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rollcam.capture.keep import (
    KeepPolicy,
    keep_all,
    keep_best,
    keep_failures,
    keep_last,
    keep_worst,
    rejected,
)
from rollcam.episode import Episode, EpisodeStatus
from rollcam.errors import SettingError


def episode(number: int, episode_return: float | None = None, **facts: Any) -> Episode:
    return Episode(
        episode_id=f"id-{number}",
        run_id="run",
        name=f"film-{number}",
        status=EpisodeStatus.COMPLETE,
        episode_return=episode_return,
        **facts,
    )


def kept_after(policy: KeepPolicy, returns: list[float | None]) -> list[int]:
    """The numbers of the episodes that are left; each rejected one was there to be rejected."""
    left: list[Episode] = []
    for number, value in enumerate(returns):
        left.append(episode(number, value))
        for loser in rejected(policy, left[-1]):
            left.remove(loser)
    return [int(e.episode_id.removeprefix("id-")) for e in left]


def test_keep_all():
    assert kept_after(keep_all, [1.0, None, -3.0]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "k", "returns", "expected"),
    [
        (keep_best, 1, [1, 5, 3, 5, 9], [4]),
        (keep_best, 2, [1, 5, 3, 5, 2], [1, 3]),
        (keep_best, 2, [5, 5, 5, 5], [0, 1]),  # on equal returns the newer one goes
        (keep_best, 3, [1, 2], [0, 1]),
        (keep_best, 2, [None, 1, math.nan, 0], [1, 3]),
        (keep_best, 2, [-math.inf, None, 1], [0, 2]),
        (keep_best, 1, [None, None], [0]),
        (keep_best, 1, [math.inf, 5], [0]),
        (keep_worst, 1, [3, 1, 5, 1], [1]),
        (keep_worst, 2, [1, 5, 3, 5, 2], [0, 4]),
        (keep_worst, 2, [5, 5, 5], [0, 1]),
        (keep_worst, 2, [None, 1, math.nan, 9], [1, 3]),
        (keep_last, 1, [9, 1, 5], [2]),
        (keep_last, 2, [9, None, 5, 1], [2, 3]),
        (keep_last, 5, [9, 1], [0, 1]),
    ],
)
def test_ranked(make: Callable[[int], KeepPolicy], k: int, returns: list[Any], expected: list[int]):
    assert kept_after(make(k), returns) == expected


@pytest.mark.parametrize(("make", "sign"), [(keep_best, -1), (keep_worst, 1)])
def test_ranked_agrees_with_sorting(make: Callable[[int], KeepPolicy], sign: int):
    rng = random.Random(5)
    for _ in range(200):
        returns = [float(rng.randint(-3, 3)) for _ in range(rng.randint(1, 12))]
        k = rng.randint(1, 5)
        by_rank = sorted(range(len(returns)), key=lambda i: (sign * returns[i], i))
        assert kept_after(make(k), returns) == sorted(by_rank[:k])


@pytest.mark.parametrize("make", [keep_best, keep_worst, keep_last])
@pytest.mark.parametrize("k", [0, -1, 1.0, True, None, "2"])
def test_ranked_takes_whole_numbers_from_1(make: Callable[[Any], KeepPolicy], k: Any):
    with pytest.raises(SettingError, match=rf"{make.__name__}\(k\) .* at least 1, not "):
        make(k)


def test_two_policies_do_not_share_what_they_know():
    first, second = keep_best(1), keep_best(1)
    assert rejected(first, episode(0, 5.0)) == []
    assert rejected(second, episode(1, 1.0)) == []


@pytest.mark.parametrize(
    ("facts", "is_failure"),
    [
        ({"final_info": {"is_success": False}}, True),
        ({"final_info": {"is_success": True}, "terminated": True, "episode_return": -5.0}, False),
        ({"final_info": {"success": 0.0}}, True),
        ({"final_info": {"success": 1}}, False),
        ({"final_info": {"is_success": True, "success": False}}, False),
        ({"terminated": True, "episode_return": 0.0}, True),
        ({"terminated": True, "episode_return": -1.0}, True),
        ({"terminated": True}, True),
        ({"terminated": True, "episode_return": 1.0}, False),
        ({"truncated": True, "episode_return": -1.0}, False),
        ({"final_info": {"lives": 0}, "terminated": True, "episode_return": 0.0}, True),
    ],
)
def test_keep_failures(facts: dict[str, Any], is_failure: bool):
    given = dict(facts)
    finished = episode(0, given.pop("episode_return", None), **given)
    assert rejected(keep_failures, finished) == ([] if is_failure else [finished])
    assert rejected(keep_failures(), finished) == ([] if is_failure else [finished])


def test_keep_failures_by_ones_own_judgement():
    policy = keep_failures(is_failure=lambda finished: (finished.episode_return or 0) < 100)
    assert kept_after(policy, [50, 150, None, 99.9, 100]) == [0, 2, 3]


@pytest.mark.parametrize(
    ("answer", "goes"),
    [(True, False), (False, True), (np.True_, False), (np.False_, True), ([], False), ((), False)],
)
def test_any_callable_will_do(answer: Any, goes: bool):
    finished = episode(0)
    assert rejected(lambda _: answer, finished) == ([finished] if goes else [])


def test_a_callable_may_name_who_has_to_go():
    first, second = episode(0), episode(1)
    assert rejected(lambda _: [first], second) == [first]
    assert rejected(lambda e: (old for old in (first, e)), second) == [first, second]


@pytest.mark.parametrize("answer", ["yes", ["film-0"], [True], {"id-0": 1}, [None]])
def test_an_answer_that_names_no_episodes_is_refused(answer: Any):
    with pytest.raises(SettingError, match="True, False, or the episodes that have to go, not "):
        rejected(lambda _: answer, episode(0))

"""Triggers: which episodes are filmed, and handles that survive being copied."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from rollcam.capture.triggers import OnDemand, capped_cubic, every, on_demand
from rollcam.errors import SettingError


def test_capped_cubic_is_gymnasiums():
    from gymnasium.utils.save_video import capped_cubic_video_schedule as theirs

    ours = [index for index in range(20_001) if capped_cubic(index)]
    assert ours == [index for index in range(20_001) if theirs(index)]
    assert ours[:6] == [0, 1, 8, 27, 64, 125]
    assert ours[9:13] == [729, 1000, 2000, 3000]
    assert {type(capped_cubic(index)) for index in (0, 2, 999, 1000, 1001)} == {bool}


@pytest.mark.parametrize("n", [1, 2, 7])
def test_every(n: int):
    trigger = every(n)
    assert [index for index in range(50) if trigger(index)] == list(range(0, 50, n))


@pytest.mark.parametrize("n", [0, -1, 1.0, 2.5, True, False, None, "3", float("nan")])
def test_every_and_request_take_whole_numbers_from_1(n: Any):
    with pytest.raises(SettingError, match=r"every\(n\).* at least 1, not "):
        every(n)
    trigger = on_demand()
    with pytest.raises(SettingError, match=r"request\(n\).* at least 1, not "):
        trigger.request(n)
    assert not trigger(0)


def test_on_demand_films_what_was_asked_for():
    trigger = on_demand()
    assert isinstance(trigger, OnDemand)
    assert not trigger(0)
    trigger.request()
    assert [trigger(index) for index in (1, 2, 3)] == [True, False, False]
    trigger.request(2)
    trigger.request()
    assert [trigger(index) for index in range(5)] == [True, True, True, False, False]


def test_on_demand_may_be_asked_from_any_thread():
    trigger = on_demand()
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(20)
        for _ in range(500):
            trigger.request()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    early = sum(trigger(index) for index in range(2000))
    for thread in threads:
        thread.join(20)
    assert early + sum(trigger(index) for index in range(5000)) == 4000


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_on_demand_is_the_same_handle(copied: Any):
    trigger = on_demand()
    assert copied(trigger) is trigger
    assert copied({"episode_trigger": [trigger]})["episode_trigger"][0] is trigger


def test_on_demand_in_a_wrapper_that_gymnasium_copies():
    import gymnasium

    class Wrapper(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
        def __init__(self, env: Any, trigger: Any) -> None:
            gymnasium.utils.RecordConstructorArgs.__init__(self, trigger=trigger)
            gymnasium.Wrapper.__init__(self, env)

    trigger = on_demand()
    env = Wrapper(gymnasium.make("CartPole-v1"), trigger)
    (spec,) = [s for s in env.spec.additional_wrappers if s.name == "Wrapper"]
    assert spec.kwargs["trigger"] is trigger
    copy.deepcopy(env.spec).additional_wrappers[-1].kwargs["trigger"].request()
    assert trigger(0)
    env.close()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_on_demand_says_why_it_cannot_be_pickled(protocol: int):
    with pytest.raises(TypeError, match=r"on_demand .* another process.*call on_demand\(\)"):
        pickle.dumps(on_demand(), protocol)


def test_triggers_take_numpy_numbers():
    assert capped_cubic(np.int64(27))
    assert every(3)(np.int64(6))

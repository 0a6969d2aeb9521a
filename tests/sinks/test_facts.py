"""The one rule by which every tracker is told of a film."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rollcam.episode import Episode, EpisodeStatus
from rollcam.publish.sink import Delivery
from rollcam.sinks.facts import MAX_STEP, caption_of, facts_of, file_stem, film_id, step_of


def episode(**facts: Any) -> Episode:
    known = {"episode_id": "01E", "run_id": "01R", "name": "film", "status": EpisodeStatus.COMPLETE}
    return Episode(**{**known, **facts})


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({"context_at_end": {"iteration": 3, "num_env_steps": 12000}, "step_index": 9}, 12000),
        ({"context_at_end": {"iteration": 3}, "context_at_start": {"num_env_steps": 5}}, 3),
        ({"context_at_end": {"num_timesteps": 64.0}}, 64),
        ({"context_at_start": {"global_step": 8}, "step_index": 9}, 8),
        ({"step_index": 9, "episode_index": 2}, 9),
        ({"episode_index": 2}, 2),
        ({}, 0),
        ({"context_at_end": {"num_env_steps": True}, "step_index": 9}, 9),
        ({"context_at_end": {"num_env_steps": "7"}, "step_index": 9}, 9),
        ({"context_at_end": {"num_env_steps": -1}, "step_index": 9}, 9),
        ({"context_at_end": {"num_env_steps": math.nan}, "step_index": 9}, 9),
        ({"context_at_end": {"num_env_steps": math.inf}, "step_index": 9}, 9),
        ({"context_at_end": {"num_env_steps": 1.5}, "step_index": 9}, 9),
        ({"context_at_end": {"num_env_steps": 10**400}, "step_index": MAX_STEP + 1}, 0),
        ({"context_at_end": {"num_env_steps": MAX_STEP}}, MAX_STEP),
    ],
)
def test_step(facts: dict[str, Any], step: int) -> None:
    assert step_of(episode(**facts)) == step


def test_caption_is_one_printable_line() -> None:
    told = episode(
        env_id="Cart\n\x1b[31mPole\u202e", episode_index=12, episode_return=37.5, episode_length=120,
        seed=3, mode="eval", truncated=True, status=EpisodeStatus.TRUNCATED_BY_CRASH,
    )  # fmt: skip
    assert caption_of(told) == (
        "Cart [31mPole  · episode 12 · return 37.5 · 120 steps · seed 3 · eval · truncated"
        " · ended by a crash"
    )
    assert len(caption_of(episode(name="x" * 1000))) == 300
    assert caption_of(episode()) == "film"


def test_only_finite_numbers_are_told() -> None:
    facts = facts_of(
        episode(
            episode_return=math.nan, episode_length=4,
            context_at_end={"loss": 0.5, "huge": 10**400, "nan": math.inf, "word": "x", "on": True},
        )
    )  # fmt: skip
    assert facts.scalars == {"length": 4.0}
    assert facts.context == {"loss": 0.5, "on": 1.0}


def test_names_are_safe_and_say_which_content() -> None:
    told = episode(episode_id="../../etc/x'; --", step_index=42)
    delivery = Delivery(told, Path("film.mp4"), "ab" * 32)
    assert film_id(delivery) == "______etc_x___--_abababababab"
    assert file_stem(delivery) == f"step000000000042_{film_id(delivery)}"

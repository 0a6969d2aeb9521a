"""`rollcam.integrations.vector.RecordVideo` against Gymnasium's own, on the same environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordVideo as GymnasiumRecordVideo

from rollcam.integrations.vector import RecordVideo
from tests.integrations.dropin import check_signature
from tests.integrations.vector_films import (
    always,
    make,
    play,
    tiles,
)

N_STEPS = 11
SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED

pytestmark = pytest.mark.filterwarnings("ignore:.*Overwriting existing videos:UserWarning")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_gymnasiums_own_loses_the_last_frame_under_same_step_and_ours_does_not(
    kind: str, tmp_path: Path
) -> None:
    lengths = (6, 6)  # moviepy drops no frame of films of these lengths
    with pytest.warns(UserWarning, match="will not contain the last frame"):
        theirs = GymnasiumRecordVideo(
            make(kind, SAME, lengths),
            str(tmp_path / "theirs"),
            (2, 1),
            episode_trigger=always,
            fps=10,
        )
    ours = RecordVideo(
        make(kind, SAME, lengths), tmp_path / "ours", (2, 1), episode_trigger=always, fps=30
    )
    for env in (theirs, ours):
        play(env, 14, SAME)
        env.close()
    names = [f"rl-video-episode-{n}" for n in range(3)]
    films = {
        who: {p.stem: tiles(p, 2) for p in sorted((tmp_path / who).glob("*.mp4"))}
        for who in ("theirs", "ours")
    }
    assert list(films["theirs"]) == list(films["ours"]) == names
    for name in names[:2]:
        assert films["theirs"][name] == [(i, i) for i in range(6)], "frame 6 is lost"
        assert films["ours"][name] == [(i, i) for i in range(7)]


@pytest.mark.parametrize("mode", [NEXT, DISABLED], ids=lambda mode: mode.name)
@pytest.mark.parametrize(
    "settings",
    [
        {"episode_trigger": lambda n: n % 2 == 1},
        {"step_trigger": lambda n: n in (2, 9)},
        {"step_trigger": lambda n: n in (2, 9), "video_length": 4},
        {"episode_trigger": lambda n: n == 1, "video_length": 6},
        {"episode_trigger": lambda n: n < 2, "record_first_only": True},
    ],
    ids=["episodes", "steps", "clips", "length", "first"],
)
def test_names_counts_and_attributes_are_gymnasiums(
    mode: AutoresetMode, settings: dict[str, Any], tmp_path: Path
) -> None:
    lengths = (4, 4)
    theirs = GymnasiumRecordVideo(
        make("sync", mode, lengths), str(tmp_path / "theirs"), (2, 1), fps=4, **settings
    )
    ours = RecordVideo(make("sync", mode, lengths), tmp_path / "ours", (2, 1), **settings)
    names = (
        "recording", "step_id", "episode_id", "has_autoreset", "autoreset_mode", "frame_rows",
        "frame_cols", "record_first_only", "video_aspect_ratio", "video_length", "name_prefix",
    )  # fmt: skip
    for env in (theirs, ours):
        env.reset(seed=1)
    for _ in range(13):
        seen = []
        for env in (theirs, ours):
            *_, done, _, _ = env.step(np.zeros(2, np.int64))
            seen.append((len(env.recorded_frames), *(getattr(env, name) for name in names)))
            if mode is DISABLED and done.any():
                env.reset(options={"reset_mask": done})
        assert seen[0] == seen[1]
    for env in (theirs, ours):
        env.close()
    n_columns = 1 if settings.get("record_first_only") else 2
    found = {
        who: {p.name: tiles(p, n_columns) for p in sorted((tmp_path / who).glob("*.mp4"))}
        for who in ("theirs", "ours")
    }
    assert found["theirs"] == found["ours"]
    assert found["ours"]


def test_the_signature_is_gymnasiums() -> None:
    check_signature(RecordVideo, GymnasiumRecordVideo)


def test_every_public_attribute_of_gymnasiums_is_there(tmp_path: Path) -> None:
    theirs = GymnasiumRecordVideo(make("sync", NEXT), str(tmp_path / "theirs"))
    ours = RecordVideo(make("sync", NEXT), tmp_path / "ours")
    wanted = {name for name in vars(theirs) if not name.startswith("_")}
    assert wanted <= {name for name in dir(ours) if not name.startswith("_")}
    assert [i for i in range(2000) if ours.episode_trigger(i)] == [
        i for i in range(2000) if theirs.episode_trigger(i)
    ]
    ours.recorded_frames = []
    ours.close()
    theirs.close()

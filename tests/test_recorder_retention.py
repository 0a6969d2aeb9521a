"""Which films of a recorder go: the oldest of its own run, and none that a sink still waits for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rollcam
from rollcam.cli.opening import in_use
from rollcam.publish.entry import Entry, State
from rollcam.publish.ledger import FILE_NAME, Ledger
from tests.films import episodes

NOISE = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)


def film(recorder: rollcam.Recorder, n: int = 1) -> list[rollcam.Episode]:
    """Film episodes of some 100 kB each."""
    made = []
    for _ in range(n):
        recorder.begin()
        for frame in NOISE:
            recorder.frame(frame, reward=1.0)
        made.append(recorder.end(terminated=True).result(timeout=60))
    return made


def size_of(folder: Path) -> int:
    kept = [e for e in episodes(folder).values() if e.media_path]
    return sum(p.stat().st_size for e in kept for p in (e.media_path, e.steps_path) if p)


def two_and_a_half(folder: Path) -> int:
    """What two films and a half take."""
    with rollcam.Recorder(folder) as recorder:
        film(recorder)
    return round(size_of(folder) * 2.5)


def test_the_oldest_go_when_it_is_too_much(tmp_path: Path) -> None:
    bound = two_and_a_half(tmp_path / "one")
    with rollcam.Recorder(tmp_path / "videos", max_bytes=bound) as recorder:
        film(recorder, 5)
    assert set(episodes(tmp_path / "videos")) == {f"rl-video-episode-{n}" for n in (3, 4)}
    assert size_of(tmp_path / "videos") <= bound
    files = {path.name.partition(".")[0] for path in (tmp_path / "videos").glob("rl-*")}
    assert files == {"rl-video-episode-3", "rl-video-episode-4"}


def test_the_newest_stays_however_large_it_is(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, max_bytes=1) as recorder:
        film(recorder, 3)
    assert set(episodes(tmp_path)) == {"rl-video-episode-2"}


def test_films_of_the_run_that_were_there_before_count_and_others_do_not(tmp_path: Path) -> None:
    bound = two_and_a_half(tmp_path / "one")
    videos = tmp_path / "videos"
    for run_id, prefix in (("mine", "a"), ("other", "b"), ("mine", "c")):
        with rollcam.Recorder(videos, max_bytes=bound, run_id=run_id, name_prefix=prefix) as each:
            film(each, 2)
    assert set(episodes(videos)) == {f"{name}-episode-{n}" for name in "bc" for n in (0, 1)}


def test_a_clock_that_is_set_back_makes_no_new_film_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter(range(23, 0, -1))

    class Backwards(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(hours=next(hours))

    bound = two_and_a_half(tmp_path / "one")
    monkeypatch.setattr("rollcam._take.datetime", Backwards)
    with rollcam.Recorder(tmp_path / "videos", max_bytes=bound) as recorder:
        made = film(recorder, 5)
    assert [e.started_at for e in made] == sorted((e.started_at for e in made), reverse=True)
    assert set(episodes(tmp_path / "videos")) == {f"rl-video-episode-{n}" for n in (3, 4)}
    with rollcam.Catalog(tmp_path / "videos") as catalog:
        assert [e.name for e in catalog] == ["rl-video-episode-4", "rl-video-episode-3"]


@pytest.mark.parametrize(
    "rule", [{"keep": rollcam.keep_last(1)}, {"max_bytes": 1}], ids=lambda rule: next(iter(rule))
)
def test_what_another_process_publishes_stays_until_it_arrived(
    rule: dict[str, Any], tmp_path: Path
) -> None:
    """`rollcam publish` may look after the folder while a recorder without sinks films."""
    ledger = Ledger(tmp_path / ".rollcam" / FILE_NAME)
    with rollcam.Recorder(tmp_path, **rule) as recorder:
        (first,) = film(recorder)
        owed = Entry("folder", "/mnt/films", first.episode_id, first.name)
        ledger.put([owed])
        film(recorder, 2)
        assert set(episodes(tmp_path)) == {"rl-video-episode-0", "rl-video-episode-2"}
        ledger.put([Entry(*owed.key, first.episode_id, first.name, State.STORED)])
    left = (
        {"rl-video-episode-2"} if "keep" in rule else {"rl-video-episode-0", "rl-video-episode-2"}
    )
    assert set(episodes(tmp_path)) == left


def test_a_policy_reaches_no_other_run(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, name_prefix="theirs") as other:
        theirs = film(other)
    with (
        pytest.warns(rollcam.RollcamWarning, match=r"another: theirs-episode-0"),
        rollcam.Recorder(tmp_path, keep=lambda episode: theirs, name_prefix="ours") as recorder,
    ):
        film(recorder)
    assert set(episodes(tmp_path)) == {"theirs-episode-0", "ours-episode-0"}
    assert theirs[0].media_path.exists()


def test_a_folder_inside_that_somebody_writes_to_is_left_alone(tmp_path: Path) -> None:
    """As `videos/eval`, beside the training's own films in `videos`."""
    with rollcam.Recorder(tmp_path / "eval", name_prefix="eval") as evaluation:
        film(evaluation)
        with (
            pytest.warns(rollcam.RollcamWarning, match="somebody still writes there: eval-episode"),
            rollcam.Recorder(tmp_path, resume=False) as training,
        ):
            film(training)
        assert set(episodes(tmp_path)) == {"eval-episode-0", "rl-video-episode-0"}
        spare = in_use(tmp_path)
        assert {e.name: spare(e) for e in episodes(tmp_path).values()} == {
            "eval-episode-0": True,
            "rl-video-episode-0": False,
        }
    (inner,) = episodes(tmp_path / "eval").values()
    assert not in_use(tmp_path)(inner)
    ledger = Ledger(tmp_path / "eval" / ".rollcam" / FILE_NAME)
    ledger.put([Entry("folder", "/mnt/films", inner.episode_id, inner.name)])
    assert in_use(tmp_path)(inner)


def test_a_folder_around_it_that_somebody_writes_to_is_left_alone(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, name="{env_id}/film-{episode_index}", env_id="Lake") as outer:
        film(outer)
        with (
            pytest.warns(rollcam.RollcamWarning, match="somebody still writes there"),
            rollcam.Recorder(tmp_path / "Lake", resume=False) as inner,
        ):
            film(inner)
        assert set(episodes(tmp_path)) == {"Lake/film-0", "rl-video-episode-0"}

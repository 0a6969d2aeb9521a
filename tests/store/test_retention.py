"""Retention: which episodes go, and that nothing else does."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollcam.episode import Episode, EpisodeStatus
from rollcam.errors import SettingError
from rollcam.store.catalog import Catalog
from rollcam.store.files import list_episodes
from rollcam.store.layout import HIDDEN
from rollcam.store.retention import Rules, over_budget, prune
from tests.hammer import put

quick = settings(deadline=None, database=None, derandomize=True)


def film(number: int, episode_return: float | None = 0.0, **facts: Any) -> Episode:
    return Episode(
        **{
            "episode_id": f"{number:04d}",
            "run_id": "run",
            "name": f"film-{number}",
            "status": EpisodeStatus.COMPLETE,
            "started_at": f"2026-11-21T10:00:{number:02d}",
            "episode_return": episode_return,
            "size_bytes": 10,
            **facts,
        }
    )


def left(episodes: list[Episode], rules: Rules, **how: Any) -> list[int]:
    gone = prune(reversed(episodes), rules, **how)
    assert [e.episode_id for e in gone] == sorted(e.episode_id for e in gone)
    return [int(e.episode_id) for e in episodes if e not in gone]


RETURNS = [5.0, math.nan, 9.0, None, 5.0, -math.inf, 9.0]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"keep_last": 2}, [5, 6]),
        ({"keep_last": 100}, [0, 1, 2, 3, 4, 5, 6]),
        ({"keep_best": 1}, [2]),
        ({"keep_best": 3}, [0, 2, 6]),
        ({"keep_worst": 1}, [5]),
        ({"keep_worst": 2}, [0, 5]),
        ({"keep_best": 100}, [0, 2, 4, 5, 6]),
        ({"keep_best": 1, "keep_worst": 1, "keep_last": 1}, [2, 5, 6]),
        ({"max_bytes": 25}, [5, 6]),
        ({"max_bytes": 0}, []),
        ({"max_bytes": 70}, [0, 1, 2, 3, 4, 5, 6]),
        ({"keep_best": 3, "max_bytes": 20}, [2, 6]),
    ],
    ids=str,
)
def test_what_stays(rules: dict[str, Any], expected: list[int]) -> None:
    episodes = [film(number, value) for number, value in enumerate(RETURNS)]
    assert left(episodes, Rules(**rules)) == expected


def test_failures() -> None:
    episodes = [
        film(0, 1.0, terminated=True),
        film(1, 0.0, terminated=True),
        film(2, 9.0, final_info={"is_success": False}),
        film(3, 0.0, terminated=True, final_info={"success": True}),
        film(4, 9.0, status=EpisodeStatus.TRUNCATED_BY_CRASH),
        film(5, math.nan, terminated=True),
    ]
    assert left(episodes, Rules(keep_failures=True)) == [1, 2, 4]


def test_only_one_run() -> None:
    episodes = [film(n, float(n), run_id="mine" if n % 2 else "other") for n in range(6)]
    assert left(episodes, Rules(keep_last=1, run_id="mine")) == [0, 2, 4, 5]
    assert left(episodes, Rules(max_bytes=10, run_id="mine")) == [0, 2, 4, 5]
    assert left(episodes, Rules(keep_last=1, run_id="none")) == [*range(6)]


def test_what_is_spared_counts_and_stays() -> None:
    episodes = [film(number) for number in range(4)]
    spare = lambda episode: episode.episode_id == "0001"  # noqa: E731
    assert left(episodes, Rules(keep_last=1), spare=spare) == [1, 3]
    assert left(episodes, Rules(max_bytes=20), spare=spare) == [1, 3]
    assert over_budget(episodes, 0, spare=lambda _: True) == []


@pytest.mark.parametrize("size", [None, 0, -5])
def test_what_takes_no_room_wins_none(size: int | None) -> None:
    episodes = [film(0, size_bytes=size), film(1), film(2)]
    assert [e.episode_id for e in over_budget(episodes, 10)] == ["0001"]


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"run_id": "x"},
        {"keep_last": 0},
        {"keep_best": -1},
        {"keep_worst": 1.5},
        {"keep_last": True},
        {"max_bytes": -1},
        {"max_bytes": "2GB"},
    ],
    ids=str,
)
def test_rules_that_cannot_be(rules: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Rules(**rules)


numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
films = st.builds(
    film,
    st.integers(0, 99),
    numbers,
    run_id=st.sampled_from(["mine", "other"]),
    started_at=st.sampled_from([None, "2026", "2027", "x"]),
    size_bytes=st.one_of(st.none(), st.integers(-5, 2**70)),
    status=st.sampled_from(EpisodeStatus),
    terminated=st.booleans(),
    final_info=st.sampled_from([{}, {"success": 0}, {"is_success": True}, {"success": "no"}]),
)
counts = st.one_of(st.none(), st.integers(1, 5))
anything = st.builds(
    lambda **told: told,
    keep_last=counts, keep_best=counts, keep_worst=counts, keep_failures=st.booleans(),
    max_bytes=st.one_of(st.none(), st.integers(0, 2**71)),
    run_id=st.sampled_from([None, "mine"]),
).filter(lambda told: any(value for key, value in told.items() if key != "run_id"))  # fmt: skip


@quick
@given(st.lists(films, max_size=30), anything)
def test_never_another_runs_never_what_is_spared_never_too_many(
    episodes: list[Episode], told: dict[str, Any]
) -> None:
    spared = {id(episode) for episode in episodes[::3]}
    rules = Rules(**told)
    gone = prune(episodes, rules, spare=lambda episode: id(episode) in spared)
    ids = {id(episode) for episode in gone}
    assert len(ids) == len(gone)
    assert ids <= {id(episode) for episode in episodes}
    assert not ids & spared
    if rules.run_id:
        assert {episode.run_id for episode in gone} <= {rules.run_id}
    if rules.max_bytes is None:
        scope = [e for e in episodes if rules.run_id in (None, e.run_id)]
        assert len(scope) - len(gone) >= min(len(scope), rules.keep_last or 0)
    # Once done, there is nothing left to do.
    rest = [episode for episode in episodes if id(episode) not in ids]
    if not rules.keep_failures and not spared and rules.max_bytes is None:
        assert prune(rest, rules) == []


file_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and not name.endswith(".meta.json"))
hostile = st.sampled_from(
    ["mine.txt", "notes", "film-0.txt", "film-0.mp4.bak", "film-1.mp4", "film-1.meta.json.old"]
)


@settings(deadline=None, database=None, derandomize=True, max_examples=40)
@given(
    others=st.lists(st.one_of(hostile, file_names), max_size=5, unique=True),
    told=anything,
    media=st.lists(
        st.sampled_from(["film-0.mp4", "mine.txt", "film-1.mp4", "film-0.meta.json", "notes"]),
        min_size=3, max_size=3,
    ),
)  # fmt: skip
def test_never_what_it_did_not_write(
    others: list[str], told: dict[str, Any], media: list[str]
) -> None:
    """Sidecars may name any file of the folder: only those that bear their own name go."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / HIDDEN).mkdir()
        (root / HIDDEN / "claim").write_bytes(b"")
        for name in others:
            (root / name).write_bytes(b"mine")
        for number, named in enumerate(media):
            put(root, f"film-{number}", media=named, run_id="mine" if number else "other")
        own = {f"film-{n}{suffix}" for n in range(3) for suffix in (".mp4", ".meta.json")}
        before = {path.name for path in root.iterdir()}
        with Catalog(root) as catalog:
            going = catalog.to_prune(Rules(**told))
            gone = catalog.remove(going)
            assert {e.name for e in gone} == {e.name for e in going}
            assert len(catalog) == 3 - len(gone)
        lost = before - {path.name for path in root.iterdir()}
        allowed = {f"{e.name}{suffix}" for e in gone for suffix in (".mp4", ".meta.json")}
        assert lost <= own & allowed
        assert (root / HIDDEN / "claim").exists()
        for episode in gone:
            assert not (root / f"{episode.name}.meta.json").exists()


def test_the_sidecar_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "film", media="film.mp4", steps="film.steps.json")
    for name in ("film.mp4", "film.steps.json"):
        (tmp_path / name).write_bytes(b"x")
    unlink, went = Path.unlink, []

    def slow(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name.startswith("film"):
            went.append(path.name)
            if len(went) == 3:
                raise KeyboardInterrupt
        unlink(path, *args, **kwargs)

    with Catalog(tmp_path) as catalog:
        monkeypatch.setattr(Path, "unlink", slow)
        with pytest.raises(KeyboardInterrupt):
            catalog.remove(list(catalog))
        monkeypatch.undo()
        assert went == ["film.mp4", "film.steps.json", "film.meta.json"]
        assert len(list_episodes(tmp_path).episodes) == 1
        assert len(catalog.remove(list(catalog))) == 1
    assert not list(tmp_path.glob("film*"))
    shutil.rmtree(tmp_path / HIDDEN)

"""What a catalog can be asked, and what it answers."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rollcam
from rollcam.episode import Episode, EpisodeStatus, Writer
from rollcam.errors import (
    EpisodeNotFound,
    MissingDependencyError,
    SettingError,
    StoreError,
    UsageError,
)
from rollcam.store.catalog import Catalog
from rollcam.store.files import list_episodes
from rollcam.store.layout import HIDDEN
from tests.hammer import put

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

FILMS: dict[str, dict[str, Any]] = {
    "a": {
        "episode_return": 3.0,
        "seed": 1,
        "env_id": "CartPole-v1",
        "started_at": "2026-11-21T10:00:01+00:00",
        "context_at_end": {"iteration": 1, "env_runners/return.mean": 5},
        "final_info": {"success": True},
    },
    "b": {
        "episode_return": math.nan,
        "seed": 2,
        "env_id": "CartPole-v1",
        "mode": "eval",
        "started_at": "2026-11-21T10:00:02+00:00",
        "context_at_end": {"iteration": 2, "lr": math.inf},
        "metadata": {"note": "Größe GROẞ", "deep": {"er": {"x": 4}}},
    },
    "inner/c": {
        "episode_return": -1.5,
        "seed": 2**70,
        "env_id": "Lake-v1",
        "run_id": "01RUN",
        "started_at": "2026-11-21T10:00:03+00:00",
        "context_at_start": {"training_iteration": 3},
        "writer": Writer("node-7", 42, "worker-3", 1),
        "codec": "vp9",
        "fps": 12.5,
    },
    "d": {
        "episode_return": None,
        "status": EpisodeStatus.FAILED,
        "reason": "renderer raised",
        "started_at": "2026-11-21T10:00:04+00:00",
        "kind": "clip",
        "episode_length": 100,
    },
    "e": {
        "episode_return": math.inf,
        "status": EpisodeStatus.TRUNCATED_BY_CRASH,
        "started_at": "2026-11-21T10:00:05+00:00",
        "terminated": True,
        "metadata": {"bad": "\ud800", "huge": 10**400, 'quo"te': 1, "": 2},
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / HIDDEN).mkdir()
    for name, facts in FILMS.items():
        put(tmp_path, name, **facts)
    return tmp_path


@pytest.fixture
def catalog(root: Path) -> Iterator[Catalog]:
    with Catalog(root) as opened:
        yield opened


def names(episodes: list[Episode]) -> list[str]:
    return [episode.name for episode in episodes]


def test_is_public() -> None:
    assert rollcam.Catalog is Catalog


def of_name(root: Path, name: str) -> Episode:
    """As the sidecars tell it, without an index."""
    (episode,) = (e for e in list_episodes(root).episodes if e.name == name)
    return episode


class TestAsASequence:
    def test_all_of_it_oldest_first(self, catalog: Catalog, root: Path) -> None:
        assert len(catalog) == 5
        assert names(list(catalog)) == list(FILMS)
        given, truth = list(catalog), list_episodes(root).episodes
        assert repr(given) == repr(truth)  # NaN is not equal to itself

    @pytest.mark.parametrize(
        ("wanted", "name"),
        [
            ("a", "a"), ("a.mp4", "a"), ("inner/c", "inner/c"), ("c", "inner/c"),
            ("c.meta.json", "inner/c"),
        ],
    )  # fmt: skip
    def test_one_by_name(self, catalog: Catalog, root: Path, wanted: str, name: str) -> None:
        assert catalog[wanted] == of_name(root, name)

    def test_one_by_id(self, catalog: Catalog) -> None:
        film = catalog["inner/c"]
        assert catalog.get(film.episode_id) == film
        assert catalog.get(film.episode_id[:-1].lower()) == film

    @pytest.mark.parametrize("wanted", ["none", "", "%", "_", "a'--", "\ud800", "01JD", "*", "\0"])
    def test_none_or_many(self, catalog: Catalog, wanted: str) -> None:
        with pytest.raises(EpisodeNotFound):
            catalog[wanted]

    def test_one_that_came_meanwhile(self, catalog: Catalog, root: Path) -> None:
        put(root, "new")
        assert catalog["new"].name == "new"

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="there is no folder"):
            Catalog(tmp_path / "none")

    def test_a_folder_that_went(self, catalog: Catalog, root: Path) -> None:
        shutil.rmtree(root)
        with pytest.raises(StoreError, match="there is no folder"):
            catalog.refresh()
        assert catalog.select() == []

    def test_closed(self, root: Path) -> None:
        catalog = Catalog(str(root))
        catalog.close()
        catalog.close()
        with pytest.raises(UsageError, match="closed"):
            catalog.select()

    def test_asked_from_many_threads(self, catalog: Catalog, root: Path) -> None:
        answers: list[int] = []

        def ask() -> None:
            for number in range(10):
                catalog.refresh()
                answers.append(len(catalog.select(env_id="CartPole-v1", limit=number + 2)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert answers == [2] * 40


class TestSelect:
    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({"env_id": "CartPole-v1"}, "a b"),
            ({"env_id": ["CartPole-v1", "Lake-v1"]}, "a b inner/c"),
            ({"env_id": None}, "d e"),
            ({"env_id": ["Lake-v1", None]}, "inner/c d e"),
            ({"env_id": []}, ""),
            ({"mode": "eval"}, "b"),
            ({"status": EpisodeStatus.FAILED}, "d"),
            ({"status": {"failed", "truncated_by_crash"}}, "d e"),
            ({"kind": "clip"}, "d"),
            ({"run_id": "01RUN"}, "inner/c"),
            ({"worker": "worker-3", "vector_index": 1}, "inner/c"),
            ({"episode_return": (0, None)}, "a e"),
            ({"episode_return": (None, 3.0)}, "a inner/c"),
            ({"episode_return": (None, None)}, "a inner/c e"),
            ({"episode_return": None}, "b d"),
            ({"episode_return": np.float64(3)}, "a"),
            ({"iteration": (2, 3)}, "b inner/c"),
            ({"seed": 2**70}, "inner/c"),
            ({"seed": np.int64(1)}, "a"),
            ({"terminated": True}, "e"),
            ({"codec": "vp9"}, "inner/c"),
            ({"started_at": ("2026-11-21T10:00:04", None)}, "d e"),
            ({"where": {"fps": (12, 13)}}, "inner/c"),
            ({"where": {"context_at_end.iteration": 2}}, "b"),
            ({"where": {"context_at_end.env_runners/return.mean": (5, 5)}}, "a"),
            ({"where": {"final_info.success": True}}, "a"),
            ({"where": {"metadata.deep.er.x": [3, 4]}}, "b"),
            ({"where": {"metadata.note": "Größe GROẞ"}}, "b"),
            ({"where": {"writer.pid": 42}}, "inner/c"),
            ({"where": {"no.such": None}}, "a b inner/c d e"),
            ({"where": {"it's.1": 1}}, ""),
            ({"text": "GRÖSSE gross"}, "b"),
            ({"text": "cartpole"}, "a b"),
            ({"text": "renderer RAISED"}, "d"),
            ({"text": "node-7"}, "inner/c"),
            ({"text": "a' OR 1 --"}, ""),
            ({"text": "  "}, "a b inner/c d e"),
            ({"env_id": "CartPole-v1", "mode": "train"}, "a"),
        ],
    )
    def test_filters(self, catalog: Catalog, asked: dict[str, Any], expected: str) -> None:
        assert names(catalog.select(**asked)) == expected.split()
        assert catalog.count(**asked) == len(expected.split())

    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            ("started_at", "a b inner/c d e"),
            ("-started_at", "e d inner/c b a"),
            ("episode_return", "inner/c a e b d"),
            ("-episode_return", "e a inner/c d b"),
            ("name", "a b d e inner/c"),
            (["-mode", "name"], "a d e inner/c b"),
            (["mode", "-name"], "b inner/c e d a"),
            ("-iteration", "inner/c b a e d"),
            ("context_at_end.iteration", "a b inner/c d e"),
            ("-writer.host", "inner/c e d b a"),
            ("seed", "a b inner/c d e"),
            ([], "a b inner/c d e"),
        ],
    )
    def test_order(self, catalog: Catalog, sort: Any, expected: str) -> None:
        assert names(catalog.select(sort=sort)) == expected.split()

    def test_pages(self, catalog: Catalog) -> None:
        pages = [names(catalog.select(sort="name", limit=2, offset=n)) for n in (0, 2, 4, 6)]
        assert pages == [["a", "b"], ["d", "e"], ["inner/c"], []]
        assert names(catalog.select(sort="name", offset=3)) == ["e", "inner/c"]
        assert catalog.select(limit=0) == []

    def test_a_predicate(self, catalog: Catalog) -> None:
        asked: list[str] = []

        def has_return(episode: Episode) -> bool:
            asked.append(episode.name)
            return episode.episode_return is not None

        assert names(catalog.select(has_return, sort="name", limit=1, offset=1)) == ["b"]
        assert asked == ["a", "b"]
        assert catalog.count(has_return, env_id="CartPole-v1") == 2
        with pytest.raises(ZeroDivisionError):
            catalog.select(lambda episode: 1 / 0 > 0)

    @pytest.mark.parametrize(
        "asked",
        [
            {"nonsense": 1},
            {"where": {"": 1}},
            {"where": {"id": 1}},
            {"where": {'a"b.c': 1}},
            {"where": {"x.y\0": 1}},
            {"sort": "nonsense"},
            {"sort": "-name; DROP TABLE episode"},
            {"sort": "--name"},
            {"episode_return": (1, 2, 3)},
            {"episode_return": object()},
            {"episode_return": {"a": 1}},
            {"episode_return": (b"x", None)},
            {"limit": -1},
            {"limit": 2.5},
            {"offset": "1"},
        ],
    )
    def test_what_cannot_be_asked(self, catalog: Catalog, asked: dict[str, Any]) -> None:
        with pytest.raises(SettingError):
            catalog.select(**asked)

    def test_values_and_columns_for_a_menu(self, catalog: Catalog) -> None:
        assert catalog.distinct("env_id") == {None: 2, "CartPole-v1": 2, "Lake-v1": 1}
        assert catalog.distinct("mode", status="complete") == {"train": 2, "eval": 1}
        assert catalog.distinct("terminated") == {False: 4, True: 1}
        assert catalog.distinct("context_at_end.iteration", limit=2) == {None: 3, 1: 1}
        assert catalog.distinct("seed", text="lake")
        columns = catalog.columns()
        assert {"episode_return", "context_at_end.iteration", "metadata.deep.er.x"} <= {*columns}
        for column in columns:
            catalog.select(sort=column)
            catalog.distinct(column)


class TestChanges:
    def test_since_a_generation(self, catalog: Catalog, root: Path) -> None:
        start = catalog.generation
        assert catalog.changes(start).episodes == []
        put(root, "new")
        put(root, "a", **{**FILMS["a"], "seed": 77})
        gone = catalog["d"].episode_id
        (root / "d.meta.json").unlink()
        generation = catalog.refresh()
        changes = catalog.changes(start)
        assert changes.is_complete
        assert sorted(names(changes.episodes)) == ["a", "new"]
        assert changes.removed == [gone]
        assert changes.generation == generation > start
        assert catalog.changes(generation).episodes == []

    def test_what_was_only_read_again_is_no_change(self, catalog: Catalog, root: Path) -> None:
        start = catalog.generation
        for path in root.glob("*.meta.json"):
            os.utime(path)
        catalog.refresh()
        assert catalog.changes(start).episodes == []

    def test_a_moved_episode_is_not_gone(self, catalog: Catalog, root: Path) -> None:
        start = catalog.generation
        (root / "a.meta.json").rename(root / "moved.meta.json")
        catalog.refresh()
        changes = catalog.changes(start)
        assert names(changes.episodes) == ["moved"]
        assert changes.removed == []

    def test_another_episode_under_the_same_name(self, catalog: Catalog, root: Path) -> None:
        start, before = catalog.generation, catalog["a"].episode_id
        put(root, "a", episode_id="01OTHER")
        catalog.refresh()
        changes = catalog.changes(start)
        assert [e.episode_id for e in changes.episodes] == ["01OTHER"]
        assert changes.removed == [before]

    def test_too_much_or_too_long_ago(self, catalog: Catalog) -> None:
        now = catalog.generation
        for since in (0, now - 10**9, now + 10**9):
            assert not catalog.changes(since).is_complete
        start = catalog.generation
        put(catalog.folder, "new-1")
        put(catalog.folder, "new-2")
        catalog.refresh()
        assert not catalog.changes(start, limit=1).is_complete
        assert catalog.changes(start, limit=2).is_complete

    def test_from_another_catalog(self, catalog: Catalog, root: Path) -> None:
        start = catalog.generation
        put(root, "new")
        with Catalog(root) as other:
            assert names(other.changes(start).episodes) == ["new"]


class TestProblems:
    def test_all_that_is_foreign_broken_or_hostile(self, catalog: Catalog, root: Path) -> None:
        for path in GOLDEN.iterdir():
            shutil.copy(path, root)
        (root / "folder.meta.json").mkdir()
        os.mkfifo(root / "pipe.meta.json")
        (root / "dangling.meta.json").symlink_to(root / "none")
        catalog.refresh()
        told = [str(problem) for problem in catalog.problems]
        truth = [str(problem) for problem in list_episodes(root).problems]
        assert sorted(told) == sorted(truth)
        assert len(catalog) == 5 + len(list(GOLDEN.glob("sidecar-*")))
        given = sorted(map(repr, catalog))  # NaN is not equal to itself
        assert given == sorted(map(repr, list_episodes(root).episodes))

    @pytest.mark.skipif(sys.platform != "linux", reason="names there are text")
    def test_a_name_that_is_no_text(self, catalog: Catalog, root: Path) -> None:
        name = os.fsdecode(b"film-\xff")
        shutil.copy(root / "a.meta.json", root / f"{name}.meta.json")
        shutil.copy(root / "a.meta.json", root / "new\nline.meta.json")
        (root / os.fsdecode(b"broken-\xfe.meta.json")).write_bytes(b"{")
        catalog.refresh()
        assert {name, "new\nline"} <= {*names(list(catalog))}
        assert catalog[name].name == name
        assert len(catalog.problems) == 1

    @pytest.mark.parametrize(
        "facts",
        [
            {"metadata": {f"key-{n}": n for n in range(5000)}},
            {"metadata": {"text": "x" * 10**6}},
            {"metadata": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}},
            {"metadata": {"k" * 10**5: 1, "nul\0": "nul\0", "\ud800": "\ud800"}},
            {"metadata": {"list": [[1], {"a": math.nan}], "nan": math.nan}},
            {"context_at_end": {"iteration": 10**300}},
            {"final_info": {"$": 1, ".": 2, "..": 3, "a.b.c": 4, "[0]": 5}},
            {"seed": -(2**64), "n_frames": 2**63, "episode_return": 1e308},
            {"reason": "\ud800 '; DROP TABLE episode; --"},
        ],
        ids=range(9),
    )
    def test_hostile_facts(self, catalog: Catalog, root: Path, facts: dict[str, Any]) -> None:
        put(root, "hostile", **facts)
        catalog.refresh()
        assert len(catalog) == 6
        assert repr(catalog["hostile"]) == repr(of_name(root, "hostile"))
        for column in catalog.columns():
            assert len(catalog.select(sort=column)) == 6
        assert not catalog._opened.is_in_memory


class TestRemove:
    def film(self, root: Path, name: str, **facts: Any) -> Episode:
        last = name.rpartition("/")[2]
        for suffix in (".mp4", ".steps.json", ".txt"):
            (root / f"{name}{suffix}").write_bytes(b"12345")
        return put(root, name, media=f"{last}.mp4", steps=f"{last}.steps.json", **facts)

    def test_its_own_files(self, catalog: Catalog, root: Path) -> None:
        film = self.film(root, "inner/film")
        assert catalog.size_on_disk(film) > 10
        assert catalog.remove([film]) == [film]
        assert sorted(path.name for path in (root / "inner").iterdir()) == [
            "c.meta.json", "film.txt",
        ]  # fmt: skip
        assert len(catalog) == 5

    def test_not_what_became_anothers(self, catalog: Catalog, root: Path, tmp_path: Path) -> None:
        old = self.film(root, "film")
        self.film(root, "film", episode_id="01NEW")
        (tmp_path / "other").mkdir()
        stray = self.film(tmp_path / "other", "stray")
        with Catalog(tmp_path / "other") as other:
            assert other.remove([old]) == []
            gone = other["stray"]
        outside = Episode(**{**_facts(gone), "folder": root / "inner", "name": "../film"})
        assert catalog.remove([old, outside]) == []
        assert (root / "film.mp4").exists()
        assert stray.media_path is not None
        assert stray.media_path.exists()

    def test_not_what_is_spared_meanwhile(self, catalog: Catalog, root: Path) -> None:
        film = self.film(root, "film")
        assert catalog.remove([film], spare=lambda episode: episode == film) == []
        assert catalog["film"] == film


def _facts(episode: Episode) -> dict[str, Any]:
    names = ("episode_id", "run_id", "status", "media", "steps")
    return {name: getattr(episode, name) for name in names}


class TestPandas:
    def test_a_row_each(self, catalog: Catalog) -> None:
        frame = catalog.to_pandas(sort="name")
        assert list(frame["name"]) == ["a", "b", "d", "e", "inner/c"]
        assert frame.loc[0, "context_at_end.iteration"] == 1
        assert frame.loc[4, "writer.host"] == "node-7"
        assert frame["episode_return"].max() == math.inf
        assert len(catalog.to_pandas(env_id="Lake-v1")) == 1
        assert len(catalog.to_pandas(env_id="none")) == 0

    def test_without_pandas(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingDependencyError, match='pip install "pandas"'):
            catalog.to_pandas()

"""Lists and charts out of the index: the same as the sidecars say, for any order and any filter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rollcam
from rollcam.errors import SettingError
from rollcam.store import index
from tests.gallery.serving import put


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rollcam.Catalog]:
    folder = tmp_path_factory.mktemp("lists")
    for n in range(12):
        reward = None if n == 5 else float(n * 7 % 12)
        put(folder, f"sub/ep-{n}", n, episode_return=reward, terminated=n % 2 == 0)
    put(folder, "long", 20, env_id="x" * 5000, episode_return=None)
    with rollcam.Catalog(folder) as opened:
        yield opened


@pytest.mark.parametrize("sort", ["seed", "-episode_return", "context_at_end.iteration", "name"])
def test_a_table_is_what_select_gives(catalog: rollcam.Catalog, sort: str) -> None:
    names = ["episode_id", "episode_return", "terminated", "context_at_end.iteration"]
    wanted = [
        (e.episode_id, e.episode_return, e.terminated, e.context_at_end["iteration"])
        for e in catalog.select(sort=sort, limit=6, offset=2)
    ]
    found = catalog.table(names, sort=sort, limit=6, offset=2)
    assert [row[1:] for row in found] == wanted
    assert all(isinstance(row[3], bool) for row in found)
    numbers = catalog.order(sort=sort)
    assert catalog.rows(numbers[2:8], names) == found
    assert catalog.values(numbers[2:8], names) == wanted
    assert [catalog.number(row[0]) for row in found] == numbers[2:8]


def test_many_at_once_are_the_same(
    catalog: rollcam.Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = catalog.order(sort="-seed", where={"terminated": True})
    few = catalog.rows(numbers, ["seed"])
    monkeypatch.setattr(index, "_MAX_CHOSEN", 1)
    assert catalog.rows(numbers, ["seed"]) == few


def test_what_is_gone_is_left_out_or_nothing(catalog: rollcam.Catalog) -> None:
    assert catalog.rows([10**6], ["seed"]) == []
    assert catalog.values([10**6], ["seed", "name"]) == [(None, None)]
    assert catalog.number("none.meta.json") is None
    assert catalog.number("../x") is None


def test_ranges(catalog: rollcam.Catalog) -> None:
    found = catalog.ranges(["seed", "episode_return", "vector_index"], where={"terminated": True})
    assert found == {"seed": (0, 10), "episode_return": (0.0, 10.0), "vector_index": None}
    found = catalog.ranges(["context_at_end.iteration"], text="ep-3")
    assert found == {"context_at_end.iteration": (1, 1)}


def test_long_text_is_cut(catalog: rollcam.Catalog) -> None:
    (row,) = catalog.table(["env_id"], where={"seed": 20})
    assert row[1] == "x" * 500
    assert "x" * 500 in catalog.distinct("env_id")


@pytest.mark.parametrize("column", ["none", "a'b", "", 'e.id"', "x" * 300])
def test_columns_that_cannot_be(catalog: rollcam.Catalog, column: str) -> None:
    for ask in (catalog.table, catalog.ranges):
        with pytest.raises(SettingError, match="no column"):
            ask([column])

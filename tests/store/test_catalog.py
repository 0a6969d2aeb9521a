from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollcam.episode import Episode, EpisodeStatus
from rollcam.errors import EpisodeNotFound, RollcamWarning, StoreError
from rollcam.store import files, sidecar
from rollcam.store.catalog import Catalog
from rollcam.store.layout import Folder
from rollcam.store.names import HIDDEN

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

Add = Callable[..., Episode]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Folder(tmp_path / "videos").root


@pytest.fixture
def add(root: Path) -> Add:
    """Put an episode with all its files into the folder."""

    def put(
        name: str, *, episode_id: str = "", media: str | None = ".mp4", **facts: Any
    ) -> Episode:
        last = name.rpartition("/")[2]
        episode = Episode(
            episode_id=episode_id or f"01JD{len(list(root.rglob('*.meta.json'))):04d}",
            run_id="01JC",
            name=name,
            status=EpisodeStatus.COMPLETE if media else EpisodeStatus.FAILED,
            media=media and last + media,
            steps=media and f"{last}.steps.json",
            folder=root,
            **facts,
        )
        assert episode.sidecar_path is not None
        episode.sidecar_path.parent.mkdir(parents=True, exist_ok=True)
        for path in (episode.media_path, episode.steps_path):
            if path is not None:
                path.write_bytes(b"{}")
        episode.sidecar_path.write_text(sidecar.to_json(episode))
        return episode

    return put


def find(root: Path, wanted: str) -> Episode:
    with Catalog(root) as catalog:
        return catalog.get(wanted)


def lying(root: Path) -> list[str]:
    found = (path.relative_to(root) for path in root.rglob("*"))
    return sorted(path.as_posix() for path in found if path.parts[0] != HIDDEN)


def clear_quietly(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files.clear(root)


class TestList:
    def test_oldest_first(self, root: Path, add: Add) -> None:
        add("c", started_at="2026-11-21T10:00:02+00:00")
        add("a", started_at="2026-11-21T10:00:01+00:00", episode_id="01B")
        add("b", started_at="2026-11-21T10:00:01+00:00", episode_id="01A")
        add("d")
        assert [e.name for e in files.list_episodes(root).episodes] == ["d", "b", "a", "c"]

    def test_what_was_written_is_what_is_read(self, root: Path, add: Add) -> None:
        added = [add("a", seed=1), add("deep/er/b", metadata={"x": [1]}), add("c", media=None)]
        listing = files.list_episodes(root)
        assert listing.episodes == added
        assert listing.problems == []
        assert files.list_episodes(str(root)).episodes == added

    def test_folders_in_it(self, root: Path, add: Add) -> None:
        add("a/ep")
        add("b/ep")
        listing = files.list_episodes(root)
        assert [e.name for e in listing.episodes] == ["a/ep", "b/ep"]
        assert {e.folder for e in listing.episodes} == {root}
        assert [e.name for e in files.list_episodes(root / "b").episodes] == ["b/ep"]

    def test_a_folder_that_was_copied_elsewhere(self, root: Path, add: Add, tmp_path: Path) -> None:
        add("a/ep")
        shutil.copytree(root / "a", tmp_path / "copied")
        (film,) = files.list_episodes(tmp_path / "copied").episodes
        assert (film.folder, film.name) == (tmp_path / "copied", "ep")
        assert film.media_path == tmp_path / "copied" / "ep.mp4"

    def test_what_is_no_sidecar_of_ours_stops_nothing(self, root: Path, add: Add) -> None:
        foreign = sorted(GOLDEN.glob("not-ours-*.meta.json"))
        for path in (*foreign, *GOLDEN.glob("sidecar-v1-*.meta.json")):
            shutil.copy(path, root)
        (root / "folder.meta.json").mkdir()
        add("ep")
        listing = files.list_episodes(root)
        assert len(listing.episodes) == 4
        assert len(listing.problems) == len(foreign) + 1
        for path in (*foreign, root / "folder.meta.json"):
            assert sum(path.name in str(problem) for problem in listing.problems) == 1

    def test_our_corner_is_left_out(self, root: Path, add: Add) -> None:
        add("ep")
        for corner in (root / HIDDEN / "partial", root / "inner" / HIDDEN):
            corner.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "ep.meta.json", corner)
        assert len(files.list_episodes(root).episodes) == 1

    def test_a_folder_inside_a_folder_of_that_name(
        self, tmp_path: Path, add: Add, root: Path
    ) -> None:
        add("ep")
        inner = tmp_path / HIDDEN / "videos"
        shutil.copytree(root, inner)
        assert len(files.list_episodes(inner).episodes) == 1

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        assert files.list_episodes(tmp_path) == files.Listing()

    @pytest.mark.parametrize("name", ["none", "file"])
    def test_no_folder(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match="there is no folder"):
            files.list_episodes(tmp_path / name)


class TestFind:
    @pytest.mark.parametrize(
        "wanted",
        [
            "a/ep-0",
            "ep-0",
            "a/ep-0.mp4",
            "ep-0.mp4",
            "ep-0.meta.json",
            "01JDA00000",
            "01JDA",
            "01jda",
        ],
    )
    def test_by_name_or_id(self, root: Path, add: Add, wanted: str) -> None:
        film = add("a/ep-0", episode_id="01JDA00000")
        add("a/ep-01", episode_id="01JDB00000")
        assert find(root, wanted) == film

    @pytest.mark.parametrize("told", ["ep", "a/ep"])
    def test_by_the_name_that_it_was_given_since(self, root: Path, add: Add, told: str) -> None:
        film = add(told)
        assert film.sidecar_path is not None
        (root / "b").mkdir()
        film.sidecar_path.rename(root / "b" / "other.meta.json")
        found = find(root, "other")
        assert found.sidecar_path == root / "b" / "other.meta.json"
        with Catalog(root) as catalog:
            assert [e.name for e in catalog.select(where={"name": found.name})] == [found.name]
            assert not catalog.select(where={"name": told})

    def test_text(self, root: Path, add: Add) -> None:
        film = add("lake", media=".cast")
        assert find(root, "lake.cast") == film

    def test_the_whole_name_before_a_part_of_it(self, root: Path, add: Add) -> None:
        outer, inner = add("ep"), add("a/ep")
        assert find(root, "ep") == outer
        assert find(root, "a/ep") == inner

    def test_a_name_before_the_beginning_of_an_id(self, root: Path, add: Add) -> None:
        film = add("01JD", episode_id="01JE0")
        add("other", episode_id="01JD0")
        assert find(root, "01JD") == film

    @pytest.mark.parametrize("wanted", ["ep", "01JD"])
    def test_more_than_one(self, root: Path, add: Add, wanted: str) -> None:
        for number in range(7):
            add(f"{number}/ep", episode_id=f"01JD{number}")
        with pytest.raises(EpisodeNotFound, match="names 7 episodes") as caught:
            find(root, wanted)
        assert "01JD0" in str(caught.value)

    @pytest.mark.parametrize(
        "wanted", ["p", "ep-", "../videos/ep-0", "02", "ep-0.mp4.mp4", "*", "\0"]
    )
    def test_none(self, root: Path, add: Add, wanted: str) -> None:
        add("ep-0")
        with pytest.raises(EpisodeNotFound, match="rollcam ls"):
            find(root, wanted)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="there is no folder"):
            find(tmp_path / "none", "ep")

    def test_nothing_names_nothing(self, root: Path, add: Add) -> None:
        add("ep-0")
        with pytest.raises(EpisodeNotFound):
            find(root, "")

    def test_a_name_that_ends_like_a_film(self, root: Path, add: Add) -> None:
        film = add("ep.mp4")
        assert find(root, "ep.mp4") == film

    @pytest.mark.parametrize("wanted", ["lake.json", "lake.steps.json"])
    def test_text_of_version_1(self, root: Path, add: Add, wanted: str) -> None:
        film = add("lake", media=".json")
        assert find(root, wanted) == film


class TestDelete:
    def test_all_its_files_and_no_others(self, root: Path, add: Add) -> None:
        film = add("a/ep")
        add("a/ep_2")
        (root / "a" / "ep.txt").write_bytes(b"mine")
        files.delete(film)
        assert lying(root) == [
            "a",
            "a/ep.txt",
            "a/ep_2.meta.json",
            "a/ep_2.mp4",
            "a/ep_2.steps.json",
        ]
        files.delete(film)

    def test_as_it_was_read(self, root: Path, add: Add) -> None:
        add("ep")
        add("lost", media=None)
        for film in files.list_episodes(root).episodes:
            files.delete(film)
        assert lying(root) == []

    def test_without_a_folder(self, root: Path, add: Add) -> None:
        add("ep")
        files.delete(sidecar.from_json((root / "ep.meta.json").read_bytes()))
        assert len(lying(root)) == 3

    def test_the_sidecar_goes_last(self, root: Path, add: Add) -> None:
        film = add("ep")
        assert film.steps_path is not None
        film.steps_path.unlink()
        film.steps_path.mkdir()  # cannot be deleted as a file
        with pytest.raises(OSError, match="steps"):
            files.delete(film)
        assert lying(root) == ["ep.meta.json", "ep.steps.json"]

    @pytest.mark.parametrize("media", ["../mine.txt", "..", "inner/mine.txt", "", "."])
    def test_a_forged_sidecar_reaches_nothing_else(self, root: Path, add: Add, media: str) -> None:
        for path in (root.parent / "mine.txt", root / "inner" / "mine.txt"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"mine")
        add("ep")
        forged = {**json.loads((root / "ep.meta.json").read_bytes()), "media": media}
        (root / "ep.meta.json").write_text(json.dumps(forged))
        listing = files.list_episodes(root)
        assert (listing.episodes, len(listing.problems)) == ([], 1)
        with pytest.warns(RollcamWarning):
            files.clear(root)
        assert (root.parent / "mine.txt").read_bytes() == b"mine"
        assert (root / "inner" / "mine.txt").read_bytes() == b"mine"


class TestClear:
    def test_all_episodes(self, root: Path, add: Add) -> None:
        for name in ("a", "b", "c"):
            add(name)
        add("lost", media=None)
        clear_quietly(root)
        assert lying(root) == []
        assert (root / HIDDEN).is_dir()
        clear_quietly(root)

    def test_what_no_sidecar_names_stays_and_is_named(self, root: Path, add: Add) -> None:
        add("ep")
        mine = ["ep.txt", "old.mp4", "old.meta.json"]
        for name in mine:
            (root / name).write_bytes(b"mine")
        with pytest.warns(RollcamWarning, match=r"old\.meta\.json, old\.mp4") as caught:
            files.clear(root)
        assert len(caught) == 1
        assert lying(root) == sorted(mine)
        assert all((root / name).read_bytes() == b"mine" for name in mine)

    def test_of_many_some_are_named(self, root: Path) -> None:
        for number in range(20):
            (root / f"file-{number:02d}").write_bytes(b"")
        with pytest.warns(RollcamWarning, match=r"file-00, .*file-09, \.\.\.$"):
            files.clear(root)

    def test_in_inner_folders(self, root: Path, add: Add) -> None:
        add("a/b/ep")
        (root / "a" / "mine.txt").write_bytes(b"mine")
        with pytest.warns(RollcamWarning):
            files.clear(root)
        assert [name for name in lying(root) if (root / name).is_file()] == ["a/mine.txt"]

    def test_inner_folders_that_are_left_empty(self, root: Path, add: Add) -> None:
        add("a/b/ep")
        add("a/ep")
        clear_quietly(root)
        assert lying(root) == []

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="there is no folder"):
            files.clear(tmp_path / "none")

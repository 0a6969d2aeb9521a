"""The index as a file: what others do to it, and what the folder does meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollcam.episode import Episode
from rollcam.store import index_file, scan, sidecar
from rollcam.store.catalog import Catalog
from rollcam.store.files import list_episodes
from rollcam.store.index_file import IndexFile
from rollcam.store.layout import HIDDEN
from tests.films import wait_until
from tests.hammer import check, facts_for, put

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / HIDDEN).mkdir()
    for number in range(5):
        put(tmp_path, f"ep-{number}", **facts_for(f"ep-{number}", number))
    return tmp_path


@pytest.fixture
def catalog(root: Path) -> Iterator[Catalog]:
    with Catalog(root) as opened:
        yield opened


def index_files(root: Path) -> list[Path]:
    return [root / HIDDEN / f"index.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]


def is_in_memory(catalog: Catalog) -> bool:
    return catalog._opened.is_in_memory


def names(catalog: Catalog) -> list[str]:
    return [episode.name for episode in catalog.select(sort="name")]


def same_as_the_sidecars(catalog: Catalog) -> bool:
    catalog.refresh()
    key = lambda episode: episode.name  # noqa: E731
    return sorted(catalog, key=key) == sorted(list_episodes(catalog.folder).episodes, key=key)


def old(path: Path) -> None:
    """Make a file old enough that its stamp is believed."""
    os.utime(path, ns=(1, 1))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe every stamp at once, as if all files were old."""
    monkeypatch.setattr(scan, "YOUNG_NS", -1)


class TestTheFolder:
    def test_new_and_removed(self, catalog: Catalog, root: Path) -> None:
        put(root, "inner/new", **facts_for("inner/new", 9))
        (root / "ep-1.meta.json").unlink()
        catalog.refresh()
        assert names(catalog) == ["ep-0", "ep-2", "ep-3", "ep-4", "inner/new"]
        shutil.rmtree(root / "inner")
        catalog.refresh()
        assert len(catalog) == 4

    @pytest.mark.parametrize("is_young", [True, False])
    def test_rewritten_in_place(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, is_young: bool
    ) -> None:
        if not is_young:
            monkeypatch.setattr(scan, "YOUNG_NS", -1)
        with Catalog(root) as catalog:
            path = root / "ep-1.meta.json"
            before = path.stat()
            text = path.read_text().replace('"seed": 1', '"seed": 7')
            assert text != path.read_text()
            path.write_text(text)
            # Size, inode and mtime are as before; so a young file is not believed at all.
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert path.stat().st_ino == before.st_ino
            catalog.refresh()
            assert [e.name for e in catalog.select(seed=7)] == ["ep-1"]

    def test_replaced_by_one_that_is_older(self, root: Path, settled: None, tmp_path: Path) -> None:
        with Catalog(root) as catalog:
            put(root, "ep-1", **facts_for("ep-1", 100))
            old(root / "ep-1.meta.json")
            catalog.refresh()
            assert catalog["ep-1"].seed == 100

    def test_a_file_under_another_ones_inode(self, root: Path, settled: None) -> None:
        with Catalog(root) as catalog:
            inode = (root / "ep-1.meta.json").stat().st_ino
            text = sidecar.to_json(put(root, "ep-1", **facts_for("ep-1", 50)))
            for _ in range(20):  # ext4 gives a free inode out again at once
                (root / "ep-1.meta.json").unlink()
                (root / "ep-1.meta.json").write_text(text)
                if (root / "ep-1.meta.json").stat().st_ino == inode:
                    break
            catalog.refresh()
            assert catalog["ep-1"].seed == 50

    def test_what_was_not_refreshed_is_not_given_out_either(
        self, catalog: Catalog, root: Path
    ) -> None:
        put(root, "ep-1", **facts_for("ep-1", 8))
        (root / "ep-3.meta.json").unlink()
        (root / "ep-4.meta.json").write_text("{")
        # Asked for eval episodes, it finds out that ep-1 is none any more, and knows it from then on.
        assert catalog.select(mode="eval") == []
        found = catalog.select(mode="train", sort="name")
        assert [e.name for e in found] == ["ep-0", "ep-1", "ep-2"]
        assert [e.seed for e in catalog.select(sort="-seed", limit=1)] == [8]
        assert len(catalog.problems) == 1

    def test_a_sidecar_that_breaks_and_heals(self, catalog: Catalog, root: Path) -> None:
        path = root / "ep-1.meta.json"
        text = path.read_text()
        path.write_text(text[:100])
        catalog.refresh()
        assert len(catalog) == 4
        assert "is no JSON" in str(catalog.problems[0])
        path.write_text(text)
        catalog.refresh()
        assert (len(catalog), catalog.problems) == (5, [])

    def test_large_folders_are_compared_in_slices(
        self, root: Path, settled: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scan, "EXACT", 3)
        monkeypatch.setattr(scan, "SLICE", 2)
        with Catalog(root) as catalog:
            for number in range(5):
                path = root / f"ep-{number}.meta.json"
                path.write_text(path.read_text().replace('"seed"', '"sead"'))
            left = []
            for _ in range(3):
                catalog.refresh()
                left.append(catalog.count(seed=(0, None)))
            assert left == [3, 1, 0]

    def test_everything_of_a_large_folder_on_demand(
        self, root: Path, settled: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scan, "EXACT", 1)
        monkeypatch.setattr(scan, "SLICE", 1)
        with Catalog(root) as catalog:
            for number in range(5):
                put(root, f"ep-{number}", **facts_for(f"ep-{number}", 1000 + number))
            catalog.refresh(all_of_it=True)
            assert catalog.count(seed=(1000, None)) == 5

    def test_a_quiet_folder_is_not_listed_again(
        self, root: Path, settled: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Catalog(root) as catalog:
            catalog.refresh()
            monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("it was listed"))
            catalog.refresh()
            monkeypatch.undo()
            put(root, "new", **facts_for("new", 1))
            catalog.refresh()
            assert len(catalog) == 6


class TestTheFile:
    def test_is_used_again(self, root: Path, catalog: Catalog, settled: None) -> None:
        assert not is_in_memory(catalog)
        catalog.refresh()
        with Catalog(root) as second:
            generation = second.generation
            second.refresh()
            assert second.generation == generation
            assert len(second) == 5

    @pytest.mark.parametrize("lost", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]], ids=str)
    def test_deleted_while_open(self, root: Path, catalog: Catalog, lost: list[int]) -> None:
        for which in lost:
            index_files(root)[which].unlink()
        put(root, "new", **facts_for("new", 1))
        assert same_as_the_sidecars(catalog)
        assert len(catalog) == 6
        assert not is_in_memory(catalog)
        with Catalog(root) as second:
            assert same_as_the_sidecars(second)

    @pytest.mark.parametrize("ending", ["close", "forget"])
    def test_an_old_connection_leaves_the_new_files_alone(self, root: Path, ending: str) -> None:
        first = Catalog(root)
        for file in index_files(root):
            file.unlink()
        with Catalog(root) as second:
            before = [file.stat().st_ino for file in index_files(root)]
            if ending == "close":
                first.close()
            del first
            gc.collect()
            assert [file.stat().st_ino for file in index_files(root)] == before
            assert same_as_the_sidecars(second)

    def test_the_end_of_python_leaves_the_new_files_alone(self, root: Path) -> None:
        code = (
            "import sys\n"
            "from rollcam import Catalog\n"
            "catalog = Catalog(sys.argv[1])\n"
            "print(len(catalog), flush=True)\n"
            "sys.stdin.readline()\n"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        with other:
            assert other.stdout is not None
            assert other.stdout.readline() == "5\n"
            for file in index_files(root):
                file.unlink()
            with Catalog(root) as second:
                before = [file.stat().st_ino for file in index_files(root)]
                other.communicate("\n", timeout=30)
                assert [file.stat().st_ino for file in index_files(root)] == before
                assert same_as_the_sidecars(second)
        assert other.returncode == 0

    def test_closing_leaves_one_file(self, root: Path) -> None:
        Catalog(root).close()
        assert [file.exists() for file in index_files(root)] == [True, False, False]

    @pytest.mark.parametrize(
        "content", [b"", b"nonsense" * 1000, b"SQLite format 3\0" + b"\0" * 5000]
    )
    def test_nonsense_in_its_place(self, root: Path, content: bytes) -> None:
        index_files(root)[0].write_bytes(content)
        with Catalog(root) as catalog:
            assert same_as_the_sidecars(catalog)
            assert not is_in_memory(catalog)

    @pytest.mark.parametrize("part", range(0, 20, 3))
    def test_damaged_while_open(self, root: Path, catalog: Catalog, part: int) -> None:
        catalog._opened._file.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file = index_files(root)[0]
        size = file.stat().st_size
        with open(file, "r+b") as spoilt:
            spoilt.seek(size * part // 20)
            spoilt.write(os.urandom(size // 10))
        put(root, "new", **facts_for("new", 3))
        assert same_as_the_sidecars(catalog)
        check(catalog.select(sort="-seed"))

    @pytest.mark.parametrize(
        "change",
        [
            "PRAGMA user_version = 99",
            "DROP TABLE words",
            "CREATE TABLE more (x)",
            "DELETE FROM state",
            "UPDATE state SET generation = 'x'",
            "UPDATE episode SET path = CAST('../../etc/x.meta.json' AS BLOB) WHERE id = 1",
            "UPDATE episode SET path = 'text' WHERE id = 1",
            "UPDATE episode SET stamp = 'text', crc = -1",
        ],
    )
    def test_another_version_or_a_forgery(self, root: Path, change: str) -> None:
        Catalog(root).close()
        with contextlib.closing(sqlite3.connect(index_files(root)[0])) as db:
            db.execute(change)
            db.commit()
        with Catalog(root) as catalog:
            assert same_as_the_sidecars(catalog)
            assert catalog.select(limit=100, sort="name")[0].name == "ep-0"

    def test_facts_that_no_sidecar_tells_are_not_given_out(self, root: Path) -> None:
        Catalog(root).close()
        with contextlib.closing(sqlite3.connect(index_files(root)[0])) as db:
            db.execute("UPDATE episode SET name = 'evil', episode_return = 1e9")
            db.commit()
        with Catalog(root) as catalog:
            given = catalog.select(sort="-episode_return")
            assert {e.name for e in given} == {f"ep-{n}" for n in range(5)}
            check(given)

    def test_made_anew_on_demand(self, root: Path, catalog: Catalog) -> None:
        before = catalog.generation
        catalog.reindex()
        assert len(catalog) == 5
        assert not catalog.changes(before).is_complete


class TestInMemory:
    def test_a_folder_that_is_none_of_ours_stays_as_it_is(self, tmp_path: Path) -> None:
        shutil.copy(GOLDEN / "not-ours-gym.meta.json", tmp_path)
        with Catalog(tmp_path) as catalog:
            assert len(catalog.problems) == 1
            assert is_in_memory(catalog)
        assert [path.name for path in tmp_path.iterdir()] == ["not-ours-gym.meta.json"]

    def test_a_copied_folder_gets_one(self, root: Path, tmp_path: Path) -> None:
        copied = tmp_path / "copied"
        copied.mkdir()
        shutil.copy(root / "ep-1.meta.json", copied)
        with Catalog(copied) as catalog:
            assert not is_in_memory(catalog)

    @pytest.mark.parametrize("obstacle", ["file", "folder", "link", "hidden link"])
    def test_something_in_the_way(self, root: Path, tmp_path: Path, obstacle: str) -> None:
        path = index_files(root)[0]
        victim = tmp_path / "precious"
        victim.write_bytes(b"not yours")
        if obstacle == "file":
            shutil.rmtree(root / HIDDEN)
            (root / HIDDEN).write_bytes(b"")
        elif obstacle == "folder":
            path.mkdir()
        elif obstacle == "link":
            path.symlink_to(victim)
        else:
            shutil.rmtree(root / HIDDEN)
            (tmp_path / "elsewhere").mkdir()
            (root / HIDDEN).symlink_to(tmp_path / "elsewhere")
        with Catalog(root) as catalog:
            assert is_in_memory(catalog)
            assert same_as_the_sidecars(catalog)
        assert victim.read_bytes() == b"not yours"

    def test_a_disk_that_cannot_be_written(self, root: Path) -> None:
        # In namespaces of its own, so that nothing is left mounted.
        script = 'mount --bind -o ro "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3" "$1"'
        code = (
            "import sys, rollcam\n"
            "catalog = rollcam.Catalog(sys.argv[1])\n"
            "print(catalog._opened.is_in_memory, len(catalog), len(catalog.select(mode='eval')))\n"
        )
        command = ["unshare", "-rm", "sh", "-ec", script, "sh", str(root), sys.executable, code]
        if not shutil.which("unshare") or subprocess.run(
            ["unshare", "-rm", "sh", "-c", 'mount --bind "$1" "$1"', "sh", str(root)],
            capture_output=True, check=False,
        ).returncode:  # fmt: skip
            pytest.skip("nothing can be mounted here")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "True 5 2\n", done.stderr

    def test_a_disk_of_many_hosts(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mounts = tmp_path / "mountinfo"
        monkeypatch.setattr(index_file, "_MOUNTS", mounts)
        line = "36 35 98:0 / {} rw,noatime master:1 - {} server:/x rw\n"
        mounts.write_text(line.format("/", "ext4") + line.format(root, "nfs4"))
        with Catalog(root) as catalog:
            assert is_in_memory(catalog)
        mounts.write_text(line.format("/", "nfs4") + line.format(root, "ext4"))
        assert IndexFile.may_be_at(root)

    def test_somebody_holds_it_for_ever(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(index_file, "_BUSY_S", 0.05)
        Catalog(root).close()
        with contextlib.closing(sqlite3.connect(index_files(root)[0])) as db:
            db.execute("BEGIN IMMEDIATE")
            put(root, "new", **facts_for("new", 3))
            with Catalog(root) as catalog:
                assert is_in_memory(catalog)
                assert len(catalog) == 6
            assert index_files(root)[0].exists()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child(self, root: Path, catalog: Catalog) -> None:
        child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(BaseException):
                with Catalog(root) as other:
                    is_right = is_in_memory(other) and len(other) == 5
                is_right = is_right and len(catalog) == 5 and is_in_memory(catalog)
                catalog.close()
                status = 0 if is_right else 1
            os._exit(status)
        ended: list[int] = []

        def has_ended() -> bool:
            done, status = os.waitpid(child, os.WNOHANG)
            ended.extend([status] if done else [])
            return bool(ended)

        wait_until(has_ended, "the child has ended", 30)
        assert ended == [0]
        assert same_as_the_sidecars(catalog)
        assert not is_in_memory(catalog)


class TestManyProcesses:
    N_SECONDS = 3.0

    def start(self, root: Path, *kinds: str) -> list[subprocess.Popen[str]]:
        return [
            subprocess.Popen(
                [sys.executable, "-m", "tests.hammer", kind, str(root), str(self.N_SECONDS)],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for kind in kinds
        ]  # fmt: skip

    @pytest.mark.parametrize("others", [[], ["spoil"]], ids=["undisturbed", "index spoilt"])
    def test_nothing_but_the_truth(self, tmp_path: Path, others: list[str]) -> None:
        (tmp_path / HIDDEN).mkdir()
        running = self.start(tmp_path, "write", "write", "read", "read", *others)
        told = [(*process.communicate(timeout=120), process.returncode) for process in running]
        assert [(errors, status) for _, errors, status in told] == [("", 0)] * len(running)
        rounds = [int(out.split()[0]) for out, _, _ in told if out]
        assert len(rounds) == 2
        assert min(rounds) > 1
        with Catalog(tmp_path) as catalog:
            assert not is_in_memory(catalog)
            assert same_as_the_sidecars(catalog)
            check(list(catalog))

    def test_one_index_for_all(self, root: Path) -> None:
        """What one process reads, the other does not have to read again."""
        with Catalog(root) as first, Catalog(root) as second:
            put(root, "new", **facts_for("new", 3))
            first.refresh()
            assert second.generation == first.generation
            assert len(second) == 6

    def test_both_add_the_same(self, root: Path) -> None:
        with Catalog(root) as first, Catalog(root) as second:
            put(root, "new", **facts_for("new", 3))
            for catalog in (first, second, first):
                catalog.refresh()
            assert names(first) == names(second)
            assert len(first) == 6


def test_hammer_would_notice_a_mixture() -> None:
    mixed = Episode(
        episode_id="1", run_id="2", name="a", status="complete",
        **{**facts_for("a", 3), "seed": 4},
    )  # fmt: skip
    with pytest.raises(AssertionError):
        check([mixed])

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from rollcam.errors import SettingError, StoreError
from rollcam.store.layout import RESERVE, Folder, NameTemplate, clean_name, write_atomically
from rollcam.store.names import HIDDEN, MEDIA_SUFFIXES, SIDECAR_SUFFIX, STEPS_SUFFIX, taking

SUFFIXES = (*MEDIA_SUFFIXES, SIDECAR_SUFFIX, STEPS_SUFFIX)
SURROGATE = "\udcff"  # how Python tells a byte that is no text


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "videos")


def take(folder: Folder, wanted: str) -> str:
    """Take a name and put a film there, as the recorder does."""
    with held(folder, wanted) as name:
        at(folder, name, ".mp4").write_bytes(b"film")
    return name


def held(folder: Folder, wanted: str) -> AbstractContextManager[str]:
    return taking(folder.root, wanted, folder.claim.claim_id)


def at(folder: Folder, name: str, suffix: str) -> Path:
    return folder.root / f"{name}{suffix}"


def claims(folder: Folder) -> list[str]:
    """The names that are being taken."""
    return sorted(path.name for path in (folder.root / HIDDEN / "claims").glob("*.name"))


class TestCleanName:
    @pytest.mark.parametrize(
        ("told", "name"),
        [
            ("rl-video-episode-0", "rl-video-episode-0"),
            ("a/b/c", "a/b/c"),
            ("日本語 \U0001f3ac é", "日本語 \U0001f3ac é"),
            ("../../etc/passwd", "etc/passwd"),
            ("/etc/passwd", "etc/passwd"),
            ("//a///b/", "a/b"),
            ("a/./b/../c", "a/b/c"),
            ("...", "..."),
            (" a / b ", "a/b"),
            (".rollcam/claims/a", "claims/a"),
            (" .rollcam/a", "a"),
            ("a/.rollcam/b", "a/b"),
            ("a\0b\nc\x1b[31md\x7f", "a_b_c_[31md_"),
            ("con", "_con"),
            ("Con.mp4/x", "_Con.mp4/x"),
            ("a/NUL", "a/_NUL"),
            ("com1.tar", "_com1.tar"),
            ("lpt9", "_lpt9"),
            ("console", "console"),
            ("com10", "com10"),
            ("~", "~"),
            ("-rf", "-rf"),
        ],
    )
    @pytest.mark.skipif(os.name == "nt", reason="more is forbidden there")
    def test_stays_inside_the_folder(self, told: str, name: str) -> None:
        assert clean_name(told) == name
        assert clean_name(name) == name

    @pytest.mark.parametrize(
        "told", ["", " ", ".", "..", "/", "//", "../..", " / ", ".rollcam", "\t"]
    )
    def test_nothing_left(self, told: str) -> None:
        if told == "\t":
            assert clean_name(told) == "_"
            return
        with pytest.raises(SettingError, match="is no name for a file"):
            clean_name(told)

    @pytest.mark.parametrize("letter", ["x", "ü", "日", "\U0001f3ac"])
    def test_very_long(self, letter: str, folder: Folder) -> None:
        name = clean_name(f"{letter * 1000}/{letter * 1000}")
        parts = name.split("/")
        assert len(parts) == 2
        for part in parts:
            assert set(part) == {letter}
            assert 170 < len(part.encode()) <= 200
        # Room is left for a number and every suffix.
        assert take(folder, name) == name
        assert take(folder, name) == f"{name}_2"
        at(folder, f"{name}_1000", SIDECAR_SUFFIX).write_bytes(b"")

    def test_text_that_is_none(self) -> None:
        clean_name(f"a{SURROGATE}b").encode()

    def test_our_corner_in_capitals(self) -> None:
        assert clean_name(".ROLLCAM/a") == "a"


class TestTemplate:
    @pytest.mark.parametrize(
        ("template", "name"),
        [
            ("{env_id}-{episode_index}", "CartPole-v1-7"),
            ("{env_id}/{iteration:04d}/{episode_index:06d}", "CartPole-v1/0003/000007"),
            ("{episode_return:.1f}", "-12.3"),
            ("{episode_return:+08.2f}", "-0012.35"),
            ("{success}", "True"),
            ("{{{episode_index}}}", "{7}"),
            ("a{missing}b", "anoneb"),
            ("{missing:06d}-{nothing:.2f}", "none-none"),
            ("always-the-same", "always-the-same"),
            ("{a_b}{a_b}", "xx"),
            # A format that does not suit the value is bent, not refused: the episode is over by then.
            ("{iteration:04.1f}", "03.0"),
            ("{episode_return:03d}", "-12"),
            ("{digits:03d}", "007"),
            ("{env_id:06d}", "CartPole-v1"),
            ("{env_id:nonsense}", "CartPole-v1"),
            ("{odd:06d}", "nan"),
            ("{endless:06d}", "inf"),
            ("{success:03d}", "001"),
            (
                "flatland-{iteration}-{steps}.{done}.{episode}.{pid}.video{segment:06d}",
                "flatland-3-12000.87.5.7.4242.video000000",
            ),
        ],
    )
    def test_fields(self, template: str, name: str) -> None:
        values = {
            **{"env_id": "CartPole-v1", "episode_index": 7, "iteration": 3, "a_b": "x"},
            **{"episode_return": -12.345, "success": True, "nothing": None, "digits": "7"},
            **{"odd": float("nan"), "endless": float("inf")},
            **{"steps": 12000, "done": 87.5, "episode": 7, "pid": 4242, "segment": 0},
        }
        assert NameTemplate(template).fill(values) == name

    @pytest.mark.parametrize(
        "template",
        ["{", "}", "{a", "{}", "{0}", "{a.b}", "{a[0]}", "{a.__class__}", "{a b}", "{a:{width}}"],
    )
    def test_refused(self, template: str) -> None:
        with pytest.raises(SettingError, match=r"^name="):
            NameTemplate(template)

    @pytest.mark.parametrize("template", ["", "..", "/", "../.", ".rollcam"])
    def test_no_name(self, template: str) -> None:
        with pytest.raises(SettingError, match="is no name"):
            NameTemplate(template)

    def test_conversions_are_refused(self) -> None:
        with pytest.raises(SettingError):
            NameTemplate("{env_id!r}")

    @pytest.mark.parametrize(
        "value",
        [
            "../../etc/passwd",
            "/etc/passwd",
            "a/b",
            "..\\..\\x",
            "C:\\x",
            "a:b*?",
            "a\0b\n\x1b[2J",
            "x" * 10**5,
        ],
    )
    def test_values_cannot_lead_elsewhere(self, value: str) -> None:
        name = clean_name(NameTemplate("run/{scene}-{n}").fill({"scene": value, "n": 1}))
        assert name.startswith("run/")
        assert name.endswith("-1")
        assert name.count("/") == 1
        assert name.isprintable()
        assert len(name) < 100
        assert not PureWindowsPath(name).drive
        assert PureWindowsPath(name).parts == tuple(name.split("/"))

    @pytest.mark.parametrize("value", ["con", "NUL", "aux.txt", "LPT1"])
    def test_values_that_windows_reserves(self, value: str) -> None:
        name = clean_name(NameTemplate("{scene}/{scene}").fill({"scene": value}))
        assert name == f"_{value}/_{value}"

    @pytest.mark.parametrize("value", ["", ".", "..", " ", "\t "])
    def test_values_that_vanish(self, value: str) -> None:
        name = clean_name(NameTemplate("run/{scene}").fill({"scene": value}))
        assert name.split("/")[0] == "run"
        assert ".." not in name

    @pytest.mark.parametrize("value", ["", ".", "..", " "])
    def test_values_that_leave_nothing(self, value: str) -> None:
        assert clean_name(NameTemplate("{scene}").fill({"scene": value}))

    def test_a_value_that_is_no_text(self) -> None:
        clean_name(NameTemplate("{scene}").fill({"scene": f"a{SURROGATE}"})).encode()

    @pytest.mark.parametrize(
        "value", [b"bytes", [1, 2], {"a": {"b": 1}}, object, 10**40, 1e300, None]
    )
    def test_values_of_any_kind(self, value: Any) -> None:
        for template in ("n-{x}", "n-{x:06d}", "n-{x:.3f}", "n-{x:>20}"):
            name = clean_name(NameTemplate(template).fill({"x": value}))
            assert name.startswith("n-")
            assert "/" not in name
            assert len(name) <= 82


class TestFolder:
    def test_is_made_with_its_parents(self, tmp_path: Path) -> None:
        folder = Folder(tmp_path / "a" / "ü b" / "videos")
        assert folder.root == tmp_path / "a" / "ü b" / "videos"
        assert sorted(p.name for p in folder.root.iterdir()) == [HIDDEN]
        folder.make()
        assert folder.partial("01JD", ".mp4").parent.is_dir()
        assert [p.name for p in folder.partial("01JD", ".mp4").parent.iterdir()] == [RESERVE]
        assert Folder(folder.root).root == folder.root

    def test_stays_where_it_was_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        folder = Folder("videos")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        take(folder, "ep")
        assert (tmp_path / "videos" / "ep.mp4").is_file()

    @pytest.mark.parametrize("way", ["", HIDDEN, f"{HIDDEN}/partial", f"{HIDDEN}/claims"])
    def test_a_file_in_the_way(self, tmp_path: Path, way: str) -> None:
        file = tmp_path / "videos" / way
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"mine")
        with pytest.raises(StoreError, match="videos cannot be written to") as caught:
            Folder(tmp_path / "videos")
        assert isinstance(caught.value.__cause__, OSError)
        assert file.read_bytes() == b"mine"

    def test_a_file_for_a_parent(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match="cannot be written to"):
            Folder(tmp_path / "file" / "videos")

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is what not even root may write")
    def test_where_nobody_may_write(self) -> None:
        with pytest.raises(StoreError, match="/proc/rollcam cannot be written to"):
            Folder("/proc/rollcam")

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
    @pytest.mark.parametrize("way", ["", HIDDEN, f"{HIDDEN}/partial"])
    def test_without_permission(self, folder: Folder, way: str) -> None:
        shut = folder.root / way
        if not way:
            for inner in sorted((folder.root / HIDDEN).rglob("*"), reverse=True):
                inner.rmdir()
            (folder.root / HIDDEN).rmdir()
        shut.chmod(0o500)
        try:
            with pytest.raises(StoreError, match="cannot be written to"):
                Folder(folder.root if way != HIDDEN else shut / "new")
        finally:
            shut.chmod(0o700)

    @pytest.mark.parametrize("root", ["x" * 5000, "x" * 300])
    def test_a_name_that_no_disk_takes(self, tmp_path: Path, root: str) -> None:
        with pytest.raises(StoreError, match="cannot be written to"):
            Folder(tmp_path / root)

    def test_a_name_with_nul(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError):
            Folder(f"{tmp_path}/a\0b")


class TestTaking:
    def test_numbers_count_on(self, folder: Folder) -> None:
        assert [take(folder, "ep") for _ in range(4)] == ["ep", "ep_2", "ep_3", "ep_4"]
        assert take(folder, "a/ep") == "a/ep"
        assert take(folder, "a/ep") == "a/ep_2"
        assert claims(folder) == []

    def test_gaps_are_filled_and_numbers_are_names_too(self, folder: Folder) -> None:
        assert take(folder, "ep_2") == "ep_2"
        assert take(folder, "ep") == "ep"
        assert take(folder, "ep") == "ep_3"
        at(folder, "ep", ".mp4").unlink()
        assert take(folder, "ep") == "ep"

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_any_file_of_the_name_takes_it(self, folder: Folder, suffix: str) -> None:
        file = at(folder, "ep", suffix)
        file.write_bytes(b"theirs")
        assert take(folder, "ep") == "ep_2"
        assert file.read_bytes() == b"theirs"

    @pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
    def test_a_link_to_nowhere_takes_it(self, folder: Folder) -> None:
        at(folder, "ep", ".mp4").symlink_to(folder.root / "nowhere")
        assert take(folder, "ep") == "ep_2"

    def test_a_folder_of_the_name_takes_it(self, folder: Folder) -> None:
        at(folder, "ep", ".mp4").mkdir()
        assert take(folder, "ep") == "ep_2"

    def test_other_files_do_not(self, folder: Folder) -> None:
        (folder.root / "ep").mkdir()
        (folder.root / "ep.txt").write_bytes(b"")
        (folder.root / "ep-2.mp4").write_bytes(b"")
        assert take(folder, "ep") == "ep"

    def test_while_it_is_held(self, folder: Folder) -> None:
        with held(folder, "ep") as first, held(folder, "ep") as second:
            assert (first, second) == ("ep", "ep_2")
            assert len(claims(folder)) == 2
        assert claims(folder) == []

    def test_given_back_after_an_error(self, folder: Folder) -> None:
        with pytest.raises(ZeroDivisionError), held(folder, "ep"):
            _ = 1 / 0
        assert claims(folder) == []
        assert take(folder, "ep") == "ep"

    def test_names_that_begin_differently_and_are_very_long(self, folder: Folder) -> None:
        names = [f"{letter}/" + "日" * 60 for letter in "ab"]
        with held(folder, names[0]) as first, held(folder, names[1]) as second:
            assert first != second
        assert [take(folder, name) for name in names] == names

    @pytest.mark.parametrize("name", ["file/ep", "/".join(["x" * 180] * 30)])
    def test_where_no_film_can_lie(self, folder: Folder, name: str) -> None:
        (folder.root / "file").write_bytes(b"")
        with pytest.raises(StoreError):
            take(folder, name)


# Takes the same name again and again; `go` comes when the other process is ready as well.
RACER = """
import sys
from rollcam.store.layout import Folder
from rollcam.store.names import taking
folder = Folder(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    with taking(folder.root, "runs/ep", folder.claim.claim_id) as name:
        with open(folder.root / f"{name}.mp4", "x") as film:
            film.write(name)
    print(name, flush=True)
"""
# Takes a name and keeps it until it is told, or killed.
HOLDER = """
import sys
from rollcam.store.layout import Folder
from rollcam.store.names import taking
folder = Folder(sys.argv[1])
with taking(folder.root, "ep", folder.claim.claim_id) as name:
    print(name, flush=True)
    sys.stdin.readline()
"""


class TestProcesses:
    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def test_a_race_for_one_name(self, folder: Folder) -> None:
        n_processes, n_each = 3, 60
        racers = [self.start(RACER, str(folder.root), str(n_each)) for _ in range(n_processes)]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        taken = [racer.communicate(timeout=60)[0].split() for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * n_processes
        assert [len(names) for names in taken] == [n_each] * n_processes
        names = [name for each in taken for name in each]
        assert len(set(names)) == n_processes * n_each
        assert "runs/ep" in names
        assert all(at(folder, name, ".mp4").read_text() == name for name in names)
        assert claims(folder) == []

    def test_both_get_a_name(self, folder: Folder) -> None:
        holders = [self.start(HOLDER, str(folder.root)) for _ in range(2)]
        names = [holder.stdout.readline().strip() for holder in holders if holder.stdout]
        for holder in holders:
            holder.communicate("done\n", timeout=60)
        assert sorted(names) == ["ep", "ep_2"]
        assert claims(folder) == []

    def test_a_killed_process_stops_nobody(self, folder: Folder) -> None:
        holder = self.start(HOLDER, str(folder.root))
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ep\n"
        holder.kill()
        holder.communicate(timeout=60)
        assert take(folder, "ep") == "ep"
        assert take(folder, "ep") == "ep_2"


class TestWriteAtomically:
    def files(self, folder: Path) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}

    def test_new_and_replaced(self, tmp_path: Path) -> None:
        target, scratch = tmp_path / "a.json", tmp_path / "scratch"
        scratch.write_bytes(b"left over by a killed process")
        for data in (b"first", b"", b"third" * 10**6):
            write_atomically(target, data, scratch)
            assert self.files(tmp_path) == {"a.json": data}

    def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        target = tmp_path / "a.json"
        target.mkdir()
        with pytest.raises(OSError, match=r"a\.json"):
            write_atomically(target, b"data", tmp_path / "scratch")
        assert self.files(tmp_path) == {}

    def test_no_folder_for_the_target(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            write_atomically(tmp_path / "none" / "a.json", b"data", tmp_path / "scratch")
        assert self.files(tmp_path) == {}

    def test_no_folder_for_the_scratch(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_bytes(b"old")
        with pytest.raises(FileNotFoundError):
            write_atomically(tmp_path / "a.json", b"data", tmp_path / "none" / "scratch")
        assert self.files(tmp_path) == {"a.json": b"old"}

    def test_data_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_bytes(b"old")
        with pytest.raises(TypeError):
            write_atomically(tmp_path / "a.json", "text", tmp_path / "scratch")  # type: ignore[arg-type]
        assert self.files(tmp_path) == {"a.json": b"old"}

    @pytest.mark.skipif(os.name == "nt", reason="no limits of that kind there")
    @pytest.mark.parametrize("n_bytes", [5000, 5_000_000])
    def test_a_full_disk(self, tmp_path: Path, n_bytes: int) -> None:
        (tmp_path / "a.json").write_bytes(b"old")
        code = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from rollcam.store.layout import write_atomically\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            "folder = Path(sys.argv[1])\n"
            "try:\n"
            "    write_atomically(folder / 'a.json', bytes(int(sys.argv[2])), folder / 'scratch')\n"
            "except OSError as error:\n"
            "    sys.exit(error.strerror)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(n_bytes)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (1, "File too large\n")
        assert self.files(tmp_path) == {"a.json": b"old"}


@pytest.mark.parametrize("what", ["claims", "partial", ""])
def test_what_was_deleted_of_it_is_made_again(what: str, folder: Folder) -> None:
    folder.make()
    shutil.rmtree(folder.root / HIDDEN / what)
    folder.make()
    assert folder.claim.is_in_place
    assert (folder.growing / RESERVE).stat().st_size > 0
    folder.release()

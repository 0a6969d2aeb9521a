from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollcam.encode import ansi
from rollcam.encode.cast import CastV1Writer, CastWriter, finish_cast, read_cast
from rollcam.errors import MediaError, SettingError

CLEAR = "\x1b[0m\x1b[2J\x1b[H"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "episode.cast"


def a_cast(path: Path) -> bytes:
    with CastWriter(path, title="ü") as writer:
        writer.add("\x1b[41mS\x1b[0mF", 0)
        writer.add("日本┌─┐é", 0.25)
        writer.add('last "one"\n\\', 0.5)
        writer.finish(0.75)
    return path.read_bytes()


class TestKilled:
    def test_cut_at_every_byte(self, path: Path) -> None:
        whole = a_cast(path)
        frames = read_cast(path).frames
        lines = whole.split(b"\n")
        ends = [sum(len(line) + 1 for line in lines[: n + 1]) for n in range(len(lines) - 1)]
        partial, final = path.with_suffix(".partial"), path.with_suffix(".final")
        for n_bytes in range(ends[0] - 1, len(whole) + 1):
            partial.write_bytes(whole[:n_bytes])
            cast = read_cast(partial)
            # A line without its end is whole all the same.
            n_lines = sum(n_bytes >= end - 1 for end in ends) - 1
            assert cast.frames == frames[:n_lines]
            is_cut = n_lines < 4 and n_bytes > ends[n_lines]
            assert cast.torn is is_cut
            assert finish_cast(partial, final, 0.25) == len(cast.frames)
            mended = read_cast(final)
            assert mended.frames == cast.frames
            assert not mended.torn
            assert mended.duration_s == 0.25 * len(cast.frames)
            assert final.read_bytes().endswith(b"\n")
            if cast.frames:
                assert json.loads(final.read_bytes().split(b"\n")[-2])[1:] == ["o", ""]
        assert final.read_bytes() == whole

    def test_cut_in_the_header(self, path: Path) -> None:
        whole = a_cast(path)
        for n_bytes in range(whole.index(b"\n")):
            path.write_bytes(whole[:n_bytes])
            with pytest.raises(MediaError, match="no readable asciicast"):
                read_cast(path)

    def test_blocks_of_zeros_after_a_power_cut(self, path: Path, tmp_path: Path) -> None:
        with CastWriter(path) as writer:
            writer.add("a", 0)
        path.write_bytes(path.read_bytes() + bytes(512))
        assert read_cast(path).torn
        assert finish_cast(path, tmp_path / "final", 1) == 1
        assert read_cast(tmp_path / "final").duration_s == 1

    def test_a_killed_process_leaves_every_frame(self, path: Path) -> None:
        code = f"""
import os, signal
from rollcam.encode.cast import CastWriter
writer = CastWriter({str(path)!r})
for i in range(100):
    writer.add("frame %d" % i, i)
os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
"""
        done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
        assert done.returncode
        cast = read_cast(path)
        assert [data for _, data in cast.frames] == [f"{CLEAR}frame {i}" for i in range(100)]
        assert cast.width == len("frame 99")

    def test_only_version_2_is_finished(self, tmp_path: Path) -> None:
        with CastV1Writer(tmp_path / "a.json", fps=1) as writer:
            writer.add("a", 0)
        with pytest.raises(MediaError, match="version 1"):
            finish_cast(tmp_path / "a.json", tmp_path / "b", 1)
        with pytest.raises(SettingError, match="frame_s"):
            finish_cast(tmp_path / "a.json", tmp_path / "b", float("nan"))
        assert not (tmp_path / "b").exists()


V2 = '{"version": 2, "width": 80, "height": 24}\n'


class TestReadCast:
    def test_version_2_of_others(self, path: Path) -> None:
        path.write_text(
            "\ufeff" + V2 + '[0.5, "o", "a"]\n[0.7, "i", "key"]\n[0.6, "r", "100x30"]\n\n'
            '[1, "o", "b"]\n[1.5, "m", ""]\n',
            "utf-8",
        )
        cast = read_cast(path)
        assert cast.frames == [(0.5, "a"), (1.0, "b")]
        assert (cast.width, cast.height, cast.title) == (100, 30, None)
        assert cast.duration_s == 1.5

    def test_times_never_run_backwards(self, path: Path) -> None:
        path.write_text(V2 + '[2, "o", "a"]\n[1, "o", "b"]\n')
        assert read_cast(path).frames == [(2.0, "a"), (2.0, "b")]

    def test_version_3(self, path: Path) -> None:
        path.write_text(
            '{"version": 3, "term": {"cols": 40, "rows": 10}, "title": "t"}\n'
            '[0.5, "o", "a"]\n# a remark\n[0.25, "m", ""]\n[0.25, "o", "b"]\n[1, "x", "0"]\n'
        )
        cast = read_cast(path)
        assert cast.frames == [(0.5, "a"), (1.0, "b")]
        assert (cast.version, cast.width, cast.height, cast.title) == (3, 40, 10, "t")
        assert cast.duration_s == 2.0

    def test_version_1_as_gym_wrote_it(self, path: Path) -> None:
        film = {
            "version": 1, "width": 6, "height": 5, "duration": 1.0, "command": "-",
            "title": "gym VideoRecorder episode", "env": {},
            "stdout": [[0.5, "\x1b[2J\x1b[1;1HSFFF\r\n"], [0.5, "\x1b[2J\x1b[1;1HFFFF\r\n"]],
        }  # fmt: skip
        for text in (json.dumps(film), json.dumps(film, indent=2)):
            path.write_text(text)
            cast = read_cast(path)
            assert [at_s for at_s, _ in cast.frames] == [0.5, 1.0]
            assert cast.duration_s == 1.0

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "\n",
            "[]",
            "null",
            "not json",
            "{}",
            '{"version": 4}',
            '{"version": "2"}',
            '{"version": 2}',
            '{"version": 2, "width": "80", "height": 24}',
            '{"version": 2, "width": 0, "height": 24}',
            '{"version": 2, "width": NaN, "height": 24}',
            '{"version": 2, "width": null, "height": 24}',
            '{"version": 3, "width": 80, "height": 24}',
            '{"version": 3, "term": [1, 2]}',
            '{"version": 1, "width": 80, "height": 24}',
            '{"version": 1, "width": 80, "height": 24, "stdout": [[0]]}',
            '{"version": 1, "width": 80, "height": 24, "stdout": [["0", "a"]]}',
            '{"version": 2, "width": ' + "9" * 5000 + ', "height": 24}',
            "[" * 100_000,
            '{"version": 2, "width": 80, "height": ' + "[" * 100_000,
        ],
    )
    def test_what_is_no_cast_is_refused(self, path: Path, header: str) -> None:
        path.write_text(header + "\n")
        with pytest.raises(MediaError, match=r"episode\.cast is no readable asciicast: "):
            read_cast(path)

    @pytest.mark.parametrize(
        "line",
        [
            "[NaN, 'o', 'a']".replace("'", '"'),
            '[Infinity, "o", "a"]',
            '[1e999, "o", "a"]',
            '[-1, "o", "a"]',
            '["1", "o", "a"]',
            '[1, "o", 5]',
            '[1, "o"]',
            "{}",
            "5",
            "[1" + "0" * 400 + ', "o", "a"]',
        ],
    )
    def test_a_hostile_line_is_refused_and_named(self, path: Path, line: str) -> None:
        path.write_text(V2 + '[0, "o", "a"]\n' + line + "\n")
        with pytest.raises(MediaError, match="line 3"):
            read_cast(path)

    def test_a_broken_line_amid_the_film_is_named(self, path: Path) -> None:
        path.write_text(V2 + '[0, "o", "a"]\n[1, "o\n[2, "o", "b"]\n')
        with pytest.raises(MediaError, match="line 3"):
            read_cast(path)

    def test_huge_sizes_are_clamped(self, path: Path) -> None:
        path.write_text('{"version": 2, "width": 1e300, "height": 99999999999}\n')
        cast = read_cast(path)
        assert (cast.width, cast.height) == (ansi.MAX_SIDE, ansi.MAX_SIDE)

    def test_binary_files(self, path: Path) -> None:
        path.write_bytes(b"\x00\x00\x00\x20ftypisom" + os.urandom(4096))
        with pytest.raises(MediaError):
            read_cast(path)

    def test_a_missing_file(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_cast(path)

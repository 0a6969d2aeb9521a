from __future__ import annotations

import errno
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium
import pyte
import pytest
from wcwidth import wcwidth

from rollcam.encode import ansi, raster
from rollcam.encode.cast import CastV1Writer, CastWriter, read_cast
from rollcam.errors import SettingError, UsageError

CLEAR = "\x1b[0m\x1b[2J\x1b[H"

ANSI_ENVS = {
    "lake": ("FrozenLake8x8-v1", (9, 9)),
    "taxi": ("Taxi-v4", (11, 8)),
    "cliff": ("CliffWalking-v1", (34, 4)),
}


def frames_of(name: str, steps: int) -> list[str]:
    """The text of a reset and of `steps` steps, restarting where an episode ends."""
    env = gymnasium.make(ANSI_ENVS[name][0], render_mode="ansi")
    env.reset(seed=3)
    env.action_space.seed(3)
    frames = [env.render()]
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        frames.append(env.render())
        if terminated or truncated:
            env.reset()
    env.close()
    return [str(frame) for frame in frames]


def header_of(path: Path) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        header: dict[str, Any] = json.loads(file.readline())
    return header


def screen(columns: int, rows: int, data: str) -> list[str]:
    """What a terminal shows, each line without the blanks at its end."""
    terminal = raster.Raster(columns, rows)
    terminal.feed(data)
    return [line.rstrip() for line in terminal._screen.display]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "episode.cast"


class TestCastWriter:
    @pytest.mark.parametrize("name", ANSI_ENVS)
    def test_event_k_is_frame_k(self, path: Path, name: str) -> None:
        texts = frames_of(name, 40)
        with CastWriter(path, title=name) as writer:
            for i, text in enumerate(texts):
                writer.add(text, i / 4)
            writer.finish(len(texts) / 4)
        cast = read_cast(path)
        assert (cast.version, cast.title, cast.torn) == (2, name, False)
        assert (cast.width, cast.height) == ANSI_ENVS[name][1] == (writer.width, writer.height)
        assert [at_s for at_s, _ in cast.frames] == [i / 4 for i in range(41)]
        assert cast.duration_s == 41 / 4
        for text, (_, data) in zip(texts, cast.frames, strict=True):
            assert data == CLEAR + text.rstrip("\n").replace("\n", "\r\n")

    @pytest.mark.parametrize("name", ANSI_ENVS)
    def test_a_terminal_of_the_named_size_shows_the_text(self, path: Path, name: str) -> None:
        texts = frames_of(name, 10)
        with CastWriter(path) as writer:
            for i, text in enumerate(texts):
                writer.add(text, i)
        cast = read_cast(path)
        for text, (_, data) in zip(texts, cast.frames, strict=True):
            plain = ansi._PIECE.sub(lambda m: "" if m[2] else m[0], text)
            lines = [line.rstrip() for line in plain.rstrip("\n").split("\n")]
            lines += [""] * (cast.height - len(lines))
            assert screen(cast.width, cast.height, data) == lines

    def test_everything_is_on_the_disk_when_add_returns(self, path: Path) -> None:
        writer = CastWriter(path, title="ü")
        for n in range(1, 50):
            writer.add("x" * n + "\n" * (n % 7) + "y", n)
            cast = read_cast(path)
            assert len(cast.frames) == writer.n_frames == n
            assert (cast.width, cast.height) == (n + (n % 7 == 0), 1 + min(n, 6))
            assert not cast.torn
        writer.close()

    def test_the_header_grows_in_place_and_stays_json(self, path: Path) -> None:
        writer = CastWriter(
            path, title='a "b"\n', start=datetime(2026, 1, 2, tzinfo=UTC), env={"TERM": "xterm"}
        )
        first = len(path.read_bytes())
        assert header_of(path) == {
            "version": 2,
            "width": 1,
            "height": 1,
            "timestamp": 1767312000,
            "title": 'a "b"\n',
            "env": {"TERM": "xterm"},
        }
        writer.add("é" * 12_000 + "\n\n\nx", 0)
        assert header_of(path)["width"] == ansi.MAX_SIDE
        assert header_of(path)["height"] == 4
        assert path.read_bytes().index(b"\n") == first - 1
        writer.close()

    @pytest.mark.parametrize("newline", ["\n", "\r", "\r\n", "\n\r", "\r\r\n", "\f", "\u2028"])
    def test_every_newline_style(self, path: Path, newline: str) -> None:
        with CastWriter(path) as writer:
            writer.add(newline.join(["ab", "", "cde", ""]), 0)
            writer.add(newline.join(["ab", "", "cde", "", ""]), 1)
            writer.add(newline.join(["ab", "", "cde"]), 2)
        cast = read_cast(path)
        assert {data for _, data in cast.frames} == {CLEAR + "ab\r\n\r\ncde"}
        assert (cast.width, cast.height) == (3, 3)

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("", (1, 1)),
            ("\n\n", (1, 1)),
            ("日本語", (6, 1)),
            ("e\u0301e\u0301", (2, 1)),
            ("\uff21x\n🚕🙂", (4, 2)),
            ("각\u1100\u1161", (4, 1)),
            ("a\u200bb\ufe0f", (2, 1)),
            ("\x1b[31;1mred\x1b[0m\n\x1b[48;2;1;2;3m   \x1b[m", (3, 2)),
            ("\ta", (9, 1)),
            ("ab\tc", (9, 1)),
            ("\x1b[5;10Hxy", (11, 5)),
            ("\x1b[H\x1b[2Jab\x1b[3Cd\x1b[2Be", (7, 3)),
            ("\x1b[999;999H\x1b[Hab", (2, 1)),
            ("abc\x1b[2Dxyz\x1b[Gq\x1b[4dr\x1b[2Fs\x1b[Et\x1b[Au", (4, 4)),
        ],
    )
    def test_size_of_a_frame(self, path: Path, text: str, size: tuple[int, int]) -> None:
        with CastWriter(path) as writer:
            writer.add(text, 0)
        cast = read_cast(path)
        assert (cast.width, cast.height) == size
        roomy = screen(size[0] + 20, size[1] + 20, cast.frames[0][1])
        assert screen(*size, cast.frames[0][1]) == roomy[: size[1]]

    def test_no_letter_is_counted_too_narrow(self) -> None:
        """Of the blocks that games use; a too narrow terminal would wrap the line."""
        ranges = [(0x20, 0x7F), (0xA0, 0x600), (0x1100, 0x1200), (0x2000, 0x2028), (0x202A, 0x2630)]
        ranges += [(0x3000, 0x3400), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0x1F300, 0x1F650)]
        for start, stop in ranges:
            for code in range(start, stop):
                assert ansi.text_width(chr(code)) >= wcwidth(chr(code)), hex(code)

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            ("\x1b]0;title\x07a", "a"),
            ("\x1b]52;c;YWJj\x1b\\a", "a"),
            ("\x1bPq#0\x1b\\a", "a"),
            ("\x1b]stray\nb", "\r\nb"),
            ("\x1b[?25la\x1b[?1049h", "a"),
            ("\x1bca\x1b(B", "a"),
            ("\x07\x00a\x7f\x9b", "a"),
            ("a\x1b[", "a"),
            ("a\x1b", "a"),
            ("\ud800a", "\ufffda"),
            ("\x1b[38:2::1:2:3ma", "\x1b[38:2::1:2:3ma"),
            ("\x1b[99999Ca", "a"),
            ("\x1b[6n\x1b[4;20ra", "a"),
        ],
    )
    def test_what_is_no_picture_is_dropped(self, path: Path, text: str, kept: str) -> None:
        with CastWriter(path) as writer:
            writer.add(text, 0)
        assert read_cast(path).frames == [(0, CLEAR + kept)]

    def test_colours_do_not_bleed_into_the_next_frame(self, path: Path) -> None:
        with CastWriter(path) as writer:
            writer.add("\x1b[41;1mhot\n", 0)
            writer.add("cold", 1)
        terminal = pyte.Screen(8, 2)
        pyte.Stream(terminal).feed("".join(data for _, data in read_cast(path).frames))
        for y in range(2):
            for x in range(8):
                cell = terminal.buffer[y][x]
                assert (cell.bg, cell.bold) == ("default", False)

    @pytest.mark.parametrize("at_s", [-1.0, float("nan"), float("inf"), 0.4])
    def test_a_time_that_cannot_be_is_refused(self, path: Path, at_s: float) -> None:
        with CastWriter(path) as writer:
            writer.add("a", 0.5)
            with pytest.raises(SettingError, match="at_s="):
                writer.add("b", at_s)
            writer.add("c", 0.5)
            with pytest.raises(SettingError, match="duration_s="):
                writer.finish(float("nan"))
            writer.finish(0)
        cast = read_cast(path)
        assert [data for _, data in cast.frames] == [CLEAR + "a", CLEAR + "c"]
        assert cast.duration_s == 0.5

    def test_calls_in_the_wrong_order(self, path: Path) -> None:
        writer = CastWriter(path)
        writer.add("a", 0)
        writer.finish(1)
        for call in (lambda: writer.add("b", 1), lambda: writer.finish(2)):
            with pytest.raises(UsageError, match="finished"):
                call()
        writer.close()
        writer.close()
        with pytest.raises(UsageError, match="closed"):
            writer.add("b", 1)
        assert "n_frames=1" in repr(writer)
        path.rename(path.with_suffix(".moved"))  # Windows refuses that for an open file

    def test_an_empty_cast(self, path: Path) -> None:
        with CastWriter(path) as writer:
            writer.finish(0)
        assert read_cast(path).frames == []

    def test_frames_without_text_are_frames(self, path: Path) -> None:
        with CastWriter(path) as writer:
            writer.add("", 0)
            writer.add("", 1)
            writer.finish(2)
        assert [at_s for at_s, _ in read_cast(path).frames] == [0, 1]

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            CastWriter(tmp_path / "no" / "a.cast")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of a file")
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_full_disk_costs_one_frame_and_leaves_the_file_whole(path: Path, kind: str) -> None:
    """In a child of its own, since the limit is one of the process."""
    code = f"""
import resource, signal
from pathlib import Path
from rollcam.encode.cast import CastV1Writer, CastWriter, read_cast
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path({str(path)!r})
writer = CastV1Writer(path, fps=4) if {kind!r} == "v1" else CastWriter(path)
writer.add("one", 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
before = path.read_bytes()
for call in (lambda: writer.add("x" * 300 + chr(10) * 9 + "y", 0.25),) * 2:
    try:
        call()
    except OSError as error:
        print(error.errno)
    assert path.read_bytes() == before
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
writer.add("two", 0.5)
writer.finish(0.75)
writer.close()
cast = read_cast(path)
print([data[-3:] for _, data in cast.frames], cast.width, cast.height)
"""
    assert run(code) == f"{errno.EFBIG}\n{errno.EFBIG}\n['one', 'two'] 3 1\n"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestCastV1Writer:
    def test_it_is_whole_json_with_every_frame_after_each_add(self, tmp_path: Path) -> None:
        path = tmp_path / "episode.json"
        texts = frames_of("lake", 30)
        writer = CastV1Writer(path, fps=4)
        assert json.loads(path.read_text("utf-8"))["stdout"] == []
        assert json.loads(path.read_text("utf-8"))["duration"] == 0
        for n, text in enumerate(texts, start=1):
            writer.add(text, (n - 1) / 4)
            film = json.loads(path.read_text("utf-8"))
            assert [data for _, data in film["stdout"]] == [
                CLEAR + t.rstrip("\n").replace("\n", "\r\n") for t in texts[:n]
            ]
            assert {delay for delay, _ in film["stdout"]} == {0.25}
            assert film["duration"] == n / 4
        writer.finish(len(texts) / 4)
        writer.close()
        film = json.loads(path.read_text("utf-8"))
        film.pop("stdout")
        assert film == {
            "version": 1,
            "width": 9,
            "height": 9,
            "duration": 31 / 4,
            "command": "-",
            "title": "gym VideoRecorder episode",
            "env": {},
        }

    def test_read_back(self, tmp_path: Path) -> None:
        with CastV1Writer(tmp_path / "a.json", fps=10) as writer:
            writer.add("a", 0)
            writer.add("日本", 0.1)
            writer.add("c", 0.5)
            writer.finish(0.6)
        cast = read_cast(tmp_path / "a.json")
        assert (cast.version, cast.width, cast.height) == (1, 4, 1)
        assert [at_s for at_s, _ in cast.frames] == pytest.approx([0.1, 0.2, 0.6])
        assert cast.duration_s == pytest.approx(0.6)

    @pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
    def test_a_rate_that_cannot_be_is_refused(self, tmp_path: Path, fps: float) -> None:
        with pytest.raises(SettingError, match="fps="):
            CastV1Writer(tmp_path / "a.json", fps=fps)

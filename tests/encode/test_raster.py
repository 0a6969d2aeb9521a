from __future__ import annotations

import errno
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import gymnasium
import numpy as np
import numpy.typing as npt
import pyte
import pytest

from rollcam.encode import glyphs, raster
from rollcam.encode.ansi import frame_event
from rollcam.encode.cast import CastV1Writer, CastWriter, read_cast
from rollcam.encode.raster import Raster, rasterise
from rollcam.errors import EncoderFailed, MediaError, MissingDependencyError, SettingError

if TYPE_CHECKING:
    from tests.browser import Browser

Picture = npt.NDArray[np.uint8]
RED, INK = glyphs._COLOURS["red"], glyphs._INK


def cell(picture: Picture, screen: Raster, x: int, y: int) -> Picture:
    """The pixels of one cell."""
    pen, margin = screen._pen, screen._margin // 2
    top, left = margin + y * pen.cell_height, margin + x * pen.cell_width
    return picture[top : top + pen.cell_height, left : left + pen.cell_width]


def paper(pixels: Picture) -> tuple[int, ...]:
    """The background of a cell: its commonest colour."""
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    return tuple(map(int, colours[counts.argmax()]))


def expected_paper(char: Any) -> tuple[int, ...]:
    return glyphs._colour(char.bg, glyphs.PAPER)


def lake_frames(steps: int = 12) -> list[str]:
    env = gymnasium.make("FrozenLake8x8-v1", render_mode="ansi", is_slippery=False)
    env.reset(seed=1)
    texts = [str(env.render())]
    for i in range(steps):
        env.step(1 + i % 2)
        texts.append(str(env.render()))
    env.close()
    return texts


def write_cast(path: Path, texts: list[str], fps: float = 4) -> Path:
    with CastWriter(path) as writer:
        for i, text in enumerate(texts):
            writer.add(text, i / fps)
        writer.finish(len(texts) / fps)
    return path


def decode(path: Path) -> tuple[list[Picture], list[Fraction], Fraction]:
    """Pictures, their times, and the end of the last, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base)
        packets = [p for p in container.demux(stream) if p.size]
        end = (packets[-1].pts + packets[-1].duration) * base
        container.seek(0)
        frames = list(container.decode(stream))
        return [f.to_ndarray(format="rgb24") for f in frames], [f.pts * base for f in frames], end


class TestDraw:
    @pytest.mark.parametrize("name", ["FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1"])
    def test_the_cells_are_those_of_the_terminal(self, name: str) -> None:
        env = gymnasium.make(name, render_mode="ansi")
        env.reset(seed=2)
        _, columns, rows = frame_event(str(env.render()))
        screen = Raster(columns + 12, rows + 1)
        for action in (1, 2, 1, 0, 3):
            data = frame_event(str(env.render()))[0]
            terminal = pyte.Screen(columns + 12, rows + 1)
            pyte.Stream(terminal).feed(data)
            picture = screen.draw(data)
            for y in range(rows + 1):
                for x in range(columns + 12):
                    char = terminal.buffer[y][x]
                    pixels = cell(picture, screen, x, y)
                    assert paper(pixels) == expected_paper(char)
                    assert (pixels != pixels[0, 0]).any() == (not char.data.isspace())
            env.step(action)
        env.close()

    def test_pictures_are_even_and_of_one_size(self) -> None:
        for columns, rows, font_px in ((1, 1, 7), (3, 2, 9), (80, 24, 20), (5, 5, 1)):
            screen = Raster(columns, rows, font_px=font_px)
            picture = screen.draw("x" * 300)
            assert picture.shape == screen.shape
            assert picture.dtype == np.uint8
            assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0

    def test_each_picture_is_the_callers_own(self) -> None:
        screen = Raster(3, 1)
        first = screen.draw("abc")
        kept = first.copy()
        screen.draw("xyz")
        assert (first == kept).all()

    @pytest.mark.parametrize(
        ("code", "colour"),
        [
            ("41", RED),
            ("43", glyphs._COLOURS["brown"]),
            ("101", glyphs._COLOURS["brightred"]),
            ("105", glyphs._COLOURS["brightmagenta"]),
            ("48;5;208", (255, 135, 0)),
            ("48;2;1;2;3", (1, 2, 3)),
            ("48:2::1:2:3", (1, 2, 3)),
            ("48:5:208", (255, 135, 0)),
            ("31;7", RED),
            ("7", INK),
        ],
    )
    def test_backgrounds(self, code: str, colour: tuple[int, ...]) -> None:
        screen = Raster(3, 1)
        picture = screen.draw(f"a\x1b[{code}m \x1b[0mb")
        assert (cell(picture, screen, 1, 0) == colour).all()
        assert paper(cell(picture, screen, 0, 0)) == glyphs.PAPER
        assert paper(cell(picture, screen, 2, 0)) == glyphs.PAPER

    def test_letters_have_their_colour(self) -> None:
        screen = Raster(1, 1, font_px=40)
        for code, colour in (("0", INK), ("31", RED), ("38;2;9;200;9", (9, 200, 9))):
            pixels = cell(screen.draw(f"\x1b[{code}m█"), screen, 0, 0)
            assert np.abs(pixels.astype(int) - colour).max() <= 3

    def test_letters_without_a_colour_stay_readable_on_a_light_one(self) -> None:
        screen = Raster(1, 1)
        assert cell(screen.draw("\x1b[107mM"), screen, 0, 0).min() < 60

    def test_bold_italic_underlined_and_struck_letters_differ(self) -> None:
        screen = Raster(1, 1)
        kinds = [screen.draw(f"\x1b[{code}mx") for code in ("0", "1", "3", "1;3", "4", "9")]
        for i, one in enumerate(kinds):
            assert all((one != other).any() for other in kinds[:i])
        plain, bold, underlined = (kinds[i].astype(int).sum() for i in (0, 1, 4))
        assert bold > plain
        assert underlined > plain

    @pytest.mark.parametrize("font_px", [12, 20, 24, 33, 48])
    def test_lines_and_blocks_join_without_seams(self, font_px: int) -> None:
        screen = Raster(3, 3, font_px=font_px)

        def middle(text: str) -> Picture:
            picture = screen.draw("\n".join([text * 3] * 3))
            rows = [np.hstack([cell(picture, screen, x, y) for x in range(3)]) for y in range(3)]
            return np.vstack(rows)

        assert middle("█").min() > INK[0] - 6
        assert middle("│").max(axis=(1, 2)).min() > 150
        assert middle("─").max(axis=(0, 2)).min() > 150

    def test_wide_letters_take_two_cells(self) -> None:
        screen = Raster(6, 1)
        picture = screen.draw("\x1b[41m日\x1b[0m|")
        assert paper(cell(picture, screen, 0, 0)) == paper(cell(picture, screen, 1, 0)) == RED
        assert (cell(picture, screen, 2, 0) != cell(picture, screen, 3, 0)).any()
        assert (cell(picture, screen, 2, 0) == cell(screen.draw("|"), screen, 0, 0)).all()

    @pytest.mark.parametrize("char", ["日", "\U0001f695", "\ue000", "\U0001fae8"])
    def test_what_no_font_has_is_seen_to_be_there(self, char: str) -> None:
        screen = Raster(3, 1)
        assert (screen.draw(char) != screen.draw(" ")).any()

    @pytest.mark.parametrize("char", ["♔", "♥", "⣿", "λ", "ж", "∀", "→", "é", "e\u0301", "☃", "★"])
    def test_what_a_font_has_is_no_box(self, char: str) -> None:
        screen = Raster(1, 1, font_px=40)
        assert (screen.draw(char) != screen.draw("\ue000")).any()
        assert (screen.draw(char) != screen.draw(" ")).any()

    def test_what_pyte_stumbles_over_costs_no_letters(self) -> None:
        screen = Raster(6, 1)
        plain = screen.draw("ab cd")
        for text in (
            "ab\u200b cd",
            "ab\ufe0f cd",
            "\ufeffab cd",
            "a\x85b cd".replace("\x85", "\x84"),
        ):
            assert (screen.draw(text) == plain).all(), ascii(text)
        for text in (
            "\x1b[?7mab cd",
            "\x1b[1;2;3Hab cd",
            "\x1b[>4;1mab cd",
            "\x1b[²mab cd"[:2] + "mab cd",
        ):
            assert (screen.draw(text) == plain).all(), ascii(text)

    def test_a_heap_of_accents_is_quick(self) -> None:
        assert Raster(3, 1).draw("e" + "\u0301" * 300_000 + "x").any()

    def test_noise_never_raises(self) -> None:
        chance = random.Random(5)
        letters = "\x1b\x1b\x1b[[[?;:0123456789ABCDHJKLMPSTXdfhlmr@ \t\r\n\b\x07\x9bé日\u0301\u200b\ud800]#(%"
        screen = Raster(10, 4)
        for _ in range(2000):
            noise = "".join(chance.choices(letters, k=60))
            assert screen.draw(noise).shape == screen.shape
            assert screen.feed(noise).shape == screen.shape

    def test_sizes_that_cannot_be_are_refused(self) -> None:
        for columns, rows, font_px in ((0, 1, 20), (1, 0, 20), (1, 1, 0)):
            with pytest.raises(SettingError, match="1 or more"):
                Raster(columns, rows, font_px=font_px)

    @pytest.mark.parametrize("module", ["pyte", "PIL", "pymupdf_fonts"])
    def test_without_the_extra(self, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] == module]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
        glyphs._font.cache_clear()
        with pytest.raises(MissingDependencyError, match=r"rollcam\[text\]"):
            Raster(1, 1)


class TestRasterise:
    def test_every_frame_at_its_time_in_its_colours(self, tmp_path: Path) -> None:
        texts = lake_frames()
        cast = write_cast(tmp_path / "lake.cast", texts)
        assert rasterise(cast, tmp_path / "lake.mp4") == len(texts)
        pictures, times, end = decode(tmp_path / "lake.mp4")
        assert times == [Fraction(i, 4) for i in range(len(texts))]
        assert end == Fraction(len(texts), 4)
        film = read_cast(cast)
        screen = Raster(film.width, film.height, font_px=raster._font_px(film.width, film.height))
        for text, picture in zip(texts, pictures, strict=True):
            drawn = screen.draw(text)
            assert picture.shape == drawn.shape
            assert np.abs(picture.astype(int) - drawn).mean() < 3
            terminal = pyte.Screen(film.width, film.height)
            pyte.Stream(terminal).feed(frame_event(text)[0])
            for y in range(film.height):
                for x in range(film.width):
                    want = expected_paper(terminal.buffer[y][x])
                    got = np.median(cell(picture, screen, x, y).reshape(-1, 3), axis=0)
                    assert np.abs(got - want).max() < 16, (x, y)

    def test_flat_colours_come_back(self, tmp_path: Path) -> None:
        colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128)]
        rows = ["\x1b[48;2;{};{};{}m".format(*rgb) + " " * 8 + "\x1b[0m" for rgb in colours]
        cast = write_cast(tmp_path / "a.cast", ["\n".join(rows)])
        rasterise(cast, tmp_path / "a.mp4")
        (picture,), _, _ = decode(tmp_path / "a.mp4")
        screen = Raster(8, 5, font_px=raster._font_px(8, 5))
        for y, rgb in enumerate(colours):
            middle = cell(picture, screen, 4, y)[16:-16].astype(int)
            assert np.abs(middle - rgb).max() <= 6

    def test_what_browsers_ask_for(self, tmp_path: Path) -> None:
        target = tmp_path / "a.mp4"
        rasterise(write_cast(tmp_path / "a.cast", lake_frames(3)), target)
        data = target.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")
        with av.open(str(target)) as container:
            context = container.streams.video[0].codec_context
            assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
            assert context.width % 2 == context.height % 2 == 0
            assert not context.has_b_frames
            tags = (context.colorspace, context.color_primaries, context.color_trc)
            assert tuple(map(int, tags)) == (6, 6, 6)
            assert int(context.color_range) == 1

    def test_chromium_plays_it_to_the_end(self, tmp_path: Path, browser: Browser) -> None:
        rasterise(write_cast(tmp_path / "a.cast", lake_frames(5), fps=8), tmp_path / "a.mp4")
        report = browser.probe(tmp_path / "a.mp4", fps=8)
        assert (report.first, report.error_code, report.ended) == ("loadeddata", None, True)
        assert report.duration_s == pytest.approx(6 / 8)

    @pytest.mark.parametrize("n", [1, 2, 3, 50, 200])
    @pytest.mark.parametrize("fps", [1, 4, 30, 60])
    def test_every_length(self, tmp_path: Path, n: int, fps: int) -> None:
        cast = write_cast(tmp_path / "a.cast", [f"frame {i}" for i in range(n)], fps)
        assert rasterise(cast, tmp_path / "a.mp4") == n
        pictures, times, end = decode(tmp_path / "a.mp4")
        assert len(pictures) == n
        assert [float(t) for t in times] == pytest.approx([i / fps for i in range(n)], abs=2e-5)
        assert float(end) == pytest.approx(n / fps, abs=2e-5)

    def test_uneven_times_are_kept(self, tmp_path: Path) -> None:
        with CastWriter(tmp_path / "a.cast") as writer:
            for text, at_s in (("a", 2), ("b", 2.5), ("c", 2.5), ("d", 9)):
                writer.add(text, at_s)
            writer.finish(12)
        rasterise(tmp_path / "a.cast", tmp_path / "a.mp4")
        pictures, times, end = decode(tmp_path / "a.mp4")
        assert len(pictures) == 4
        assert [float(t) for t in times] == pytest.approx([0, 0.5, 0.5, 7], abs=5e-5)
        assert end == 10

    def test_fps_overrides_the_times(self, tmp_path: Path) -> None:
        cast = write_cast(tmp_path / "a.cast", ["a", "b", "c"], fps=4)
        rasterise(cast, tmp_path / "a.mp4", fps=10)
        _, times, end = decode(tmp_path / "a.mp4")
        assert (times, end) == ([0, Fraction(1, 10), Fraction(1, 5)], Fraction(3, 10))

    @pytest.mark.parametrize("n", [1, 5])
    def test_version_1(self, tmp_path: Path, n: int) -> None:
        with CastV1Writer(tmp_path / "a.json", fps=4) as writer:
            for i in range(n):
                writer.add(f"frame {i}", i / 4)
            writer.finish(n / 4)
        rasterise(tmp_path / "a.json", tmp_path / "a.mp4")
        _, times, end = decode(tmp_path / "a.mp4")
        assert (times, end) == ([Fraction(i, 4) for i in range(n)], Fraction(n, 4))

    def test_a_screen_that_grows_amid_the_film(self, tmp_path: Path) -> None:
        texts = ["x", "xy\nz", "\n".join(["x" * 30] * 12), "x"]
        cast = write_cast(tmp_path / "a.cast", texts)
        rasterise(cast, tmp_path / "a.mp4")
        pictures, _, _ = decode(tmp_path / "a.mp4")
        assert len({picture.shape for picture in pictures}) == 1
        assert np.abs(pictures[0].astype(int) - pictures[3]).mean() < 1

    def test_limits_cut_and_do_not_wrap(self, tmp_path: Path) -> None:
        line = "\x1b[41m" + " " * 10 + "\x1b[0m" + "x" * 400
        cast = write_cast(tmp_path / "a.cast", ["\n".join([line] * 300)])
        rasterise(cast, tmp_path / "a.mp4", max_columns=20, max_rows=6)
        (picture,), _, _ = decode(tmp_path / "a.mp4")
        screen = Raster(20, 6, font_px=raster._font_px(20, 6))
        assert picture.shape == screen.shape
        for y in range(6):
            red = np.median(cell(picture, screen, 4, y).reshape(-1, 3), axis=0)
            assert np.abs(red - RED).max() < 10

    def test_a_torn_cast_is_drawn_as_far_as_it_goes(self, tmp_path: Path) -> None:
        cast = write_cast(tmp_path / "a.cast", ["a", "b", "c"])
        data = cast.read_bytes()
        cast.write_bytes(data[: data.rindex(b"[0.5")] + b'[0.5, "o')
        assert rasterise(cast, tmp_path / "a.mp4") == 2
        assert decode(tmp_path / "a.mp4")[2] == Fraction(1, 2)

    def test_a_lone_frame_without_an_end_is_seen(self, tmp_path: Path) -> None:
        with CastWriter(tmp_path / "a.cast") as writer:
            writer.add("a", 0)
        assert rasterise(tmp_path / "a.cast", tmp_path / "a.mp4") == 1
        assert decode(tmp_path / "a.mp4")[2] == 1

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of a file")
    def test_a_full_disk_leaves_nothing(self, tmp_path: Path) -> None:
        """In a child of its own, since the limit is one of the process."""
        cast = write_cast(tmp_path / "a.cast", [f"{i:b}" for i in range(300)])
        code = f"""
import resource, signal
from rollcam.encode.raster import rasterise
from rollcam.errors import EncoderFailed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
try:
    rasterise({str(cast)!r}, {str(tmp_path / "a.mp4")!r})
except EncoderFailed as error:
    print(error.__cause__.errno)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stdout == f"{errno.EFBIG}\n", done.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["a.cast"]

    def test_what_others_typed_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        (tmp_path / "a.cast").write_text(
            '{"version": 3, "term": {"cols": 8, "rows": 2}}\n'
            '[0, "o", "ab"]\n[1, "o", "cd"]\n[1, "x", "0"]\n'
        )
        rasterise(tmp_path / "a.cast", tmp_path / "a.mp4")
        pictures, times, end = decode(tmp_path / "a.mp4")
        drawn = Raster(8, 2, font_px=raster._font_px(8, 2)).draw("abcd")
        assert np.abs(pictures[1].astype(int) - drawn).mean() < 3
        assert (times, end) == ([0, 1], 2)

    def test_nothing_is_left_of_a_film_that_failed(self, tmp_path: Path) -> None:
        (tmp_path / "no.cast").write_text("no cast")
        (tmp_path / "empty.cast").write_text('{"version": 2, "width": 8, "height": 2}\n')
        target = tmp_path / "a.mp4"
        target.write_text("old")
        for name, said in (("no", "no readable asciicast"), ("empty", "no frame")):
            with pytest.raises(MediaError, match=said):
                rasterise(tmp_path / f"{name}.cast", target)
        good = write_cast(tmp_path / "good.cast", ["a"])
        for fps in (0, -1, float("nan"), float("inf")):
            with pytest.raises(SettingError, match="fps="):
                rasterise(good, target, fps=fps)
        for limits in ({"max_columns": 0}, {"max_rows": -1}):
            with pytest.raises(SettingError, match="1 or more"):
                rasterise(good, target, **limits)
        with pytest.raises(EncoderFailed, match="nowhere"):
            rasterise(good, tmp_path / "nowhere" / "a.mp4")
        assert target.read_text() == "old"
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            ["no.cast", "empty.cast", "good.cast", "a.mp4"]
        )

    def test_a_finished_film_replaces_the_old_one(self, tmp_path: Path) -> None:
        target = tmp_path / "a.mp4"
        target.write_text("old")
        rasterise(write_cast(tmp_path / "a.cast", ["a"]), target)
        assert len(decode(target)[0]) == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.cast", "a.mp4"]

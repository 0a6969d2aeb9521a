"""TensorBoardSink and the plugin, against a real TensorBoard and in a real Chromium."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from rollcam.errors import SettingError, SinkError, SinkRefused
from rollcam.publish.sink import Delivery, Sink
from rollcam.sinks.tensorboard import TensorBoardSink
from tests.films import wait_until
from tests.sinks.deliveries import LENGTH_S, changed, killed_while_publishing, record
from tests.sinks.pages import n_moments, on_page, screenshot, watch
from tests.sinks.servers import answers, free_port, get, running


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Delivery]:
    return record(tmp_path_factory.mktemp("films"), 3)


def ids(deliveries: list[Delivery]) -> set[str]:
    return {delivery.episode.episode_id for delivery in deliveries}


def images(logdir: Path) -> list[tuple[str, int, bytes]]:
    """Tag, step and picture of every preview in the event files below a folder."""
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for path in sorted(logdir.rglob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [
                (v.tag, event.step, v.image.encoded_image_string) for v in event.summary.value
            ]
            at += 16 + length
        assert at == len(data)
    return found


def test_publishes_film_facts_and_an_animated_preview(
    films: list[Delivery], tmp_path: Path
) -> None:
    import io

    from PIL import Image

    sink = TensorBoardSink(tmp_path / "run")
    assert isinstance(sink, Sink)
    assert (sink.name, sink.target) == ("tensorboard", str(tmp_path / "run"))
    assert sink.stored(films) == set()

    places = [Path(sink.publish(delivery)) for delivery in films]
    sink.close()
    sink.close()

    assert [place.read_bytes() for place in places] == [d.media.read_bytes() for d in films]
    assert sink.stored(films) == ids(films)
    shown = images(tmp_path / "run")
    assert [(tag, step) for tag, step, _ in shown] == [
        ("rollout/film", 1000 * k) for k in (1, 2, 3)
    ]
    with Image.open(io.BytesIO(shown[0][2])) as picture:
        assert picture.format == "PNG"
        assert picture.n_frames >= 15
        assert picture.size == (160, 120)
        total_ms = 0
        for frame in range(picture.n_frames):
            picture.seek(frame)
            total_ms += picture.info["duration"]
    assert total_ms == pytest.approx(LENGTH_S * 1000, abs=60)
    assert not list((tmp_path / "run").rglob("*.part"))


def test_again_adds_nothing_and_a_changed_film_takes_the_place(
    films: list[Delivery], tmp_path: Path
) -> None:
    for _ in range(2):
        sink = TensorBoardSink(tmp_path)
        sink.publish(films[0])
        sink.publish(films[0])
        sink.close()
    assert len(images(tmp_path)) == 1
    other = changed(films[0], tmp_path.with_name(tmp_path.name + "-other"))
    assert sink.stored([other]) == set()
    place = Path(sink.publish(other))
    sink.close()
    assert [path.name for path in (tmp_path / "rollcam").glob("*.mp4")] == [place.name]
    assert place.read_bytes() == other.media.read_bytes()
    assert (sink.stored([other]), sink.stored([films[0]])) == (ids([other]), set())


def test_late_films_keep_newer_previews(films: list[Delivery], tmp_path: Path) -> None:
    # TensorBoard's data server drops later steps of a series when an earlier one arrives.
    sink = TensorBoardSink(tmp_path)
    for delivery in (films[1], films[2], films[0]):
        sink.publish(delivery)
    sink.close()
    told = [(tag, step) for tag, step, _ in images(tmp_path)]
    assert told == [("rollout/film", 2000), ("rollout/film", 3000), ("rollout/film-2", 1000)]


@pytest.mark.parametrize(
    "kill",
    [
        "rollcam.sinks.tensorboard:copy_whole",
        "+rollcam.sinks.tensorboard:copy_whole",
        "rollcam.sinks.tensorboard_events:PreviewLog._write_state",
        "+rollcam.sinks.tensorboard_events:PreviewLog._write_state",
        "+rollcam.sinks.tensorboard_events:PreviewLog.add",
        "+rollcam.sinks.tensorboard:write_atomically",
        "+rollcam.sinks.tensorboard_events:PreviewLog.forget",
    ],
)
def test_killed_anywhere_everything_is_there_once(
    films: list[Delivery], tmp_path: Path, kill: str
) -> None:
    logdir = tmp_path / "run"
    made = (
        f"from rollcam.sinks.tensorboard import TensorBoardSink; TensorBoardSink({str(logdir)!r})"
    )
    killed_while_publishing(made, films[:1], kill, tmp_path)
    sink = TensorBoardSink(logdir)
    for delivery in (films[1], films[0]):  # newest first, as the publisher goes on
        sink.publish(delivery)
    sink.close()
    assert sink.stored(films) == ids(films[:2])
    assert sorted(step for _, step, _ in images(logdir)) == [1000, 2000]
    assert len(list(logdir.rglob("*.mp4"))) == 2
    assert json.loads((logdir / "rollcam" / "previews.state").read_bytes())["pending"] == {}


def test_bad_input_and_full_disks_are_told_apart(films: list[Delivery], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="logdir is ''"):
        TensorBoardSink("")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match="cannot be written to") as caught:
        TensorBoardSink(tmp_path / "file").publish(films[0])
    assert not isinstance(caught.value, SinkRefused)
    gone = dataclasses.replace(films[0], media=tmp_path / "gone.mp4")
    with pytest.raises(SinkRefused, match=r"gone\.mp4 is gone"):
        TensorBoardSink(tmp_path / "run").publish(gone)


# --- a real TensorBoard -----------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


class Board:
    """A log directory with two runs and hostile films, and the TensorBoard that shows it."""

    def __init__(self, root: Path, films: list[Delivery]) -> None:
        self.root, self.films = root / "runs", films
        for run, chosen in (("ppo-1", films), ("ppo-2", films[:1])):
            sink = TensorBoardSink(self.root / run)
            for delivery in chosen:
                sink.publish(delivery)
            sink.close()
        (root / "secret.mp4").write_bytes(b"secret")
        self._hostile()
        self.base = f"http://127.0.0.1:{free_port()}"
        self.plugin = f"{self.base}/data/plugin/rollcam"

    def _hostile(self) -> None:
        hostile = dataclasses.replace(self.films[0].episode, env_id=HOSTILE, episode_id="../../x")
        sink = TensorBoardSink(self.root / "<b>bold<b>", preview=False)
        sink.publish(dataclasses.replace(self.films[0], episode=hostile))
        folder = self.root / "<b>bold<b>" / "rollcam"
        (good,) = folder.glob("*.json")
        facts = json.loads(good.read_bytes())
        (folder / "linked.mp4").symlink_to(self.root.parent / "secret.mp4")
        os.mkfifo(folder / "pipe.mp4")
        for name in ("../../../secret.mp4", "/etc/passwd", "linked.mp4", "pipe.mp4", "none.mp4", 7):
            bad = facts | {"file": name, "size_bytes": 6, "caption": "outside"}
            (folder / f"bad-{quote(str(name), safe='')}.json").write_text(json.dumps(bad))
        (folder / "broken.json").write_text('{"schema_version": 1')
        (folder / "deep.json").write_text("[" * 50_000)
        os.mkfifo(folder / "pipe.json")

    def told(self) -> list[dict[str, Any]]:
        films: list[dict[str, Any]] = json.loads(get(f"{self.plugin}/films")[2])["films"]
        return films

    def film_url(self, run: str = "ppo-1", step: int = 1000) -> str:
        (key,) = (f["key"] for f in self.told() if (f["run"], f["step"]) == (run, step))
        return f"{self.plugin}/film?key={key}"


@pytest.fixture(scope="module")
def board(films: list[Delivery], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    board = Board(tmp_path_factory.mktemp("board"), films)
    port = board.base.rpartition(":")[2]
    command = ["-m", "tensorboard.main", "--logdir", str(board.root), "--port", port]
    command += ["--host", "127.0.0.1", "--reload_interval", "1"]
    with running(command, lambda: answers(board.plugin + "/films"), board.root.parent / "log"):
        yield board


def test_lists_only_films_of_the_log_directory_newest_first(board: Board) -> None:
    told = board.told()
    assert [(f["run"], f["step"]) for f in told if f["run"] == "ppo-1"] == [
        ("ppo-1", 3000),
        ("ppo-1", 2000),
        ("ppo-1", 1000),
    ]
    assert [film["run"] for film in told].count("<b>bold<b>") == 1  # of all that lies there
    assert "outside" not in {film["caption"] for film in told}
    newest = next(film for film in told if film["run"] == "ppo-1")
    assert newest["scalars"] == {"return": pytest.approx(43.5), "length": 29}
    assert newest["caption"] == "Count-v0 · episode 2 · return 43.5 · 29 steps · seed 2 · truncated"


@pytest.mark.parametrize(
    ("asked", "status", "told", "part"),
    [
        (None, 200, None, slice(None)),
        ("bytes=0-0", 206, "bytes 0-0/{n}", slice(0, 1)),
        ("bytes=100-", 206, "bytes 100-{last}/{n}", slice(100, None)),
        ("bytes=100-199", 206, "bytes 100-199/{n}", slice(100, 200)),
        ("bytes=-10", 206, "bytes {tail}-{last}/{n}", slice(-10, None)),
        ("bytes=5-99999999", 206, "bytes 5-{last}/{n}", slice(5, None)),
        ("bytes=99999999-", 416, "bytes */{n}", None),
        ("bytes=-0", 416, "bytes */{n}", None),
        ("bytes=9-5", 416, "bytes */{n}", None),
        ("bytes=0-1,3-4", 200, None, slice(None)),
        ("bytes=-", 200, None, slice(None)),
        ("lines=0-1", 200, None, slice(None)),
        ("bytes=" + "9" * 400 + "-", 200, None, slice(None)),
    ],
)
def test_answers_byte_ranges(
    board: Board, asked: str | None, status: int, told: str | None, part: slice | None
) -> None:
    data = board.films[0].media.read_bytes()
    n = len(data)
    headers = {"Range": asked} if asked else {}
    for method in ("GET", "HEAD"):
        code, answer, body = get(board.film_url(), headers, method)
        assert code == status
        wanted = told and told.format(n=n, last=n - 1, tail=n - 10)
        assert answer.get("Content-Range") == wanted
        assert answer.get("X-Content-Type-Options") == "nosniff"
        assert answer["ETag"]
        if part is not None:
            assert answer["Content-Type"] == "video/mp4"
            assert answer["Accept-Ranges"] == "bytes"
            assert int(answer["Content-Length"]) == len(data[part])
            assert body == (data[part] if method == "GET" else b"")


def test_answers_conditional_requests(board: Board) -> None:
    url = board.film_url()
    etag = get(url)[1]["ETag"]
    assert get(url, {"If-None-Match": f'"x", {etag}'})[0] == 304
    assert get(url, {"If-None-Match": '"x"'})[0] == 200
    assert get(url, {"Range": "bytes=0-1", "If-Range": etag})[0] == 206
    assert get(url, {"Range": "bytes=0-1", "If-Range": '"x"'})[0] == 200
    assert get(url, method="POST")[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/film",
        "/film?key=",
        "/film?key=../../secret.mp4",
        "/film?key=%2Fetc%2Fpasswd",
        "/film?key=ppo-1/rollcam",
        "/film/../../../../secret.mp4",
        "/film%2F..%2Fsecret.mp4",
        "/static/index.js",
        "/plugin.py",
    ],
)
def test_gives_nothing_else_away(board: Board, path: str) -> None:
    code, _, body = get(board.plugin + path)
    assert code == 404
    assert b"secret" not in body


def test_plays_in_tensorboard(board: Board, browser: Any) -> None:
    def job(page: Any) -> dict[str, Any]:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        frame = page.frame_locator("iframe")
        card = frame.locator("section", has_text="ppo-1").locator("figure").first
        seen = watch(card.locator("video"))
        seen["facts"] = card.locator("b").inner_text()
        seen["caption"] = card.locator("span").inner_text()
        seen["runs"] = frame.locator("h2").all_inner_texts()
        seen["steps"] = frame.locator("section", has_text="ppo-1").locator("b").all_inner_texts()
        seen["hostile"] = frame.locator("section", has_text="bold").locator("span").inner_text()
        seen["images"] = frame.locator("img").count()
        frame.get_by_label("Filter runs by name").fill("PPO-")
        frame.locator("section", has_text="bold").wait_for(state="detached")
        frame.locator("body").evaluate("scrollTo(0, 0)")
        screenshot(page, "tensorboard.png")
        frame.get_by_label("ppo-2").uncheck()
        frame.locator("section", has_text="ppo-2").wait_for(state="detached")
        seen["left"] = frame.locator("h2").all_inner_texts()
        seen["titles"] = (page.title(), frame.locator("head title").inner_text())
        seen["refused"] = [text for text in said if "Content Security Policy" in text]
        return seen

    seen = on_page(browser, f"{board.base}/#rollcam", job)
    assert (seen["width"], seen["height"]) == (160, 120)
    assert seen["duration"] == pytest.approx(LENGTH_S, abs=0.1)
    assert seen["facts"] == "step 3,000 · return 43.5"
    assert seen["caption"] == "Count-v0 · episode 2 · return 43.5 · 29 steps · seed 2 · truncated"
    assert [fact.split(" · ")[0] for fact in seen["steps"]] == [
        "step 3,000",
        "step 2,000",
        "step 1,000",
    ]
    assert {"<b>bold<b>", "ppo-1", "ppo-2"} <= set(seen["runs"])
    assert seen["hostile"].startswith(HOSTILE)
    assert seen["images"] == 0
    assert seen["left"] == ["ppo-1"]
    assert "owned" not in seen["titles"]
    assert seen["refused"] == []


def test_preview_moves_in_the_stock_image_tab(board: Board, browser: Any) -> None:
    def job(page: Any) -> int:
        picture = page.locator(
            "image-card img, tf-image-loader img, img[src*='individualImage']"
        ).first
        picture.wait_for()
        n_seen = n_moments(picture)
        screenshot(page, "tensorboard-image-tab.png")
        return n_seen

    assert on_page(browser, f"{board.base}/#images", job) > 2


def test_late_previews_wipe_out_no_newer_ones(
    board: Board, films: list[Delivery]
) -> None:  # in the data server that TensorBoard starts by default
    sink = TensorBoardSink(board.root / "late")
    for delivery in (films[1], films[2], films[0]):
        sink.publish(delivery)
    sink.close()

    def steps(tag: str) -> list[int]:
        asked = (
            f"{board.base}/data/plugin/images/images?run=late%2Frollcam&tag={quote(tag, safe='')}"
        )
        code, _, body = get(f"{asked}&sample=0")
        return [image["step"] for image in json.loads(body)] if code == 200 else []

    wait_until(lambda: steps("rollout/film-2") == [1000], "the late preview is there", 30)
    assert steps("rollout/film") == [2000, 3000]


def test_a_film_that_arrives_later_appears_by_itself(
    board: Board, browser: Any, tmp_path: Path
) -> None:
    late = record(tmp_path, 1, first_step=500)

    def job(page: Any) -> str:
        frame = page.frame_locator("iframe")
        frame.locator("section", has_text="ppo-2").locator("figure").first.wait_for()
        sink = TensorBoardSink(board.root / "new")
        sink.publish(late[0])
        sink.close()
        card = frame.locator("section", has_text="new").locator("figure", has_text="step 500")
        watch(card.locator("video"))
        return str(card.locator("b").inner_text())

    assert on_page(browser, f"{board.base}/#rollcam", job).startswith("step 500 ")

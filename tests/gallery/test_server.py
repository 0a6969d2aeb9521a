"""What the page is told: lists, points, facets, one episode, its film and its posters."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from rollcam.errors import SettingError, StoreError
from rollcam.publish.entry import Entry, State
from rollcam.publish.ledger import FILE_NAME, Ledger
from tests.envs import AnsiEnv, CountingEnv
from tests.films import film
from tests.gallery.serving import Served, poll, put


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One folder with films, one with thirty sidecars and odd ones."""
    root = tmp_path_factory.mktemp("gallery")
    filmed, listed = root / "filmed", root / "listed"
    film("RecordVideo", CountingEnv(length=20, fps=10), filmed, n_episodes=2)
    film("RecordVideo", AnsiEnv(length=3, fps=10), filmed / "text", n_episodes=1)
    for n in range(30):
        mode = "eval" if n % 3 == 0 else "train"
        put(listed, f"part/ep-{n}", n, mode=mode, env_id=f"Env-{n % 2}")
    put(listed, "none", 40, episode_return=None, metadata={"note": "a Lunar day"})
    put(listed, "no-number", 41, episode_return=float("nan"))
    put(listed, "endless", 42, episode_return=float("inf"), status="failed", reason="disk full")
    return filmed, listed


@pytest.fixture(scope="module")
def served(folders: tuple[Path, Path]) -> Iterator[Served]:
    with Served(*folders) as server:
        yield server


def _column(told: dict[str, Any], name: str) -> list[Any]:
    return [row[told["columns"].index(name)] for row in told["rows"]]


def test_gallery_says_what_there_is(served: Served) -> None:
    told = served.json("/api/gallery.json")
    assert [(f["label"], f["n"]) for f in told["folders"]] == [("filmed", 3), ("listed", 33)]
    assert told["n"] == 36
    assert told["columns"][:3] == ["id", "folder", "name"]
    assert told["x"] == "context_at_end.num_env_steps"
    assert "context_at_end.num_env_steps" in told["numeric"]
    assert "metadata.note" in told["more"]
    assert "metadata.note" not in told["numeric"]
    assert told["notes"] == []


def test_list_is_windowed_sorted_and_filtered(served: Served) -> None:
    told = served.json("/api/list.json?is=folder=listed&is=mode=eval&sort=-seed&limit=3&offset=2")
    assert told["total"] == 10
    assert _column(told, "seed") == [21, 18, 15]
    assert set(_column(told, "folder")) == {"listed"}
    told = served.json("/api/list.json?is=env_id=Env-1&in=episode_return=5..9&sort=episode_return")
    assert _column(told, "episode_return") == [5, 7, 9]
    told = served.json(
        "/api/list.json?is=seed=3&is=seed=5&sort=seed&columns=context_at_end.iteration"
    )
    assert _column(told, "context_at_end.iteration") == [1, 2]


@pytest.mark.parametrize("sort", ["episode_return", "-episode_return"])
def test_what_is_missing_comes_last(served: Served, sort: str) -> None:
    told = served.json(f"/api/list.json?is=folder=listed&sort={sort}&limit=100")
    returns = _column(told, "episode_return")
    assert returns[-2:] == [None, None]
    assert "inf" in (returns[0], returns[-3])
    assert returns.count("inf") == 1


def test_two_folders_are_one_list(served: Served) -> None:
    whole = served.json("/api/list.json?sort=-episode_return&limit=1000")
    assert whole["total"] == len(whole["rows"]) == 36
    returns = [float(r) for r in _column(whole, "episode_return") if r is not None]
    assert returns == sorted(returns, reverse=True)
    parts = [
        served.json(f"/api/list.json?sort=-episode_return&limit=5&offset={n}")["rows"]
        for n in range(0, 36, 5)
    ]
    assert [row for part in parts for row in part] == whole["rows"]
    folders = _column(served.json("/api/list.json?sort=-folder&limit=100"), "folder")
    assert folders == ["listed"] * 33 + ["filmed"] * 3


@pytest.mark.parametrize(("words", "names"), [("lunar", ["none"]), ("EP-1 part", 11), ("zzz", [])])
def test_text_is_found(served: Served, words: str, names: Any) -> None:
    told = served.json(f"/api/list.json?q={words.replace(' ', '+')}&limit=100")
    assert (_column(told, "name") if isinstance(names, list) else told["total"]) == names


@pytest.mark.parametrize("question", ["sort=-seed", "is=mode=eval&sort=episode_return", ""])
def test_points_are_the_rows_of_the_list(served: Served, question: str) -> None:
    points = served.json(f"/api/points.json?{question}&x=step_index&y=episode_return&color=env_id")
    rows = served.json(f"/api/list.json?{question}&limit=1000")
    assert points["n"] == rows["total"]
    assert points["generation"] == rows["generation"]
    assert points["xs"] == _column(rows, "step_index")
    odd = (None, "inf")
    assert points["ys"] == [None if v in odd else v for v in _column(rows, "episode_return")]
    assert [points["statuses"][n] for n in points["status"]] == _column(rows, "status")
    assert [points["colors"][n] for n in points["color"]] == _column(rows, "env_id")


def test_points_over_time_are_seconds(served: Served) -> None:
    points = served.json("/api/points.json?is=folder=listed&x=started_at&sort=started_at")
    assert points["xs"][1] - points["xs"][0] == 1


def test_facets_leave_their_own_column_out(served: Served) -> None:
    told = served.json("/api/facets.json?is=folder=listed&is=mode=eval&in=seed=0..5")
    assert told["total"] == 2
    assert dict(told["values"]["mode"]) == {"train": 4, "eval": 2}
    assert dict(told["values"]["env_id"]) == {"Env-0": 1, "Env-1": 1}
    assert dict(told["values"]["folder"]) == {"listed": 2, "filmed": 0}
    assert told["ranges"]["seed"] == [0, 27]
    assert told["ranges"]["episode_return"] == [0, 3]


def test_facts_of_an_episode(served: Served, folders: tuple[Path, Path]) -> None:
    told = served.json("/api/e/filmed!rl-video-episode-1/facts.json")
    on_disk = json.loads((folders[0] / "rl-video-episode-1.meta.json").read_text())
    assert told["sidecar"] == on_disk
    assert told["media"]["type"] == "video/mp4"
    assert told["deliveries"] == []
    rows = served.json("/api/list.json?limit=100")["rows"]
    assert told["row"] in rows
    steps = served.json("/" + told["steps"])
    assert steps["n"] == 21
    assert steps["columns"]["reward"][1:4] == [1, 2, 3]


def test_deliveries_are_told(tmp_path: Path) -> None:
    episode = put(tmp_path / "videos", "sent", 1)
    path = tmp_path / "videos" / ".rollcam" / FILE_NAME
    with Served(tmp_path / "videos") as served:
        facts = "/api/e/videos!sent/facts.json"
        assert served.json(facts)["deliveries"] == []
        assert not path.exists()  # looking makes nothing
        path.parent.mkdir(exist_ok=True)
        entry = Entry(
            "wandb", "team/run", episode.episode_id, "sent", State.FAILED, reason="no <b>"
        )
        Ledger(path).put([entry])
        (told,) = served.json(facts)["deliveries"]
        assert (told["sink"], told["state"], told["reason"]) == ("wandb", "failed", "no <b>")
        path.write_bytes(b"no ledger" * 1000)
        assert served.json(facts)["deliveries"] == []


def test_every_row_leads_to_its_episode(served: Served) -> None:
    for row in served.json("/api/list.json?limit=100")["rows"]:
        assert served.json(f"/api/e/{row[0]}/facts.json")["row"] == row


def test_neighbours_walk_through_all(served: Served) -> None:
    question = "is=folder=listed&is=mode=eval"
    best = served.json(f"/api/list.json?{question}&sort=-episode_return&limit=1")["rows"][0]
    walked = [best]
    while (told := served.json(f"/api/e/{walked[-1][0]}/neighbours.json?{question}"))["worse"]:
        back = served.json(f"/api/e/{told['worse'][0]}/neighbours.json?{question}")
        assert back["better"] == walked[-1]
        walked.append(told["worse"])
    assert [row[16 - 4] for row in walked] == [27, 24, 21, 18, 15, 12, 9, 6, 3, 0]
    assert told["later"] == walked[-2]
    assert told["earlier"] is None


def test_film_by_ranges(served: Served, folders: tuple[Path, Path]) -> None:
    data = (folders[0] / "rl-video-episode-0.mp4").read_bytes()
    path = "/api/e/filmed!rl-video-episode-0/media.mp4"
    whole = served.get(path)
    assert (whole.status, whole.body) == (200, data)
    assert whole.headers["accept-ranges"] == "bytes"
    part = served.get(path, {"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
    assert served.get(path, {"Range": "bytes=-7"}).body == data[-7:]
    tag = whole.headers["etag"]
    assert served.get(path, {"If-None-Match": tag}).status == 304
    assert served.get(path, {"If-None-Match": '"other"'}).status == 200
    stale = served.get(path, {"Range": "bytes=10-19", "If-Range": '"other"'})
    assert (stale.status, stale.body) == (200, data)
    head = served.get(path, method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(data)), b"")
    kept = served.get(path + "?download=1").headers["content-disposition"]
    assert kept == 'attachment; filename="rl-video-episode-0.mp4"'


@pytest.mark.parametrize("size", [1000, 300_000], ids=["small", "large"])
def test_films_of_any_size_are_answered_alike(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    put(tmp_path, "film", 1, media="film.mp4")
    (tmp_path / "film.mp4").write_bytes(data)
    with Served(tmp_path) as served:
        path = f"/api/e/{tmp_path.name}!film/media.mp4"
        whole = served.get(path)
        assert (whole.status, whole.body) == (200, data)
        for told, part in (
            ("bytes=0-", slice(0, None)), ("bytes=10-19", slice(10, 20)),
            (f"bytes={size - 5}-{size + 5}", slice(size - 5, None)), ("bytes=-7", slice(-7, None)),
        ):  # fmt: skip
            reply = served.get(path, {"Range": told})
            first = part.indices(size)[0]
            assert (reply.status, reply.body) == (206, data[part])
            assert (
                reply.headers["content-range"]
                == f"bytes {first}-{first + len(data[part]) - 1}/{size}"
            )
            assert reply.headers["content-length"] == str(len(data[part]))
            for same in ("etag", "content-type", "accept-ranges", "last-modified", "cache-control"):
                assert reply.headers[same] == whole.headers[same]
        assert served.get(path, {"Range": f"bytes={size}-"}).status == 416
        assert (
            served.get(path, {"Range": "bytes=0-", "If-None-Match": whole.headers["etag"]}).status
            == 304
        )


def test_text_episode(served: Served, folders: tuple[Path, Path]) -> None:
    row = served.json("/api/list.json?is=codec=asciicast")["rows"][0]
    told = served.json(f"/api/e/{row[0]}/facts.json")
    assert told["poster"] is None
    reply = served.get("/" + told["media"]["url"])
    assert reply.body == next((folders[0] / "text").glob("*.cast")).read_bytes()
    assert served.get(f"/api/e/{row[0]}/poster-middle.jpg").status == 404


def test_posters_are_made_once(served: Served, folders: tuple[Path, Path]) -> None:
    base = "/api/e/filmed!rl-video-episode-0/poster-"
    found = {at: served.get(f"{base}{at}.jpg") for at in ("first", "middle", "last", "best")}
    assert all(r.status == 200 and r.body[:2] == b"\xff\xd8" for r in found.values())
    assert found["first"].body != found["last"].body
    assert found["best"].body == found["last"].body  # rewards grow to the end
    kept = list((folders[0] / ".rollcam" / "posters").glob("*.jpg"))
    times = {path: path.stat().st_mtime_ns for path in kept}
    again = served.get(f"{base}last.jpg")
    assert again.body == found["last"].body
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    tag = {"If-None-Match": again.headers["etag"]}
    assert served.get(f"{base}last.jpg", tag).status == 304


def test_answers_are_compressed_and_films_are_not(served: Served) -> None:
    wanted = {"Accept-Encoding": "gzip"}
    small = served.get("/api/list.json?limit=100", wanted)
    assert small.headers["content-encoding"] == "gzip"
    assert len(small.body) * 3 < len(served.get("/api/list.json?limit=100").body)
    assert small.json()["total"] == 36
    for more in ({}, {"Range": "bytes=0-1999"}):
        film = served.get("/api/e/filmed!rl-video-episode-0/media.mp4", {**wanted, **more})
        assert film.status in (200, 206)
        assert "content-encoding" not in film.headers


def test_a_folder_that_goes_is_told_of(tmp_path: Path) -> None:
    put(tmp_path / "stays", "a", 1)
    put(tmp_path / "goes", "b", 2)
    with Served(tmp_path / "stays", tmp_path / "goes") as server:
        assert server.json("/api/gallery.json")["notes"] == []
        (tmp_path / "goes").rename(tmp_path / "elsewhere")
        told = poll(lambda: server.json("/api/gallery.json")["notes"])
        assert told == ["goes: the folder is gone, or cannot be read"]
        assert "a" in [row[2] for row in server.json("/api/list.json")["rows"]]
        (tmp_path / "elsewhere").rename(tmp_path / "goes")
        assert poll(lambda: not server.json("/api/gallery.json")["notes"])
        assert len(server.json("/api/list.json")["rows"]) == 2


def test_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        told = served.json("/api/gallery.json")
        assert (told["n"], told["x"], told["notes"]) == (0, "started_at", [])
        assert served.json("/api/list.json")["rows"] == []
        assert served.json("/api/points.json")["n"] == 0
        assert served.json("/api/facets.json")["ranges"]["episode_return"] is None
        assert served.json("/api/live.json") == {"growing": []}
    assert list(tmp_path.iterdir()) == []  # whoever looks leaves nothing behind


@pytest.mark.parametrize(
    "path",
    [
        "list.json?sort=nonsense", "list.json?is=nonsense", "list.json?in=seed=3", "list.json?limit=x",
        "list.json?offset=-1", "list.json?in=folder=a..b", "points.json?x=e'--", "list.json?is=a\"b=1",
        "list.json?columns=" + ",".join(["fps"] * 21), "list.json?limit=" + "9" * 5000,
        "list.json?q=" + "a" * 501, "list.json?" + "&".join(["is=seed=1"] * 101),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_cannot_be_asked_is_told(served: Served, path: str) -> None:
    reply = served.get(f"/api/{path}")
    assert reply.status == 400
    assert reply.json()["error"]


@pytest.mark.parametrize("value", ["9" * 200, "-1e999", "nan", "..", "%00", "%ff", "'--"])
def test_odd_values_find_nothing(served: Served, value: str) -> None:
    assert served.json(f"/api/list.json?is=name={value}")["rows"] == []
    served.json(f"/api/list.json?in=seed={value}..{value}")


def test_names_are_no_sql(served: Served) -> None:
    odd = "e.id') FROM episode;--"
    asked = quote(odd)
    assert set(served.json(f"/api/points.json?x={asked}")["xs"]) == {None}
    assert served.json(f"/api/list.json?is={asked}=1&sort={asked}")["total"] == 0


def test_no_folder_and_no_port(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"), Served(tmp_path / "none"):
        pass
    put(tmp_path, "a")
    with pytest.raises(SettingError, match="cannot listen"), Served(tmp_path, host="192.0.2.1"):
        pass
    with (
        Served(tmp_path) as first,
        pytest.raises(SettingError, match="--port"),
        Served(tmp_path, port=first.port),
    ):
        pass

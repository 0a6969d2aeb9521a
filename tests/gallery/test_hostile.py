"""Nothing outside the folders is given out, and nothing in them does harm; the server stays up."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollcam.gallery import app
from rollcam.gallery.names import id_of
from tests.envs import CountingEnv
from tests.films import film
from tests.gallery.serving import Served, poll, put

SECRET = b"the secret outside"
SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`videos` is shown; what lies beside it is nobody's business."""
    root = tmp_path_factory.mktemp("hostile")
    videos = root / "videos"
    film("RecordVideo", CountingEnv(length=5, fps=10), videos, n_episodes=1)
    (root / "secret.mp4").write_bytes(SECRET)
    (root / "secret.txt").write_bytes(SECRET)
    put(root, "secret", reason=SECRET.decode(), media="secret.mp4")
    put(root / "videos2", "beside", reason=SECRET.decode())
    (root / "static").mkdir()
    (root / "static" / "index.html").write_text("the page")
    (root / "static" / "main.js").write_text("the script")
    return root


@pytest.fixture
def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(app, "STATIC", place / "static")
    with Served(place / "videos") as server:
        yield server
        # Whatever the test did, the server is well.
        assert server.get("/api/gallery.json").status == 200
        film_path = "/api/e/videos!rl-video-episode-0/media.mp4"
        assert server.get(film_path).status == 200


def _spellings(target: str) -> list[str]:
    return [
        target, target.replace("..", "%2e%2e"), target.replace("/", "%2f"), target.replace("/", "\\"),
        target.replace("/", "%5c"), target.replace("..", "%2e%2e").replace("/", "%2F"),
        target.replace("..", "%252e%252e"), target.replace("/", "//"), target.replace("..", "..;"),
        target.replace("..", "....//"), target.replace("..", "%c0%ae%c0%ae"), target + "%00.mp4",
        target.replace("..", "..%00"), target.replace("..", "\u002e\u002e"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "prefix", ["/", "/main.js/", "/api/e/", "/api/e/videos!x/", "/api/live/", "//"]
)
def test_paths_lead_nowhere(served: Served, place: Path, prefix: str) -> None:
    targets = ["../secret.txt", "../../secret.txt", "videos/../../secret.txt", "/etc/passwd"]
    targets += [str(place / "secret.txt"), "../videos/rl-video-episode-0.mp4", "../app.py"]
    for target in targets:
        for spelling in _spellings(target):
            reply = served.get(prefix + spelling)
            assert reply.status in (400, 403, 404), (prefix, spelling)
            assert SECRET not in reply.body
            assert b"root:" not in reply.body


@pytest.mark.parametrize(
    "file", ["facts.json", "media.mp4", "steps.json", "poster-first.jpg", "neighbours.json"]
)
def test_handles_lead_nowhere(served: Served, place: Path, file: str) -> None:
    keys = [
        "videos/../secret", "videos/../../secret", "videos/./../secret", "videos//secret", "../secret",
        f"videos/{place}/secret", f"{place}/secret", "/secret", "videos/..\\secret", "videos2/beside",
        "videos/../videos2/beside", "videos/a/../../secret", "videos/../videos/rl-video-episode-0",
        "videos/.rollcam/partial/x", "videos/\0", "videos/secret\0", "videos/" + "a/" * 3000, "videos",
        "videos/", "", "videos/\udcff",
    ]  # fmt: skip
    for key in keys:
        reply = served.get(f"/api/e/{id_of(key)}/{file}")
        is_empty = file == "neighbours.json" and reply.status == 200
        assert reply.status in (400, 404, 422) or is_empty, key
        assert SECRET not in reply.body
        if is_empty:
            assert set(reply.json().values()) == {None}
    for handle in (
        "..",
        ".",
        "%2e%2e",
        "~zz",
        "~",
        "videos~2f..~2fsecret",
        "videos!..!secret",
        "~" * 50_000,
    ):
        assert served.get(f"/api/e/{handle}/{file}").status in (400, 404, 414, 431), handle[:50]


def test_links_out_of_the_folder(served: Served, place: Path) -> None:
    videos = place / "videos"
    put(videos, "linked", 1, media="linked.mp4", codec="h264", steps="linked.steps.json")
    (videos / "linked.mp4").symlink_to(place / "secret.mp4")
    (videos / "linked.steps.json").symlink_to(place / "secret.txt")
    (videos / "stolen.meta.json").symlink_to(place / "secret.meta.json")
    (videos / "away").symlink_to(place / "videos2")
    try:
        told = served.json("/api/e/videos!linked/facts.json")
        assert (told["media"], told["steps"], told["poster"]) == (None, None, None)
        for path in ("linked/media.mp4", "linked/steps.json", "linked/poster-first.jpg",
                     "stolen/facts.json", "stolen/media.mp4", "away!beside/facts.json"):  # fmt: skip
            reply = served.get(f"/api/e/videos!{path}")
            assert reply.status == 404, path
            assert SECRET not in reply.body
    finally:
        for path in [*videos.glob("linked*"), videos / "stolen.meta.json", videos / "away"]:
            path.unlink()


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_pipes_and_folders_instead_of_files(served: Served, place: Path) -> None:
    videos = place / "videos"
    put(videos, "pipe", 2, media="pipe.mp4", codec="h264", steps="pipe.steps.json")
    os.mkfifo(videos / "pipe.mp4")
    os.mkfifo(videos / "odd.meta.json")
    (videos / "pipe.steps.json").mkdir()
    try:
        assert served.json("/api/e/videos!pipe/facts.json")["media"] is None
        for path in ("pipe/media.mp4", "pipe/steps.json", "pipe/poster-last.jpg", "odd/facts.json"):
            assert served.get(f"/api/e/videos!{path}").status == 404
    finally:
        (videos / "pipe.steps.json").rmdir()
        for path in (*videos.glob("pipe*"), videos / "odd.meta.json"):
            path.unlink()


def test_only_films_are_given_out_as_films(served: Served, place: Path) -> None:
    videos = place / "videos"
    (videos / "notes.html").write_text(SCRIPT)
    put(videos, "page", 3, media="notes.html", content_type="text/html")
    (videos / "fake.mp4").write_text(SCRIPT)
    put(videos, "fake", 4, media="fake.mp4", content_type="text/html", codec="h264")
    try:
        assert served.json("/api/e/videos!page/facts.json")["media"] is None
        assert served.get("/api/e/videos!page/media.html").status == 404
        reply = served.get("/api/e/videos!fake/media.mp4")
        assert reply.headers["content-type"] == "video/mp4"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert served.get("/api/e/videos!fake/poster-middle.jpg").status == 404
    finally:
        for path in (*videos.glob("page*"), *videos.glob("fake*"), videos / "notes.html"):
            path.unlink()


def _hostile() -> dict[str, Any]:
    """Sidecars that somebody made up."""
    good = {
        "schema_version": 1,
        "episode_id": "x",
        "run_id": "x",
        "name": "x",
        "status": "complete",
    }
    deep: Any = 1
    for _ in range(90):
        deep = {"a": deep}
    return {
        "wrong-types": {**good, "fps": "many", "episode_return": [], "env_id": {}},
        "newer": {**good, "schema_version": 99},
        "list": [1, 2],
        "outside": {**good, "media": "../secret.mp4"},
        "absolute": {**good, "media": "/etc/passwd"},
        "own-name": {**good, "name": "../../etc/passwd", "episode_id": "../../secret"},
        "huge-numbers": {**good, "episode_return": 1e308, "seed": 10**300, "width": -1, "fps": 1e-300},
        "deep": {**good, "metadata": deep, "final_info": {"a": 1}},
        "half": {**good, "env_id": "\ud800", "metadata": {"\udfff": "\udc00"}},
        "script": {
            **good, "env_id": SCRIPT, "run_id": SCRIPT, "reason": SCRIPT, "codec": SCRIPT,
            "writer": {"host": SCRIPT, "pid": 1, "worker": SCRIPT}, "started_at": SCRIPT,
            "content_type": SCRIPT, "final_info": {SCRIPT: SCRIPT}, "context_at_end": {SCRIPT: 1},
            "metadata": {SCRIPT: {SCRIPT: SCRIPT}}, SCRIPT: SCRIPT,
        },
        "long": {**good, "env_id": "a" * 3_000_000, "metadata": {"b" * 500_000: 1}},
        "too-long": {**good, "env_id": "a" * 10_000_000},
    }  # fmt: skip


def test_hostile_sidecars_are_text(served: Served, place: Path) -> None:
    videos = place / "videos"
    names = []
    try:
        for name, told in _hostile().items():
            (videos / f"{name}.meta.json").write_text(json.dumps(told))
            names.append(name)
        for n, odd in enumerate([b"", b"\xff\xfe", b"{" * 100_000, b'{"a":' * 50_000, b"null"]):
            (videos / f"raw-{n}.meta.json").write_bytes(odd)
            names.append(f"raw-{n}")
        shown: dict[str, Any] = {}

        def are_there() -> bool:
            listed = served.json("/api/list.json?limit=100&sort=name")
            shown.update({row[2]: row for row in listed["rows"]})
            return {"own-name", "script", "long", "half"} <= shown.keys()

        poll(are_there)
        assert not {"newer", "list", "too-long", "outside", "absolute", "raw-0"} & shown.keys()
        assert len(json.dumps(shown["long"])) < 5000
        assert shown["script"][3] == SCRIPT
        notes = served.json("/api/gallery.json")["notes"]
        assert any("newer" in note and "pip install -U" in note for note in notes)
        assert all(len(note) <= 500 and str(place) not in note for note in notes)
        for name in names:
            reply = served.get(f"/api/e/videos!{name}/facts.json")
            assert reply.status in (200, 422), name
            assert reply.headers["content-type"] == "application/json"
            assert SECRET not in reply.body
            served.get(f"/api/e/videos!{name}/poster-best.jpg")
        for path in ("facets.json", "points.json?x=started_at&color=env_id", "points.json?x=seed"):
            assert served.get(f"/api/{path}").status == 200
    finally:
        for name in names:
            (videos / f"{name}.meta.json").unlink()


def test_hostile_steps(served: Served, place: Path) -> None:
    videos = place / "videos"
    put(videos, "steps", 5, steps="steps.steps.json")
    try:
        for odd in (
            "",
            "[]",
            "{}",
            '{"columns": 3}',
            '{"columns": {"a": 5}}',
            "[" * 100_000,
            "\x00",
        ):
            (videos / "steps.steps.json").write_text(odd)
            assert served.get("/api/e/videos!steps/steps.json").status in (422, 500), odd[:20]
        (videos / "steps.steps.json").write_text('{"columns": {"a": ["nan", NaN, 1e999, null]}}')
        told = served.json("/api/e/videos!steps/steps.json")
        assert told["columns"]["a"] == ["nan", "nan", "inf", None]
    finally:
        for path in videos.glob("steps*"):
            path.unlink()


@pytest.mark.parametrize(
    "told",
    [
        "bytes=0-99999999999999999999999999", "bytes=-99999999999999999999", "bytes=0-" + "9" * 5000,
        "bytes=99999999-", "bytes=5-2", "bytes=a-b", "bytes=", "bytes", "lines=0-5", "bytes=--5",
        "bytes=-", "bytes=0-0,-1", "bytes=" + ",".join(["0-"] * 99), "bytes=" + ",".join(["0-1"] * 5000),
        "bytes=\xe9-5",
    ],
    ids=range(15),
)  # fmt: skip
def test_odd_ranges(served: Served, place: Path, told: str) -> None:
    size = (place / "videos" / "rl-video-episode-0.mp4").stat().st_size
    reply = served.get("/api/e/videos!rl-video-episode-0/media.mp4", {"Range": told})
    assert reply.status in (200, 206, 400, 416)
    assert len(reply.body) <= 2 * size + 1000


def test_raw_nonsense_is_survived(served: Served) -> None:
    for data in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000,
                 b"GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
                 b"GET http://evil.example/api/gallery.json HTTP/1.1\r\nHost: evil.example\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(4096)
            except OSError as error:  # it hung up already, in whatever order that was noticed
                if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                    raise
                continue
            assert not answer or answer.split(b" ")[1][:1] == b"4", answer[:100]
    assert served.get("/api/gallery.json").status == 200

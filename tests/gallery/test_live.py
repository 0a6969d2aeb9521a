"""New episodes arrive on open pages, and a film can be watched while it is recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import av
import pytest

import rollcam
from rollcam.gallery import events
from tests import barcode
from tests.envs import AnsiEnv
from tests.gallery.serving import Served, poll, put

_KILLED = """
import sys, numpy, rollcam
recorder = rollcam.Recorder(sys.argv[1], fps=10)
recorder.begin()
for n in range(20):
    recorder.capture(lambda: numpy.full((64, 64, 3), n, numpy.uint8), reward=1.0 if n else None)
recorder.flush(20)
print("grown", flush=True)
sys.stdin.read()
"""


def test_an_episode_arrives_and_goes(tmp_path: Path) -> None:
    put(tmp_path, "old", 1)
    with Served(tmp_path) as served, served.events() as stream:
        hello = stream.until("hello")
        assert hello["n"] == 1
        assert stream.until("growing") == {"growing": []}
        put(tmp_path, "sub/new", 2, episode_return=5.0)
        told = stream.until("change", lambda told: told["n"] == 2)
        assert told["is_complete"]
        new = [row for row in told["rows"] if row[2] != "old"]
        assert [row[2] for row in new] == ["sub/new"]
        assert told["generation"] != hello["generation"]
        assert served.json("/api/list.json?is=seed=2")["rows"] == new
        (tmp_path / "old.meta.json").unlink()
        told = stream.until("change", lambda told: told["n"] == 1)
        assert told["removed"] == [f"01J{1:023d}"]


def test_many_changes_are_told_in_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_CHANGES", 5)
    put(tmp_path, "old", 0)
    with Served(tmp_path) as served, served.events() as stream:
        stream.until("growing")
        for n in range(1, 30):
            put(tmp_path, f"ep-{n}", n)
        told = stream.until("change")
        while told["n"] < 30:
            told = stream.until("change")
        assert (told["is_complete"], told["rows"]) == (False, []) or len(told["rows"]) <= 5


def test_a_page_that_reconnects_is_told_anew(tmp_path: Path) -> None:
    put(tmp_path, "a", 1)
    with Served(tmp_path) as served:
        with served.events() as first:
            before = first.until("hello")
        put(tmp_path, "b", 2)
        poll(lambda: len(served.json("/api/list.json")["rows"]) == 2)
        with served.events() as second, served.events() as third:
            for stream in (second, third):
                hello = stream.until("hello")
                assert hello["n"] == 2
                assert hello["generation"] != before["generation"]
                assert stream.until("growing") == {"growing": []}


def test_too_many_pages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 1)
    put(tmp_path, "a")
    with Served(tmp_path) as served:
        with served.events() as stream:
            stream.until("hello")
            assert served.get("/api/events").status == 503
        # Once it is gone there is room again.
        poll(lambda: not served_is_full(served))


def served_is_full(served: Served) -> bool:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    try:
        connection.request("GET", "/api/events")
        return connection.getresponse().status == 503
    finally:
        connection.close()


def test_a_film_is_watched_as_it_grows(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    put(folder, "old", 1)
    with (
        Served(folder) as served,
        served.events() as stream,
        rollcam.Recorder(folder, fps=10, env_id="Growing-v0") as recorder,
    ):
        assert stream.until("growing") == {"growing": []}
        recorder.begin()
        for n in range(10):
            recorder.capture(partial(barcode.draw, n), reward=float(n) if n else None)
        told = stream.until("growing")["growing"]
        assert len(told) == 1
        growing = told[0]
        assert (growing["env_id"], growing["codec"], growing["fps"]) == ("Growing-v0", "h264", 10)
        assert served.json("/api/live.json")["growing"] == told

        seen = tmp_path / "seen.mp4"
        data = b""

        def more() -> bool:
            nonlocal data
            reply = served.get(f"/{growing['media']}?from={len(data)}")
            assert reply.status == 200
            data += reply.body
            assert int(reply.headers["rollcam-next"]) == len(data)
            seen.write_bytes(data)
            return len(_indices(seen)) == n_wanted

        n_wanted = 10
        poll(more)
        assert _indices(seen) == list(range(10))
        rows = served.json(f"/{growing['steps']}")
        assert [row[0] for row in rows["rows"]] == list(range(10))
        assert [row[1]["reward"] for row in rows["rows"][1:]] == [float(n) for n in range(1, 10)]
        assert served.json(f"/{growing['steps']}?from={rows['next']}")["rows"] == []

        for n in range(10, 15):
            recorder.capture(partial(barcode.draw, n), reward=float(n), terminated=n == 14)
        n_wanted = 15
        poll(more)
        assert _indices(seen) == list(range(15))
        rest = served.json(f"/{growing['steps']}?from={rows['next']}")
        assert [row[0] for row in rest["rows"]] == list(range(10, 15))

        recorder.end()
        became = poll(lambda: served.get(f"/{growing['media']}?from=0").json_or_none("became"))
        finished = served.json(f"/api/e/{became}/facts.json")
        assert finished["sidecar"]["episode_id"] == growing["episode_id"]
        assert served.get(f"/{growing['steps']}").json()["became"] == became
        stream.until("change", lambda told: became in [row[0] for row in told["rows"]])


def _indices(path: Path) -> list[int]:
    try:
        return barcode.indices(path)
    except (av.error.FFmpegError, IndexError):
        return []


def test_a_text_grows_too(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    put(folder, "old", 1)
    with Served(folder) as served, rollcam.Recorder(folder, fps=10) as recorder:
        recorder.begin()
        for n in range(3):
            recorder.capture(partial(AnsiEnv.text, n), reward=1.0 if n else None)
        growing = poll(lambda: served.json("/api/live.json")["growing"])[0]
        assert growing["codec"] == "asciicast"

        def lines() -> list[bytes]:
            return served.get(f"/{growing['media']}?from=0").body.splitlines()

        poll(lambda: len(lines()) >= 4)
        assert json.loads(lines()[0])["version"] == 2
        assert "2" in json.loads(lines()[3])[2]
        recorder.end()


@pytest.mark.parametrize(
    "handle", ["videos!x!y", "videos!..!..", "nothing!x", "videos", "~", "videos!01J!01J"]
)
def test_nothing_grows_at_odd_handles(tmp_path: Path, handle: str) -> None:
    put(tmp_path / "videos", "old", 1)
    with Served(tmp_path / "videos") as served:
        for file in ("media", "media?from=7", "steps.json"):
            reply = served.get(f"/api/live/{handle}/{file}")
            assert reply.status == 404
            assert reply.json() == {"error": reply.json()["error"], "became": None}
        assert served.get(f"/api/live/{handle}/media?from=x").status == 400


def test_links_among_the_growing_lead_nowhere(tmp_path: Path) -> None:
    folder, ulid = tmp_path / "videos", "01M7ZFJWMFZETSD9NF5QFS7RQ8"
    put(folder, "old", 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"{ulid}.mp4").write_bytes(b"secret")
    (outside / f"{ulid}.journal").write_bytes(b'{"head": {"episode": {}}}\n')
    with Served(folder) as served:
        served.json("/api/gallery.json")
        growing = folder / ".rollcam" / "partial"
        growing.mkdir(parents=True, exist_ok=True)
        (growing / ulid).symlink_to(outside)
        assert served.json("/api/live.json") == {"growing": []}
        for file in ("media", "steps.json"):
            assert served.get(f"/api/live/videos!{ulid}!{ulid}/{file}").status == 404


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_a_dead_process_left_is_finished_and_arrives(tmp_path: Path) -> None:
    put(tmp_path, "old", 1)
    with Served(tmp_path) as served, served.events() as stream:
        stream.until("growing")
        child = subprocess.Popen(
            [sys.executable, "-c", _KILLED, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"grown\n"
            assert stream.until("growing")["growing"]
            child.send_signal(signal.SIGKILL)
        told = stream.until("change", lambda told: told["n"] == 2)
        crashed = [row for row in told["rows"] if row[2] != "old"]
        assert [row[7] for row in crashed] == ["truncated_by_crash"]
        assert crashed[0][8] == 19

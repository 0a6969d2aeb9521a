"""Against a server that fails: real wandb-core and public API, a stand-in on the loopback.

Every film ends stored exactly once, or the sink raises and says why.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollcam.publish.sink import Delivery
from tests.films import wait_until
from tests.sinks.wandb_scripts import make_films, run_script, started
from tests.sinks.wandb_server import Run, WandbServer

QUICK = {
    "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
    "WANDB__FILE_TRANSFER_RETRY_MAX": "1",
    "WANDB__FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "1",
}
"""Rows reach the server after 1 s instead of 15, and uploads are given up after the second try."""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


def settings(server: WandbServer) -> dict[str, str]:
    return {**server.environment(), **QUICK}


def check_once(run: Run, films: list[Delivery]) -> None:
    """Each film has one row on the server, and its bytes are there."""
    rows = [row for row in run.history if any(k.endswith("/episode_id") for k in row)]
    found: Counter[str] = Counter()
    for row in rows:
        for key, value in row.items():
            if isinstance(value, dict) and value.get("_type") == "video-file":
                prefix = key.rpartition("/")[0]
                found[row[f"{prefix}/episode_id"]] += 1
                film = next(f for f in films if f.episode.episode_id == row[f"{prefix}/episode_id"])
                assert run.files.get(value["path"]) == film.media.read_bytes()
    assert found == Counter(film.episode.episode_id for film in films)


def test_films_beside_a_trainer_are_stored_when_the_server_lists_them(
    tmp_path: Path, server: WandbServer
) -> None:
    films = make_films(tmp_path, 3)
    told = run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        side = Side(sink, films)
        side.start()
        step = 0
        while side.is_alive() or step < 50:
            run.log({"loss": step}, step=step)
            run.log({"lr": step}, step=step)
            step += 1
            time.sleep(0.02)  # a step of the trainer's takes its time
        side.finished()
        run.log({"loss": step, "lr": step}, step=step)
        all_stored(sink, films)
        run.finish()
        told(target=sink.target, n=step + 1)
        """,
        tmp_path,
        settings=settings(server),
    )
    run = server.run("r")
    check_once(run, films)
    assert told["target"] == "ent/p/r"
    steps = [(row["_step"], row["loss"], row["lr"]) for row in run.history]
    assert steps == [(k, k, k) for k in range(told["n"])]
    assert server.unknown in ([], ["OrganizationCoreWeaveOrganizationID"])


def test_nothing_is_stored_before_the_row_is(tmp_path: Path, server: WandbServer) -> None:
    make_films(tmp_path, 1)
    server.faults.streams = 10**6
    told = run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        sink.publish(films[0])
        run.log({"loss": 1})
        wait_until(lambda: any((Path(run.dir) / "media").rglob("*.mp4")), "the copy is made", 30)
        import requests
        server = os.environ["WANDB_BASE_URL"]
        wait_until(lambda: requests.get(server + "/media/p/r").json(), "it is there", 30, every_s=0.1)
        told(stored=len(sink.stored(films)))
        os._exit(0)
        """,
        tmp_path,
        settings=settings(server),
    )
    assert len(server.run("r").media()) == 1, "the file was there"
    assert told["stored"] == 0, "and no row that shows it"


@pytest.mark.parametrize("status", [403, 500])
def test_an_upload_that_fails_for_good_is_repaired(
    tmp_path: Path, server: WandbServer, status: int
) -> None:
    """wandb itself says "Synced" then, and nothing else."""
    films = make_films(tmp_path, 2)
    server.faults.puts, server.faults.put_status = (2 if status == 403 else 8), status
    told = run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        sink.repair_after_s = 10
        for film in films:
            sink.publish(film)
            run.log({"loss": 1})
        errors = set()
        def stored():
            try:
                return len(sink.stored(films)) == 2
            except SinkError as error:
                errors.add(str(error))
        wait_until(stored, "both are stored", 90, every_s=0.02)
        run.finish()
        told(errors=sorted(errors))
        """,
        tmp_path,
        settings=settings(server),
    )
    check_once(server.run("r"), films)
    for error in told["errors"]:
        assert error.startswith("uploading media/videos/rollcam/video_")


def test_bytes_that_the_server_loses_are_missed(tmp_path: Path, server: WandbServer) -> None:
    make_films(tmp_path, 1)
    server.faults.unlisted = "media/"
    told = run_script(
        """
        sink = WandbSink(project="p", run_id="r")
        sink.publish(films[0])
        sink.repair_after_s = 0
        def said():
            try:
                assert not sink.stored(films)
            except SinkError as error:
                return str(error)
        wait_until(said, "it is missed", 60, every_s=0.02)
        told(said=said())
        """,
        tmp_path,
        settings=settings(server),
    )
    assert "the server does not list it whole" in told["said"]


@pytest.mark.parametrize("fault", ["hang", "500"])
def test_a_server_that_cannot_be_asked_is_an_error_in_time(
    tmp_path: Path, server: WandbServer, fault: str
) -> None:
    make_films(tmp_path, 1)
    trouble = {"hang": '{"hang": "RunHistoryKeys"}', "500": '{"queries": 1000000}'}[fault]
    told = run_script(
        f"""
        import requests
        from rollcam.sinks import wandb_api
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        sink.publish(films[0])
        run.log({{"loss": 1}})
        run.finish()
        requests.post(os.environ["WANDB_BASE_URL"] + "/faults", data='{trouble}')
        wandb_api.Bounded.limit_s = 3.0
        started, said = time.monotonic(), []
        for _ in range(2):
            try:
                sink.stored(films)
            except SinkError as error:
                said.append(str(error))
        told(said=said, seconds=time.monotonic() - started)
        """,
        tmp_path,
        settings=settings(server),
        timeout_s=60,
    )
    assert len(told["said"]) == 2
    assert told["seconds"] < 20
    if fault == "hang":
        assert "W&B did not answer within 3 s" in told["said"][0]
        assert "an earlier request to W&B hangs" in told["said"][1]
    else:
        assert all("answers 500; tried again later" in said for said in told["said"])


def test_a_server_that_hangs_holds_up_neither_start_nor_end(
    tmp_path: Path, server: WandbServer
) -> None:
    make_films(tmp_path, 1)
    server.faults.hang = "."
    started_at = time.monotonic()
    told = run_script(
        """
        from rollcam.sinks import wandb_run
        wandb_run.START_TIMEOUT_S = 3.0
        sink = WandbSink(project="p", run_id="r")
        try:
            sink.publish(films[0])
        except SinkError as error:
            sink.close()
            told(said=str(error), final=isinstance(error, SinkRefused), target=sink.target)
        """,
        tmp_path,
        settings=settings(server),
        timeout_s=100,
    )
    assert time.monotonic() - started_at < 60
    assert told["said"].startswith("starting a W&B run: ")
    assert (told["final"], told["target"]) == (False, "-/p/r")


def test_a_server_that_begins_to_hang_holds_up_close_no_longer_than_its_limit(
    tmp_path: Path, server: WandbServer
) -> None:
    films = make_films(tmp_path, 1)
    told = run_script(
        """
        import requests
        from rollcam.sinks import wandb_run
        wandb_run.FINISH_TIMEOUT_S = 3.0
        sink = WandbSink(project="p", run_id="r")
        requests.post(os.environ["WANDB_BASE_URL"] + "/faults", data='{"hang": "PUT|stream"}')
        sink.publish(films[0])
        started = time.monotonic()
        try:
            sink.close()
        except SinkError:
            pass
        told(seconds=time.monotonic() - started)
        """,
        tmp_path,
        settings=settings(server),
        timeout_s=100,
    )
    assert told["seconds"] < 15
    server.faults.hang = ""
    deliver_the_rest(tmp_path, server)
    check_once(server.run("r"), films)


def test_no_server_is_an_error_and_a_later_process_delivers(
    tmp_path: Path, server: WandbServer
) -> None:
    films = make_films(tmp_path, 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    told = run_script(
        """
        from rollcam.sinks import wandb_run
        wandb_run.START_TIMEOUT_S = 3.0
        sink = WandbSink(project="p", run_id="r")
        try:
            sink.publish(films[0])
        except SinkError as error:
            told(said=str(error), final=isinstance(error, SinkRefused))
        """,
        tmp_path,
        settings={**settings(server), "WANDB_BASE_URL": nobody},
        timeout_s=100,
    )
    assert told["said"].startswith("starting a W&B run: ")
    assert not told["final"]
    deliver_the_rest(tmp_path, server)
    check_once(server.run("r"), films)


def deliver_the_rest(folder: Path, server: WandbServer) -> dict[str, Any]:
    """What `rollcam publish` does after a death: hand over whatever the ledger is unsure of."""
    return run_script(
        """
        sink = WandbSink(project="p", run_id="r")
        sink.repair_after_s = 0
        known = sorted(sink.stored(films))
        for film in films:
            if film.episode.episode_id not in known:
                sink.publish(film)
        all_stored(sink, films)
        sink.close()
        told(known=known)
        """,
        folder,
        settings=settings(server),
    )


@pytest.mark.parametrize("moment", ["before", "after", "file", "row", "stored"])
def test_killed_at_any_moment_every_film_is_there_once_after_the_next_process(
    tmp_path: Path, server: WandbServer, moment: str
) -> None:
    films = make_films(tmp_path, 2)
    if moment == "file":
        server.faults.streams = 10**6  # the row does not get there
    if moment == "row":
        server.faults.puts, server.faults.put_status = 10**6, 403  # nor does the file
    code = f"""
        run = wandb.init(project="p", id="r", resume="allow")
        sink = WandbSink(run)
        sink.publish(films[0])
        if "{moment}" == "before":
            die()
        run.log({{"loss": 1}})
        if "{moment}" == "after":
            die()
        print("handed", flush=True)
        if "{moment}" == "stored":
            all_stored(sink, films[:1])
            die()
        time.sleep(60)  # it is killed before
    """
    with started(code, tmp_path, settings=settings(server)) as process:
        run = server.run("r")
        if moment == "file":
            wait_until(lambda: run.media(), "the file is there", 30)
        elif moment == "row":
            wait_until(lambda: run.history and run.puts, "the row is there", 30)
            wait_until(
                lambda: any(name.startswith("media/") for name in run.puts), "the upload failed", 30
            )
        else:
            process.wait(60)
    server.faults.streams = server.faults.puts = 0
    told = deliver_the_rest(tmp_path, server)
    check_once(server.run("r"), films)
    if moment == "stored":
        assert told["known"] == [films[0].episode.episode_id]


def test_a_film_that_changed_is_published_again(tmp_path: Path, server: WandbServer) -> None:
    films = make_films(tmp_path, 2)
    run_script(
        """
        from dataclasses import replace
        sink = WandbSink(project="p", run_id="r")
        changed = replace(films[0], media=films[1].media, sha256=films[1].sha256)
        for film in (films[0], films[0], changed, changed):
            sink.publish(film)
        all_stored(sink, [films[0], changed])
        sink.close()
        """,
        tmp_path,
        settings=settings(server),
    )
    rows = server.run("r").history
    assert [row["rollcam/sha256"] for row in rows] == [film.sha256 for film in films]


def test_a_synced_offline_run_is_seen_by_the_next_process(
    tmp_path: Path, server: WandbServer
) -> None:
    """`wandb sync` says that all is well when an upload failed; the next process mends it."""
    films = make_films(tmp_path, 2)
    run_script(
        """
        run = wandb.init(project="p", id="r")
        sink = WandbSink(run)
        for film in films:
            sink.publish(film)
            run.log({"loss": 1})
        run.finish()
        assert len(sink.stored(films)) == 2
        """,
        tmp_path,
    )
    home = Path(os.environ["WANDB_DIR"])
    (offline,) = home.glob("wandb/offline-run-*")
    server.faults.puts, server.faults.put_status = 1, 403
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", str(offline)],
        cwd=home, env={**os.environ, **settings(server)}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(server.run("r").media()) == 1
    told = deliver_the_rest(tmp_path, server)
    assert len(told["known"]) == 2, "one was there, the other was mended by asking"
    check_once(server.run("r"), films)


def test_a_run_of_its_own_beside_the_trainers(tmp_path: Path, server: WandbServer) -> None:
    films = make_films(tmp_path, 3)
    told = run_script(
        """
        run = wandb.init(project="p", id="r", group="g")
        sink = WandbSink(own_run=True)
        for film in films:
            sink.publish(film)
        run.log({"loss": 1})
        assert wandb.run is run
        all_stored(sink, films)
        sink.close()
        run.log({"loss": 2})
        run.finish()
        told(target=sink.target)
        """,
        tmp_path,
        settings=settings(server),
    )
    assert told["target"] == "ent/p/r-rollcam"
    assert [row["loss"] for row in server.run("r").history] == [1, 2]
    assert server.run("r-rollcam").group == "g"
    check_once(server.run("r-rollcam"), films)

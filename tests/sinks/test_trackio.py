"""TrackioSink, local and to a server, against a real Trackio and its page in Chromium."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rollcam.errors import SettingError, SinkError, SinkRefused
from rollcam.publish.sink import Delivery, Sink
from rollcam.sinks.trackio import TrackioSink
from tests.sinks.deliveries import LENGTH_S, changed, killed_while_publishing, record
from tests.sinks.pages import on_page, screenshot, watch
from tests.sinks.servers import TRACKIO_TOKEN as TOKEN
from tests.sinks.servers import free_port, trackio_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HOME = Path(os.environ["TRACKIO_DIR"])  # as conftest.py set it


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Delivery]:
    return record(tmp_path_factory.mktemp("films"), 3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("trackio")
    with trackio_server(folder / "home", folder / "log") as base:
        yield base


@pytest.fixture(scope="module")
def local_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with trackio_server(HOME, tmp_path_factory.mktemp("page") / "log") as base:
        yield base


@pytest.fixture(params=["local", "server"])
def place(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where to publish: arguments of the sink."""
    if request.param == "local":
        return {}
    return {"server_url": f"{request.getfixturevalue('server')}/?write_token={TOKEN}"}


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    return "p" + "".join(c if c.isalnum() else f"-{ord(c)}" for c in request.node.name)


def ids(deliveries: list[Delivery]) -> set[str]:
    return {delivery.episode.episode_id for delivery in deliveries}


def rows(place: dict[str, str], project: str) -> list[dict[str, Any]]:
    """Every row of a project that holds a film, as Trackio tells it."""
    sql = "SELECT run_name, step, metrics FROM metrics ORDER BY step"
    if place:
        from trackio.remote_client import RemoteClient

        client = RemoteClient(place["server_url"])
        told = client.predict(project=project, query=sql, api_name="/query_project")["rows"]
    else:
        from trackio.sqlite_storage import SQLiteStorage

        told = SQLiteStorage.query_project(project, sql)["rows"]
    return [{**row, "metrics": json.loads(row["metrics"])} for row in told]


def film_bytes(place: dict[str, str], home: Path, row: dict[str, Any]) -> bytes:
    return (home / "media" / row["metrics"]["rollout/film"]["file_path"]).read_bytes()


def home_of(place: dict[str, str], factory: pytest.TempPathFactory) -> Path:
    return next(factory.getbasetemp().glob("trackio*/home")) if place else HOME


def check_once(
    place: dict[str, str], project: str, films: list[Delivery], factory: pytest.TempPathFactory
) -> None:
    home = home_of(place, factory)
    told = rows(place, project)
    assert [row["step"] for row in told] == sorted(
        film.episode.context_at_end["num_env_steps"] for film in films
    )
    by_id = {film.episode.episode_id: film for film in films}
    for row in told:
        film = by_id.pop(row["metrics"]["rollout/id"])
        assert film_bytes(place, home, row) == film.media.read_bytes()
        assert row["metrics"]["rollout/return"] == film.episode.episode_return
    assert not by_id
    assert len(list((home / "media" / project).rglob("*.*"))) == len(films)


def test_logs_each_film_once_at_its_own_step(
    place: dict[str, str], project: str, films: list[Delivery],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    for _ in range(2):
        sink = TrackioSink(project=project, **place)
        assert isinstance(sink, Sink)
        assert TOKEN not in sink.target
        assert sink.target.endswith(f"/{project}")
        for delivery in (films[2], films[0], films[0], films[1]):
            assert sink.publish(delivery).startswith("trackio:")
        sink.close()
        sink.close()
    assert sink.stored(films) == ids(films)
    check_once(place, project, films, tmp_path_factory)
    (table,) = rows(place, project)[0]["metrics"]["rollout/episode"]["_value"]
    caption = "Count-v0 · episode 0 · return 14.5 · 29 steps · seed 0 · truncated"
    assert table == {"episode": caption, "step": 1000, "return": 14.5, "length": 29.0}
    assert {row["run_name"] for row in rows(place, project)} == {
        f"rollcam-{films[0].episode.run_id}"
    }


def test_nothing_is_stored_before(
    place: dict[str, str], project: str, films: list[Delivery], tmp_path: Path
) -> None:
    sink = TrackioSink(project=project, **place)
    assert sink.stored(films) == set()
    sink.publish(films[0])
    assert sink.stored(films) == ids(films[:1])
    other = changed(films[0], tmp_path)
    assert sink.stored([other]) == set()
    sink.publish(other)
    assert sink.stored([other]) == ids([other])


def test_joins_the_trainers_run(place: dict[str, str], project: str, films: list[Delivery]) -> None:
    import trackio

    trainer = trackio.init(project=project, name="ppo", embed=False, resume="allow", **place)
    trainer.log({"loss": 0.5}, step=7)
    trackio.finish()
    sink = TrackioSink(project=project, name="ppo", **place)
    sink.publish(films[0])
    told = rows(place, project)
    assert [(row["run_name"], row["step"]) for row in told] == [("ppo", 7), ("ppo", 1000)]
    assert len({run["id"] for run in sink._store.runs()}) == 1


@pytest.mark.parametrize("kill", ["save", "+save", "log", "+log"])
def test_killed_anywhere_everything_is_there_once(
    place: dict[str, str], project: str, films: list[Delivery], tmp_path: Path, kill: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    arguments = {"project": project, **place}
    made = f"from rollcam.sinks.trackio import TrackioSink; TrackioSink(**{arguments!r})"
    owner = "_Remote" if place else "_Local"
    after = "+" if kill.startswith("+") else ""
    call = f"{after}rollcam.sinks.trackio:{owner}.{kill.lstrip('+')}"
    killed_while_publishing(made, films[:1], call, tmp_path)
    sink = TrackioSink(project=project, **place)
    assert sink.stored(films) == (ids(films[:1]) if kill == "+log" else set())
    for delivery in reversed(films):
        sink.publish(delivery)
    check_once(place, project, films, tmp_path_factory)


def test_a_project_whose_maker_was_killed_half_way_takes_films(
    project: str, films: list[Delivery]
) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    database = SQLiteStorage.get_project_db_path(project)
    database.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(database)) as opened:
        opened.execute("pragma journal_mode=wal")  # no table yet
    sink = TrackioSink(project=project)
    assert sink.stored(films[:1]) == set()
    sink.publish(films[0])
    assert sink.stored(films[:1]) == ids(films[:1])


def silent() -> tuple[socket.socket, str]:
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_dead_or_silent_server_is_an_error_within_a_limit(films: list[Delivery]) -> None:
    listening, hanging = silent()
    with listening:
        for url in (f"http://127.0.0.1:{free_port()}", hanging):
            sink = TrackioSink(project="p", server_url=f"{url}/?write_token=secret")
            asks: list[Callable[[], Any]] = [
                lambda s=sink: s.publish(films[0]),
                lambda s=sink: s.stored(films),
            ]
            for ask in asks:
                begun = time.monotonic()
                with pytest.raises(SinkError, match="does not answer") as caught:
                    ask()
                assert time.monotonic() - begun < 10
                assert "secret" not in str(caught.value)
                assert not isinstance(caught.value, SinkRefused)


def test_a_wrong_token_is_an_error_and_not_a_loss(server: str, films: list[Delivery]) -> None:
    sink = TrackioSink(project="p", server_url=f"{server}/?write_token=wrong")
    with pytest.raises(SinkError, match="did not take it"):
        sink.publish(films[0])
    assert sink.stored(films) == set()


def test_bad_arguments_are_refused(films: list[Delivery], tmp_path: Path) -> None:
    for name in ("../x", "a/b", "..", ""):
        with pytest.raises(SettingError, match="name is"):
            TrackioSink(project="p", name=name)
    with pytest.raises(SettingError, match="project is ''"):
        TrackioSink(project="")
    with pytest.raises(SettingError, match="expected http"):
        TrackioSink(project="p", server_url="localhost:7860")
    with pytest.raises(SettingError, match="choose one place"):
        TrackioSink(project="p", server_url="http://x", space_id="a/b")
    with pytest.raises(SinkRefused, match="is gone"):
        TrackioSink(project="p").publish(dataclasses.replace(films[0], media=tmp_path / "gone.mp4"))


@pytest.mark.parametrize("where", ["local", "server"])
def test_plays_on_the_media_page(
    where: str, request: pytest.FixtureRequest, films: list[Delivery], browser: Any
) -> None:
    base = request.getfixturevalue("local_page" if where == "local" else "server")
    place = {} if where == "local" else {"server_url": f"{base}/?write_token={TOKEN}"}
    project = f"page-{where}"
    sink = TrackioSink(project=project, name="ppo", **place)
    for delivery in films:
        sink.publish(delivery)

    def job(page: Any) -> dict[str, Any]:
        page.locator("video").nth(2).wait_for()
        seen = watch(page.locator("video").first)
        seen["text"] = page.locator("body").inner_text()
        seen["videos"] = page.locator("video").count()
        screenshot(page, "trackio.png")
        return seen

    seen = on_page(browser, f"{base}/media?project={project}", job)
    assert (seen["width"], seen["height"], seen["videos"]) == (160, 120, 3)
    assert seen["duration"] == pytest.approx(LENGTH_S, abs=0.1)
    assert "Step: 3000" in seen["text"]
    assert "Count-v0 · episode 2 · return 43.5 · 29 steps · seed 2 · truncated" in seen["text"]

"""MlflowSink against a real `mlflow server` (SQLite and artifacts), and its page in Chromium."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollcam.errors import SettingError, SinkError, SinkRefused
from rollcam.publish.sink import Delivery, Sink
from rollcam.sinks.mlflow import RUN_TAG, MlflowSink, without_secrets
from tests.sinks.deliveries import LENGTH_S, changed, killed_while_publishing, record
from tests.sinks.pages import n_moments, on_page, screenshot, watch
from tests.sinks.servers import MLFLOW_QUIET, free_port, mlflow_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Delivery]:
    return record(tmp_path_factory.mktemp("films"), 3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as base:
        yield base


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in MLFLOW_QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def client(server: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(server)


@pytest.fixture
def run_id(client: Any) -> str:
    return str(client.create_run("0").info.run_id)


def ids(deliveries: list[Delivery]) -> set[str]:
    return {delivery.episode.episode_id for delivery in deliveries}


def names(client: Any, run_id: str, folder: str = "rollouts") -> list[str]:
    return sorted(info.path.rpartition("/")[2] for info in client.list_artifacts(run_id, folder))


def points(client: Any, run_id: str, key: str = "rollout/return") -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))


def check_once(client: Any, run_id: str, films: list[Delivery], tmp_path: Path) -> None:
    listed = names(client, run_id)
    assert len(listed) == 2 * len(films)
    for film in films:
        (name,) = (n for n in listed if film.episode.episode_id in n and n.endswith(".mp4"))
        place = client.download_artifacts(run_id, f"rollouts/{name}", str(tmp_path))
        assert Path(place).read_bytes() == film.media.read_bytes()
    wanted = [
        (film.episode.context_at_end["num_env_steps"], film.episode.episode_return)
        for film in films
    ]
    assert points(client, run_id) == sorted(wanted)


def test_logs_film_metrics_and_facts_once(
    server: str, client: Any, run_id: str, films: list[Delivery], tmp_path: Path
) -> None:
    sink = MlflowSink(tracking_uri=server, run_id=run_id)
    assert isinstance(sink, Sink)
    assert (sink.name, sink.target) == ("mlflow", f"{server}/{run_id}")
    assert sink.stored(films) == set()
    for delivery in (films[2], films[0], films[0], films[1]):
        reference = sink.publish(delivery)
    assert reference.startswith(f"runs:/{run_id}/rollouts/step000000002000_")
    assert sink.stored(films) == ids(films)
    check_once(client, run_id, films, tmp_path)
    marker = names(client, run_id)[0]
    facts = json.loads(
        Path(client.download_artifacts(run_id, f"rollouts/{marker}", str(tmp_path))).read_text()
    )
    assert (facts["step"], facts["seed"], facts["return"]) == (1000, 0, 14.5)
    assert facts["caption"] == "Count-v0 · episode 0 · return 14.5 · 29 steps · seed 0 · truncated"
    assert client.get_run(run_id).info.status == "RUNNING"
    sink.close()
    sink.close()


def test_a_text_recording_lies_beside_its_film(
    server: str, client: Any, run_id: str, films: list[Delivery], tmp_path: Path
) -> None:
    (tmp_path / "text.cast").write_bytes(b"a text")
    sink = MlflowSink(tracking_uri=server, run_id=run_id)
    sink.publish(replace(films[0], text=tmp_path / "text.cast"))
    (name,) = (n for n in names(client, run_id) if n.endswith(".cast"))
    place = client.download_artifacts(run_id, f"rollouts/{name}", str(tmp_path))
    assert Path(place).read_bytes() == b"a text"


def test_a_changed_film_is_another_one(
    server: str, client: Any, run_id: str, films: list[Delivery], tmp_path: Path
) -> None:
    sink = MlflowSink(tracking_uri=server, run_id=run_id)
    sink.publish(films[0])
    other = changed(films[0], tmp_path)
    assert sink.stored([other]) == set()
    sink.publish(other)
    assert sink.stored([other]) == ids([other])


def test_without_a_run_each_recorder_gets_its_own(
    server: str, client: Any, films: list[Delivery], tmp_path: Path
) -> None:
    others = record(tmp_path, 1)
    for _ in range(2):  # as after a restart
        sink = MlflowSink(tracking_uri=server, experiment="CartPole 'é'")
        assert sink.target == f"{server}/CartPole 'é'"
        for delivery in (*films, *others):
            sink.publish(delivery)
        assert sink.stored([*films, *others]) == ids(films) | ids(others)
        sink.close()
    experiment = client.get_experiment_by_name("CartPole 'é'")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.tags[RUN_TAG]: len(names(client, run.info.run_id)) for run in runs} == {
        films[0].episode.run_id: 6,
        others[0].episode.run_id: 2,
    }
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(SinkRefused, match="is deleted: restore it"):
        MlflowSink(tracking_uri=server, experiment="CartPole 'é'").publish(films[0])


def test_takes_the_trainers_active_run(server: str, films: list[Delivery]) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server)
    try:
        with mlflow.start_run() as run:
            sink = MlflowSink()
        assert sink.target == f"{server}/{run.info.run_id}"
        sink.publish(films[0])  # published after the run was finished
        assert sink.stored(films) == ids(films[:1])
        assert mlflow.active_run() is None
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    "kill",
    [
        "mlflow.tracking.client:MlflowClient.log_artifact",
        "+mlflow.tracking.client:MlflowClient.log_artifact",
        "+mlflow.tracking.client:MlflowClient.log_batch",
        "+mlflow.tracking.client:MlflowClient.log_dict",
    ],
)
def test_killed_anywhere_everything_is_there_once(
    server: str, client: Any, run_id: str, films: list[Delivery], tmp_path: Path, kill: str
) -> None:
    made = f"tracking_uri={server!r}, run_id={run_id!r}"
    made = f"from rollcam.sinks.mlflow import MlflowSink; MlflowSink({made})"
    killed_while_publishing(made, films[:1], kill, tmp_path)
    sink = MlflowSink(tracking_uri=server, run_id=run_id)
    missing = [film for film in films if film.episode.episode_id not in sink.stored(films)]
    assert len(missing) == (2 if kill.endswith("log_dict") else 3)
    for delivery in reversed(films):
        sink.publish(delivery)
    assert sink.stored(films) == ids(films)
    check_once(client, run_id, films, tmp_path)


def test_a_run_made_by_a_dead_process_is_found_again(
    server: str, client: Any, films: list[Delivery], tmp_path: Path
) -> None:
    made = f"from rollcam.sinks.mlflow import MlflowSink; MlflowSink(tracking_uri={server!r}, experiment='dead')"
    killed_while_publishing(
        made, films[:1], "+mlflow.tracking.client:MlflowClient.create_run", tmp_path
    )
    sink = MlflowSink(tracking_uri=server, experiment="dead")
    sink.publish(films[0])
    experiment = client.get_experiment_by_name("dead")
    (run,) = client.search_runs([experiment.experiment_id])
    check_once(client, run.info.run_id, films[:1], tmp_path)


def test_a_dead_server_is_an_error_at_once(films: list[Delivery]) -> None:
    sink = MlflowSink(tracking_uri=f"http://me:secret@127.0.0.1:{free_port()}", run_id="r")
    assert "secret" not in sink.target
    begun = time.monotonic()
    for ask in (lambda: sink.publish(films[0]), lambda: sink.stored(films)):
        with pytest.raises(SinkError, match="does not answer") as caught:
            ask()
        assert not isinstance(caught.value, SinkRefused)
        assert "secret" not in str(caught.value)
    assert time.monotonic() - begun < 5


def test_a_server_that_hangs_is_an_error_within_a_limit(films: list[Delivery]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = MlflowSink(tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}", run_id="r")
        begun = time.monotonic()
        with pytest.raises(SinkError, match="does not answer"):
            sink.publish(films[0])
        assert time.monotonic() - begun < 10


def test_what_cannot_work_is_refused(server: str, films: list[Delivery], tmp_path: Path) -> None:
    with pytest.raises(SinkRefused, match=r"MLflow at .* did not take it"):
        MlflowSink(tracking_uri=server, run_id="0" * 32).publish(films[0])
    gone = dataclasses.replace(films[0], media=tmp_path / "gone.mp4")
    with pytest.raises(SinkRefused, match="is gone"):
        MlflowSink(tracking_uri=server, run_id="r").publish(gone)
    with pytest.raises(SettingError, match="cannot both be given"):
        MlflowSink(experiment="e", run_id="r")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://me:pw@host:5000/base/?token=x#y", "http://host:5000/base"),
        ("postgresql://me:pw@host/db?password=x", "postgresql://host/db"),
        ("sqlite:////tmp/ml.db", "sqlite:////tmp/ml.db"),
        ("databricks://profile", "databricks://profile"),
        ("databricks", "databricks"),
        ("/tmp/mlruns", "/tmp/mlruns"),
    ],
)
def test_targets_hold_no_secrets(uri: str, told: str) -> None:
    assert without_secrets(uri) == told


def test_a_relative_address_is_another_place_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the ledger takes what lies in one database for what is owed to the other."""
    told = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        sinks = [MlflowSink(tracking_uri=uri) for uri in ("sqlite:///ml.db", "mlruns")]
        told.append([sink.target for sink in sinks])
        assert f"--tracking-uri sqlite:///{tmp_path / name}/ml.db" in sinks[0].cli_options
    assert told == [
        [f"sqlite:///{tmp_path / name}/ml.db/Default", f"{tmp_path / name}/mlruns/Default"]
        for name in ("a", "b")
    ]


def test_plays_in_the_artifact_page(
    server: str, client: Any, run_id: str, films: list[Delivery], browser: Any
) -> None:
    sink = MlflowSink(tracking_uri=server, run_id=run_id)
    for delivery in films:
        path = sink.publish(delivery).removeprefix(f"runs:/{run_id}/")

    def job(page: Any) -> dict[str, Any]:
        seen = watch(page.locator("video").first)
        screenshot(page, "mlflow.png")
        page.get_by_text(path.rpartition("/")[2].replace(".mp4", ".json")).first.click()
        page.get_by_text("Count-v0 · episode 2").first.wait_for()
        seen["facts"] = page.locator("body").inner_text()
        return seen

    url = f"{server}/#/experiments/0/runs/{run_id}/artifacts/{path}"
    seen = on_page(browser, url, job)
    assert (seen["width"], seen["height"]) == (160, 120)
    assert seen["duration"] == pytest.approx(LENGTH_S, abs=0.1)
    assert "3000" in seen["facts"]
    assert "return 43.5" in seen["facts"]


def test_animated_pictures_move_on_the_step_slider(
    server: str, client: Any, run_id: str, films: list[Delivery], browser: Any
) -> None:
    sink = MlflowSink(tracking_uri=server, run_id=run_id, animated=True)
    for delivery in (*films, films[0]):
        sink.publish(delivery)
    assert len(names(client, run_id, "images")) == 6

    def job(page: Any) -> int:
        # The slider begins at step 0, where there is nothing; its track ends at the last film.
        page.get_by_text("No image logged at this step").wait_for()
        thumb = page.get_by_role("slider").first
        track = thumb.locator("xpath=ancestor::*[@data-orientation='horizontal'][last()]")
        box = track.bounding_box()
        track.click(position={"x": box["width"] - 2, "y": box["height"] / 2})
        picture = page.locator("img[src*='step%2B3000']").first
        picture.wait_for()
        n_seen = n_moments(picture)
        screenshot(page, "mlflow-slider.png")
        return n_seen

    url = f"{server}/#/experiments/0/runs/{run_id}/model-metrics"
    assert on_page(browser, url, job) > 2

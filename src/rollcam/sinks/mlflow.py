"""MLflow: each film as an artifact of a run, its numbers as metrics, its facts as JSON beside it."""

from __future__ import annotations

import datetime
import os
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from rollcam.encode.preview import animate, read_pictures
from rollcam.episode import Episode
from rollcam.errors import RollcamError, SettingError, SinkError, SinkRefused, require
from rollcam.publish.sink import Delivery
from rollcam.sinks.facts import clean_id, facts_of, file_stem, film_id

T = TypeVar("T")

FOLDER = "rollouts"
"""The folder among a run's artifacts that holds its films."""
MARKER_SUFFIX = ".json"
RUN_TAG = "rollcam.run_id"
"""Tag of the runs that the sink makes: which of Rollcam's runs they show."""

_DEFAULT_EXPERIMENT = "Default"
_ALIVE_S = 5.0
_FINAL_CODES = frozenset(
    {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "FEATURE_DISABLED", "ENDPOINT_NOT_FOUND"}
)
_FINAL_STATUSES = frozenset({400, 404, 405, 413, 415})
_IMAGES = "images"
_IMAGE_KEY = "rollout~film"


class MlflowSink:
    """Logs films to an MLflow run.

    Which run: `run_id`; else, when neither that nor `experiment` nor `tracking_uri` is given, the
    one that is active in this thread; else one run of the experiment for each run of Rollcam's
    (a recorder), found again by its tag.

    Before each film a server is asked whether it lives, for 5 s at most. MLflow's own client then
    limits its waits by `MLFLOW_HTTP_REQUEST_TIMEOUT` and `MLFLOW_HTTP_REQUEST_MAX_RETRIES`.

    Args:
        tracking_uri: As for `mlflow.set_tracking_uri`; `None`: as MLflow finds it.
        experiment: Name of an experiment; made when it does not exist. `None`: the one that
            `MLFLOW_EXPERIMENT_NAME` names, or MLflow's default one.
        run_id: A run to log to; never finished by the sink.
        animated: Experimental. Also an animated picture that moves in MLflow's image view with its
            step slider. It relies on file names that MLflow does not document.

    Raises:
        SettingError: The arguments do not go together.
        MissingDependencyError: `mlflow` (or, with `animated`, Pillow) is not installed.
    """

    name = "mlflow"

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        run_id: str | None = None,
        animated: bool = False,
    ) -> None:
        if experiment is not None and run_id is not None:
            raise SettingError(
                "experiment and run_id cannot both be given: a run belongs to one experiment already"
            )
        mlflow = require("mlflow", extra="mlflow")
        if animated:
            require("PIL.Image", extra="mlflow", package="pillow")
        if tracking_uri is None and experiment is None and run_id is None:
            active = mlflow.active_run()
            run_id = active.info.run_id if active is not None else None
        self._uri = _absolute(str(tracking_uri or mlflow.get_tracking_uri()))
        self._experiment = (
            experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or _DEFAULT_EXPERIMENT
        )
        self._run_id = run_id
        self._animated = animated
        self._runs: dict[str, str] = {}
        self._client: Any = None
        self._place = without_secrets(self._uri)
        self.target = f"{self._place}/{run_id or self._experiment}"
        option, value = ("run-id", run_id) if run_id else ("experiment", self._experiment)
        # User and password are not printed: MLflow reads them from its own environment variables.
        self.cli_options = (
            f"--to mlflow --tracking-uri {shlex.quote(self._place)} --{option} {shlex.quote(value)}"
        )

    def publish(self, delivery: Delivery) -> str:
        """Log a film; return `runs:/...`, where MLflow has it.

        All names and times are fixed by the film, so that doing it again changes nothing. The JSON
        with the facts goes last: a film is there when that is.

        Raises:
            SinkError: The server did not take it this time.
            SinkRefused: The film or the run is gone, or the server will never take it.
        """
        if not delivery.media.is_file():
            raise SinkRefused(f"the film {delivery.media} is gone")
        return self._asked(lambda client: self._publish(client, delivery))

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str]:
        """Return the ids of the episodes whose film and facts the run lists among its artifacts.

        Raises:
            SinkError: The server did not answer.
        """
        return self._asked(lambda client: self._stored(client, deliveries))

    def close(self) -> None:
        """Let go of the client. The run stays as it is: it is the trainer's."""
        self._client = None

    def _publish(self, client: Any, delivery: Delivery) -> str:
        run_id = self._run_for(client, delivery.episode)
        stem, facts = file_stem(delivery), facts_of(delivery.episode)
        with tempfile.TemporaryDirectory(prefix="rollcam-") as folder:
            _log_file(client, run_id, delivery.media, Path(folder) / f"{stem}.mp4", FOLDER)
            if delivery.text is not None:
                _log_file(client, run_id, delivery.text, Path(folder) / f"{stem}.cast", FOLDER)
            if self._animated:
                self._log_animation(client, run_id, delivery, Path(folder))
        self._log_metrics(client, run_id, delivery.episode, facts.step, facts.scalars)
        marker = {
            "episode_id": delivery.episode.episode_id,
            "sha256": delivery.sha256,
            "step": facts.step,
            "caption": facts.caption,
            **facts.scalars,
            "context": facts.context,
            **_told(delivery.episode),
        }
        client.log_dict(run_id, marker, f"{FOLDER}/{stem}{MARKER_SUFFIX}")
        return f"runs:/{run_id}/{FOLDER}/{stem}.mp4"

    def _stored(self, client: Any, deliveries: Sequence[Delivery]) -> set[str]:
        found: set[str] = set()
        listed: dict[str, set[str]] = {}
        for delivery in deliveries:
            run_id = self._run_for(client, delivery.episode, make=False)
            if run_id is None:
                continue
            if run_id not in listed:
                listed[run_id] = {str(info.path) for info in client.list_artifacts(run_id, FOLDER)}
            path = f"{FOLDER}/{file_stem(delivery)}"
            if {f"{path}.mp4", f"{path}{MARKER_SUFFIX}"} <= listed[run_id]:
                found.add(delivery.episode.episode_id)
        return found

    def _log_metrics(
        self, client: Any, run_id: str, episode: Episode, step: int, scalars: dict[str, float]
    ) -> None:
        metric = require("mlflow.entities", extra="mlflow").Metric
        # MLflow drops a point that it has: same key, step, value and time. So the time is the film's.
        at_ms = _ended_at_ms(episode)
        points = [metric(f"rollout/{key}", value, at_ms, step) for key, value in scalars.items()]
        if points:
            client.log_batch(run_id, metrics=points)

    def _log_animation(self, client: Any, run_id: str, delivery: Delivery, folder: Path) -> None:
        step, at_ms = facts_of(delivery.episode).step, _ended_at_ms(delivery.episode)
        one = uuid.uuid5(uuid.NAMESPACE_URL, f"rollcam:{film_id(delivery)}")
        # The names under which `log_image` files a picture and its thumbnail (MLflow 3.17).
        base = f"{_IMAGE_KEY}+step+{step}+timestamp+{at_ms}+{one}"
        pictures = read_pictures(delivery.media, extra="mlflow")
        for suffix, kind in ((".png", "apng"), ("+compressed.webp", "webp")):
            path = folder / f"{base}{suffix}"
            path.write_bytes(animate(pictures, "webp" if kind == "webp" else "apng").data)
            client.log_artifact(run_id, str(path), _IMAGES)
        client.set_tag(run_id, "mlflow.loggedImages", "True")

    def _run_for(self, client: Any, episode: Episode, *, make: bool = True) -> Any:
        """Return the id of the run that an episode belongs to; None when there is none yet."""
        if self._run_id is not None:
            return self._run_id
        ours = clean_id(episode.run_id)
        if ours not in self._runs:
            experiment_id = self._experiment_id(client, make=make)
            if experiment_id is None:
                return None
            found = client.search_runs(
                [experiment_id], f"tags.`{RUN_TAG}` = '{ours}'", max_results=1
            )
            if not found and not make:
                return None
            run = found[0] if found else _new_run(client, experiment_id, ours)
            self._runs[ours] = run.info.run_id
        return self._runs[ours]

    def _experiment_id(self, client: Any, *, make: bool) -> str | None:
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return str(client.create_experiment(self._experiment)) if make else None
        if experiment.lifecycle_stage != "active":
            raise SinkRefused(
                f"the experiment {self._experiment!r} at {self._place} is deleted: restore it, or "
                "name another one"
            )
        return str(experiment.experiment_id)

    def _asked(self, job: Callable[[Any], T]) -> T:
        try:
            self._check_alive()
            if self._client is None:
                self._client = require("mlflow", extra="mlflow").MlflowClient(self._uri)
            return job(self._client)
        except SinkError:
            raise
        except RollcamError as error:
            raise SinkRefused(str(error)) from error
        # Artifact stores bring errors of their own (boto3's, Azure's, ...): no list would hold them.
        except Exception as error:
            kind = SinkRefused if _is_final(error) else SinkError
            said = str(error).replace(self._uri, self._place)
            raise kind(f"MLflow at {self._place} did not take it: {said:.500}") from error

    def _check_alive(self) -> None:
        """Ask a server for a sign of life: MLflow's client would try again for minutes."""
        if urlsplit(self._uri).scheme not in ("http", "https"):
            return
        requests = require("requests", extra="mlflow")
        try:
            url = f"{self._uri.rstrip('/')}/health"
            with requests.get(url, timeout=_ALIVE_S, stream=True, allow_redirects=False) as answer:
                if answer.status_code >= 500:
                    raise SinkError(f"MLflow at {self._place} answers {answer.status_code}")
        except requests.exceptions.SSLError:
            return  # certificates are for MLflow's client and its settings to judge
        except requests.exceptions.RequestException as error:
            reason = type(error).__name__
            raise SinkError(
                f"MLflow at {self._place} does not answer ({reason}); is the server running?"
            ) from error


def _absolute(uri: str) -> str:
    """Return an address that means the same place in every folder: the ledger knows it by that."""
    prefix = "sqlite:///"
    if uri.startswith(prefix) and ":memory:" not in uri:
        path, mark, query = uri.removeprefix(prefix).partition("?")
        return prefix + os.path.abspath(path) + mark + query
    if "://" not in uri and not uri.startswith(("file:", "databricks", "uc:")):
        return os.path.abspath(uri)
    return uri


def without_secrets(uri: str) -> str:
    """Return an address without user, password, query and fragment."""
    parts = urlsplit(uri)
    if not parts.netloc and "@" not in uri and "?" not in uri:
        return uri.rstrip("/")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")


def _log_file(client: Any, run_id: str, source: Path, name: Path, folder: str) -> None:
    """Log a file under another name than its own."""
    try:
        os.symlink(source.absolute(), name)
    except OSError:  # Windows lets only some people make links
        shutil.copyfile(source, name)
    client.log_artifact(run_id, str(name), folder)


def _new_run(client: Any, experiment_id: str, ours: str) -> Any:
    run = client.create_run(experiment_id, tags={RUN_TAG: ours}, run_name=f"rollcam-{ours[-8:]}")
    # It holds films only, and takes them whatever its status; nobody else would ever finish it.
    client.set_terminated(run.info.run_id)
    return run


def _told(episode: Episode) -> dict[str, Any]:
    names = ("name", "env_id", "seed", "mode", "fps", "duration_s", "terminated", "truncated")
    return {name: getattr(episode, name) for name in names}


def _ended_at_ms(episode: Episode) -> int:
    for text in (episode.ended_at, episode.started_at):
        try:
            return max(0, int(datetime.datetime.fromisoformat(text or "").timestamp() * 1000))
        except (ValueError, OverflowError, OSError):
            continue
    return 0


def _is_final(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in _FINAL_STATUSES or getattr(error, "error_code", None) in _FINAL_CODES

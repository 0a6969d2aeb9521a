"""The real places that films go to, as the tests of the publisher see them: a sink, and what is there."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ulid import ULID

from rollcam.episode import Episode
from rollcam.sinks.facts import step_of
from tests.publish.rig import add_film
from tests.sinks.servers import (
    MLFLOW_QUIET,
    TRACKIO_TOKEN,
    free_port,
    mlflow_server,
    trackio_server,
)
from tests.sinks.wandb_server import WandbServer, environment_of

STEP = 1000

Found = list[tuple[str, int, bytes]]
"""Of each film that a place shows: episode id, step, content. A film that shows twice is here twice."""


def films_at_steps(folder: Path, n: int) -> list[Episode]:
    """Put films into a folder, oldest first, of steps 1000, 2000, ..."""
    ids = sorted(str(ULID()) for _ in range(n))
    return [
        add_film(
            folder, f"film-{k}", episode_id=episode_id, episode_return=float(k),
            context_at_end={"num_env_steps": STEP * (k + 1)},
        )
        for k, episode_id in enumerate(ids)
    ]  # fmt: skip


def as_found(films: Iterable[Episode]) -> Found:
    """What a place shows that has these films, each of them once, sorted."""
    return sorted((f.episode_id, step_of(f), (f.media_path or Path()).read_bytes()) for f in films)


@dataclass
class Place:
    """One kind of place. A `slot` in it is a target of its own: a run, a project, a folder."""

    root: Path
    """Where it may write."""
    environment: dict[str, str] = field(default_factory=dict)
    """What the processes that publish to it need."""
    is_prompt = True
    """Whether a film is there when `publish` returns."""

    def up(self) -> AbstractContextManager[object]:
        """The place works inside this context; what needs no server always does."""
        return nullcontext()

    def sink(self, slot: str) -> str:
        """An expression that makes the sink."""
        raise NotImplementedError

    def found(self, slot: str) -> Found:
        """What the place itself shows."""
        raise NotImplementedError

    def n_beside(self, slot: str) -> int | None:
        """How many files, previews or points of a curve there are; `None`: nothing to count."""
        return None


class Folder(Place):
    def sink(self, slot: str) -> str:
        return f"FolderSink({str(self.root / slot)!r})"

    def found(self, slot: str) -> Found:
        from rollcam.store.files import list_episodes

        if not (self.root / slot).exists():
            return []
        films = list_episodes(self.root / slot).episodes
        return [(e.episode_id, step_of(e), (e.media_path or Path()).read_bytes()) for e in films]

    def n_beside(self, slot: str) -> int:
        return len(list((self.root / slot).glob("*.mp4")))


class TensorBoard(Place):
    def sink(self, slot: str) -> str:
        return f"TensorBoardSink({str(self.root / slot)!r})"

    def found(self, slot: str) -> Found:
        from rollcam.sinks.tensorboard_films import read_facts

        folder = self.root / slot / "rollcam"
        films = [film for path in sorted(folder.glob("*.json")) if (film := read_facts(path))]
        return [(f.episode_id, f.step, (folder / f.file).read_bytes()) for f in films]

    def n_beside(self, slot: str) -> int:
        return len(preview_steps(self.root / slot / "rollcam"))


def preview_steps(folder: Path) -> list[int]:
    from tensorboard.compat.proto.event_pb2 import Event

    steps = []
    for path in folder.glob("events.out.tfevents.*"):
        data, at = path.read_bytes(), 0
        while at + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            steps += [event.step for _ in event.summary.value]
            at += 16 + length
    return sorted(steps)


class TrackioLocal(Place):
    def sink(self, slot: str) -> str:
        return f"TrackioSink(project={slot!r}, name='ppo')"

    def found(self, slot: str) -> Found:
        from trackio.sqlite_storage import SQLiteStorage

        try:
            rows = SQLiteStorage.query_project(slot, _ROWS)["rows"]
        except (FileNotFoundError, ValueError):  # not there yet, or not whole
            return []
        return _trackio_films(rows, Path(os.environ["TRACKIO_DIR"]))


class TrackioServer(Place):
    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(root, {"TRACKIO_WRITE_TOKEN": TRACKIO_TOKEN})

    def up(self) -> AbstractContextManager[object]:
        return trackio_server(self.root / "home", self.root / "log", self.port)

    def sink(self, slot: str) -> str:
        return f"TrackioSink(project={slot!r}, server_url={self.url!r})"

    def found(self, slot: str) -> Found:
        from trackio.remote_client import RemoteClient

        client = RemoteClient(f"{self.url}/?write_token={TRACKIO_TOKEN}")
        if not client.predict(project=slot, api_name="/get_runs_for_project"):
            return []
        rows = client.predict(project=slot, query=_ROWS, api_name="/query_project")["rows"]
        return _trackio_films(rows, self.root / "home")


_ROWS = "SELECT step, metrics FROM metrics"


def _trackio_films(rows: list[dict[str, Any]], home: Path) -> Found:
    films = []
    for row in rows:
        metrics = json.loads(row["metrics"])
        film = home / "media" / metrics["rollout/film"]["file_path"]
        films.append((metrics["rollout/id"], row["step"], film.read_bytes()))
    return films


class Mlflow(Place):
    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(root, MLFLOW_QUIET)

    def up(self) -> AbstractContextManager[object]:
        return mlflow_server(self.root, self.port)

    def sink(self, slot: str) -> str:
        return f"MlflowSink(tracking_uri={self.url!r}, experiment={slot!r})"

    def found(self, slot: str) -> Found:
        import mlflow

        client = mlflow.MlflowClient(self.url)
        experiment = client.get_experiment_by_name(slot)
        if experiment is None:
            return []
        films = []
        for run in client.search_runs([experiment.experiment_id]):
            run_id = run.info.run_id
            folder = self.root / "seen" / run_id
            folder.mkdir(parents=True, exist_ok=True)
            if not client.list_artifacts(run_id, "rollouts"):
                continue
            got = Path(client.download_artifacts(run_id, "rollouts", str(folder)))
            for marker in sorted(got.glob("*.json")):
                facts = json.loads(marker.read_text())
                content = marker.with_suffix(".mp4").read_bytes()
                films.append((facts["episode_id"], facts["step"], content))
        return films

    def n_beside(self, slot: str) -> int:
        import mlflow

        client = mlflow.MlflowClient(self.url)
        experiment = client.get_experiment_by_name(slot)
        runs = client.search_runs([experiment.experiment_id])
        return sum(len(client.get_metric_history(r.info.run_id, "rollout/return")) for r in runs)


class WandbOffline(Place):
    is_prompt = False

    def __init__(self, root: Path) -> None:
        super().__init__(
            root,
            {
                "WANDB_MODE": "offline", "WANDB_DIR": str(root), "WANDB_SILENT": "true",
                "WANDB_CONSOLE": "off", "WANDB_ERROR_REPORTING": "false",
                "WANDB__TRANSACTION_LOG_FLUSH_INTERVAL": "1",
            },
        )  # fmt: skip

    def sink(self, slot: str) -> str:
        return f"WandbSink(project='p', run_id={slot!r})"

    def found(self, slot: str) -> Found:
        from rollcam.sinks.wandb_log import TransactionLog, videos_of

        films = []
        for path in (self.root / "wandb").glob(f"*run-*-{slot}*/*.wandb"):
            log = TransactionLog(path)
            for row in log.rows():
                for video in videos_of(row):
                    content = (log.files_dir / video.path).read_bytes()
                    films.append((video.fact("episode_id"), video.fact("step"), content))
        return films


class WandbOnline(Place):
    is_prompt = False

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.server: WandbServer | None = None
        super().__init__(
            root,
            {
                **environment_of(f"http://127.0.0.1:{self.port}"),
                "WANDB_DIR": str(root),
                "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
                "WANDB__FILE_TRANSFER_RETRY_MAX": "1",
                "WANDB__FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS": "1",
                "WANDB__FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "1",
            },
        )

    @contextmanager
    def up(self) -> Iterator[object]:
        with WandbServer(self.port) as self.server:
            yield self.server

    def sink(self, slot: str) -> str:
        return f"WandbSink(project='p', run_id={slot!r})"

    def found(self, slot: str) -> Found:
        assert self.server is not None
        run, films = self.server.run(slot), []
        for row in run.history:
            for key, value in row.items():
                if isinstance(value, dict) and value.get("_type") == "video-file":
                    of = key.rpartition("/")[0]
                    content = run.files.get(value["path"], b"")
                    films.append((row[f"{of}/episode_id"], row[f"{of}/step"], content))
        return films


PLACES: dict[str, type[Place]] = {
    "folder": Folder,
    "tensorboard": TensorBoard,
    "trackio": TrackioLocal,
    "trackio-server": TrackioServer,
    "mlflow": Mlflow,
    "wandb-offline": WandbOffline,
    "wandb-online": WandbOnline,
}

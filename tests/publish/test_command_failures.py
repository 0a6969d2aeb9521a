"""`rollcam publish` to a tracker that answers 403 or 500, or not at all: exit status 1 and the reason."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rollcam.publish.entry import State
from rollcam.publish.ledger import FILE_NAME, Ledger
from tests.publish.places import PLACES, as_found, films_at_steps
from tests.publish.rig import python_path

N_FILMS = 2
ANSWERS = {
    "403": "(403|Could not fetch config)",  # the latter is all that Trackio's client says
    "500": "(500|Could not fetch config)",
    "hang": "(does not answer|did not answer|timed? ?out|Timeout)",
}

COMMAND = """
import sys
from rollcam.publish import drain, pace
from rollcam.sinks import trackio, wandb, wandb_api, wandb_run
pace.FIRST_WAIT_S = 0.05
drain.drain.__kwdefaults__["give_up_after"] = 2
wandb_run.START_TIMEOUT_S, wandb_run.FINISH_TIMEOUT_S = 3.0, 3.0
wandb.REPAIR_AFTER_S = 1.0
wandb_api.Bounded.limit_s = wandb_api.SEND_TIMEOUT_S = 5.0
trackio.TIMEOUT_S = 2.0
from rollcam.cli.main import cli
cli(sys.argv[1:])
"""


class _Answer(BaseHTTPRequestHandler):
    """Says that it lives, and nothing else."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        lives = self.path.startswith(("/health", "/version"))
        told = getattr(self.server, "told")  # noqa: B009 - not of the base class
        if not lives and told == "hang":
            getattr(self.server, "stopped").wait(60)  # noqa: B009
            self.close_connection = True
            return
        self.send_response(200 if lives else int(told))
        self.send_header("content-length", "9")
        self.end_headers()
        self.wfile.write(b"Forbidden")

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def server_that(told: str, port: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", port), _Answer)
    server.daemon_threads = True
    server.told, server.stopped = told, threading.Event()  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stopped.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join(10)
        server.server_close()


def publish(
    arguments: list[str], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "publish", str(folder), *arguments],
        capture_output=True, text=True, timeout=70, check=False,
        env={**python_path(), **environment}, cwd=folder.parent,
    )  # fmt: skip


def check_failed(done: subprocess.CompletedProcess[str], folder: Path, told: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{N_FILMS} not delivered yet; the same command tries again" in done.stdout
    reasons = [line for line in done.stderr.splitlines() if " film-" in line]
    assert reasons, done.stderr
    assert re.search(ANSWERS[told], "\n".join(reasons)), done.stderr
    assert "Traceback" not in done.stderr
    (counts,) = Ledger(folder / ".rollcam" / FILE_NAME).counts().values()
    assert counts[State.STORED] == 0


@pytest.mark.parametrize("told", ANSWERS)
@pytest.mark.parametrize("kind", ["mlflow", "trackio-server"])
def test_a_server_that_fails(kind: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    place, folder = PLACES[kind](tmp_path / "place"), tmp_path / "films"
    films_at_steps(folder, N_FILMS)
    url = f"http://127.0.0.1:{place.port}"
    where = {
        "mlflow": ["--to", "mlflow", "--tracking-uri", url, "--experiment", "e"],
        "trackio-server": ["--to", "trackio", "--project", "p", "--server-url", url],
    }[kind]
    quick = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
    with server_that(told, place.port):
        check_failed(publish(where, place.environment | quick, folder), folder, told)


@pytest.mark.parametrize("told", ["403", "500", "hang", "upload 403"])
def test_wandb_that_fails_and_then_works(told: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    place, folder = PLACES["wandb-online"](tmp_path / "place"), tmp_path / "films"
    wanted = as_found(films_at_steps(folder, N_FILMS))
    where = ["--to", "wandb", "--project", "p", "--run-id", "r"]
    status = told.rpartition(" ")[2]
    with place.up():
        faults = place.server.faults
        if told == "hang":
            faults.hang = "."
        elif told.startswith("upload"):
            faults.puts, faults.put_status = 10**6, int(status)
        else:
            faults.queries, faults.query_status = 10**6, int(status)
        check_failed(publish(where, place.environment, folder), folder, status)
        faults.hang, faults.puts, faults.queries = "", 0, 0
        done = publish(where, place.environment, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(place.found("r")) == wanted

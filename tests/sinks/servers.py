"""Starts a tracker's own server on loopback, waits until it answers, and ends it by its process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

START_S = 120.0
END_S = 20.0


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def get(
    url: str, headers: Mapping[str, str] | None = None, method: str = "GET", timeout_s: float = 10.0
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of an answer, whatever its status."""
    request = urllib.request.Request(url, headers=dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def answers(url: str) -> bool:
    try:
        return get(url, timeout_s=5)[0] < 500
    except OSError:
        return False


@contextlib.contextmanager
def running(
    command: list[str], ready: Callable[[], bool], log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a session of its own, ended with all its children."""
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, **environment}, cwd=log.parent, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_S
            while not ready():
                told = log.read_text(errors="replace")[-2000:]
                assert server.poll() is None, f"the server ended: {told}"
                assert time.monotonic() < deadline, f"no answer within {START_S:g} s: {told}"
                time.sleep(0.05)  # between two looks; START_S is the limit
            yield server
        finally:
            _end(server)


MLFLOW_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
TRACKIO_TOKEN = "let-me-write"
_TRACKIO = "import trackio; trackio.show(open_browser=False, server_port={port}, block_thread=True)"


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A real `mlflow server` (SQLite and artifacts); its address."""
    port = port or free_port()
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/ml.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    base = f"http://127.0.0.1:{port}"
    off = MLFLOW_QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with running(command, lambda: answers(f"{base}/health"), folder / "log", **off):
        yield base


@contextlib.contextmanager
def trackio_server(home: Path, log: Path, port: int | None = None) -> Iterator[str]:
    """A real Trackio, which takes films from whoever has `TRACKIO_TOKEN`; its address."""
    port = port or free_port()
    base = f"http://127.0.0.1:{port}"
    settings = {"TRACKIO_DIR": str(home), "TRACKIO_WRITE_TOKEN": TRACKIO_TOKEN}
    command = ["-c", _TRACKIO.format(port=port)]
    with running(command, lambda: answers(f"{base}/version"), log, **settings):
        yield base


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(END_S)
            break
    with contextlib.suppress(ProcessLookupError):  # workers that outlived their parent
        os.killpg(server.pid, signal.SIGKILL)

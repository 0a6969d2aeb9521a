"""Films to publish, and scripts that publish them: wandb-core lives in a process of its own each time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rollcam
from rollcam.publish.sink import Delivery
from rollcam.sinks.wandb_log import TransactionLog, VideoRow, videos_of
from rollcam.store import files
from tests.envs import CountingEnv

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 150.0
STEP_PER_EPISODE = 1000

PRELUDE = """
import json, os, signal, sys, threading, time
from pathlib import Path
from rollcam.errors import SinkError, SinkRefused
from tests.films import wait_until
from tests.sinks.wandb_scripts import deliveries, told
import wandb
from rollcam.sinks import wandb_row
from rollcam.sinks.wandb import WandbSink

films = deliveries(Path(sys.argv[1]))


class Side(threading.Thread):
    \"\"\"Publishes from the side, as the publisher does: one call at a time, failures again.\"\"\"

    def __init__(self, sink, films):
        super().__init__(daemon=True)
        self.sink, self.films, self.errors = sink, list(films), []

    def run(self):
        deadline = time.monotonic() + 90
        while self.films and time.monotonic() < deadline:
            try:
                self.sink.publish(self.films[0])
            except SinkError as error:
                self.errors.append(str(error))
                time.sleep(0.05)  # before it is tried again; 90 s is the limit
            else:
                self.films.pop(0)

    def finished(self):
        self.join(100)
        assert not self.films, (self.films, self.errors)


def all_stored(sink, wanted, timeout_s=60):
    ids = {film.episode.episode_id for film in wanted}
    wait_until(lambda: set(sink.stored(wanted)) == ids, "all are stored", timeout_s, every_s=0.25)


def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def make_films(folder: Path, n: int = 3) -> list[Delivery]:
    """Film `n` episodes of lengths 3, 4, 5, ...; the trainer's counter goes up by 1000."""
    with rollcam.Recorder(folder, fps=10, env_id="Counting-v0") as recorder:
        for number in range(n):
            env = CountingEnv(length=3 + number)
            env.reset(seed=number)
            recorder.set_context(global_step=number * STEP_PER_EPISODE, phase="warm-up")
            recorder.begin(f"film-{number}", seed=number, episode_index=number)
            recorder.capture(env.render)
            done = False
            while not done:
                _, reward, done, _, _ = env.step(0)
                recorder.capture(env.render, reward=reward, terminated=done)
            recorder.end()
    return deliveries(folder)


def deliveries(folder: Path) -> list[Delivery]:
    """Return the films of a folder as the publisher hands them over, in order."""
    episodes = sorted(files.list_episodes(folder).episodes, key=lambda e: e.episode_index or 0)
    found = []
    for episode in episodes:
        assert episode.media_path is not None
        assert episode.sha256 is not None
        found.append(Delivery(episode, episode.media_path, episode.sha256))
    return found


def told(**answer: Any) -> None:
    """Tell the test something: the last line of a script's output."""
    print(json.dumps(answer), flush=True)


@contextmanager
def started(
    code: str, folder: Path, *, settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a script in a session of its own; all that it started is ended with the context."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_ERROR_REPORTING": "false",
        **(settings or {}),
    }
    home = Path(environment["WANDB_DIR"])
    home.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(folder)],
        cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # wandb-core is in the same group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def run_script(
    code: str,
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    status: int = 0,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """Run a script to its end; return what it told."""
    with started(code, folder, settings=settings) as process:
        output, errors = process.communicate(timeout=timeout_s)
        assert process.returncode == status, f"{process.returncode}\n{errors}\n{output}"
        lines = [line for line in output.splitlines() if line.startswith("{")]
        answer: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return answer


def logs_on_disk() -> list[TransactionLog]:
    """Return the transaction logs that the scripts of this test have left."""
    home = Path(os.environ["WANDB_DIR"])
    return [TransactionLog(path) for path in sorted(home.glob("wandb/*run-*/run-*.wandb"))]


def rows_on_disk() -> list[dict[str, Any]]:
    """Return every row of every log, in order."""
    return [row for log in logs_on_disk() for row in log.rows()]


def videos_on_disk() -> list[tuple[VideoRow, Path]]:
    """Return every video of every row, with where its copy should lie."""
    return [
        (video, log.files_dir / video.path)
        for log in logs_on_disk()
        for row in log.rows()
        for video in videos_of(row)
    ]

"""Films by our own Recorder, as the publisher hands them to a sink."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rollcam
from rollcam.publish.sink import Delivery
from rollcam.store import files
from tests import barcode

N_FRAMES = 30
FPS = 15
LENGTH_S = N_FRAMES / FPS


def record(folder: Path, n: int = 1, *, first_step: int = 1000, **facts: Any) -> list[Delivery]:
    """`n` films of two seconds; the trainer's counter stands at `first_step`, twice that, ..."""
    steps = 0

    def context() -> dict[str, int]:
        return {"iteration": steps // 100, "num_env_steps": steps}

    with rollcam.Recorder(folder, fps=FPS, env_id="Count-v0", context=context) as recorder:
        for number in range(n):
            steps = first_step * (number + 1)
            recorder.begin(seed=number)
            for index in range(N_FRAMES):
                picture = barcode.draw(index + 64 * number, 160, 120)
                recorder.frame(picture, reward=None if index == 0 else 0.5 * (number + 1))
            recorder.end(truncated=True)
    listing = files.list_episodes(folder)
    assert not listing.problems
    episodes = sorted(listing.episodes, key=lambda episode: episode.episode_id)
    made = [episode for episode in episodes if episode.run_id == recorder.run_id]
    return [delivery_of(dataclasses.replace(episode, **facts)) for episode in made]


def delivery_of(episode: rollcam.Episode) -> Delivery:
    assert episode.media_path is not None
    assert episode.sha256 is not None
    return Delivery(episode, episode.media_path, episode.sha256)


def changed(delivery: Delivery, folder: Path) -> Delivery:
    """The same episode with another film."""
    other = record(folder, 2)[1]
    data = other.media.read_bytes()
    return dataclasses.replace(delivery, media=other.media, sha256=hashlib.sha256(data).hexdigest())


def killed_while_publishing(
    sink: str, deliveries: Sequence[Delivery], kill: str, folder: Path, **environment: str
) -> None:
    """Publish in a process that is killed with SIGKILL as it enters (or leaves) the call `kill`.

    Args:
        sink: An expression that makes the sink, after `from rollcam.sinks... import`.
        kill: `module:Class.method` or `module:function`; with a `+` before it, right after the call.
    """
    note = folder / "deliveries.pickle"
    note.write_bytes(pickle.dumps(list(deliveries)))
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, sink, kill, str(note)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


_CHILD = """
import importlib, os, pickle, signal, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
sink, kill, note = sys.argv[1:]
after, (module, _, path) = kill.startswith("+"), kill.lstrip("+").partition(":")
deliveries = pickle.loads(Path(note).read_bytes())
*owners, name = path.split(".")
owner = importlib.import_module(module)
for part in owners:
    owner = getattr(owner, part)
call = getattr(owner, name)
def deadly(*args, **kwargs):
    if after:
        call(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
imports, made = sink.split(";")
exec(imports)
made = eval(made)
setattr(owner, name, deadly)
for delivery in deliveries:
    made.publish(delivery)
"""

"""A tracker that is down: training ends as ever and at once, and `rollcam publish` delivers later."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollcam.publish.entry import State
from rollcam.publish.ledger import FILE_NAME, Ledger
from rollcam.store.files import list_episodes
from tests.publish.mortal import Job, run_all
from tests.publish.places import PLACES, STEP, as_found
from tests.publish.rig import python_path

KINDS = ("mlflow", "trackio-server", "wandb-online")
LIMIT_S = 20.0
N_FILMS = 3

TRAIN = f"""
import json, sys, time, warnings
from pathlib import Path
import numpy as np
import rollcam
from rollcam._publication import command_of
from rollcam.sinks.mlflow import MlflowSink
from rollcam.sinks.trackio import TrackioSink
from rollcam.sinks.wandb import WandbSink

folder, sink = Path(sys.argv[1]), eval(sys.argv[2])
warnings.simplefilter("ignore")  # one is given, see test_recorder_sinks.py
recorder = rollcam.Recorder(folder, fps=10, sinks=[sink])
longest = 0.0
for number in range({N_FILMS}):
    recorder.set_context(num_env_steps={STEP} * (number + 1))
    calls = [
        lambda: recorder.begin(seed=number),
        *[lambda: recorder.frame(np.zeros((32, 32, 3), np.uint8), reward=1.0)] * 5,
        lambda: recorder.end(terminated=True),
    ]
    for call in calls:
        began = time.monotonic()
        call()
        longest = max(longest, time.monotonic() - began)
began = time.monotonic()
recorder.close()
Path(f"{{folder}}-command").write_text(command_of(folder.resolve(), sink))
print(json.dumps({{"longest": longest, "close": time.monotonic() - began}}))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_down_for_the_whole_run(kind: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    place, folder = PLACES[kind](tmp_path / "place"), tmp_path / "films"
    environment = {**python_path(), **place.environment}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder), place.sink("late")],
        capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    print(told, took_s)
    assert told["longest"] < 2.0, "no call of the training waits for the place"
    assert told["close"] < LIMIT_S
    assert took_s < 2 * LIMIT_S, "nor does the interpreter's end"
    assert f"{N_FILMS} films are not yet published to " in done.stderr
    assert f"rollcam publish {folder} --to {kind.partition('-')[0]} " in done.stderr
    wanted = as_found(list_episodes(folder).episodes)
    assert [step for _, step, _ in wanted] == [STEP, 2 * STEP, 3 * STEP]
    with place.up():
        (end,) = run_all([Job(str(folder), place.sink("late"))], tmp_path / "later", environment)
        assert end.status == 0, end.output
        assert sorted(place.found("late")) == wanted
    (counts,) = Ledger(folder / ".rollcam" / FILE_NAME).counts().values()
    assert counts[State.STORED] == N_FILMS

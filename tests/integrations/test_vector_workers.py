"""`record_in="workers"`: each child films itself, and whatever ends it, its films are not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

import rollcam
from rollcam.recovery import recover
from tests import barcode
from tests.envs import CountingEnv
from tests.films import said_by_rollcam, wait_until
from tests.integrations.vector_films import (
    FPS,
    MODES,
    episodes,
    film_separately,
    make,
    play,
    separate_films,
    shown,
)

N_STEPS = 11
SAME, NEXT = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP
NO_ACTION = np.zeros(2, np.int64)
ROOT = Path(__file__).resolve().parents[2]

film_in_workers = partial(film_separately, record_in="workers")


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("kind", ["async", "async-copied", "async-spawned"])
def test_every_frame_of_each_episode(kind: str, mode: AutoresetMode, tmp_path: Path) -> None:
    env = film_in_workers(tmp_path, make(kind, mode))
    play(env, N_STEPS, mode, seed=7)
    env.close()
    wanted = separate_films(N_STEPS, mode)
    assert shown(tmp_path) == wanted
    runs = set()
    for name, episode in episodes(tmp_path).items():
        index, number = int(name[13]), int(name[-1])
        assert episode.seed == (7 + index if number == 0 else None)
        assert episode.episode_return == (sum(wanted[name]) if len(wanted[name]) > 1 else None)
        assert episode.episode_length == len(wanted[name]) - 1
        assert episode.writer is not None
        assert (episode.writer.worker, episode.writer.vector_index) == (f"env-{index}", index)
        assert episode.writer.pid != os.getpid()
        runs.add(episode.run_id)
    assert len(runs) == 1, "one training is one run"


@pytest.mark.parametrize("mode", [SAME, NEXT], ids=lambda mode: mode.name)
def test_the_same_films_as_the_parent_makes(mode: AutoresetMode, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "episode_trigger": lambda i, n: (i + n) % 2 == 0,
        "step_trigger": lambda n: n in (1, 2, 6),
    }
    for record_in in ("parent", "workers"):
        env = film_separately(
            tmp_path / record_in, make("async", mode), record_in=record_in, **settings
        )
        play(env, 9, mode)
        env.close()
    assert shown(tmp_path / "parent") == shown(tmp_path / "workers")
    steps = {
        where: {name: e.step_index for name, e in episodes(tmp_path / where).items()}
        for where in ("parent", "workers")
    }
    assert steps["parent"] == steps["workers"]


@pytest.mark.parametrize("kind", ["async", "async-spawned"])
def test_the_trainers_counters_reach_the_children(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    env = film_in_workers(tmp_path / "films", make(kind, NEXT, (3, 3)), context={"trial": "a"})
    assert list(scratch.glob("rollcam-context-*")) == [], "whoever is killed leaves nothing behind"
    env.set_context(iteration=1)
    env.reset()
    for step in range(3):
        env.set_context(iteration=2, num_env_steps=step)
        env.step(NO_ACTION)
    env.close()
    for episode in episodes(tmp_path / "films").values():
        assert episode.context_at_start == {"trial": "a", "iteration": 1}
        assert episode.context_at_end == {"trial": "a", "iteration": 2, "num_env_steps": 2}


def test_a_context_that_is_a_callable_is_asked_here(tmp_path: Path) -> None:
    asked_in: list[int] = []

    def context() -> dict[str, int]:
        asked_in.append(os.getpid())
        return {"asked": len(asked_in)}

    env = film_in_workers(tmp_path, make("async", NEXT, (3, 3)), context=context)
    play(env, 3, NEXT)
    env.close()
    episode = episodes(tmp_path)["rl-video-env-1-episode-0"]
    assert set(asked_in) == {os.getpid()}
    assert episode.context_at_end["asked"] == episode.context_at_start["asked"] + 3


def test_a_context_that_fails_warns_once(tmp_path: Path) -> None:
    env = film_in_workers(tmp_path, make("async", NEXT, (3, 3)))
    env._filming._context = lambda: 1 / 0  # what worked at construction fails later
    with pytest.warns(rollcam.RollcamWarning, match="counters do not reach") as said:
        play(env, 3, NEXT)
        env.close()
    assert len(said_by_rollcam(said)) == 1


def test_policies_and_callbacks_run_in_the_children(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.mkdir()

    def on_finished(episode: rollcam.Episode) -> None:
        (told / episode.name).write_text(str(os.getpid()))

    env = film_in_workers(
        tmp_path / "films", make("async", NEXT, (2, 3)), keep=rollcam.keep_best(1),
        on_finished=on_finished,
    )  # fmt: skip
    play(env, 12, NEXT)
    env.close()
    assert sorted(shown(tmp_path / "films")) == [
        "rl-video-env-0-episode-0",
        "rl-video-env-1-episode-0",
    ]
    assert str(os.getpid()) not in {path.read_text() for path in told.iterdir()}


def test_by_hand(tmp_path: Path) -> None:
    env = film_in_workers(tmp_path, make("async", NEXT, (9, 9)), episode_trigger=lambda n: False)
    env.reset()
    env.start_recording("mine")
    env.step(NO_ACTION)
    env.step(NO_ACTION)
    env.stop_recording()
    assert shown(tmp_path) == {"mine-env-0": [1, 2], "mine-env-1": [1, 2]}
    env.close()


def test_closing_with_terminate_finishes_the_films(tmp_path: Path) -> None:
    env = film_in_workers(tmp_path, make("async", NEXT, (9, 9)))
    play(env, 4, NEXT)
    env.close(terminate=True)
    assert {name: e.status.value for name, e in episodes(tmp_path).items()} == {
        "rl-video-env-0-episode-0": "complete",
        "rl-video-env-1-episode-0": "complete",
    }
    assert shown(tmp_path)["rl-video-env-1-episode-0"] == [0, 1, 2, 3, 4]


def test_what_a_killed_child_had_filmed_can_be_recovered(tmp_path: Path) -> None:
    vector = make("async", NEXT, (3, 3000), noisy=True)
    env = film_in_workers(tmp_path, vector)
    play(env, 40, NEXT)
    partial_folder = tmp_path / ".rollcam" / "partial"
    wait_until(
        lambda: any(path.stat().st_size > 5_000 for path in partial_folder.rglob("*.mp4")),
        "frames have reached the disk",
    )
    victim = vector.processes[1]
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(20)
    with pytest.raises((EOFError, OSError)):
        env.step(NO_ACTION)
    with pytest.warns(rollcam.RollcamWarning), pytest.raises((EOFError, OSError)):
        env.close()
    vector.parent_pipes[0].close()  # child 0 sees that its parent has gone
    vector.processes[0].join(20)
    assert not vector.processes[0].is_alive()
    vector.closed = True
    recover(tmp_path)
    found = episodes(tmp_path)
    saved = found.pop("rl-video-env-1-episode-0")
    assert saved.status == "truncated_by_crash"
    assert saved.n_frames >= 1
    numbers = barcode.indices(saved.media_path)
    assert numbers[: saved.n_frames] == list(range(saved.n_frames))
    assert found
    assert {e.status.value for e in found.values()} == {"complete"}


TRAINING = """
    import sys
    import numpy as np
    from tests.integrations.vector_films import film_separately, make
    from gymnasium.vector import AutoresetMode

    def main():
        env = film_separately(
            sys.argv[1], make("async", AutoresetMode.NEXT_STEP, (900, 900)), record_in="workers"
        )
        env.reset()
        for _ in range(5):
            env.step(np.zeros(2, np.int64))
        print("stepped", flush=True)
        sys.stdin.read()

    if __name__ == "__main__":
        main()
"""


def test_children_whose_parent_was_killed_finish_their_films(tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(textwrap.dedent(TRAINING), encoding="utf-8")
    path = os.pathsep.join(
        [str(ROOT), str(ROOT / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    )
    with (tmp_path / "stderr").open("w") as errors, subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "films")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as training:  # fmt: skip
        assert training.stdout is not None
        assert training.stdout.readline() == "stepped\n", (tmp_path / "stderr").read_text()
        training.kill()
    wait_until(
        lambda: len(list((tmp_path / "films").glob("*.meta.json"))) == 2,
        "both children have finished their films",
    )
    assert shown(tmp_path / "films") == {
        f"rl-video-env-{i}-episode-0": [0, 1, 2, 3, 4, 5] for i in range(2)
    }
    assert {e.status.value for e in episodes(tmp_path / "films").values()} == {"complete"}


def test_a_renderer_that_raises_costs_one_film(tmp_path: Path) -> None:
    vector = make("async", NEXT)
    vector.set_attr("raise_at", [(), (2,), ()])
    env = film_in_workers(tmp_path, vector)
    play(env, 4, NEXT)
    env.close()
    found = episodes(tmp_path)
    assert found["rl-video-env-1-episode-0"].status == "failed"
    assert "renderer broke at 2" in (found["rl-video-env-1-episode-0"].reason or "")
    assert shown(tmp_path)["rl-video-env-0-episode-0"] == [0, 1, 2, 3]


def test_a_trigger_that_raises_costs_films_and_no_step(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    env = film_in_workers(
        tmp_path,
        make("async-spawned", NEXT, (3, 3)),
        episode_trigger=lambda i, n: i == 0 or bool(1 / 0),
    )
    play(env, 4, NEXT)
    env.close()
    assert {name[:14] for name in shown(tmp_path)} == {"rl-video-env-0"}
    assert "sub-environment 1: ZeroDivisionError" in capfd.readouterr().err


def test_a_new_start_clears_once_and_for_all(tmp_path: Path) -> None:
    for _ in range(2):
        env = film_in_workers(tmp_path, make("async", NEXT, (3, 5)), resume=False)
        play(env, 7, NEXT)
        env.close()
    assert sorted(shown(tmp_path)) == [
        "rl-video-env-0-episode-0",
        "rl-video-env-0-episode-1",
        "rl-video-env-1-episode-0",
        "rl-video-env-1-episode-1",
    ]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"episode_trigger": rollcam.on_demand()}, "cannot be sent"),
        ({"codec": "no-such-codec"}, "no-such-codec"),
        ({"layout": "tiled"}, "AsyncVectorEnv and layout"),
    ],
)
def test_what_cannot_work_is_said_at_once_and_the_children_live(
    settings: dict[str, Any], match: str, tmp_path: Path
) -> None:
    vector = make("async", NEXT, (3, 3))
    with pytest.raises(rollcam.SettingError, match=match):
        film_in_workers(tmp_path, vector, **settings)
    vector.reset()
    assert vector.step(NO_ACTION)[0].ravel().tolist() == [1, 1]
    vector.close()


@pytest.mark.filterwarnings("ignore:.*ERROR:UserWarning")  # Gymnasium's way of telling
def test_errors_are_raised_where_that_is_wanted(tmp_path: Path) -> None:
    vector = AsyncVectorEnv([partial(CountingEnv, length=5, fps=FPS, raise_at=(2,))])
    env = film_in_workers(tmp_path, vector, on_error="raise")
    env.reset()
    env.step(NO_ACTION[:1])
    with pytest.raises(RuntimeError, match="renderer broke at 2"):
        env.step(NO_ACTION[:1])
    env.close()

"""One of two trainings in processes of their own that film into one folder at the same time.

python -m tests.rllib.neighbour FOLDER first|second

The first one trains when the second begins, and ends while the second still trains. Both do so twice:
in `clears` the second one clears the folder, and both send to one place; in `joins` their films have
the same names, and the first one loses its env runner.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# flatland-rl installs a package `tests`, too, which would be found before ours.
sys.modules["tests"] = tests = types.ModuleType("tests")
tests.__path__ = [str(Path(__file__).resolve().parents[1])]

LIMIT_S = 120.0
SCENES = ("clears", "joins")


class Log:
    """A sink that writes down what it is given, each time."""

    name = "log"

    def __init__(self, path: Path) -> None:
        self.target = str(path)

    def publish(self, delivery: Any) -> str:
        with open(self.target, "a", encoding="utf-8") as file:
            file.write(f"{delivery.episode.episode_id}\n")
        return delivery.episode.episode_id

    def stored(self, deliveries: Sequence[Any]) -> list[str]:
        told = Path(self.target).read_text(encoding="utf-8").split()
        ids = [delivery.episode.episode_id for delivery in deliveries]
        return [episode_id for episode_id in ids if episode_id in told]

    def close(self) -> None: ...


def main(folder: Path, who: str) -> None:
    """Play all scenes, each in a folder of its own."""
    import ray

    from tests.rllib.conftest import start_ray

    start_ray(num_cpus=2)
    for scene in SCENES:
        (folder / scene / who).mkdir(parents=True)
        (_first if who == "first" else _second)(folder / scene)
    ray.shutdown()


def _first(folder: Path) -> None:
    run = _training(folder, "first")
    run.train(2)
    _say(folder, "first-trains")
    _hear(folder, "second-trains")
    if folder.name == "joins":
        _lose_runner(run)
    run.train(1)
    run.algorithm.stop()
    _say(folder, "first-ended")


def _second(folder: Path) -> None:
    _hear(folder, "first-trains")
    run = _training(folder, "second", resume=folder.name != "clears")
    run.train(1)
    _say(folder, "second-trains")
    run.train(1)
    _hear(folder, "first-ended")
    run.train(1)
    run.algorithm.stop()


def _training(folder: Path, who: str, **settings: Any) -> Any:
    from tests.rllib.rollouts import training

    log = folder / "log"
    if folder.name == "joins":
        settings["name"] = "film-{episode:06d}"
        log = folder / who / "log"
    run = training(
        folder / who, runners=int(who == "first"), video_dir=folder / "films", sinks=[Log(log)],
        close_s=30, metadata={"who": who}, **settings,
    )  # fmt: skip
    [driver] = [c._driver for c in run.algorithm.callbacks if getattr(c, "_driver", None)]
    (folder / who / "run_id").write_text(driver.run_id)
    return run


def _lose_runner(run: Any) -> None:
    """Kill it in the middle of an episode, and train until another one has done some."""
    from tests.rllib.rollouts import runner_pid

    [pid] = run.algorithm.env_runner_group.foreach_env_runner(runner_pid, local_env_runner=False)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        run.algorithm.train()
        if {line["pid"] for line in run.events("end")} - {pid}:
            return
    raise TimeoutError("the env runner did not come back")


def _say(folder: Path, word: str) -> None:
    (folder / word).touch()


def _hear(folder: Path, word: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not (folder / word).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody said {word}")
        time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

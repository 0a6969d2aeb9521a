"""A training in a process of its own, which ends in one of the ways of the table in docs/decisions/0016.

python -m tests.rllib.ending FOLDER HOW
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import types
from pathlib import Path

# flatland-rl installs a package `tests`, too, which would be found before ours.
sys.modules["tests"] = tests = types.ModuleType("tests")
tests.__path__ = [str(Path(__file__).resolve().parents[1])]

RUNNERS = 1
LIMIT_S = 120.0


def main(folder: Path, how: str) -> None:
    """Train, wait until films grow, and end."""
    import ray

    from tests.rllib.conftest import start_ray
    from tests.rllib.rollouts import Explosive, training

    start_ray(num_cpus=4)
    if how.startswith("tune-"):
        _tune(folder, how.removeprefix("tune-"))
        return
    is_local = how.startswith("local-")
    run = training(
        folder,
        make=functools.partial(Explosive, str(folder / "fuse")),
        runners=0 if is_local else RUNNERS,
        sinks=[f"folder:{folder / 'copies'}"],
        close_s=30,  # where others keep the machine busy, too
    )
    run.train(1)
    (folder / "trained").write_text(str(os.getpid()))
    how = how.removeprefix("local-")
    if how == "stop":
        run.algorithm.stop()
    elif how == "exception":
        raise RuntimeError("the user's own")
    elif how == "env-raises":
        (folder / "fuse").touch()
        run.train(1)
    elif how == "shutdown":
        ray.shutdown()
    elif how in ("SIGINT", "SIGTERM", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(LIMIT_S)  # the signal ends it


def _tune(folder: Path, how: str) -> None:
    """Train under Tune, and interrupt it from outside of `fit`, as a user does."""
    from ray import tune

    from tests.rllib.rollouts import config

    made = config(folder, runners=RUNNERS, sinks=[f"folder:{folder / 'copies'}"])
    threading.Thread(target=_interrupt, args=(folder, how), daemon=True).start()
    tune.Tuner(
        "PPO",
        param_space=made,
        run_config=tune.RunConfig(
            stop={"training_iteration": 500}, storage_path=str(folder / "tune"), verbose=0
        ),
    ).fit()
    (folder / "fitted").touch()


def _interrupt(folder: Path, how: str) -> None:
    """Wait until episodes have ended, and send the signal."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        told = "".join(path.read_text() for path in (folder / "journal").iterdir())
        if told.count('"event": "end"') > 20:
            (folder / "trained").write_text(str(os.getpid()))
            # Ctrl-C goes to all processes of the terminal, Ray's among them.
            (os.killpg if how == "SIGINT" else os.kill)(os.getpid(), getattr(signal, how))
            return
        time.sleep(0.05)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

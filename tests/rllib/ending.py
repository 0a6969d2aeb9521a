"""A training in a process of its own, which ends in one of the ways of the table in docs/decisions/0016.

python -m tests.rllib.ending FOLDER HOW
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from pathlib import Path

# flatland-rl installs a package `tests`, too, which would be found before ours.
sys.modules["tests"] = tests = types.ModuleType("tests")
tests.__path__ = [str(Path(__file__).resolve().parents[1])]

RUNNERS = 1
LIMIT_S = 60.0


def main(folder: Path, how: str) -> None:
    """Train, wait until films grow, and end."""
    import ray

    from tests.rllib.conftest import start_ray
    from tests.rllib.rollouts import training

    start_ray(num_cpus=4)
    is_local = how.startswith("local-")
    run = training(
        folder,
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
    elif how == "shutdown":
        ray.shutdown()
    elif how == "runner-killed":
        _kill_runner(run)
        run.train(1)
        run.algorithm.stop()
    elif how in ("SIGINT", "SIGTERM", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(LIMIT_S)  # the signal ends it


def _kill_runner(run: object) -> None:
    from tests.rllib.rollouts import runner_pid

    [pid] = run.algorithm.env_runner_group.foreach_env_runner(runner_pid, local_env_runner=False)  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

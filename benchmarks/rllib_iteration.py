"""What filming costs an iteration of RLlib: evaluation only, and every training episode.

    .venv-rllib/bin/python benchmarks/rllib_iteration.py            about five minutes on two cores
    .venv-rllib/bin/python benchmarks/rllib_iteration.py --quick

PPO on CartPole, two env runners, 400 steps an iteration. Two questions:

1. Does filming evaluation alone touch the training part? Iterations without evaluation, in turns
   with and without the callback. Wanted: within 3 %.
2. Every training episode: Rollcam, and Gymnasium's `RecordVideo` in the env creator, each against
   none. Wanted: at most 1/10 of what `RecordVideo` adds.

Run it alone: whatever else runs on the machine is in the numbers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

N_RUNNERS = 9
"""Of the four algorithms, which all stand at once: two each, and one that evaluates."""

WANTED_SHARE = 0.03
WANTED_PART = 0.1


def main() -> int:
    """Measure, print, and say by the exit status whether both are as wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few iterations, for a glance")
    n = 2 if parser.parse_args().quick else 20
    import ray

    # Nine env runners: an algorithm whose runner finds no room waits without end.
    ray.init(
        num_cpus=N_RUNNERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    with tempfile.TemporaryDirectory() as folder:
        by_kind = measure(Path(folder), n)
        n_ours, n_theirs = (_n_files(Path(folder, kind)) for kind in ("rollcam", "gymnasium"))
    ray.shutdown()
    none = statistics.median(by_kind["none"])
    for kind, times in by_kind.items():
        print(f"{kind:26} {statistics.median(times) * 1000:8.1f} ms   ({len(times)} iterations)")
    share = statistics.median(by_kind["rollcam, evaluation"]) / none - 1
    ours = statistics.median(by_kind["rollcam, all"]) - none
    theirs = statistics.median(by_kind["gymnasium RecordVideo"]) - none
    print(f"evaluation only: {share:+.1%} of the training part (wanted: below {WANTED_SHARE:.0%})")
    print(f"every episode: {ours / theirs:.1%} of RecordVideo's cost (wanted: {WANTED_PART:.0%})")
    print(f"films that are there: {n_ours} of Rollcam's, {n_theirs} of RecordVideo's")
    return int(share > WANTED_SHARE or ours > WANTED_PART * theirs)


def measure(folder: Path, n: int) -> dict[str, list[float]]:
    """Return the seconds of each iteration; the kinds take turns, so that drift hits them all."""
    kinds: dict[str, Callable[[Path], Any]] = {
        "none": lambda _: _config("none"),
        "rollcam, evaluation": _evaluation_only,
        "rollcam, all": _all_episodes,
        "gymnasium RecordVideo": _record_video,
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    running = {kind: make(folder).build_algo() for kind, make in kinds.items()}
    for algorithm in running.values():
        algorithm.train()  # the first one warms up
    for _ in range(n):
        for kind, algorithm in running.items():
            began = time.perf_counter()
            algorithm.train()
            times[kind].append(time.perf_counter() - began)
    for algorithm in running.values():
        algorithm.stop()
    return times


def _config(name: str, creator: Callable[[Any], Any] | None = None) -> Any:
    import gymnasium as gym
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    register_env(name, creator or (lambda _: gym.make("CartPole-v1", render_mode="rgb_array")))
    return (
        PPOConfig()
        .environment(name)
        .env_runners(num_env_runners=2)
        .training(train_batch_size_per_learner=400, minibatch_size=128, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": [16]})
        .debugging(seed=0, log_level="ERROR")
    )


def _evaluation_only(folder: Path) -> Any:
    from rollcam.integrations.rllib import RollcamCallback

    # No iteration that is measured evaluates: what is asked is what the training part pays.
    made = _config("evaluated").callbacks(RollcamCallback(folder / "evaluation", film="eval"))
    return made.evaluation(evaluation_interval=10**6, evaluation_num_env_runners=1)


def _all_episodes(folder: Path) -> Any:
    from rollcam.integrations.rllib import RollcamCallback

    callback = RollcamCallback(folder / "rollcam", trigger=lambda _: True)
    return _config("filmed").callbacks(callback)


def _record_video(folder: Path) -> Any:
    target = str(folder / "gymnasium")

    def create(_: Any) -> Any:
        import gymnasium as gym

        env = gym.make("CartPole-v1", render_mode="rgb_array")
        return gym.wrappers.RecordVideo(env, target, episode_trigger=lambda _: True)

    return _config("recorded", create)


def _n_files(folder: Path) -> int:
    return len(list(folder.glob("*.mp4")))


if __name__ == "__main__":
    sys.exit(main())

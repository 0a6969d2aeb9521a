"""What does filming cost an iteration of RLlib: evaluation only, and every training episode?"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import ROOT, child_main, run_child

PYTHON = ROOT / ".venv-rllib" / "bin" / "python"
"""RLlib's own environment: `make test` and `make bench` make it."""

WANTED_SHARE = 0.03
WANTED_PART = 0.1
N_EVALUATION, N_ALL = 40, 20
NONE, EVALUATION, ALL, THEIRS = "none", "evaluation only", "Rollcam", "RecordVideo"
PROCESS, RENDERED = "Rollcam, process", "rendered, and thrown away"

HOW = """\
RLlib's PPO trains on CartPole-v1 with two env runners, 400 steps an iteration, on two cores. "Evaluation only" is a
`RollcamCallback(film="eval")`; with and without it the algorithm has an evaluation runner, of which no measured iteration
makes use: what is asked is what the training part pays. "Rollcam" films every training episode through the callback,
"Rollcam, process" with `encode_in="process"`, "RecordVideo" by Gymnasium's wrapper in the env creator; "rendered" renders
each step and throws the picture away. Each stands in a process of Ray's with its own runners; they take turns, iteration
by iteration, and the turn begins with another one each time. Wall time of `train()`, medians."""

NOTES = [
    "All films' costs hold what it takes to render, which no recorder can spare: where rendering alone adds more than a tenth "
    "of what RecordVideo adds, no recorder can add less. RecordVideo's runners give their films the same names, so most are "
    "overwritten; its files are those that are left."
]


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is not there: make .venv-rllib/.stamp")
    given = (
        {"n_evaluation": 2, "n_all": 2} if quick else {"n_evaluation": N_EVALUATION, "n_all": N_ALL}
    )
    found = run_child("benchmarks.rllib_iteration", given, python=PYTHON)
    alone, beside = (statistics.median(found["evaluation"][kind]) for kind in (NONE, EVALUATION))
    pairs = zip(found["evaluation"][EVALUATION], found["evaluation"][NONE], strict=True)
    share = statistics.median(ours / none for ours, none in pairs) - 1
    none, rendered, ours, apart, theirs = (
        statistics.median(found["all"][kind]) for kind in (NONE, RENDERED, ALL, PROCESS, THEIRS)
    )
    part, least = ((cost - none) / (theirs - none) for cost in (ours, rendered))
    figures = [
        Figure(
            "RLlib: iteration with evaluation-only filming, training part",
            f"at most {WANTED_SHARE:.0%} above no filming", f"{share:+.1%}", share <= WANTED_SHARE,
        ),
        Figure(
            "RLlib: what filming every training episode adds to an iteration",
            f"at most {WANTED_PART:.0%} of what RecordVideo adds", f"{part:.0%}", part <= WANTED_PART,
        ),
        Figure("The same, rendering alone", "", f"{least:.0%}"),
    ]  # fmt: skip
    rows = [
        ["none", _ms(alone), "", "", ""],
        [EVALUATION, _ms(beside), _ms(beside - alone), "", ""],
        ["none, in the turns with those below", _ms(none), "", "", ""],
        [RENDERED, _ms(rendered), _ms(rendered - none), "", str(found["n_begun"])],
        [PROCESS, _ms(apart), _ms(apart - none), str(found["n_films"][PROCESS]), str(found["n_begun"])],
        [ALL, _ms(ours), _ms(ours - none), str(found["n_films"][ALL]), str(found["n_begun"])],
        [THEIRS, _ms(theirs), _ms(theirs - none), str(found["n_films"][THEIRS]), str(found["n_begun"])],
    ]  # fmt: skip
    columns = ["filming", "ms an iteration", "ms more", "files", "iterations"]
    tables = [Table("An iteration of 400 steps", columns, rows)]
    return Answer("RLlib", HOW, figures, tables, NOTES).as_dict()


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"


def _work(n_evaluation: int, n_all: int) -> dict[str, Any]:
    """Measure, in RLlib's own environment."""
    import ray

    # Eleven env runners at most: an algorithm whose runner finds no room waits without end.
    ray.init(num_cpus=11, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        evaluation = _measured(
            {NONE: lambda: _with_evaluation("none"), EVALUATION: lambda: _evaluation_only(folder)},
            n_evaluation,
        )
        every = _measured(
            {
                NONE: lambda: _config("none"),
                RENDERED: _rendered,
                ALL: lambda: _all_episodes("filmed", folder / "rollcam"),
                PROCESS: lambda: _all_episodes("apart", folder / "process", encode_in="process"),
                THEIRS: lambda: _record_video(folder),
            },
            n_all,
        )
        n_films = {
            ALL: _n_files(folder / "rollcam"),
            PROCESS: _n_files(folder / "process"),
            THEIRS: _n_files(folder / "gymnasium"),
        }
    ray.shutdown()
    return {"evaluation": evaluation, "all": every, "n_films": n_films, "n_begun": n_all + 1}


def _measured(kinds: dict[str, Callable[[], Any]], n: int) -> dict[str, list[float]]:
    """Return the seconds of each iteration."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    running = {kind: make().build_algo() for kind, make in kinds.items()}
    for algorithm in running.values():
        algorithm.train()  # the first one warms up
    order = list(running)
    for turn in range(n):
        for kind in (*order[turn % len(order) :], *order[: turn % len(order)]):
            began = time.perf_counter()
            running[kind].train()
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


def _with_evaluation(name: str) -> Any:
    # No iteration that is measured evaluates: what is asked is what the training part pays.
    return _config(name).evaluation(evaluation_interval=10**6, evaluation_num_env_runners=1)


def _evaluation_only(folder: Path) -> Any:
    from rollcam.integrations.rllib import RollcamCallback

    callback = RollcamCallback(folder / "evaluation", film="eval")
    return _with_evaluation("evaluated").callbacks(callback)


def _all_episodes(name: str, folder: Path, **settings: Any) -> Any:
    from rollcam.integrations.rllib import RollcamCallback

    return _config(name).callbacks(RollcamCallback(folder, trigger=lambda _: True, **settings))


def _rendered() -> Any:
    import gymnasium as gym

    class Rendered(gym.Wrapper):  # type: ignore[type-arg]
        def reset(self, **given: Any) -> Any:
            result = self.env.reset(**given)
            self.env.render()
            return result

        def step(self, action: Any) -> Any:
            result = self.env.step(action)
            self.env.render()
            return result

    return _config("rendered", lambda _: Rendered(gym.make("CartPole-v1", render_mode="rgb_array")))


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
    if len(sys.argv) == 3 and sys.argv[1].endswith("in.json"):
        child_main(_work)
    else:
        from benchmarks.lab.report import main

        main(run)

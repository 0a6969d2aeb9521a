"""What does filming and publishing cost a real training, in steps per second?"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import child_main
from benchmarks.lab.slices import SLICE_S, Clock, run_in_slices
from rollcam.episode import EncodeIn

LIMIT = 0.97
N_TURNS, N_TURNS_MORE, N_TURNS_EVERY = 5, 16, 2
N_STEPS = 16_384
N_STEPS_EVERY = 8_192
N_WARM = 2_048
EVERY = 20
PROCESS, THREAD = "Rollcam, process", "Rollcam, thread"
UNPUBLISHED = "Rollcam, process, not published"
WAYS = ("unrecorded", "rendered", UNPUBLISHED, PROCESS, THREAD, "by hand")
EVERY_WAYS = ("rendered", PROCESS, THREAD, "by hand")

HOW = f"""\
Stable-Baselines3's PPO trains on CartPole-v1 with one environment, its own settings and one torch thread; every way from
the same seed, so that all play the same episodes. "Rendered" renders each step of the episodes that the others film and
throws it away; "Rollcam" is `RecordVideo(..., sinks=["wandb"])`, with `encode_in="process"`, the same without
sinks, and with the default, `"thread"`; "by hand" is Gymnasium's `RecordVideo` and `wandb.Video` in a callback for each new file. W&B is offline, and the trainer logs a row after each rollout. Timed are
{N_STEPS:,} steps after the first {N_WARM:,}, without the end of the run, which has a column of its own. Each run is a process
of its own, and all ways run in the same seconds: one goes on for {SLICE_S} s while the others stand still, with all the
processes that they started, so that what others do to the machine meets all ways alike. That is done {N_TURNS} times (for
every episode {N_TURNS_EVERY}), and {N_TURNS_MORE} times more with rendering and the figure's own way alone, since the shares of single
turns differ by more than what is asked; a share is the median of the turns' own shares. "Training thread" is the CPU time of that thread alone, which does not depend on
them at all."""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    seldom = _measure(WAYS, EVERY, 2_048 if quick else N_STEPS, 1 if quick else N_TURNS)
    often = _measure(
        EVERY_WAYS, 1, 2_048 if quick else N_STEPS_EVERY, 1 if quick else N_TURNS_EVERY
    )
    more = _measure(
        ("rendered", PROCESS), EVERY, 2_048 if quick else N_STEPS, 1 if quick else N_TURNS_MORE
    )
    both = {way: seldom[way] + more[way] for way in more}
    share = _share(both, PROCESS, "rate")
    figures = [
        Figure(
            f'Steps/s, 1 episode in {EVERY} filmed and published to W&B, encode_in="process"',
            f"at least {LIMIT:.0%} of rendering alone",
            f"{share:.1%}",
            share >= LIMIT,
        ),
        Figure("The same, not published", "", f"{_share(seldom, UNPUBLISHED, 'rate'):.1%}"),
        Figure("The same, encoded on a thread, the default", "",
               f"{_share(seldom, THREAD, 'rate'):.1%}"),
        Figure("The same, RecordVideo and wandb.Video by hand", "",
               f"{_share(seldom, 'by hand', 'rate'):.1%}"),
        Figure("Steps/s, every episode filmed and published", "",
               f"{_share(often, PROCESS, 'rate'):.1%} of rendering alone; on a thread "
               f"{_share(often, THREAD, 'rate'):.1%}; by hand {_share(often, 'by hand', 'rate'):.1%}"),
    ]  # fmt: skip
    tables = [
        _table(f"1 episode in {EVERY} is filmed", seldom),
        _table(f"The same, all {len(both[PROCESS])} turns of these two", both),
        _table("Every episode is filmed", often),
    ]
    return Answer("Publishing from a real training", HOW, figures, tables, NOTES).as_dict()


NOTES = [
    '"Dropped" are frames that found no room in the queue and are counted in the sidecars; "left" are films that were not '
    "confirmed when the run had ended and that `rollcam publish` sends. By hand, what was not logged by then is lost.",
]

Runs = dict[str, list[dict[str, float]]]


def _measure(ways: tuple[str, ...], every: int, n_steps: int, n_turns: int) -> Runs:
    runs: Runs = {way: [] for way in ways}
    for turn in range(n_turns):
        order = (*ways[turn % len(ways) :], *ways[: turn % len(ways)])
        given = {way: {"way": way, "every": every, "n_steps": n_steps} for way in order}
        for way, result in run_in_slices("benchmarks.publish_throughput", given).items():
            runs[way].append(result)
    return runs


def _share(runs: Runs, way: str, of: str) -> float:
    pairs = zip(runs[way], runs["rendered"], strict=True)
    return statistics.median(one[of] / other[of] for one, other in pairs)


def _table(title: str, runs: Runs) -> Table:
    def cells(way: str) -> list[str]:
        def middle(of: str) -> float:
            return statistics.median(one[of] for one in runs[way])

        shares = sorted(
            a["rate"] / b["rate"] for a, b in zip(runs[way], runs["rendered"], strict=True)
        )
        return [
            way, f"{middle('rate'):.0f}", f"{100 * _share(runs, way, 'rate'):.1f}",
            f"{100 * shares[0]:.0f} to {100 * shares[-1]:.0f}", f"{middle('thread_us'):.0f}",
            f"{middle('cpu_us'):.0f}", f"{middle('longest_ms'):.0f}", f"{middle('end_s'):.1f}",
            f"{middle('n_films'):.0f}", f"{middle('n_published'):.0f}", f"{middle('n_left'):.0f}",
            f"{middle('n_dropped'):.0f}",
        ]  # fmt: skip

    columns = [
        "way", "steps/s", "% of rendered", "lowest to highest %", "training thread µs/step",
        "process CPU µs/step", "longest step ms", "end of the run s", "films", "published", "left",
        "dropped",
    ]  # fmt: skip
    return Table(title, columns, [cells(way) for way in runs])


def _run(way: str, every: int, n_steps: int, clock: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(
            WANDB_DIR=scratch, WANDB_MODE="offline", WANDB_SILENT="true", WANDB_CONSOLE="off",
            WANDB_ERROR_REPORTING="false",
        )  # fmt: skip
        return _train(way, every, n_steps, Path(scratch) / "films", Clock(clock))


def _train(way: str, every: int, n_steps: int, folder: Path, clock: Clock) -> dict[str, float]:
    import gymnasium
    import torch
    import wandb
    from stable_baselines3 import PPO

    torch.set_num_threads(1)
    run = wandb.init(project="throughput")
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    filmed = _steps_class()(_WRAP[way](env, folder, lambda episode: episode % every == 0))
    filmed.clock = clock
    model = PPO("MlpPolicy", filmed, n_steps=1024, seed=0, device="cpu")
    callback = _callback(run, folder if way == "by hand" else None)
    model.learn(N_WARM, callback=callback)
    filmed.longest_s = 0.0
    clock.ready()
    wall, thread, cpu = clock.now(), time.thread_time(), time.process_time()
    model.learn(n_steps, callback=callback, reset_num_timesteps=False)
    wall = clock.now() - wall
    clock.done()
    thread, cpu = time.thread_time() - thread, time.process_time() - cpu
    end = time.perf_counter()
    filmed.close()
    callback.log_new()
    run.finish()
    end = time.perf_counter() - end
    return {
        "rate": n_steps / wall,
        "thread_us": 1e6 * thread / n_steps,
        "cpu_us": 1e6 * cpu / n_steps,
        "longest_ms": 1e3 * filmed.longest_s,
        "end_s": end,
        **(_delivered(folder) if way.startswith("Rollcam") else _logged(folder, callback)),
    }


def _delivered(folder: Path) -> dict[str, float]:
    from rollcam.publish.entry import OWED, State
    from rollcam.publish.ledger import FILE_NAME, Ledger
    from rollcam.store.files import list_episodes

    episodes = list_episodes(folder).episodes
    ledger = folder / ".rollcam" / FILE_NAME
    (counts,) = Ledger(ledger).counts().values() if ledger.exists() else (dict.fromkeys(State, 0),)
    return {
        "n_films": len(episodes),
        "n_published": counts[State.STORED] + counts[State.HANDED],
        "n_left": sum(counts[state] for state in OWED) - counts[State.HANDED],
        "n_dropped": sum(episode.n_dropped for episode in episodes),
    }


def _logged(folder: Path, callback: Any) -> dict[str, float]:
    n_films = len(list(folder.glob("*.mp4"))) if folder.exists() else 0
    n = len(callback.logged)
    return {"n_films": n_films, "n_published": n, "n_left": n_films - n, "n_dropped": 0}


def _callback(run: Any, folder: Path | None) -> Any:
    import wandb
    from stable_baselines3.common.callbacks import BaseCallback

    class Trainer(BaseCallback):
        """Logs a row for each rollout; by hand, the films that are new as well."""

        def __init__(self) -> None:
            super().__init__()
            self.logged: set[str] = set()

        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            run.log({"timesteps": self.num_timesteps})
            self.log_new()

        def log_new(self) -> None:
            for path in sorted(folder.glob("*.mp4")) if folder is not None else ():
                if path.name not in self.logged:
                    self.logged.add(path.name)
                    run.log({"video": wandb.Video(str(path))})

    return Trainer()


def _steps_class() -> type:
    import gymnasium

    class Steps(gymnasium.Wrapper):
        """Times the longest call of `step` or `reset`."""

        clock: Clock
        longest_s = 0.0

        def step(self, action: Any) -> Any:
            return self._timed(super().step, action)

        def reset(self, **given: Any) -> Any:
            return self._timed(super().reset, **given)

        def _timed(self, call: Callable[..., Any], *args: Any, **given: Any) -> Any:
            began = self.clock.now()
            result = call(*args, **given)
            self.longest_s = max(self.longest_s, self.clock.now() - began)
            return result

    return Steps


def _rendered(env: Any, folder: Path, trigger: Callable[[int], bool]) -> Any:
    import gymnasium

    class Rendered(gymnasium.Wrapper):
        """Renders the episodes that would be filmed, and throws the frames away."""

        episode = -1

        def reset(self, **given: Any) -> Any:
            self.episode += 1
            result = super().reset(**given)
            self._render()
            return result

        def step(self, action: Any) -> Any:
            result = super().step(action)
            self._render()
            return result

        def _render(self) -> None:
            if trigger(self.episode):
                self.env.render()

    return Rendered(env)


def _by_rollcam(encode_in: EncodeIn, *sinks: str) -> Callable[..., Any]:
    def wrapped(env: Any, folder: Path, trigger: Callable[[int], bool]) -> Any:
        import rollcam

        return rollcam.RecordVideo(
            env, str(folder), episode_trigger=trigger, sinks=sinks, encode_in=encode_in
        )

    return wrapped


def _by_hand(env: Any, folder: Path, trigger: Callable[[int], bool]) -> Any:
    from gymnasium.wrappers import RecordVideo

    return RecordVideo(env, str(folder), episode_trigger=trigger, disable_logger=True)


_WRAP: dict[str, Callable[..., Any]] = {
    "unrecorded": lambda env, folder, trigger: env,
    "rendered": _rendered,
    UNPUBLISHED: _by_rollcam("process"),
    PROCESS: _by_rollcam("process", "wandb"),
    THREAD: _by_rollcam("thread", "wandb"),
    "by hand": _by_hand,
}


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3 and sys.argv[1].endswith("in.json"):
        child_main(_run)
    else:
        from benchmarks.lab.report import main

        main(run)

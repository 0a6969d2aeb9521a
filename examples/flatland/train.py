"""Trains the experiments of a file, and films them: `python train.py -f recording/ppo.yaml`.

The recording recipe of the flatland baselines on today's RLlib. `env_config: {render: human}` films
the episodes and publishes the films: to W&B (offline without an account), and into the trial's
folder. They lie in `flatland` beside this script; `rollcam serve flatland` shows them.
"""

from __future__ import annotations

import argparse
import json
import netrc
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
# Ray asks its makers for a number at each start, and calls home; neither is wanted here.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import gymnasium  # noqa: E402
import ray  # noqa: E402
from ray.tune.registry import get_trainable_cls, register_env  # noqa: E402

sys.path.insert(0, str(HERE))

from recipe import (  # noqa: E402
    FLATLAND,
    STOPS,
    Experiment,
    configured,
    number_in,
    read_file,
    read_yaml,
)

from rollcam.errors import RollcamError, SettingError  # noqa: E402
from rollcam.integrations.flatland import make_flatland_env  # noqa: E402
from rollcam.integrations.rllib import RECIPE_NAME, RollcamCallback, wrap_env  # noqa: E402
from rollcam.sinks.folder import FolderSink  # noqa: E402

PUBLISH_S = 8.0
"""How long the end waits for W&B; an offline run cannot be gone on with."""
LOGGED = ("training_iteration", "num_env_steps_sampled_lifetime", "episode_return_mean")


def main() -> None:
    told = arguments()
    # Flatland says of its observations that they are float32, and they are not.
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    if told.record and not told.eval:
        raise SettingError("--record films the evaluation; give --eval, too")
    changes: dict[str, Any] = {}
    if told.eval:
        name = "eval_render.yaml" if told.record else "eval.yaml"
        changes = read_yaml(HERE / "recording" / name)
    experiments = read_file(told.file, changes=changes)
    ray.init(
        num_cpus=max(processes_of(experiment) for experiment in experiments),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        for experiment in experiments:
            run(experiment)
    finally:
        ray.shutdown()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-f", "--file", type=Path, required=True, help="the experiments")
    parser.add_argument("-e", "--eval", action="store_true", help="evaluate during training")
    parser.add_argument("--record", action="store_true", help="film the evaluation")
    return parser.parse_args()


def processes_of(experiment: Experiment) -> int:
    """Return the logical CPUs that an experiment takes, which may be more than there are cores."""
    runners = ("num_env_runners", "evaluation_num_env_runners")
    return 2 + sum(int(experiment.config.get(key) or 0) for key in runners)


def run(experiment: Experiment) -> None:
    """Train one experiment until it meets one of its `stop` criteria."""
    trial = trial_folder(experiment)
    wandb_run = started_wandb(experiment)
    algo = None
    try:
        algo = algorithm_config(experiment, trial, wandb_run).build_algo()
        print(f"{experiment.name}: its trial's folder is {trial}")
        for result in results(algo, experiment):
            tell(experiment, trial, wandb_run, result)
            if is_due(experiment, algo.iteration):
                algo.save_to_path(trial / f"checkpoint_{algo.iteration:06d}")
        if experiment.checkpoint_at_end and not is_due(experiment, algo.iteration):
            algo.save_to_path(trial / f"checkpoint_{algo.iteration:06d}")
    finally:
        if algo is not None:
            algo.stop()  # finishes and publishes the last films
        if wandb_run is not None:
            wandb_run.finish()


def algorithm_config(experiment: Experiment, trial: Path, wandb_run: Any) -> Any:
    try:
        config = get_trainable_cls(experiment.run).get_default_config()
    except Exception as error:
        raise SettingError(f"RLlib has no algorithm {experiment.run!r}: {error}") from error
    config = configured(experiment, config.debugging(log_level="ERROR")).environment(
        registered(experiment), env_config=dict(experiment.config["env_config"])
    )
    if experiment.env == FLATLAND:
        config.multi_agent(policies={"shared"}, policy_mapping_fn=lambda *_, **__: "shared")
    filming = experiment.filming
    if filming.film is None:
        return config
    return config.callbacks(
        RollcamCallback(
            HERE / filming.video_dir,  # an absolute video_dir stays what it is
            film=filming.film,
            trigger=every_episode,
            name=RECIPE_NAME,
            name_prefix=Path(filming.video_dir).name,
            resume=filming.resume,
            sinks=sinks(trial, wandb_run),
            close_s=PUBLISH_S,
        )
    )


def every_episode(start: object) -> bool:
    return True


def sinks(trial: Path, wandb_run: Any) -> list[Any]:
    found: list[Any] = [FolderSink(trial)]
    if wandb_run is not None:
        from rollcam.sinks.wandb import WandbSink

        # `tell` logs whole rows, so a film need not wait for one.
        found.append(WandbSink(wandb_run, commits=True))
    return found


def registered(experiment: Experiment) -> str:
    """Register the environment, ready to be filmed."""
    if experiment.env == FLATLAND:
        register_env(FLATLAND, make_flatland_env)
        return wrap_env(FLATLAND)
    return wrap_env(experiment.env)


def started_wandb(experiment: Experiment) -> Any:
    """Start the W&B run that `env_config: {wandb: ...}` asks for; offline without an account."""
    if experiment.filming.film is None or not experiment.filming.wandb:
        return None
    import wandb

    settings = {"name": experiment.name, **experiment.filming.wandb}
    if "WANDB_MODE" not in os.environ and not has_account(wandb.Settings().base_url):
        settings["mode"] = "offline"
    return wandb.init(config=dict(experiment.config), **settings)


def has_account(address: str) -> bool:
    """Return whether W&B's key is at hand, where `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return known.authenticators(urlsplit(address).hostname or "") is not None


def trial_folder(experiment: Experiment) -> Path:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    name = f"{experiment.run}_{experiment.env.replace('/', '-')}_{stamp}_{os.getpid()}"
    folder = Path(experiment.local_dir).expanduser() / experiment.name / name
    folder.mkdir(parents=True)
    return folder


def results(algo: Any, experiment: Experiment) -> Any:
    while True:
        result = algo.train()
        yield result
        if experiment.is_done(result):
            return


def is_due(experiment: Experiment, iteration: int) -> bool:
    return experiment.checkpoint_freq > 0 and iteration % experiment.checkpoint_freq == 0


def tell(experiment: Experiment, trial: Path, wandb_run: Any, result: Mapping[str, Any]) -> None:
    """Print an iteration's numbers, keep them in the trial's folder, and log them."""
    numbers = {name: number_in(result, STOPS[name]) for name in LOGGED}
    with open(trial / "result.json", "a", encoding="utf-8") as file:
        file.write(json.dumps(numbers) + "\n")
    print(f"{experiment.name}: {numbers}")
    if wandb_run is not None:
        wandb_run.log({name: value for name, value in numbers.items() if value is not None})


if __name__ == "__main__":
    try:
        main()
    except RollcamError as error:
        sys.exit(f"train.py: {error}")

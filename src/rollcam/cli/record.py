"""`rollcam record`: film a registered environment."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rollcam.cli import HELP
from rollcam.errors import RollcamError, SettingError, require

Policy = Callable[[Any], Any]
"""Called with an observation; returns an action."""


class JsonObject(click.ParamType[dict[str, Any]]):
    """An option that holds a JSON object."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, Any]:
        """Return the object; anything else is refused."""
        try:
            parsed = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f'{value!r} is no JSON object such as {{"map_name": "8x8"}}', param, ctx)
        return parsed


episodes_option = click.option("--episodes", type=click.IntRange(1), default=1, show_default=True)
out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("videos"),
    show_default=True,
    help="Recordings folder.",
)


@click.command(context_settings=HELP)
@click.argument("env_id")
@episodes_option
@out_option
@click.option(
    "--seed", type=click.IntRange(0), help="Seed of the first episode; the next ones count on."
)
@click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True, help="Film every n-th episode."
)
@click.option("--fps", type=float, help="Frames per second; default: the environment's.")
@click.option(
    "--codec", default="h264", show_default=True, help="h264, vp9, av1, or a hardware encoder."
)
@click.option(
    "--quality", default="standard", show_default=True, help="small, standard, high, or a CRF."
)
@click.option(
    "--policy",
    default="random",
    show_default=True,
    help="random, or module:callable, which gets an observation and returns an action.",
)
@click.option(
    "--env-kwargs", type=JsonObject(), default="{}", help="Arguments for the environment, as JSON."
)
@click.option(
    "--max-steps",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Cut episodes there.",
)
def record(
    env_id: str,
    episodes: int,
    out: Path,
    seed: int | None,
    every: int,
    fps: float | None,
    codec: str,
    quality: str,
    policy: str,
    env_kwargs: dict[str, Any],
    max_steps: int,
) -> None:
    """Film episodes of ENV_ID, such as CartPole-v1, played by a policy."""
    from rollcam.capture.triggers import every as every_nth
    from rollcam.cli.browse import episode_table, print_renderable

    env = make_env(env_id, env_kwargs)
    from rollcam.integrations.gymnasium import RecordVideo

    finished: list[Any] = []
    filmed = RecordVideo(
        env,
        out,
        episode_trigger=every_nth(every),
        name_prefix=env_id.rpartition(":")[2].replace("/", "-"),
        fps=fps,
        codec=codec,
        quality=int(quality) if quality.isdigit() else quality,
        on_finished=finished.append,
    )
    act = find_policy(policy, filmed)
    with rich_progress() as progress:
        task = progress.add_task(env_id, total=episodes)
        for index in range(episodes):
            try:
                play(filmed, act, None if seed is None else seed + index, max_steps)
            except Exception as error:  # the policy's own, or the environment's
                filmed.close()
                raise RollcamError(
                    f"episode {index} failed in the policy or the environment: "
                    f"{type(error).__name__}: {error}"
                ) from error
            progress.advance(task)
        filmed.close()
    if finished:
        print_renderable(episode_table(finished, title=str(out)))
    if len(finished) < (episodes + every - 1) // every:
        raise RollcamError(f"some films failed; `rollcam ls {out}` says which and why")


def play(env: Any, act: Policy, seed: int | None, max_steps: int) -> int:
    """Play one episode; return its number of steps."""
    observation, _ = env.reset(seed=seed)
    if seed is not None:
        env.action_space.seed(seed)
    for step in range(1, max_steps + 1):
        observation, _, terminated, truncated, _ = env.step(act(observation))
        if terminated or truncated:
            return step
    return max_steps


def make_env(env_id: str, kwargs: dict[str, Any]) -> Any:
    """Make an environment that renders pixels or, failing that, text.

    Raises:
        SettingError: There is no such environment, or it renders neither.
        MissingDependencyError: Gymnasium is not installed.
    """
    # Only arrays and text are wanted, so no window is opened, and none is needed.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    gym = require("gymnasium", extra="gymnasium")
    module, _, plain_id = env_id.rpartition(":")
    _register_namespace(plain_id)
    try:
        if module:
            importlib.import_module(module)
        entry_point = gym.spec(plain_id).entry_point
        if not callable(entry_point):
            entry_point = gym.envs.registration.load_env_creator(entry_point)
        modes = getattr(entry_point, "metadata", {}).get("render_modes", [])
    except (gym.error.Error, ImportError, AttributeError) as error:
        raise SettingError(f"there is no environment {env_id!r}: {error}") from error
    mode = next((m for m in ("rgb_array", "ansi") if m in modes), None)
    if mode is None and "render_mode" not in kwargs:
        raise SettingError(f"{env_id} renders neither pixels nor text; it offers {modes}")
    try:
        return gym.make(plain_id, **{"render_mode": mode, **kwargs})
    except Exception as error:  # whatever the environment's own constructor may raise
        raise SettingError(f"{env_id} could not be made with {kwargs}: {error}") from error


def find_policy(name: str, env: Any) -> Policy:
    """Return the policy that `--policy` names.

    Raises:
        SettingError: The module cannot be imported, or has no such callable.
    """
    if name == "random":
        return lambda _observation: env.action_space.sample()
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        policy = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(
            f"--policy {name!r} is neither 'random' nor module:callable: {error}"
        ) from error
    if not callable(policy):
        raise SettingError(f"--policy {name!r} is no callable but {type(policy).__name__}")
    result: Policy = policy
    return result


def rich_progress() -> Any:
    """Return a progress bar on stderr, so that stdout stays clean."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True))


def _register_namespace(env_id: str) -> None:
    """Import the package whose import registers the environment, if it is a known one."""
    homes = {"ALE/": "ale_py", "MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
    for prefix, module in homes.items():
        if env_id.startswith(prefix):
            require(module, package={"ale_py": "ale-py"}.get(module, module))

"""Small trainings whose every episode is logged by the test itself, to compare films with."""

from __future__ import annotations

import functools
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env

from rollcam.episode import Episode
from rollcam.integrations.rllib import FilmedEnv, RollcamCallback
from rollcam.store.files import list_episodes
from tests import barcode
from tests.envs import CountingEnv

BATCH = 120
MIDDLE = 2


def every_episode(start: Any) -> bool:
    return True


class VaryingEnv(CountingEnv):
    """Counts its steps; each episode has a length of its own."""

    def reset(self, **options: Any) -> Any:
        result = super().reset(**options)
        self.length = int(self.np_random.integers(3, 20))
        self.truncates = bool(self.np_random.integers(2))
        return result


class Broken(VaryingEnv):
    """Its renderer fails in the middle of each episode."""

    def render(self) -> Any:
        if self.step_number == 2:
            raise RuntimeError("renderer broke")
        return super().render()


class Explosive(VaryingEnv):
    """Raises after `MIDDLE` steps of an episode, once for each time that the test makes a file."""

    def __init__(self, fuse: str) -> None:
        super().__init__()
        self._fuse = fuse

    def step(self, action: Any) -> Any:
        if self.step_number == MIDDLE:
            try:
                os.unlink(self._fuse)
            except FileNotFoundError:
                pass
            else:
                raise ZeroDivisionError("the user's own")
        return super().step(action)


class Patient(VaryingEnv):
    """Waits in the middle of an episode while a file of the test's is there, and tells its process."""

    def __init__(self, hold: str) -> None:
        super().__init__()
        self._hold = hold

    def step(self, action: Any) -> Any:
        deadline = time.monotonic() + 120
        while self.step_number == MIDDLE and os.path.exists(self._hold):
            Path(f"{self._hold}-{os.getpid()}").touch()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return super().step(action)


class Twins(MultiAgentEnv):
    """Two agents in one `VaryingEnv`: both get its reward, and are done together."""

    def __init__(self, env: VaryingEnv | None = None) -> None:
        super().__init__()
        self._env = env or VaryingEnv()
        self.metadata, self.render_mode = self._env.metadata, self._env.render_mode
        self.agents = self.possible_agents = ["a", "b"]
        self.observation_spaces = dict.fromkeys(self.agents, self._env.observation_space)
        self.action_spaces = dict.fromkeys(self.agents, self._env.action_space)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        obs, info = self._env.reset(seed=seed)
        return dict.fromkeys(self.agents, obs), dict.fromkeys(self.agents, info)

    def step(self, actions: Any) -> Any:
        obs, reward, terminated, truncated, info = self._env.step(0)
        both = [*self.agents, "__all__"]
        return (
            dict.fromkeys(self.agents, obs),
            dict.fromkeys(self.agents, reward),
            dict.fromkeys(both, terminated),
            dict.fromkeys(both, truncated),
            dict.fromkeys(self.agents, info),
        )

    def render(self) -> Any:
        return self._env.render()

    def rollcam_info(self) -> dict[str, Any]:
        return {"percentage_complete": self._env.step_number}


class Journal(RLlibCallback):
    """The test's own log: one line for each episode that begins, and each that ends."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def on_episode_start(self, *, episode: Any, env_runner: Any, env_index: int, **_: Any) -> None:
        self._write("start", episode, env_runner, env_index)

    def on_episode_end(
        self, *, episode: Any, env_runner: Any, env_index: int, prev_episode_chunks: Any, **_: Any
    ) -> None:
        chunks = [*(prev_episode_chunks or []), episode]
        self._write(
            "end", episode, env_runner, env_index,
            episode_return=sum(float(c.get_return()) for c in chunks),
            length=int(episode.env_t if hasattr(episode, "env_t") else episode.t),
        )  # fmt: skip

    def _write(self, event: str, episode: Any, runner: Any, index: int, **more: Any) -> None:
        line = {
            "event": event, "id": episode.id_, "at": time.time(), "pid": os.getpid(),
            "worker": runner.worker_index, "index": index,
            "mode": "eval" if runner.config.in_evaluation else "train",
            "version": runner._weights_seq_no, **more,
        }  # fmt: skip
        name = f"{os.getpid()}-{id(self)}.jsonl"
        with open(os.path.join(self._folder, name), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@dataclass
class Iteration:
    """What the test itself knows of one call of `train`."""

    number: int
    began: float
    ended: float
    steps_before: int
    steps_after: int
    result: dict[str, Any]


@dataclass
class Training:
    """A training and what the test wrote down of it."""

    algorithm: Any
    films: Path
    journal: Path
    iterations: list[Iteration] = field(default_factory=list)

    def train(self, n: int) -> None:
        for _ in range(n):
            before = self.iterations[-1].steps_after if self.iterations else 0
            began = time.time()
            result = self.algorithm.train()
            after = int(result["env_runners"]["num_env_steps_sampled_lifetime"])
            number = int(result["training_iteration"])
            self.iterations.append(Iteration(number, began, time.time(), before, after, result))

    def iteration_at(self, moment: float) -> Iteration | None:
        return next((i for i in self.iterations if i.began <= moment <= i.ended), None)

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for path in sorted(self.journal.iterdir())
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        return [line for line in lines if line["event"] == event]


def config(
    folder: Path,
    *,
    runners: int = 0,
    envs: int = 1,
    mode: str = "sync",
    multi_agent: bool = False,
    evaluation: dict[str, Any] | None = None,
    wrapped: bool = True,
    make: Any = None,
    **film: Any,
) -> PPOConfig:
    """A training that is over in a second or two."""
    journal = folder / "journal"
    journal.mkdir(exist_ok=True)
    make = make or (Twins if multi_agent else VaryingEnv)
    register_env("varying", lambda _: FilmedEnv(make()) if wrapped else make())
    film = {"trigger": every_episode, "video_dir": folder / "films", **film}
    made = (
        PPOConfig()
        .environment("varying")
        .env_runners(
            num_env_runners=runners, num_envs_per_env_runner=envs, gym_env_vectorize_mode=mode
        )
        .training(train_batch_size_per_learner=BATCH, minibatch_size=60, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": [8]})
        .callbacks([RollcamCallback(**film), functools.partial(Journal, str(journal))])
        .debugging(seed=0, log_level="ERROR")
        .fault_tolerance(
            restart_failed_env_runners=True,
            delay_between_env_runner_restarts_s=0,
            env_runner_health_probe_timeout_s=5,
        )
    )
    if evaluation is not None:
        made = made.evaluation(**{"evaluation_interval": 1, "evaluation_duration": 2, **evaluation})
    if multi_agent:
        made = made.multi_agent(policies={"p"}, policy_mapping_fn=lambda *_, **__: "p")
    return made


def training(folder: Path, **settings: Any) -> Training:
    """Build the algorithm of `config`."""
    algorithm = config(folder, **settings).build_algo()
    return Training(algorithm, folder / "films", folder / "journal")


def wrappers(env_runner: Any) -> list[str]:
    """What stands around the environments of a runner, as far as it is ours. Runs there."""
    found = []
    for env in env_runner.env.unwrapped.envs:
        while env is not env.unwrapped:
            found.append(type(env).__name__)
            env = env.env
        found.append(type(env).__name__)
    return [name for name in found if name in ("FilmedEnv", "VaryingEnv")]


def runner_pid(_env_runner: Any) -> int:
    """The process of an env runner. Runs there."""
    return os.getpid()


def films_of(folder: Path) -> list[Episode]:
    """All films, by their sidecars."""
    listing = list_episodes(folder)
    assert not listing.problems
    return listing.episodes


def finished(films: list[Episode]) -> dict[str, Episode]:
    """Films of episodes that ended, by RLlib's id; one each."""
    found = [f for f in films if f.extra["rllib"]["outcome"] == "finished"]
    by_id = {str(f.extra["rllib"]["episode_id"]): f for f in found}
    assert len(by_id) == len(found), "an episode has two films"
    return by_id


def check_film(film: Episode, line: dict[str, Any]) -> None:
    """Compare a film, each picture of it, with what the test logged of its episode."""
    check_numbers(film, line)
    assert film.media_path is not None
    # At low rates the last picture stands twice: docs/decisions/0007-last-frame.md.
    repeat = [film.episode_length] * (film.n_encoded - film.n_frames)
    assert barcode.indices(film.media_path) == [*range(film.n_frames), *repeat]


def check_numbers(film: Episode, line: dict[str, Any]) -> None:
    """Compare what a film says of its episode with what RLlib says, which the test logged."""
    assert film.status == "complete"
    assert film.mode == line["mode"]
    assert film.episode_length == line["length"]
    assert film.episode_return == line["episode_return"]
    assert film.extra["rllib"]["return"] == line["episode_return"]
    assert film.extra["rllib"]["length"] == line["length"]
    assert film.n_frames == line["length"] + 1
    assert film.n_dropped == 0
    assert film.terminated != film.truncated
    for context in (film.context_at_start, film.context_at_end):
        assert context["rllib_episode_id"] == line["id"]
        assert context["worker_index"] == line["worker"]
        assert context["vector_index"] == line["index"]
    assert film.writer is not None
    assert film.writer.vector_index == line["index"]

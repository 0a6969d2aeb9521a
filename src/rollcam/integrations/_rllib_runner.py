"""The half that lives in the env runner: it knows who plays, and tells the environments.

Whatever is raised in an env runner costs RLlib the whole runner (it sleeps for a minute and exits),
so nothing here raises; what goes wrong is counted, and reaches the trainer as a metric.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

from rollcam.episode import Mode
from rollcam.errors import UsageError
from rollcam.integrations._rllib_env import Directed, FilmedEnv
from rollcam.integrations._rllib_settings import (
    UNKNOWN,
    Ending,
    EpisodeStart,
    EpisodeTrigger,
    Film,
    FilmSettings,
    Order,
    default_trigger,
)

logger = logging.getLogger("rollcam")

FAILED_METRIC = "rollcam_failed"
"""Under this key runners count episodes that were to be filmed, and of which nothing is on the disk."""

_ATTRIBUTE = "_rollcam"


class Runner:
    """Tells the environments of one env runner what to film.

    Args:
        session: Id of the user's `RollcamCallback`.
        settings: For the environments.
        film: Which episodes.
        trigger: Which of them.
    """

    def __init__(
        self, session: str, settings: FilmSettings, film: Film, trigger: EpisodeTrigger
    ) -> None:
        self._session = session
        self._settings = settings
        self._film = film
        self._trigger = trigger
        self._reach: Reach | None = None
        self._n_begun: dict[int, int] = {}
        self._n_all = 0
        self._open: dict[int, dict[str, Any]] = {}
        self._said: set[str] = set()
        self._n_failed = 0

    def environment_created(self, env_runner: Any, env: Any) -> None:
        """Find the environments that can be told to film; wrap those that can be wrapped."""
        self._reach, self._open, self._n_begun = None, {}, {}
        if not self._is_to_film(env_runner):
            return
        reach = Reach(env)
        if problems := reach.tell(None, "settings", self._settings):
            self._n_failed += 1
            self._note(problems)
            return
        self._reach = reach
        _registry(env_runner).setdefault(self._session, _Entry()).runner = self

    def episode_started(self, env_runner: Any, episode: Any, index: int) -> None:
        """Have the episode filmed, if it is to be."""
        if self._reach is None:
            return
        n = self._n_begun.get(index, 0)
        self._n_begun[index] = n + 1
        number, self._n_all = self._n_all, self._n_all + 1
        entry = _registry(env_runner)[self._session]
        mode = entry.mode(env_runner)
        if self._film not in ("all", mode):
            return
        context = self._context(env_runner, entry, episode, index)
        start = EpisodeStart(
            mode, env_runner.worker_index, index, n,
            context["iteration"], context["num_env_steps_sampled_lifetime"],
        )  # fmt: skip
        asks_there = self._trigger is default_trigger and self._reach.has_triggers
        if not asks_there and not self._trigger(start):
            return
        order = Order(
            run_id=entry.run_id or self._session,
            mode=mode,
            worker=("eval-" if mode == "eval" else "") + f"runner-{env_runner.worker_index}",
            vector_index=index,
            episode_index=n,
            env_id=_env_id(env_runner.config.env),
            context=context,
            metadata={**entry.metadata, "runner_episode": number},
            facts={"episode_id": episode.id_},
            is_optional=asks_there,
        )
        problems = self._reach.tell(index, "begin", order)
        if problems:
            self._n_failed += 1
            self._note(problems)
        else:
            self._open[index] = {"episode_id": episode.id_}

    def episode_ended(
        self, env_runner: Any, episode: Any, index: int, earlier: Sequence[Any]
    ) -> None:
        """End the film, with RLlib's own numbers."""
        if self._reach is None or self._open.pop(index, None) is None:
            return
        entry = _registry(env_runner)[self._session]
        chunks = [*earlier, episode]
        steps = episode.env_t if hasattr(episode, "env_t") else episode.t
        ending = Ending(
            context=self._context(env_runner, entry, episode, index),
            facts={
                "return": float(sum(chunk.get_return() for chunk in chunks)),
                # Not the sum of the chunks' lengths, which is off by one with a local runner.
                "length": int(steps),
            },
        )
        self._note(self._reach.tell(index, "end", ending))

    def flush(self, timeout_s: float) -> None:
        """Finish the open films, and wait until they are on the disk."""
        self._open = {}
        if self._reach is not None:
            self._note(self._reach.tell(None, "flush", timeout_s))

    def log_failures(self, metrics_logger: Any) -> None:
        """Hand the count of failures to RLlib's metrics."""
        n, self._n_failed = self._n_failed, 0
        if n and metrics_logger is not None:
            metrics_logger.log_value(FAILED_METRIC, n, reduce="sum")

    def safely(self, act: Callable[[], None]) -> None:
        """Do it; an error is warned of once, and counted."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - see the first lines of this file
            self._n_failed += 1
            try:
                self._note([f"{type(error).__name__}: {error}"])
            except Exception:  # noqa: BLE001 - where warnings are errors
                logger.warning("filming failed: %s", error)

    def _is_to_film(self, env_runner: Any) -> bool:
        """Say whether any episode of this runner's may have to be filmed: others are left alone."""
        config = env_runner.config
        if config.in_evaluation:
            return self._film != "train"
        # Without runners for evaluation, the local one evaluates as well.
        evaluates = env_runner.worker_index == 0 and not _has_eval_runners(config)
        return self._film != "eval" or evaluates

    def _context(self, env_runner: Any, entry: _Entry, episode: Any, index: int) -> dict[str, Any]:
        version = getattr(env_runner, "_weights_seq_no", None)
        return {
            "iteration": entry.state.get("iteration", UNKNOWN),
            "num_env_steps_sampled_lifetime": entry.state.get("steps", UNKNOWN),
            "policy_version": UNKNOWN if version is None else int(version),
            "worker_index": env_runner.worker_index,
            "vector_index": index,
            "rllib_episode_id": str(episode.id_),
        }

    def _note(self, problems: Sequence[str]) -> None:
        for problem in problems:
            if problem not in self._said:
                self._said.add(problem)
                logger.warning("filming failed, and training goes on: %s", problem)


class _Entry:
    """What the trainer told an env runner; kept on the runner, where pushed functions find it."""

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.run_id: str | None = None
        self.metadata: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.is_evaluating = False

    def mode(self, env_runner: Any) -> Mode:
        """Say what the runner does now."""
        return "eval" if env_runner.config.in_evaluation or self.is_evaluating else "train"


class Reach:
    """The sub-environments of a vector environment, wherever they are.

    Args:
        env: RLlib's vector environment, unwrapped.
    """

    def __init__(self, env: Any) -> None:
        self._vector = env
        self._films: list[Directed[Any, Any]] | None = None
        self.has_triggers = False
        """Whether an environment has an `episode_trigger` of its own, in a `rollcam.RecordVideo`."""
        envs = getattr(env, "envs", None)
        if envs is not None:
            self._films = [_film_of(envs, i) for i in range(len(envs))]
            for i, film in enumerate(self._films):
                film.rollcam_index = i
            self.has_triggers = any(film.rollcam_has_trigger for film in self._films)
            return
        try:
            env.call("rollcam_index")
        except AttributeError as error:
            raise UsageError(
                "these sub-environments run in processes of their own and cannot be filmed from "
                'here: use .environment(rollcam.integrations.rllib.wrap_env("EnvId")), or put '
                "FilmedEnv or rollcam.RecordVideo around the environment in your env_creator"
            ) from error
        env.set_attr("rollcam_index", list(range(env.num_envs)))
        self.has_triggers = any(env.call("rollcam_has_trigger"))

    def tell(self, index: int | None, verb: str, value: Any) -> list[str]:
        """Tell one environment, or with `None` all; return what went wrong, in words."""
        message = pickle.dumps((verb, value))
        if self._films is not None:
            films = self._films if index is None else [self._films[index]]
            replies = [film.rollcam_hear(index, message) for film in films]
        else:
            replies = self._vector.call("rollcam_hear", index, message)
        return [problem for reply in replies if reply for problem in reply]


def push(env_runner: Any, *, session: str, told: dict[str, Any]) -> None:
    """Tell an env runner what the trainer knows. Runs in the env runner, and never raises."""
    try:
        entry = _registry(env_runner).setdefault(session, _Entry())
        entry.run_id = told.get("run_id", entry.run_id)
        entry.metadata = told.get("metadata", entry.metadata)
        entry.state = told.get("state", entry.state)
        entry.is_evaluating = told.get("is_evaluating", entry.is_evaluating)
    except Exception as error:  # noqa: BLE001 - see the first lines of this file
        logger.warning("the training state did not reach the env runner: %s", error)


def flush(env_runner: Any, *, session: str, timeout_s: float) -> None:
    """Finish an env runner's open films. Runs in the env runner, and never raises."""
    try:
        entry = _registry(env_runner).get(session)
        if entry is not None and entry.runner is not None:
            entry.runner.flush(timeout_s)
    except Exception as error:  # noqa: BLE001 - see the first lines of this file
        logger.warning("open films were not finished: %s", error)


def _registry(env_runner: Any) -> dict[str, _Entry]:
    found: dict[str, _Entry] | None = getattr(env_runner, _ATTRIBUTE, None)
    if found is None:
        found = {}
        setattr(env_runner, _ATTRIBUTE, found)
    return found


def _film_of(envs: list[Any], i: int) -> Directed[Any, Any]:
    """Return the wrapper around or inside the i-th environment that films; if none is, put one there."""
    env = envs[i]
    while isinstance(env, gym.Wrapper):
        if isinstance(env, Directed):
            return env
        env = env.env
    envs[i] = film = FilmedEnv(envs[i])
    return film


def _has_eval_runners(config: Any) -> bool:
    """Say whether evaluation has env runners of its own, local or remote."""
    return bool(config.evaluation_interval or config.evaluation_num_env_runners)


def _env_id(env: Any) -> str | None:
    if isinstance(env, str):
        return env.removeprefix("rollcam/")
    return getattr(env, "__name__", None)

"""PettingZoo environments whose films can be checked frame by frame."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import AgentSelector

from tests import barcode

AGENTS = ("ann", "bob")
SIZE = (64, 48)


class _Drawn:
    """Draws its step number, or says it; rewards are 1 for Ann's and -2 for Bob's steps."""

    possible_agents = list(AGENTS)

    def __init__(
        self,
        length: int = 5,
        *,
        fps: float | None = 25,
        mode: str = "rgb_array",
        raise_at: Collection[int] = (),
        truncates: bool = False,
    ) -> None:
        super().__init__()
        self.metadata = {"name": "drawn_v0", "render_modes": ["rgb_array", "ansi"]}
        if fps is not None:
            self.metadata["render_fps"] = fps
        self.render_mode = mode
        self.length, self.raise_at, self.truncates = length, raise_at, truncates
        self.step_number = 0
        self.is_closed = False
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> gym.spaces.Space[Any]:
        return gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def action_space(self, agent: str) -> gym.spaces.Space[Any]:
        return gym.spaces.Discrete(2)

    def render(self) -> Any:
        if self.step_number in self.raise_at:
            raise RuntimeError(f"renderer broke at {self.step_number}")
        if self.render_mode == "ansi":
            return f"step {self.step_number}\n"
        frame = barcode.draw(self.step_number, *SIZE)
        return [frame] if self.render_mode == "rgb_array_list" else frame

    def close(self) -> None:
        self.is_closed = True

    def _ends(self) -> tuple[bool, bool]:
        ends = self.step_number >= self.length
        return ends and not self.truncates, ends and self.truncates

    def _observed(self) -> np.ndarray:
        return np.full((36, 36, 3), self.step_number % 256, np.uint8)


class DrawnAEC(_Drawn, AECEnv):  # type: ignore[misc]
    """One agent after the other; the step of an agent that is at its end is a step, too."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self.agents = list(AGENTS)
        self.step_number = 0
        self.rewards = dict.fromkeys(AGENTS, 0.0)
        self._cumulative_rewards = dict.fromkeys(AGENTS, 0.0)
        self.terminations = dict.fromkeys(AGENTS, False)
        self.truncations = dict.fromkeys(AGENTS, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in AGENTS}
        self._turns = AgentSelector(self.agents)
        self.agent_selection = self._turns.next()

    def observe(self, agent: str) -> np.ndarray:
        return self._observed()

    def step(self, action: Any) -> None:
        self.step_number += 1
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.rewards[agent] = 1.0 if agent == "ann" else -2.0
        self.infos[agent] = {"moves": self.step_number}
        terminated, truncated = self._ends()
        self.terminations = dict.fromkeys(AGENTS, terminated)
        self.truncations = dict.fromkeys(AGENTS, truncated)
        self.agent_selection = self._turns.next()
        self._accumulate_rewards()


class DrawnParallel(_Drawn, ParallelEnv):  # type: ignore[misc]
    """All agents at once; Bob leaves at the step before the last one."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents = list(AGENTS)
        self.step_number = 0
        return self._all(self._observed()), {agent: {} for agent in AGENTS}

    def step(self, actions: dict[str, Any]) -> Any:
        self.step_number += 1
        there = list(self.agents)
        terminated, truncated = self._ends()
        ended = {
            agent: terminated or (agent == "bob" and self.step_number == self.length - 1)
            for agent in there
        }
        self.agents = [agent for agent in there if not ended[agent] and not truncated]
        return (
            {agent: self._observed() for agent in there},
            {agent: 1.0 if agent == "ann" else -2.0 for agent in there},
            ended,
            dict.fromkeys(there, truncated),
            {agent: {"moves": self.step_number} for agent in there},
        )

    def _all(self, value: Any) -> dict[str, Any]:
        return dict.fromkeys(AGENTS, value)


def play_aec(env: Any, n_episodes: int, *, seed: int | None = None) -> list[int]:
    """Play whole episodes; returns how many steps each had."""
    counts = []
    for _ in range(n_episodes):
        env.reset(seed=seed)
        counts.append(0)
        for agent in env.agent_iter():
            *_, terminated, truncated, info = env.last()
            action = None if terminated or truncated else _action(env, agent, info)
            env.step(action)
            counts[-1] += 1
    return counts


def play_parallel(env: Any, n_episodes: int, *, seed: int | None = None) -> list[int]:
    """Play whole episodes; returns how many steps each had."""
    counts = []
    for _ in range(n_episodes):
        env.reset(seed=seed)
        counts.append(0)
        while env.agents:
            env.step({agent: env.action_space(agent).sample() for agent in env.agents})
            counts[-1] += 1
    return counts


def _action(env: Any, agent: str, info: dict[str, Any]) -> Any:
    observed = env.observe(agent)
    mask = observed.get("action_mask") if isinstance(observed, dict) else info.get("action_mask")
    return env.action_space(agent).sample(mask) if mask is not None else 0

"""The films of an environment with several agents, whatever steps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rollcam._take import as_number
from rollcam.integrations._vector_films import EnvFilms


@dataclass(frozen=True, slots=True)
class AgentStep:
    """What one step meant for the agents; each mapping has those that were alive in it."""

    action: Any
    """What was done, where that is one action."""
    rewards: Mapping[Any, Any]
    """Of this step alone."""
    terminated: Mapping[Any, Any]
    """Whether each is at its end."""
    truncated: Mapping[Any, Any]
    """Whether each was cut short."""
    infos: Mapping[Any, Any]
    """One mapping for each."""

    @property
    def is_last(self) -> bool:
        """Whether no agent goes on."""
        return all(self.terminated.get(a) or self.truncated.get(a) for a in self._agents())

    def _agents(self) -> set[Any]:
        return {*self.terminated, *self.truncated}


class AgentFilms(EnvFilms):
    """Films with the return of each agent beside them.

    An episode ends with the step after which no agent goes on. Steps of agents that are at their end
    already, which some APIs ask for, are filmed, and change nothing of how the episode stands.
    """

    _told: dict[str, Any]
    _returns: dict[str, float]
    _end: dict[str, Any] | None

    def add_step(self, render: Callable[[], Any], step: AgentStep) -> None:
        """Film what a step has led to.

        Args:
            render: Returns the frame.
            step: What it was.
        """
        if not self.is_filming:
            return
        rewards = {str(agent): as_number(reward) or 0.0 for agent, reward in step.rewards.items()}
        for agent, reward in rewards.items():
            self._returns[agent] = self._returns.get(agent, 0.0) + reward
        facts: dict[str, Any] = {"info": _flat(step.infos)}
        if self._end is not None:
            facts = self._end  # of the agents that are gone nothing more is said
        elif step.is_last:
            facts["terminated"] = any(map(bool, step.terminated.values()))
            facts["truncated"] = any(map(bool, step.truncated.values()))
            self._end = {"info": facts["info"]}
            self._tell()
        self.add(render, reward=sum(rewards.values()), action=step.action, **facts)

    def end(self) -> None:
        """End the open film, if there is one."""
        if self.is_filming:
            self._tell()
        super().end()

    def _fields(self) -> Mapping[str, Any]:
        self._end = None
        self._returns = {}
        self._told = {"agent_returns": None}
        return self._told

    def _tell(self) -> None:
        # Whole, and only at the end: the journal of the open film must not hold what is not yet so,
        # and another thread reads it.
        self._told["agent_returns"] = dict(self._returns)


def _flat(infos: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the agents' infos as one, under `agent.key`."""
    return {
        f"{agent}.{key}": value
        for agent, info in infos.items()
        if isinstance(info, Mapping)
        for key, value in info.items()
    }

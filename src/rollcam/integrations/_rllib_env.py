"""The half that lives where the environment does: it films when the env runner says so."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic

import gymnasium as gym
from gymnasium.core import ActType, ObsType

from rollcam.capture.rates import file_fps, input_fps
from rollcam.capture.triggers import Trigger
from rollcam.episode import Mode, scalars_of
from rollcam.errors import UsageError
from rollcam.integrations._env import check_render_mode
from rollcam.integrations._rllib_settings import Ending, FilmSettings, Order
from rollcam.recorder import Recorder

CLOSE_S = 6.0
"""How long `close` waits for the last films, in seconds: Tune kills after 10."""

_ADVICE = 'render_mode="rgb_array", for instance by env_config={"render_mode": "rgb_array"}'

FINISHED, ABANDONED, INTERRUPTED = "finished", "abandoned", "interrupted"
"""Outcomes of an episode: it ended; RLlib began another one before; it was closed before."""


class Directed(gym.Wrapper[ObsType, ActType, ObsType, ActType], Generic[ObsType, ActType]):
    """A wrapper that `RollcamCallback` in the env runner can tell to film.

    Until it is told, and between films, it does nothing but pass calls on. It may stand around a
    `MultiAgentEnv`, too, and in another process than the env runner. No error of the filming leaves
    it: `rollcam_hear` returns them.
    """

    rollcam_index: int | None = None
    """Its number in the vector environment; set from outside."""

    rollcam_own_trigger: Trigger | None = None
    """Called with the number of an episode when the callback has no trigger; `True` films it."""

    _crew: _Crew | None = None

    @property
    def rollcam_has_trigger(self) -> bool:
        """Whether an `episode_trigger` was given with the environment, in an env creator."""
        return any(env.rollcam_own_trigger is not None for env in self._directed())

    def rollcam_hear(self, index: int | None, message: bytes) -> list[str] | None:
        """Do what the env runner says.

        Args:
            index: Whom it is for; `None` means everybody. All sub-environments of an async vector
                environment hear all messages.
            message: `(verb, value)`, pickled.

        Returns:
            What went wrong, in words; `None` when it was for somebody else.
        """
        if index is not None and index != self.rollcam_index:
            return None
        try:
            verb, value = pickle.loads(message)
            if verb == "settings":
                self._take_on(value)
            elif self._crew is not None and not (verb == "begin" and self._declines(value)):
                self._crew.do(verb, value)
            return self._take_problems()
        except Exception as error:  # noqa: BLE001 - an error here would cost RLlib the env runner
            return [*self._take_problems(), f"{type(error).__name__}: {error}"]

    def rollcam_stand_down(self) -> None:
        """Film no more by oneself: a callback directs from now on."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; what was filmed until now is over."""
        crew = self._crew
        if crew is not None and crew.is_filming:
            crew.safely(lambda: crew.cut(ABANDONED))
        result = self.env.reset(seed=seed, options=options)
        if crew is not None:
            crew.seed = seed
        return result

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environment, and film what it shows afterwards."""
        result = self.env.step(action)
        crew = self._crew
        if crew is not None and crew.is_filming:
            crew.safely(lambda: crew.film(action, *result[1:]))
        return result

    def close(self) -> None:
        """Finish the films, then close the environment."""
        crew = self._crew
        try:
            if crew is not None:
                crew.safely(crew.close)
        finally:
            super().close()

    def _take_on(self, settings: FilmSettings) -> None:
        """Film for a callback; who films by himself, here or further in, leaves it to this wrapper."""
        if self._crew is not None:
            if settings != self._crew.settings:
                raise UsageError(
                    "another RollcamCallback films this environment already; give one callback, or "
                    'one with film="train" and one with film="eval" and env runners of its own'
                )
            return
        self._crew = _Crew(self.env, settings)
        for env in self._directed():
            env.rollcam_stand_down()

    def _declines(self, order: Order) -> bool:
        """Say whether an order that leaves it to the environment's own trigger is not followed."""
        if not order.is_optional:
            return False
        triggers = [env.rollcam_own_trigger for env in self._directed()]
        return not any(trigger and trigger(order.episode_index) for trigger in triggers)

    def _directed(self) -> Iterator[Directed[Any, Any]]:
        """Yield this wrapper and those of its kind that stand further in."""
        env: Any = self
        while isinstance(env, gym.Wrapper):
            if isinstance(env, Directed):
                yield env
            env = env.env

    def _take_problems(self) -> list[str]:
        if self._crew is None:
            return []
        problems, self._crew.problems = self._crew.problems, []
        return problems


class FilmedEnv(Directed[Any, Any]):
    """Films an environment's episodes, when `RollcamCallback` in its env runner asks for it.

    Until then, and between films, it does nothing but pass calls on. It may stand around a
    `MultiAgentEnv`, too, and in another process than the env runner. No error of the filming leaves
    it.

    Args:
        env: Environment with a `render_mode` of `rgb_array`, `ansi`, or a list of these. A method
            `rollcam_info()` of it returns, at the end of an episode, scalars for the sidecar.
    """


@dataclass(slots=True)
class _Scene:
    """The episode that is being filmed."""

    recorder: Recorder
    facts: dict[str, Any]


class _Crew:
    """Films one environment.

    Args:
        env: The environment.
        settings: How.
    """

    def __init__(self, env: gym.Env[Any, Any], settings: FilmSettings) -> None:
        self.problems: list[str] = []
        self.seed: int | None = None
        self._env = env
        self.settings = settings
        self._recorders: dict[tuple[str, Mode], Recorder] = {}
        self._scene: _Scene | None = None
        self._info: dict[str, Any] = {}
        self._is_over: dict[str, bool] = {}

    @property
    def is_filming(self) -> bool:
        return self._scene is not None

    def do(self, verb: str, value: Any) -> None:
        """Obey: `begin` an `Order`, `end` with an `Ending`, or `flush` within seconds."""
        if verb == "begin":
            self.begin(value)
        elif verb == "end" and self._scene is not None:
            self.end(value)
        elif verb == "flush":
            self.cut(INTERRUPTED)
            for recorder in self._recorders.values():
                recorder.flush(value)

    def safely(self, act: Callable[[], None]) -> None:
        """Do it; what goes wrong is told to the env runner when it speaks next."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - training must go on
            self.problems.append(f"{type(error).__name__}: {error}")

    def begin(self, order: Order) -> None:
        """Begin the film of the episode whose `reset` has just been; its first frame is now."""
        self.cut(ABANDONED)
        check_render_mode(self._env, _ADVICE)
        recorder = self._recorder_for(order)
        facts = {**order.facts, "outcome": INTERRUPTED}
        recorder.set_context(**order.context)
        recorder.begin(
            seed=self.seed,
            episode_index=order.episode_index,
            metadata=order.metadata,
            extra={"rllib": facts},
        )
        self._scene = _Scene(recorder, facts)
        self._info, self._is_over = {}, {}
        recorder.capture(self._render, is_reset=True)

    def film(self, action: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> None:
        """Film the state after a step."""
        if self._scene is None:
            return
        # RLlib's own flags call a multi-agent episode terminated when it was truncated.
        self._is_over = {"terminated": _of_all(terminated), "truncated": _of_all(truncated)}
        self._info = _plain_info(info)
        self._scene.recorder.capture(
            self._render,
            reward=sum(reward.values()) if isinstance(reward, Mapping) else reward,
            action=None if isinstance(action, Mapping) else action,
            info=self._info,
        )

    def end(self, ending: Ending) -> None:
        """End the film of an episode that ended."""
        self._end(FINISHED, ending.context, ending.facts)

    def cut(self, outcome: str) -> None:
        """End the film of an episode that did not, if one is open."""
        self._end(outcome, {}, {})

    def close(self) -> None:
        """Finish all films."""
        self.safely(lambda: self.cut(INTERRUPTED))
        recorders, self._recorders = self._recorders, {}
        for recorder in recorders.values():
            recorder.close(CLOSE_S)

    def _end(self, outcome: str, context: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        scene, self._scene = self._scene, None
        if scene is None:
            return
        scene.facts.update(facts, outcome=outcome)
        scene.recorder.set_context(**context)
        try:
            # What a step said of itself is the last info; what the episode says comes on top.
            self._info.update(self._told())
        finally:
            scene.recorder.end(**self._is_over)

    def _told(self) -> dict[str, Any]:
        tell = None
        if self._env.has_wrapper_attr("rollcam_info"):
            tell = self._env.get_wrapper_attr("rollcam_info")
        return scalars_of(tell()) if callable(tell) else {}

    def _recorder_for(self, order: Order) -> Recorder:
        key = (order.run_id, order.mode)
        recorder = self._recorders.get(key)
        if recorder is None:
            settings, metadata = self.settings, self._env.metadata
            fps = input_fps(settings.fps, metadata)
            spec = self._env.spec
            recorder = self._recorders[key] = Recorder(
                settings.folder,
                fps=fps,
                output_fps=file_fps(settings.output_fps, metadata, fps),
                codec=settings.codec,
                quality=settings.quality,
                on_full=settings.on_full,
                encode_in=settings.encode_in,
                metadata=settings.metadata,
                info_keys=settings.info_keys,
                name=settings.template,
                env_id=order.env_id or (spec.id if spec else None),
                mode=order.mode,
                worker=order.worker,
                vector_index=order.vector_index,
                run_id=order.run_id,
            )
        return recorder

    def _render(self) -> Any:
        rendered: Any = self._env.render()
        if isinstance(rendered, list):
            return rendered[-1] if rendered else None
        return rendered


def _plain_info(info: Any) -> dict[str, Any]:
    """Return the scalars of an info; of many agents', those of all, each under its agent's name."""
    if not isinstance(info, Mapping):
        return {}
    plain = scalars_of(info)
    for agent, told in info.items():
        if isinstance(told, Mapping):
            own = scalars_of(told)
            plain.update(
                own if agent == "__common__" else {f"{agent}.{k}": v for k, v in own.items()}
            )
    return plain


def _of_all(flag: Any) -> bool:
    return bool(flag.get("__all__", False) if isinstance(flag, Mapping) else flag)

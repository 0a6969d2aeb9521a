"""Flatland: pictures of a `RailEnv` without a display, its numbers, and an environment for RLlib.

Flatland's own wrapper for RLlib renders into a window only, and nothing of it comes back;
`make_flatland_env` makes one whose `render()` returns pixels. `RailRenderer` and `progress_of` serve
any loop around a `RailEnv`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rollcam._checks import check_count, check_type
from rollcam.episode import Picture, Scalar
from rollcam.errors import RenderModeError, SettingError, require

FPS = 10.0
"""Frames per second at which a film of trains is good to watch; flatland itself names none."""

WIDTH, HEIGHT = 800, 600
"""The box, in pixels, into which a map is drawn; the picture has the map's own proportions."""

_RENDERS = (None, False, True, "human", "rgb_array")


def __getattr__(name: str) -> Any:
    """Load `FlatlandEnv` when it is asked for: its home needs Ray."""
    if name == "FlatlandEnv":
        return _rllib_home().FlatlandEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _rllib_home() -> Any:
    require("flatland", extra="flatland", package="flatland-rl")
    require("ray.rllib", extra="flatland")  # flatland imports it, and says less
    return require("rollcam.integrations._flatland_rllib", extra="flatland")


class RailRenderer:
    """Draws a `RailEnv` into pixels, on machines without a display.

    Flatland draws each train where it was one step earlier, and none that has arrived. Here each
    stands where it is, and in the picture of the step in which it arrives it stands in its station:
    the last picture of an episode that succeeds shows the last arrival. Drawing changes nothing in
    the environment and takes nothing from its random numbers.

    Args:
        rail_env: The environment; a new rail is noticed.
        width: Width of the box into which the map is drawn, in pixels.
        height: Height of that box.

    Raises:
        MissingDependencyError: flatland-rl is not installed.
        SettingError: A size is no number of pixels.
    """

    def __init__(self, rail_env: Any, *, width: int = WIDTH, height: int = HEIGHT) -> None:
        check_count("width", width, "a number of pixels")
        check_count("height", height, "a number of pixels")
        self._tools = require("flatland.utils.rendertools", extra="flatland")
        self._rail_env = rail_env
        self._size = (width, height)
        self._tool: Any = None
        self._drawn: tuple[object, ...] = ()

    def render(self) -> Picture:
        """Draw the environment as it stands.

        Returns:
            `(H, W, 3)` uint8 RGB, of its own memory.
        """
        shown = (self._rail_env.rail, self._rail_env.agents)
        if self._tool is None or any(a is not b for a, b in zip(shown, self._drawn, strict=True)):
            self._open()
            self._drawn = shown
        image = self._tool.render_env(
            show=False, show_observations=False, show_predictions=False, return_image=True
        )
        return np.ascontiguousarray(image[..., :3], dtype=np.uint8)

    def _open(self) -> None:
        """Make the tool, or have it draw a new rail and new stations."""
        if self._tool is not None:
            self._tool.reset()
            return
        self._tool = self._tools.RenderTool(
            _Scene(self._rail_env),
            gl="PILSVG",
            screen_width=self._size[0],
            screen_height=self._size[1],
        )
        # It sleeps 3 ms in each picture, for the events of a window that there is not.
        self._tool.gl.process_events = _nothing


class _Scene:
    """The environment as the tool is to see it: all of it, but for where the trains stand."""

    def __init__(self, rail_env: Any) -> None:
        self._rail_env = rail_env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rail_env, name)

    @property
    def agents(self) -> list[Any]:
        return [_Train(self._rail_env, agent) for agent in self._rail_env.agents]


class _Train:
    """An agent where it is: the tool draws what it takes for the configuration of a step ago."""

    def __init__(self, rail_env: Any, agent: Any) -> None:
        self._agent = agent
        place = agent.current_configuration
        if place is None and _arrives_now(rail_env, agent):
            place = agent.target_configuration
        self.old_configuration = place
        self.current_configuration = place and (place[0], _leaves_by(rail_env, place))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)


def _arrives_now(rail_env: Any, agent: Any) -> bool:
    return agent.arrival_time is not None and agent.arrival_time == rail_env._elapsed_steps


def _leaves_by(rail_env: Any, place: Any) -> int:
    """Return the direction in which a train leaves its cell: straight on, or along the curve."""
    direction = int(place[1])
    ways = [way for way, is_open in enumerate(rail_env.rail.get_transitions(place)) if is_open]
    return direction if direction in ways or not ways else ways[0]


def _nothing() -> None:
    pass


def progress_of(rail_env: Any) -> dict[str, Scalar]:
    """Return how far the trains have come, in flatland's own numbers.

    Returns:
        `percentage_complete` (0 to 100, rounded down: the share of trains that arrived),
        `n_agents`, `n_arrived`, `elapsed_steps`, and `arrived_at/{handle}` for each train: the step in
        which it arrived, or `None`.
    """
    agents = rail_env.agents
    arrivals = {f"arrived_at/{agent.handle}": _step_of(agent.arrival_time) for agent in agents}
    n_arrived = sum(step is not None for step in arrivals.values())
    return {
        "percentage_complete": 100 * n_arrived // len(agents) if agents else 0,
        "n_agents": len(agents),
        "n_arrived": n_arrived,
        "elapsed_steps": int(rail_env._elapsed_steps),
        **arrivals,
    }


def _step_of(arrival_time: Any) -> int | None:
    return None if arrival_time is None else int(arrival_time)


_SETTINGS: dict[str, Any] = {
    "n_agents": 2,
    "x_dim": 30,
    "y_dim": 30,
    "n_cities": 2,
    "max_rail_pairs_in_city": 2,
    "max_rails_between_cities": 2,
    "grid_mode": False,
    "line_length": 2,
    "malfunction_interval": 0,
    "speed_ratios": None,
    "seed": None,
    "max_depth": 1,
    "shortest_path_max_depth": 30,
    "regenerate": True,
    "render": None,
    "width": WIDTH,
    "height": HEIGHT,
}

_OF_THE_RECORDER = ("video_dir", "resume")
"""Keys of the old recipe that say where films go; the environment passes them over."""


def make_flatland_env(env_config: Mapping[str, Any]) -> Any:
    """Make a flatland for RLlib: a `MultiAgentEnv` that renders into pixels.

    Its `infos["__common__"]` holds what `progress_of` tells, so that it reaches each film's sidecar.

    Args:
        env_config: Any of these. `n_agents`, `x_dim`, `y_dim`, `n_cities`,
            `max_rail_pairs_in_city`, `max_rails_between_cities`, `grid_mode`, `line_length`,
            `malfunction_interval` (0: none), `speed_ratios` and `seed`: of flatland's
            `env_generator`. `max_depth`, `shortest_path_max_depth`: of the tree observation.
            `regenerate`: whether a reset makes a new map, with new journeys. `render`: `"human"`,
            `"rgb_array"` or `True` for an environment that can be filmed; no window is ever opened.
            `width`, `height`: the box for the picture. (`video_dir` and `resume`, of the same
            recipe, are the recorder's.)

    Returns:
        The environment; pass the function to `ray.tune.register_env`.

    Raises:
        SettingError: A key is unknown, or its value cannot work.
        MissingDependencyError: flatland-rl or Ray is not installed.
    """
    settings = _checked(env_config)
    home = _rllib_home()
    rail_env = _rail_env_of(settings)
    return home.FlatlandEnv(
        rail_env,
        "rgb_array" if settings["render"] else None,
        width=settings["width"],
        height=settings["height"],
        regenerate=settings["regenerate"],
    )


def _rail_env_of(settings: Mapping[str, Any]) -> Any:
    from flatland.env_generation.env_generator import env_generator
    from flatland.envs.predictions import ShortestPathPredictorForRailEnv
    from flatland.ml.observations.flatten_tree_observation_for_rail_env import (
        FlattenedNormalizedTreeObsForRailEnv,
    )

    predictor = ShortestPathPredictorForRailEnv(max_depth=settings["shortest_path_max_depth"])
    own = ("max_depth", "shortest_path_max_depth", "regenerate", "render", "width", "height")
    generated = {key: value for key, value in settings.items() if key not in own}
    tree = FlattenedNormalizedTreeObsForRailEnv(
        max_depth=settings["max_depth"], predictor=predictor
    )
    try:
        return env_generator(**generated, obs_builder_object=tree)[0]
    except Exception as error:  # whatever its generators may raise on a map that cannot be
        raise SettingError(f"flatland makes no map of {generated}: {error}") from error


def _checked(env_config: Mapping[str, Any]) -> dict[str, Any]:
    check_type("env_config", env_config, (Mapping,), "a mapping")
    for key in env_config:
        if key not in _SETTINGS and key not in _OF_THE_RECORDER:
            near = difflib.get_close_matches(str(key), _SETTINGS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise SettingError(
                f"env_config has the key {key!r}, which flatland does not take{hint} "
                f"It takes {', '.join(sorted((*_SETTINGS, *_OF_THE_RECORDER)))}"
            )
    given = {key: value for key, value in env_config.items() if key in _SETTINGS}
    settings = {**_SETTINGS, **given}
    for key, default in _SETTINGS.items():
        value = settings[key]
        if isinstance(default, bool):
            check_type(f"env_config[{key!r}]", value, (bool,), "true or false")
        elif isinstance(default, int) and key != "malfunction_interval":
            check_count(f"env_config[{key!r}]", value, "a whole number above 0")
    _check_render(settings["render"])
    return settings


def _check_render(render: object) -> None:
    """Check the switch of the old recipe.

    Raises:
        RenderModeError: It is none of `human`, `rgb_array`, true, false and nothing.
    """
    if render not in _RENDERS:
        raise RenderModeError(
            f"env_config['render'] is {render!r}; 'human' (or 'rgb_array', or true) films, and "
            f"false or nothing does not"
        )

"""Flatland's `MultiAgentEnv` for RLlib, with pixels and with the trains' progress in its infos."""

from __future__ import annotations

from typing import Any, ClassVar

from flatland.ml.ray.ray_multi_agent_rail_env import RayMultiAgentWrapper

from rollcam.episode import Picture
from rollcam.errors import RenderModeError
from rollcam.integrations.flatland import FPS, HEIGHT, WIDTH, RailRenderer, progress_of

COMMON = "__common__"
"""RLlib's own place in `infos` for what concerns all agents."""


class FlatlandEnv(RayMultiAgentWrapper):  # type: ignore[misc]
    """Flatland's wrapper for RLlib, whose `render()` returns pixels and opens no window.

    The renderer is made at the first `render()`: an environment that is not filmed pays nothing.

    Args:
        rail_env: A `RailEnv` with an observation builder that names its space.
        render_mode: `"rgb_array"` or `None`.
        width: Width of the box into which the map is drawn, in pixels.
        height: Height of that box.
        regenerate: Whether a reset makes a new map, with new journeys.

    Raises:
        RenderModeError: The render mode is another one.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(
        self,
        rail_env: Any,
        render_mode: str | None = None,
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        regenerate: bool = True,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise RenderModeError(
                f"render_mode={render_mode!r} gives nothing that can be filmed; FlatlandEnv knows "
                f"'rgb_array' and None"
            )
        super().__init__(rail_env, render_mode=None)  # it opens a window for any mode
        self.possible_agents = list(self.agents)
        self.render_mode = render_mode
        self._renderer = RailRenderer(rail_env, width=width, height=height)
        # Flatland makes no new journeys on an old map.
        self._regenerate = {"regenerate_rail": regenerate, "regenerate_schedule": regenerate}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; `options` are those of `RailEnv.reset`."""
        observations, infos = super().reset(
            seed=seed, options={**self._regenerate, **(options or {})}
        )
        return observations, {**infos, COMMON: progress_of(self._wrap)}

    def step(self, action_dict: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Step; `infos["__common__"]` holds the trains' progress."""
        mode, self.render_mode = self.render_mode, None  # for any mode it renders into its window
        try:
            observations, rewards, terminateds, truncateds, infos = super().step(action_dict)
        finally:
            self.render_mode = mode
        infos = {**infos, COMMON: progress_of(self._wrap)}
        return observations, rewards, terminateds, truncateds, infos

    def render(self) -> Picture | None:
        """Return the picture of what stands now: `(H, W, 3)` uint8 RGB; `None` without a mode."""
        return None if self.render_mode is None else self._renderer.render()

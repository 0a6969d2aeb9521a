"""What adapters ask of one environment, whoever made it."""

from __future__ import annotations

from typing import Any

from rollcam.errors import RenderModeError


def check_render_mode(
    env: Any, advice: str = 'render_mode="rgb_array" (or "ansi" for text)'
) -> None:
    """Raise `RenderModeError` unless there is something to film.

    Args:
        env: The environment.
        advice: What it should be made with.
    """
    mode = getattr(env, "render_mode", None)
    if mode is None or mode == "human" or str(mode).startswith("depth"):
        offered = (getattr(env, "metadata", None) or {}).get("render_modes", [])
        raise RenderModeError(
            f"render_mode={mode!r} gives nothing that can be filmed; make the environment with "
            f"{advice}. It offers {offered}"
        )


def about(env: Any) -> dict[str, Any]:
    """Return what the sidecar says of one of Gymnasium's environments."""
    return {
        "env_id": env.spec.id if env.spec else type(env.unwrapped).__name__,
        "env_spec": _spec_of(env),
    }


def _spec_of(env: Any) -> dict[str, Any] | None:
    """Return what the spec says; what JSON cannot say of it, the sidecar says in words."""
    spec = env.spec
    if spec is None:
        return None
    return {
        "id": spec.id,
        "entry_point": spec.entry_point if isinstance(spec.entry_point, str) else None,
        "max_episode_steps": spec.max_episode_steps,
        "kwargs": dict(spec.kwargs),
        "wrappers": [wrapper.name for wrapper in spec.additional_wrappers],
    }


class ListModes:
    """Films the newest frame in list modes, where rendering takes frames away from the user.

    They stand in `render_history` until the user renders, and come back then.
    """

    env: Any
    render_history: list[Any]

    def render(self) -> Any:
        """Render as the environment does; frames that were filmed in list modes come back too."""
        rendered = self.env.render()
        history, self.render_history = self.render_history, []
        return history + rendered if history and isinstance(rendered, list) else rendered

    def _render_newest(self) -> Any:
        rendered = self.env.render()
        if isinstance(rendered, list):
            self.render_history += rendered
            return rendered[-1] if rendered else None
        return rendered

"""What `Monitor` and the old `RecordVideo` have in common: a wrapper that films when it is told to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from rollcam.capture.rates import file_fps, input_fps
from rollcam.integrations._legacy_env import Stepped, Wrapper, env_facts, mode_of, renderer
from rollcam.recorder import Recorder


class Filmed(Wrapper):
    """A wrapper that films its environment between `_begin` and `_end`.

    Args:
        env: The environment.
        folder: Recordings folder.
        settings: Of the `Recorder`.
    """

    def __init__(
        self, env: Any, folder: str | os.PathLike[str], settings: Mapping[str, Any]
    ) -> None:
        super().__init__(env)
        metadata: Mapping[str, Any] = getattr(env, "metadata", None) or {}
        mode = mode_of(env, metadata)
        self._render_raw = None if mode is None else renderer(env, mode)
        self._seed: int | None = None
        self._history: list[Any] = []
        fps = input_fps(settings.get("fps"), metadata)
        rates = {"fps": fps, "output_fps": file_fps(settings.get("output_fps"), metadata, fps)}
        self._has_template = settings.get("name") is not None
        self._recorder = Recorder(folder, **{**env_facts(env), **settings, **rates})
        self._is_open = True

    @property
    def seed(self) -> Callable[..., Any]:
        """The environment's `seed`, where it has one; what it is given stands in the sidecar."""
        inner = self.env.seed

        def seed(seed: int | None = None) -> Any:
            self._seed = seed
            return inner(seed)

        return seed

    def render(self, *args: Any, **kwargs: Any) -> Any:
        """Render as the environment does; frames that were filmed in list modes come back too."""
        rendered = self.env.render(*args, **kwargs)
        history, self._history = self._history, []
        return history + rendered if history and isinstance(rendered, list) else rendered

    def close(self) -> None:
        """Finish the films, then close the environment."""
        try:
            self._close_films()
        finally:
            close = getattr(self.env, "close", None)
            if close is not None:
                close()

    def set_context(self, **values: Any) -> None:
        """Tell this recorder the trainer's counters; `rollcam.set_context` tells them to all."""
        self._recorder.set_context(**values)

    def _close_films(self) -> None:
        self._is_open = False
        self._recorder.close()

    @property
    def _is_filming(self) -> bool:
        return self._recorder.is_filming

    def _reset(self, kwargs: Mapping[str, Any]) -> Any:
        """Reset the environment, and remember its seed for the film that begins now."""
        if kwargs.get("seed") is not None:
            self._seed = kwargs["seed"]
        return self.env.reset(**kwargs)

    def _begin(self, name: str, **facts: Any) -> None:
        """Begin a film with the frame of now; one that is open ends before."""
        self._end()
        seed, self._seed = self._seed, None
        if self._render_raw is None or not self._is_open:
            return
        named = None if self._has_template else name
        self._recorder.begin(named, seed=seed, **facts)
        self._recorder.capture(self._render_newest, is_reset=True)

    def _capture(self, action: Any, stepped: Stepped, *, marks_end: bool = True) -> None:
        if self._is_filming:
            self._recorder.capture(
                self._render_newest,
                reward=stepped.reward,
                action=action,
                info=stepped.info,
                terminated=stepped.terminated and marks_end,
                truncated=stepped.truncated and marks_end,
            )

    def _end(self) -> None:
        if self._is_filming:
            self._recorder.end()

    def _render_newest(self) -> Any:
        assert self._render_raw is not None
        rendered = self._render_raw()
        if isinstance(rendered, list):
            # In list modes rendering takes the frames away from the user, who gets them back later.
            self._history += rendered
            return rendered[-1] if rendered else None
        return rendered

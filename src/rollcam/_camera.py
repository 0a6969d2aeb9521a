"""`Camera`: films the episodes of one environment; a `Recorder` has one of its own, or many."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import Any

from rollcam._checks import check_choice, check_type
from rollcam._chute import Chute
from rollcam._engine import Engine
from rollcam._intake import Intake, Step
from rollcam._report import Reporter
from rollcam._take import Take, now
from rollcam.capture.frames import render_counted
from rollcam.episode import Episode, EpisodeStatus, Kind, Mode, Writer, new_id
from rollcam.errors import UsageError
from rollcam.store.layout import NameTemplate


@dataclass(frozen=True, slots=True)
class Settings:
    """What all cameras of a recorder have in common."""

    run_id: str
    writer: Writer
    fps: float
    output_fps: float
    template: NameTemplate | None
    name_prefix: str
    info_keys: tuple[str, ...]
    metadata: Mapping[str, Any]
    env_id: str | None
    env_spec: Mapping[str, Any] | None
    mode: Mode

    def facts(self) -> Episode:
        """Return what is known of a new episode, whichever it is."""
        return Episode(
            episode_id=new_id(),
            run_id=self.run_id,
            name="",
            status=EpisodeStatus.FAILED,
            fps=self.fps,
            output_fps=self.output_fps,
            started_at=now(),
            env_id=self.env_id,
            env_spec=self.env_spec,
            mode=self.mode,
            metadata=self.metadata,
            writer=self.writer,
        )


class Camera:
    """Films the episodes of one environment: `begin`, then `frame` for each frame, then `end`.

    Made by `Recorder.camera`; a recorder's own methods of these names are those of its first one.
    Cameras of a recorder share its folder, its threads and its bound of memory. One camera belongs
    to one thread at a time.

    Args:
        engine: Does the work.
        reporter: Tells the training thread.
        settings: What the recorder's cameras have in common.
        opening: Called before each film; does what has to be done before the first.
        owner: Kept alive for as long as this camera is.
    """

    def __init__(
        self,
        engine: Engine,
        reporter: Reporter,
        settings: Settings,
        opening: Callable[[], None],
        *,
        owner: object = None,
    ) -> None:
        self._engine = engine
        self._reporter = reporter
        self._settings = settings
        self._opening = opening
        self._owner = owner
        self._intake = Intake(engine, reporter)
        self._take: Take | None = None
        self._chute: Chute | None = None
        self._n_begun = 0

    @property
    def is_filming(self) -> bool:
        """Whether an episode is open."""
        return self._current is not None

    @property
    def n_frames(self) -> int:
        """Frames captured in the open episode; 0 when none is open."""
        take = self._current
        return take.n_captured if take else 0

    @property
    def error(self) -> Exception | None:
        """What went wrong with the open episode's film, if anything did."""
        take = self._current
        return None if take is None else take.error or take.film.error

    def begin(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        episode_index: int | None = None,
        step_index: int | None = None,
        kind: Kind = "episode",
        mode: Mode | None = None,
        metadata: Mapping[str, Any] | None = None,
        path: str | os.PathLike[str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin the film of an episode.

        Args:
            name: Name of its files; may hold `/`. Default: the recorder's template, or its prefix
                and the episode's number.
            seed: What `reset` was given.
            episode_index: Number of the episode; default: how many were begun before.
            step_index: Steps the environment had made before, over all episodes.
            kind: A whole episode, or a clip.
            mode: `"train"` or `"eval"`; default: the recorder's.
            metadata: Facts for this sidecar, beside those of the recorder.
            path: The film grows at this very path, playable at any moment, and is replaced by the
                finished file; what lay there is overwritten, and no step columns are written. Its
                extension must be `.mp4`, `.cast` or `.json` and suit what is filmed.
            extra: Fields to stand in the sidecar beside Rollcam's own; read when it is written.

        Raises:
            UsageError: An episode is open, or the recorder was closed.
        """
        if self._engine.is_inherited:
            return
        check_choice("kind", kind, ("episode", "clip"))
        check_choice("mode", mode or self._settings.mode, ("train", "eval"))
        check_type("name", name, (str, NoneType), "text")
        path = None if path is None else Path(os.path.abspath(path))
        self._check_begin(path)
        self._opening()
        settings = self._settings
        index = self._n_begun if episode_index is None else episode_index
        self._n_begun += 1
        facts = replace(
            settings.facts(),
            name=name or self._default_name(index),
            kind=kind,
            seed=int(seed) if isinstance(seed, Integral) else None,
            episode_index=index,
            step_index=step_index,
            context_at_start=self._engine.context.now(),
            mode=mode or settings.mode,
            metadata={**settings.metadata, **(metadata or {})},
            extra={} if extra is None else extra,
        )
        self._take = self._engine.open(
            facts,
            path=path,
            template=settings.template if path is None and name is None else None,
            info_keys=settings.info_keys,
        )

    def frame(
        self,
        frame: Any,
        *,
        reward: Any = None,
        action: Any = None,
        info: Mapping[str, Any] | None = None,
        terminated: bool = False,
        truncated: bool = False,
        is_reset: bool = False,
    ) -> bool:
        """Film one frame.

        Args:
            frame: `(H, W, 3)` uint8 RGB, or anything that can be mended into it (RGBA, grey,
                channels first, floats in [0, 1], tensors on any device), text for text episodes, or
                `None`, which is skipped. Copied: it may be written to afterwards.
            reward: Of the step that led to this frame; none for the frame of `reset`.
            action: Of that step; kept when it has at most 16 numbers.
            info: Of that step; its scalars, when it is the last one, stand in the sidecar.
            terminated: The step reached a terminal state; how the episode stands then is kept.
            truncated: The step cut the episode short.
            is_reset: The frame is that of a reset, so no step is counted. The first frame is taken
                for one when it comes without reward and action.

        Returns:
            Whether the frame is in the film (or on its way there).

        Raises:
            UsageError: No episode is open.
            RollcamError: With `on_error="raise"`, what went wrong.
        """
        chute = self._open_chute(terminated or truncated or is_reset)
        if chute is not None and chute.take(frame, reward, action, info):
            return True
        return self._record(
            lambda: (frame, False),
            Step(reward, action, info, is_reset),
            terminated=terminated,
            truncated=truncated,
        )

    def capture(
        self,
        render: Callable[[], Any],
        *,
        reward: Any = None,
        action: Any = None,
        info: Mapping[str, Any] | None = None,
        terminated: bool = False,
        truncated: bool = False,
        is_reset: bool = False,
    ) -> bool:
        """Call `render` and film what it returns, as `frame` does.

        An array that nobody but Rollcam holds afterwards is not copied. Once the film has failed,
        `render` is no longer called.
        """
        get: Callable[[], tuple[Any, bool]] = partial(render_counted, render)
        chute = self._open_chute(terminated or truncated or is_reset)
        if chute is not None:
            try:
                raw = render()
            except Exception as error:  # noqa: BLE001 - it is told where all others are
                get = partial(_raise, error)
            else:
                if chute.take(raw, reward, action, info):
                    return True
                get = partial(_shared, raw)
        return self._record(
            get,
            Step(reward, action, info, is_reset),
            terminated=terminated,
            truncated=truncated,
        )

    def end(self, *, terminated: bool = False, truncated: bool = False) -> Future[Episode]:
        """End the episode; the file is finished on the background thread.

        Args:
            terminated: The environment reached a terminal state.
            truncated: The environment cut the episode short.

        Returns:
            A future of the finished `Episode`. Its `status` says how it went; it never raises.

        Raises:
            UsageError: No episode is open.
        """
        if self._engine.is_inherited and self._current is None:
            return self._engine.inert()
        take = self._open_take()
        self._take = self._chute = None
        future = self._engine.end(take, terminated=terminated, truncated=truncated)
        self._report()
        return future

    def _open_chute(self, is_special: bool) -> Chute | None:
        """Return the short way for a frame in the middle, while there is nothing to tell."""
        chute = self._chute
        is_shut = chute is None or is_special or chute.is_blocked
        return None if is_shut or self._reporter.has_news(self._engine) else chute

    def _record(
        self,
        get: Callable[[], tuple[Any, bool]],
        step: Step,
        *,
        terminated: bool,
        truncated: bool,
    ) -> bool:
        self._chute = None
        if self._engine.is_inherited:
            return False
        take = self._open_take()
        taken = self._intake.record(take, get, step)
        if taken:
            self._chute = self._engine.chute(take)
        if terminated or truncated:
            self._engine.mark_end(take, terminated=terminated, truncated=truncated)
        self._report()
        return taken

    @property
    def _current(self) -> Take | None:
        # The engine may have ended it: when the recorder was closed.
        if self._take is not None and self._take.is_over:
            self._take = None
        return self._take

    def _default_name(self, index: int) -> str:
        settings = self._settings
        lane = settings.writer.vector_index
        env = "" if lane is None else f"-env-{lane}"
        return f"{settings.name_prefix}{env}-episode-{index}"

    def _check_begin(self, path: Path | None) -> None:
        if self._engine.is_closed:
            raise UsageError("begin() came after close(); make a new Recorder")
        if self._current is not None:
            raise UsageError("begin() came while an episode is open; call end() before")
        if path is None and self._engine.folder is None:
            raise UsageError("this Recorder has no folder, so begin() needs a path")

    def _open_take(self) -> Take:
        take = self._current
        if take is None:
            raise UsageError("no episode is open; call begin() before")
        return take

    def _report(self) -> None:
        if not self._engine.is_inherited:
            self._reporter.report(self._engine)


def _raise(error: Exception) -> tuple[Any, bool]:
    raise error


def _shared(raw: Any) -> tuple[Any, bool]:
    return raw, False


def with_index(settings: Settings, vector_index: int | None, worker: str | None) -> Settings:
    """Return the settings of a camera that films one of several environments."""
    writer = replace(
        settings.writer,
        vector_index=settings.writer.vector_index if vector_index is None else vector_index,
        worker=settings.writer.worker if worker is None else worker,
    )
    return replace(settings, writer=writer)

"""`Recorder`: the engine for people with their own loop; every wrapper is an adapter on it."""

from __future__ import annotations

import multiprocessing.util
import os
import socket
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from numbers import Integral
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Self

from ulid import ULID

from rollcam._engine import Engine, logger
from rollcam._intake import Intake, Step
from rollcam._report import Reporter
from rollcam._take import ContextSource, Take, now
from rollcam.capture.frames import render_counted
from rollcam.capture.keep import KeepPolicy
from rollcam.capture.rates import DEFAULT_FPS, checked_fps
from rollcam.encode.codecs import DEFAULT_QUALITY, Quality, choose_codec
from rollcam.encode.timeline import Timeline, as_rate
from rollcam.episode import (
    Context,
    Episode,
    EpisodeCallback,
    EpisodeStatus,
    Kind,
    Mode,
    OnError,
    OnFull,
    Writer,
)
from rollcam.errors import (
    RecordingFailedWarning,
    RollcamError,
    SettingError,
    UsageError,
)
from rollcam.store import catalog
from rollcam.store.layout import Folder, NameTemplate

QUEUE_BYTES = 64 * 2**20
"""Default bound of the frames that wait for the encoder, in bytes."""

_OPEN_RUNS: set[str] = set()
"""Runs of this process that are not closed; their films are not cleared by `resume=False`."""

CLOSE_S = 120.0
"""Default limit of `close`, in seconds."""


class Recorder:
    """Films episodes: `begin`, then `frame` for each frame, then `end`.

    The training thread pays for about one copy of each frame. Encoding and everything on the disk
    happens on one background thread; the memory of frames that wait is bounded by `queue_bytes`.
    What is still open when the recorder is dropped, or the interpreter ends, is finished. In a
    forked child an inherited recorder does nothing.

    Args:
        folder: Recordings folder; made when it does not exist. `None` when every `begin` brings a
            `path`.
        fps: Frames per second of capture; sets the speed of playback. Default 30.
        output_fps: Frames per second of the file; changes its rate, never the speed. Default `fps`.
        codec: `"h264"`, `"vp9"`, `"av1"`, or FFmpeg's name of a hardware encoder for one of them.
        quality: `"small"`, `"standard"`, `"high"`, or the encoder's quantiser (CRF).
        keep: Decides after an episode which films stay; see `keep_best` and its kin. Called on the
            background thread.
        on_error: `"warn"`: after construction no error of Rollcam's is raised, each cause is warned
            of once, and the sidecar says `failed` and why. `"raise"`: errors are raised.
        on_full: What happens when frames come faster than they are encoded and `queue_bytes` are
            waiting. `"block"` waits up to 5 s and then drops, `"drop"` drops at once. What was
            dropped is counted in the sidecar, and the film's timing stays right.
        metadata: Facts of your own for every sidecar; anything that JSON can say.
        context: The trainer's counters: a mapping, or a callable that returns one and is asked, on
            the training thread, at the start and the end of each episode.
        name: Template for the names of the files, such as `"{env_id}-{iteration}-{episode_index}"`;
            fields are those of the sidecar and the keys of contexts, `metadata` and the last `info`.
        name_prefix: Used when there is no template: `{name_prefix}-episode-{episode_index}`.
        resume: `True` joins what lies in the folder, `False` clears, before the first film, what
            Rollcam wrote there.
        env_id: Id of the environment, for the sidecar.
        env_spec: Spec of the environment, for the sidecar.
        mode: `"train"` or `"eval"`, for the sidecar.
        info_keys: Keys of `info` that become columns of the per-step file.
        worker: Name of this worker, for the sidecar.
        vector_index: Index of the sub-environment, for the sidecar.
        on_finished: Called with each `Episode` whose film is finished and in place, on the
            background thread: the moment to hand the file on.
        queue_bytes: Bound of the frames that wait for the encoder, in bytes.

    Raises:
        SettingError: An argument cannot work.
        CodecUnavailable: The codec does not open on this machine.
        StoreError: The folder cannot be written to.

    Example:
        >>> import numpy as np, tempfile
        >>> with Recorder(tempfile.mkdtemp(), fps=10) as recorder:
        ...     recorder.begin()
        ...     for step in range(3):
        ...         _ = recorder.frame(np.zeros((64, 64, 3), np.uint8), reward=1.0)
        ...     episode = recorder.end(terminated=True).result(timeout=60)
        >>> episode.n_frames, episode.episode_return
        (3, 3.0)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        *,
        fps: float | None = None,
        output_fps: float | None = None,
        codec: str = "h264",
        quality: Quality = DEFAULT_QUALITY,
        keep: KeepPolicy | None = None,
        on_error: OnError = "warn",
        on_full: OnFull = "block",
        metadata: Mapping[str, Any] | None = None,
        context: Context | Callable[[], Context] | None = None,
        name: str | None = None,
        name_prefix: str = "rl-video",
        resume: bool = True,
        env_id: str | None = None,
        env_spec: Mapping[str, Any] | None = None,
        mode: Mode = "train",
        info_keys: tuple[str, ...] = (),
        worker: str | None = None,
        vector_index: int | None = None,
        on_finished: EpisodeCallback | None = None,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        _check_choice("on_error", on_error, ("warn", "raise"))
        _check_choice("on_full", on_full, ("block", "drop"))
        _check_choice("mode", mode, ("train", "eval"))
        _check_callable("keep", keep, "on the finished Episode")
        _check_callable("on_finished", on_finished, "on the finished Episode")
        if not isinstance(context, Mapping):
            _check_callable("context", context, "without arguments, or a mapping")
        _check_type("metadata", metadata, (Mapping, NoneType), "a mapping")
        _check_type("env_spec", env_spec, (Mapping, NoneType), "a mapping")
        for label, text in (("name", name), ("env_id", env_id), ("worker", worker)):
            _check_type(label, text, (str, NoneType), "text")
        _check_type("name_prefix", name_prefix, (str,), "text")
        _check_type("vector_index", vector_index, (int, NoneType), "a number")
        _check_type("resume", resume, (bool,), "True or False")
        _check_type("queue_bytes", queue_bytes, (int,), "a number of bytes")
        if queue_bytes < 1:
            raise SettingError(f"queue_bytes must be at least 1, not {queue_bytes}")
        _check_type("info_keys", info_keys, (tuple, list), "a tuple of keys")
        self.fps = checked_fps(DEFAULT_FPS if fps is None else fps, "fps")
        self.output_fps = self.fps if output_fps is None else checked_fps(output_fps, "output_fps")
        self.run_id = str(ULID())
        """Stands in the sidecar of every film of this recorder."""
        _OPEN_RUNS.add(self.run_id)
        self._template = None if name is None else NameTemplate(name)
        self._name_prefix = name_prefix
        self._info_keys = tuple(info_keys)
        self._reporter = Reporter(raises=on_error == "raise")
        self._clear_first = not resume
        self._n_begun = 0
        self._closed = False
        self._metadata = dict(metadata or {})
        self._facts: dict[str, Any] = {
            "env_id": env_id,
            "env_spec": env_spec,
            "mode": mode,
            "writer": Writer(socket.gethostname(), os.getpid(), worker, vector_index),
        }
        engine = Engine(
            None if folder is None else Folder(folder),
            Timeline(as_rate(self.fps), as_rate(self.output_fps)),
            choose_codec(codec, quality),
            ContextSource(context),
            keep=keep,
            on_full=on_full,
            on_finished=on_finished,
            queue_bytes=queue_bytes,
        )
        self._engine = engine
        self._intake = Intake(engine, self._reporter)
        # Called when the recorder is dropped, and at the interpreter's end.
        self._finaliser = weakref.finalize(self, _finish, engine, self.run_id)
        # `atexit` does not run in the children of multiprocessing before Python 3.13; this does.
        multiprocessing.util.Finalize(self, self._finaliser, exitpriority=10)

    @property
    def folder(self) -> Path | None:
        """The recordings folder."""
        return self._engine.folder.root if self._engine.folder else None

    @property
    def is_filming(self) -> bool:
        """Whether an episode is open."""
        return self._engine.take is not None

    @property
    def n_frames(self) -> int:
        """Frames captured in the open episode; 0 when none is open."""
        return self._engine.take.n_captured if self._engine.take else 0

    @property
    def error(self) -> Exception | None:
        """What went wrong with the open episode's film, if anything did."""
        take = self._engine.take
        return None if take is None else take.error or take.film.error

    def set_context(self, **values: Any) -> None:
        """Tell the trainer's counters as they stand now, such as `iteration` or `num_env_steps`."""
        self._engine.context.update(values)

    def begin(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        episode_index: int | None = None,
        step_index: int | None = None,
        kind: Kind = "episode",
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
        _check_choice("kind", kind, ("episode", "clip"))
        _check_type("name", name, (str, NoneType), "text")
        path = None if path is None else Path(os.path.abspath(path))
        self._check_begin(path)
        if self._clear_first and self._engine.folder is not None:
            self._clear_first = False
            self._clear(self._engine.folder.root)
        index = self._n_begun if episode_index is None else episode_index
        self._n_begun += 1
        facts = Episode(
            episode_id=str(ULID()),
            run_id=self.run_id,
            name=name or f"{self._name_prefix}-episode-{index}",
            status=EpisodeStatus.FAILED,
            kind=kind,
            seed=int(seed) if isinstance(seed, Integral) else None,
            episode_index=index,
            step_index=step_index,
            fps=self.fps,
            output_fps=self.output_fps,
            started_at=now(),
            context_at_start=self._engine.context.now(),
            metadata={**self._metadata, **(metadata or {})},
            extra={} if extra is None else extra,
            **self._facts,
        )
        self._engine.take = Take(
            film=self._engine.new_film(facts, path),
            facts=facts,
            template=self._template if path is None and name is None else None,
            info_keys=self._info_keys,
            at_path=path,
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
        return self._record(
            lambda: render_counted(render),
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
        if self._engine.is_inherited and self._engine.take is None:
            return self._engine.inert()
        self._open_take()
        future = self._engine.end(terminated=terminated, truncated=truncated)
        self._report()
        return future

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until all that was handed over is encoded and on the disk.

        Args:
            timeout_s: Limit of the wait, in seconds.

        Returns:
            Whether that came in time.
        """
        done = self._engine.flush(timeout_s)
        self._report()
        return done

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Finish what is open and end the background thread. May be called twice.

        Args:
            timeout_s: Limit of the wait, in seconds. What is not finished by then goes on in the
                background, and lies in `.rollcam/partial` if the process ends before.
        """
        self._closed = True
        _OPEN_RUNS.discard(self.run_id)
        if not self._engine.close(timeout_s):
            self._reporter.warn(
                "close", f"films were not finished within {timeout_s:g} s", RecordingFailedWarning
            )
        self._report()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _record(
        self,
        get: Callable[[], tuple[Any, bool]],
        step: Step,
        *,
        terminated: bool,
        truncated: bool,
    ) -> bool:
        if self._engine.is_inherited:
            return False
        take = self._open_take()
        taken = self._intake.record(take, get, step)
        if terminated or truncated:
            context = self._engine.context.now()
            take.mark_end(terminated=terminated, truncated=truncated, context=context)
        self._report()
        return taken

    def _clear(self, root: Path) -> None:
        try:
            catalog.clear(root, spare=_OPEN_RUNS)
        except (RollcamError, OSError) as error:
            self._reporter.failed(type(error).__name__, error)

    def _check_begin(self, path: Path | None) -> None:
        if self._closed:
            raise UsageError("begin() came after close(); make a new Recorder")
        if self._engine.take is not None:
            raise UsageError("begin() came while an episode is open; call end() before")
        if path is None and self._engine.folder is None:
            raise UsageError("this Recorder has no folder, so begin() needs a path")

    def _open_take(self) -> Take:
        if self._engine.take is None:
            raise UsageError("no episode is open; call begin() before")
        return self._engine.take

    def _report(self) -> None:
        if not self._engine.is_inherited:
            self._reporter.report(self._engine)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def _check_callable(name: str, value: Any, what: str) -> None:
    if value is not None and not callable(value):
        raise SettingError(f"{name} must be a callable {what}, not {value!r}")


def _check_type(name: str, value: Any, types: tuple[type, ...], what: str) -> None:
    is_number = isinstance(value, bool) and bool not in types
    if not isinstance(value, types) or is_number:
        raise SettingError(f"{name} must be {what}, not {value!r}")


def _finish(engine: Engine, run_id: str) -> None:
    _OPEN_RUNS.discard(run_id)
    if engine.is_inherited:
        return
    if not engine.close(CLOSE_S):
        logger.warning("films were not finished within %g s", CLOSE_S)
    for cause, problem in list(engine.problems):
        logger.warning("a recording failed (%s): %s", cause, problem)

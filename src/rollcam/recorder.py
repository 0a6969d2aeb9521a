"""`Recorder`: the engine for people with their own loop; every wrapper is an adapter on it."""

from __future__ import annotations

import logging
import multiprocessing.util
import os
import socket
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from rollcam._batch import Batch, make_batch
from rollcam._camera import Camera, Settings, with_index
from rollcam._checks import (
    check_callable,
    check_choice,
    check_count,
    check_encode_in,
    check_type,
)
from rollcam._context import ContextSource
from rollcam._engine import Engine
from rollcam._opening import Opening
from rollcam._report import Reporter
from rollcam.capture.keep import KeepPolicy
from rollcam.capture.rates import DEFAULT_FPS, checked_fps
from rollcam.encode.codecs import DEFAULT_QUALITY, Quality, choose_codec
from rollcam.encode.timeline import Timeline, as_rate
from rollcam.episode import (
    Context,
    EncodeIn,
    EpisodeCallback,
    Mode,
    OnError,
    OnFull,
    Writer,
    new_id,
)
from rollcam.errors import RecordingFailedWarning, SettingError
from rollcam.store.layout import Folder, NameTemplate

if TYPE_CHECKING:
    from rollcam._publication import Publication
    from rollcam.publish.sink import Sink

logger = logging.getLogger("rollcam")

QUEUE_BYTES = 64 * 2**20
"""Default bound of the frames that wait for the encoder, in bytes."""

CLOSE_S = 120.0
"""Default limit of `close`, in seconds."""

PUBLISH_S = 30.0
"""The part of it for which `close` waits for sinks, in seconds."""


class Recorder(Camera):
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
        threads: Background threads; more than one helps where several cameras film at once.
        encode_in: `"thread"`: films are encoded on a thread of this process. `"process"`: in a process of
            its own: a kill of the training then loses no frame that was handed over, and trainings
            that have a core to spare are faster. It costs 0.3 s of a core and 60 MB, once. Not on Windows.
        run_id: The run that the films belong to; default: a new one. Recorders in several processes
            that are given the same one are one run.
        max_bytes: Bound of the films' files of this run, in bytes: the oldest films go first, the
            newest one always stays.
        sinks: Where finished films are published, in the background: names such as `"wandb"`,
            `"mlflow"`, `"tensorboard:runs"`, `"trackio:project"`, `"folder:/mnt/films"`, or objects
            of `rollcam.sinks`. A film that has not arrived yet is not deleted by `keep` or
            `max_bytes`.

    Raises:
        SettingError: An argument cannot work.
        CodecUnavailable: The codec does not open on this machine.
        StoreError: The folder cannot be written to.
        MissingDependencyError: The package that a sink needs is not installed.

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
        threads: int = 1,
        encode_in: EncodeIn = "thread",
        run_id: str | None = None,
        max_bytes: int | None = None,
        sinks: Sequence[str | Sink] = (),
    ) -> None:
        check_choice("on_error", on_error, ("warn", "raise"))
        check_choice("on_full", on_full, ("block", "drop"))
        check_choice("mode", mode, ("train", "eval"))
        check_callable("keep", keep, "on the finished Episode")
        check_callable("on_finished", on_finished, "on the finished Episode")
        if not isinstance(context, Mapping):
            check_callable("context", context, "without arguments, or a mapping")
        _check_facts(metadata=metadata, env_spec=env_spec)
        _check_texts(name=name, env_id=env_id, worker=worker, run_id=run_id)
        check_type("name_prefix", name_prefix, (str,), "text")
        check_type("vector_index", vector_index, (int, NoneType), "a number")
        check_type("resume", resume, (bool,), "True or False")
        check_count("queue_bytes", queue_bytes, "a number of bytes")
        check_count("threads", threads, "a number of threads")
        check_encode_in(encode_in)
        if max_bytes is not None:
            check_count("max_bytes", max_bytes, "a number of bytes, or None")
        check_type("info_keys", info_keys, (tuple, list), "a tuple of keys")
        self.fps = checked_fps(DEFAULT_FPS if fps is None else fps, "fps")
        self.output_fps = self.fps if output_fps is None else checked_fps(output_fps, "output_fps")
        self.run_id = run_id or new_id()
        """Stands in the sidecar of every film of this run."""
        template = None if name is None else NameTemplate(name)
        timeline = Timeline(as_rate(self.fps), as_rate(self.output_fps))
        codec_choice = choose_codec(codec, quality)
        if folder is None and sinks:
            raise SettingError("sinks publish what lies in a folder; this Recorder has none")
        own_folder = None if folder is None else Folder(folder, self.run_id)
        reporter = Reporter(raises=on_error == "raise")
        opening = Opening(own_folder, reporter, sinks, self.run_id, clear=not resume)
        joins = run_id is not None and resume
        engine = Engine(
            own_folder,
            timeline,
            codec_choice,
            ContextSource(context),
            retention=opening.retention(keep, max_bytes, joins=joins),
            on_full=on_full,
            on_finished=on_finished,
            publish=opening.publish,
            queue_bytes=queue_bytes,
            n_threads=threads,
            encode_in=encode_in,
        )
        settings = Settings(
            run_id=self.run_id,
            writer=Writer(socket.gethostname(), os.getpid(), worker, vector_index),
            fps=self.fps,
            output_fps=self.output_fps,
            template=template,
            name_prefix=name_prefix,
            info_keys=tuple(info_keys),
            metadata=dict(metadata or {}),
            env_id=env_id,
            env_spec=env_spec,
            mode=mode,
        )
        super().__init__(engine, reporter, settings, opening)
        self._publication = opening.publication
        # Called when the recorder is dropped, and at the interpreter's end.
        self._finaliser = weakref.finalize(self, _finish, engine, self._publication)
        # `atexit` does not run in the children of multiprocessing before Python 3.13; this does.
        multiprocessing.util.Finalize(self, self._finaliser, exitpriority=10)

    @property
    def folder(self) -> Path | None:
        """The recordings folder."""
        return self._engine.folder.root if self._engine.folder else None

    def set_context(self, **values: Any) -> None:
        """Tell the trainer's counters as they stand now, such as `iteration` or `num_env_steps`."""
        self._engine.context.update(values)

    def camera(self, *, vector_index: int | None = None, worker: str | None = None) -> Camera:
        """Return another camera: it films one more environment at the same time.

        It shares the folder, the threads, the bound of memory and all settings with this recorder,
        whose `close` ends its films too. Nothing is to be told in order between cameras, and each
        may be used on a thread of its own.

        Args:
            vector_index: Index of the sub-environment, for the sidecar and the default name.
            worker: Name of the worker, for the sidecar.

        Raises:
            SettingError: An argument cannot work.
        """
        check_type("vector_index", vector_index, (int, NoneType), "a number")
        check_type("worker", worker, (str, NoneType), "text")
        settings = with_index(self._settings, vector_index, worker)
        return Camera(self._engine, self._reporter, settings, self._opening, owner=self)

    def batch(
        self,
        n: int,
        *,
        env_indices: Sequence[int] | None = None,
        worker: str | None = None,
    ) -> Batch:
        """Return cameras for environments that are rendered together, as `(N, H, W, 3)` frames.

        Args:
            n: Environments in a batch.
            env_indices: Those that may be filmed; default: all.
            worker: Name of the worker, for the sidecar.

        Raises:
            SettingError: An argument cannot work.
        """
        return make_batch(
            n, env_indices, lambda index: self.camera(vector_index=index, worker=worker)
        )

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
        """Finish what is open, publish what can be published, end the threads. May be called twice.

        Args:
            timeout_s: Limit of the wait, in seconds. What is not finished by then goes on in the
                background, and is recovered from `.rollcam/partial` if the process ends before.
                Sinks are waited for at most 30 s of it; what they do not take is sent later, by the
                next recorder or by `rollcam publish`.
        """
        deadline = time.monotonic() + timeout_s
        if not self._engine.close(timeout_s):
            self._reporter.warn(
                "close", f"films were not finished within {timeout_s:g} s", RecordingFailedWarning
            )
        if self._publication is not None:
            left = max(0.0, deadline - time.monotonic())
            self._publication.close(min(PUBLISH_S, left))
        self._engine.delete_settled()
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


def _check_facts(**given: object) -> None:
    for name, value in given.items():
        check_type(name, value, (Mapping, NoneType), "a mapping")


def _check_texts(**given: object) -> None:
    for name, value in given.items():
        check_type(name, value, (str, NoneType), "text")


def _finish(engine: Engine, publication: Publication | None) -> None:
    if engine.is_inherited:
        return
    if not engine.close(CLOSE_S):
        logger.warning("films were not finished within %g s", CLOSE_S)
    if publication is not None:
        # What a garbage collector started must not wait; the interpreter's end does.
        publication.close(wait=False)
    for cause, problem in list(engine.problems):
        logger.warning("a recording failed (%s): %s", cause, problem)

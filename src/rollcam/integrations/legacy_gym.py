"""gym's own recorders by their names, for gym 0.17 to 0.26: `VideoRecorder`, `Monitor`, `RecordVideo`.

None of them needs gym itself: they go by what the environment does.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollcam.capture.rates import file_fps, input_fps
from rollcam.encode.codecs import DEFAULT_QUALITY, Quality
from rollcam.episode import Episode, EpisodeStatus, OnError
from rollcam.errors import CaptureError, SettingError, StoreError
from rollcam.integrations._legacy_env import mode_of, renderer
from rollcam.integrations._legacy_monitor import Monitor
from rollcam.integrations._legacy_video import RecordVideo
from rollcam.recorder import Recorder

__all__ = ["Monitor", "RecordVideo", "VideoRecorder"]

_OPEN: weakref.WeakValueDictionary[str, VideoRecorder] = weakref.WeakValueDictionary()
"""The recorders that are open in this process, by the path of their film."""

_TEXT_HINT = (
    " HINT: The environment is text-only, therefore we're recording its text output in a structured "
    "JSON format (.json: asciicast v1, .cast: asciicast v2)."
)


class VideoRecorder:
    """Records a rollout frame by frame, as gym's class of that name did.

    `path` exists from the start and is itself the growing film: whoever reads it before `close`
    finds a file that plays and holds every frame captured so far. `close` replaces it by the
    finished one. A recorder that is dropped without `close`, or is open when the interpreter ends,
    finishes its file. Each frame is encoded before `capture_frame` returns; `RecordVideo` and
    `Recorder` are the ones that never wait.

    Args:
        env: Anything with `render` and `metadata`: a Gymnasium environment made with a
            `render_mode`, or an old gym environment with `render(mode=...)`.
        path: The film; its extension must be `.mp4`, or for text `.json` or `.cast`. Replaced when
            it exists. Default: a temporary file.
        metadata: Your own facts for the `.meta.json` beside the film; the dict is added to.
        enabled: `False` makes every method do nothing.
        base_path: The path without extension, which is added; instead of `path`.
        fps: Frames per second; default: the environment's metadata, else 30.
        output_fps: Rate of the file; default: the environment's metadata, else `fps`.
        codec: See `rollcam.Recorder`.
        quality: See `rollcam.Recorder`.
        on_error: `"warn"` or `"raise"`.

    Raises:
        SettingError: `path` and `base_path` were both given, the extension is wrong, or the
            environment's frame rate cannot work.
        StoreError: The path cannot be written to.
    """

    def __init__(
        self,
        env: Any,
        path: str | os.PathLike[str] | None = None,
        metadata: dict[str, Any] | None = None,
        enabled: bool = True,
        base_path: str | os.PathLike[str] | None = None,
        *,
        fps: float | None = None,
        output_fps: float | None = None,
        codec: str = "h264",
        quality: Quality = DEFAULT_QUALITY,
        on_error: OnError = "warn",
    ) -> None:
        self.enabled = enabled
        self.broken = False
        self.empty = True
        self.last_frame: Any = None
        self._closed = False
        if not enabled:
            return
        self.env = env
        env_metadata: Mapping[str, Any] = getattr(env, "metadata", None) or {}
        self._async = bool(env_metadata.get("semantics.async"))
        mode = mode_of(env, env_metadata)
        if mode is None:
            self.enabled = False
            return
        self.ansi_mode = mode == "ansi"
        self._render = renderer(env, mode)
        self.path = str(_path_of(path, base_path, self.ansi_mode))
        self.metadata_path = f"{os.path.splitext(self.path)[0]}.meta.json"
        self.frames_per_sec = input_fps(fps, env_metadata)
        self.output_frames_per_sec = file_fps(output_fps, env_metadata, self.frames_per_sec)
        self.metadata = {} if metadata is None else metadata
        self._recorder = Recorder(
            None,
            fps=self.frames_per_sec,
            output_fps=self.output_frames_per_sec,
            codec=codec,
            quality=quality,
            on_error=on_error,
            env_id=getattr(getattr(env, "spec", None), "id", None),
        )
        v1 = self.ansi_mode and self.path.endswith(".json")
        text_type = "video/vnd.openai.ansivid" if v1 else "application/x-asciicast"
        self.metadata["content_type"] = text_type if self.ansi_mode else "video/mp4"
        earlier = _OPEN.get(os.path.abspath(self.path))
        if earlier is not None:
            earlier.close()  # or the two films would destroy each other
        self._make_files()
        _OPEN[os.path.abspath(self.path)] = self
        # The dict itself: what is added to it until `close` stands in the sidecar, as with gym.
        self._recorder.begin(path=self.path, extra=self.metadata)

    @property
    def functional(self) -> bool:
        """Whether frames are still taken."""
        return self.enabled and not self.broken

    def capture_frame(self) -> None:
        """Render the environment and add the frame; on the disk when this returns."""
        if not self.functional or self._closed:
            return
        self._recorder.capture(self._render_once)
        self._recorder.flush()
        if self._recorder.error is not None:
            self.broken = True
        elif self._recorder.n_frames:
            self.empty = False

    def close(self) -> None:
        """Finish the film and write its metadata. May be called twice."""
        if not self.enabled or self._closed:
            return
        self._closed = True
        self.empty = self.broken = True
        try:
            try:
                future = self._recorder.end()
            finally:
                self._recorder.close()
            if future.done():
                self._take_over(future.result())
        finally:
            self.metadata.update(empty=self.empty, broken=self.broken)

    def write_metadata(self) -> None:
        """Write `metadata` to `metadata_path`; since `close`, beside the facts of the film."""
        told = dict(self.metadata)
        if self._closed:
            with open(self.metadata_path, encoding="utf-8") as file:
                told |= json.load(file)
        with open(self.metadata_path, "w", encoding="utf-8") as file:
            json.dump({str(key): value for key, value in told.items()}, file, default=str)

    def _make_files(self) -> None:
        """Make the empty film and its metadata: both, or neither."""
        path, metadata_path = Path(self.path), Path(self.metadata_path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            try:
                self.write_metadata()
            except OSError:
                path.unlink()
                metadata_path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StoreError(f"the film {path} cannot be written: {error}") from error

    def _take_over(self, episode: Episode) -> None:
        self.empty = episode.media is None
        self.broken = episode.status is EpisodeStatus.FAILED
        if episode.encoder_version is not None:
            self.metadata["encoder_version"] = dict(episode.encoder_version)

    def _render_once(self) -> Any:
        frame = self._render()
        if frame is None:
            if self._async:
                return None
            raise CaptureError(
                "the environment returned None from render(), which only environments with "
                'metadata["semantics.async"] may; the recording is marked as broken'
            )
        self.last_frame = frame[-1] if isinstance(frame, list) and frame else frame
        return frame


def _path_of(
    path: str | os.PathLike[str] | None, base_path: str | os.PathLike[str] | None, is_text: bool
) -> Path:
    allowed = (".json", ".cast") if is_text else (".mp4",)
    if path is not None and base_path is not None:
        raise SettingError("You can pass at most one of `path` or `base_path`.")
    if path is None and base_path is not None:
        path = f"{os.fspath(base_path)}{allowed[0]}"
    if path is None:
        handle, path = tempfile.mkstemp(suffix=allowed[0])
        os.close(handle)
    if os.path.splitext(path)[1] not in allowed:
        raise SettingError(
            f"Invalid path given: {os.fspath(path)} -- must have file extension "
            f"{' or '.join(allowed)}.{_TEXT_HINT if is_text else ''}"
        )
    return Path(path)

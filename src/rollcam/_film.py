"""One film in the making: frames in, a finished file out. Lives on the recorder's thread."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rollcam._place import Medium
from rollcam.capture.frames import BufferPool, Taken, letterboxed, to_rgb
from rollcam.darkroom.process import DarkroomLost
from rollcam.darkroom.room import RemoteEncoder
from rollcam.encode.canvas import PIX_FMT
from rollcam.encode.codecs import Codec
from rollcam.encode.faststart import MediaFacts
from rollcam.encode.timeline import Timeline
from rollcam.encode.video import Encoder, VideoEncoder
from rollcam.errors import FrameError
from rollcam.store.journal import Lines, Row
from rollcam.store.layout import replace_patiently

if TYPE_CHECKING:
    from rollcam.encode.cast import CastV1Writer, CastWriter

Frame = Taken | str

OpenEncoder = Callable[[Path, int, int, Timeline, Codec], Encoder]
"""Opens an encoder for a growing file, with the pictures' width and height."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, or the user's share of it, or the file may not grow any further."""


class Film:
    """Puts frames into a growing file and finishes it.

    After the first error it takes nothing more: the growing file is gone, and `error` says why.

    Args:
        grow_at: Returns the path of the growing file, once it is known of which kind it is.
        timeline: Rates of capture and of the file.
        codec: Encoder for pictures.
        pool: Gets back the memory of frames.
        text_suffix: `.cast` (asciicast v2) or `.json` (v1, as gym wrote it).
        title: Stands in the head of a text recording.
        open_encoder: Where pictures are encoded; default: on the thread that adds them.
    """

    def __init__(
        self,
        grow_at: Callable[[Medium], Path],
        timeline: Timeline,
        codec: Codec,
        pool: BufferPool,
        *,
        text_suffix: str = ".cast",
        title: str | None = None,
        open_encoder: OpenEncoder = VideoEncoder,
    ) -> None:
        self.error: Exception | None = None
        self.n_frames = 0
        self.medium: Medium | None = None
        self.partial: Path | None = None
        self._grow_at = grow_at
        self._timeline = timeline
        self._codec = codec
        self._pool = pool
        self._text_suffix = text_suffix
        self._title = title
        self._open_encoder = open_encoder
        self._video: Encoder | None = None
        self._cast: CastWriter | CastV1Writer | None = None
        self._size = (0, 0)
        _films.add(self)

    def add(
        self, frame: Frame, index: int, journal: Path | None = None, lines: Lines | None = None
    ) -> None:
        """Encode one frame; afterwards the growing file holds it.

        Args:
            frame: Belongs to the film from here on.
            index: Number of the captured frame; gaps are dropped frames.
            journal: The film's journal, where another process encodes; `None` for none.
            lines: What that process appends to it, before it encodes the frame.
        """
        try:
            if self.error is None:
                self._add(frame, index, journal, lines)
                self.n_frames += 1
        except DarkroomLost as error:
            # What the process wrote by then is worth keeping.
            self.error = error
        except Exception as error:  # noqa: BLE001 - whatever fails must cost this film only, never the thread
            self.discard(error)
        finally:
            if isinstance(frame, Taken):
                self._pool.give_back(frame.buffer)

    def hand_over(
        self, frame: Frame, index: int, journal: Path | None, lines: Lines, row: Row
    ) -> bool:
        """Hand a frame to an encoder in another process, if that takes no waiting.

        May be called on the training thread, while no frame of this film is on its way to `add`.

        Args:
            frame: Stays the caller's.
            index: Number of the captured frame.
            journal: The film's journal; `None` for none.
            lines: What is appended to it before the frame is encoded.
            row: The frame's own row, which comes after them.

        Returns:
            Whether it was; if not, `add` takes it.
        """
        video = self.elsewhere
        if video is None or not isinstance(frame, Taken) or self.error:
            return False
        array = frame.array
        if not frame.layout.is_plain or array.dtype != np.uint8:
            return False
        taken = video.hand_over(array, index, journal, lines, row)
        self.n_frames += taken
        return taken

    def settle(self, n_captured: int) -> None:
        """Wait for the frames that another process has; what went wrong with one stands in `error`.

        Args:
            n_captured: Frames captured, dropped ones included.
        """
        if self.elsewhere is not None and self.error is None:
            try:
                self.elsewhere.settle(n_captured)
            except DarkroomLost as error:
                self.error = error
            except Exception as error:  # noqa: BLE001 - as in `add`
                self.discard(error)

    def discard(self, error: Exception | None = None) -> None:
        """Give the film up: nothing of it stays on the disk."""
        self.error = self.error or error
        # Gone already, or with its folder.
        with contextlib.suppress(OSError):
            self.remove()

    def remove(self) -> None:
        """Close and delete the growing file."""
        self.close()
        if self.partial is not None:
            self.partial.unlink(missing_ok=True)

    def let_go(self) -> None:
        """The growing file is gone, since the film lies in its place."""
        self.partial = None
        self.close()

    @property
    def is_text(self) -> bool:
        """Whether the film is one of text."""
        return self._cast is not None

    @property
    def elsewhere(self) -> RemoteEncoder | None:
        """The encoder in another process; `None` while there is none."""
        return self._video if isinstance(self._video, RemoteEncoder) else None

    def finish(self, n_captured: int, make_target: Callable[[str], Path]) -> MediaFacts:
        """Finish the file.

        Args:
            n_captured: Frames captured, dropped ones included.
            make_target: Returns where the finished file goes for an extension; that path is not
                yet its final name.

        Raises:
            RollcamError: It could not be finished.
            OSError: The disk is full, or gone.
        """
        assert self.medium is not None
        assert self.partial is not None
        target = make_target(self.medium.suffix)
        try:
            if self._video is not None:
                return self._finish_video(self._video, n_captured, target)
            return self._finish_cast(n_captured, target)
        except BaseException:
            # The one of the two that grew holds everything, unless it was renamed.
            if target != self.partial and self.partial.exists():
                target.unlink(missing_ok=True)
            raise

    def _add(self, frame: Frame, index: int, journal: Path | None, lines: Lines | None) -> None:
        if isinstance(frame, str):
            self._add_text(frame, index)
        else:
            self._add_picture(frame, index, journal, lines)

    def _add_picture(
        self, frame: Taken, index: int, journal: Path | None, lines: Lines | None
    ) -> None:
        picture = to_rgb(frame)
        if self._video is None:
            if self._cast is not None:
                raise FrameError("a picture came into an episode that began with text")
            height, width = self._size = picture.shape[:2]
            self.medium = Medium(
                ".mp4", "video/mp4", self._codec.family, PIX_FMT, self._codec.version()
            )
            self.partial = self._grow_at(self.medium)
            self._video = self._open_encoder(
                self.partial, width, height, self._timeline, self._codec
            )
        boxed = letterboxed(picture, *self._size)
        if isinstance(self._video, RemoteEncoder):
            self._video.add(boxed, index, journal, lines)
            return
        self._video.add(boxed, index)
        # For each frame, even while more wait: whatever kills the process, what was encoded stays.
        self._video.flush()

    def _add_text(self, text: str, index: int) -> None:
        if self._cast is None:
            if self._video is not None:
                raise FrameError("text came into an episode that began with pictures")
            self._cast = self._open_cast()
        self._cast.add(text, float(index / self._timeline.rate))

    def _open_cast(self) -> CastWriter | CastV1Writer:
        from rollcam.encode.cast import CastV1Writer, CastWriter

        is_v1 = self._text_suffix == ".json"
        content_type = "video/vnd.openai.ansivid" if is_v1 else "application/x-asciicast"
        version = {"backend": "rollcam", "format": "asciicast", "version": 1 if is_v1 else 2}
        self.medium = Medium(self._text_suffix, content_type, "asciicast", None, version)
        self.partial = self._grow_at(self.medium)
        if is_v1:
            return CastV1Writer(self.partial, fps=float(self._timeline.rate))
        return CastWriter(self.partial, title=self._title)

    def _finish_video(self, video: Encoder, n_captured: int, target: Path) -> MediaFacts:
        assert self.partial is not None
        end = video.finish(n_captured)
        try:
            return video.deliver(target, end)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
        # There is no room for a copy. What grew holds every frame and plays, so it is the film.
        target.unlink(missing_ok=True)
        facts = video.deliver(None, end)
        if target != self.partial:
            replace_patiently(self.partial, target)
        return facts

    def _finish_cast(self, n_captured: int, target: Path) -> MediaFacts:
        assert self._cast is not None
        assert self.partial is not None
        duration_s = float(n_captured / self._timeline.rate)
        self._cast.finish(duration_s)
        self._cast.close()
        if target != self.partial:
            replace_patiently(self.partial, target)
        return MediaFacts(
            self._cast.width,
            self._cast.height,
            self._cast.n_frames,
            duration_s,
            target.stat().st_size,
            hashlib.sha256(target.read_bytes()).hexdigest(),
        )

    def close(self) -> None:
        """Close the growing file as it is. May be called twice."""
        for writer in (self._video, self._cast):
            if writer is not None:
                writer.close()


_films: weakref.WeakSet[Film] = weakref.WeakSet()


def _never_free_inherited() -> None:
    """In a forked child: take a reference to the parent's films that is never given back.

    To free an encoder is to wait for its threads, and those were not inherited: a child that ends
    with `sys.exit`, or collects garbage, would hang (SVT-AV1 keeps threads of its own at any
    setting). What is on the disk is the parent's, and nothing here closes it.
    """
    for film in list(_films):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(film))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_never_free_inherited)

"""Films that do not play, made into films that do."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rollcam.encode.probe import MediaReport, probe
from rollcam.encode.rewrite import (
    CannotCopyError,
    FrameReader,
    Progress,
    Written,
    copy_film,
    encode_film,
)
from rollcam.encode.salvage import Salvage
from rollcam.errors import EncoderFailed, MediaError, SettingError

Action = Literal["none", "remux", "encode"]

_COPYABLE = ("h264", "vp9", "av1")
_COPY_MENDS = frozenset({"container", "truncated"})
_NOTES_TO_MEND = frozenset(
    {"late-start", "fragmented", "moov-at-end", "no-duration", "torn-tail", "untagged-colours"}
)
_NOTHING_TO_MEND = frozenset(
    {
        "not-a-file", "empty-file", "text-file", "not-media", "no-video", "no-frames", "unreadable",
        "cast",
    }
)  # fmt: skip
_MAX_CRF = 51
_IN_PLACE = (".mp4", ".m4v")
_GUESSED_COLOURS = (
    "The colours were not tagged; they are now, as BT.601, which Gymnasium, moviepy, imageio and "
    "OpenCV write."
)


@dataclass(frozen=True, slots=True)
class TranscodeResult:
    """What `transcode` did with a file."""

    source: Path
    """The file that was given."""
    target: Path
    """The file that plays; the same as `source` when nothing was to be done, or in place."""
    action: Action
    """`none` (it was right), `remux` (copied without loss), or `encode`."""
    n_frames: int
    """Frames in `target`, counted."""
    duration_s: float | None
    """Length of `target`, in seconds."""
    size_bytes: int
    """Of `target`."""
    notes: tuple[str, ...] = ()
    """What the user should know, one sentence each."""


def transcode(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    in_place: bool = False,
    crf: int = 23,
    like: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> TranscodeResult:
    """Make a film that every browser plays out of one that some do not.

    What is right already is left alone; what only lies wrong in its file is copied without loss;
    anything else that FFmpeg reads is encoded as H.264. Every frame keeps its time. A text
    recording is drawn. The original is never touched, unless `in_place`, and then it is replaced
    in one step by a film that was read back and counted.

    Args:
        source: The film.
        target: The MP4 to write, which must not exist; by default `NAME-playable.mp4` beside the
            source, or the next free `NAME-playable_2.mp4`.
        in_place: Replace the source. Refused where frames would be lost.
        crf: Quality where it has to be encoded, 1 (best) to 51.
        like: A finished film by the same recorder, for a file whose index (`moov`) is missing. By
            default the films in the same folder are tried.
        progress: Called in this thread with the frames done and how many there are, if known.

    Returns:
        What was done, and where the film is.

    Raises:
        SettingError: The arguments cannot go together.
        MediaError: The file is missing, or there is nothing in it that could be mended.
        CodecUnavailable: This build of FFmpeg has no H.264 encoder.
        EncoderFailed: The encoder or the disk gave up; nothing is left of the target.
        MissingDependencyError: A text recording needs the extra `text`.
    """
    source = Path(source)
    wanted = None if target is None else Path(target)
    _check_settings(source, wanted, in_place=in_place, crf=crf)
    before = probe(source)
    action = _plan(before)
    if action == "none":
        return _result(before, before, "none", ("It plays already; nothing was done.",))
    job = _Job(before, crf, None if like is None else Path(like), in_place, progress)
    action, notes, after, place = _written(job, action, source, wanted)
    return _result(before, after, action, notes, place)


def _check_settings(source: Path, target: Path | None, *, in_place: bool, crf: int) -> None:
    if isinstance(crf, bool) or not isinstance(crf, int) or not 1 <= crf <= _MAX_CRF:
        # 0 would be lossless, which H.264 stores in a profile that browsers do not play.
        raise SettingError(f"crf must be a whole number from 1 (best) to {_MAX_CRF}, not {crf!r}")
    if in_place and target is not None:
        raise SettingError("give a target or in_place, not both")
    if in_place and source.suffix.lower() not in _IN_PLACE:
        raise SettingError(
            f"{source.name} cannot be mended in place: the mended film is an MP4, and a name that "
            f"ends in {source.suffix or 'nothing'} would lie; leave in_place out"
        )
    if target is not None and target.suffix.lower() not in _IN_PLACE:
        raise SettingError(f"the target must end in .mp4, since that is what it is, not {target}")
    if target is not None and os.path.lexists(target):
        raise SettingError(f"{target} exists; choose another name, or delete it first")


def _plan(report: MediaReport) -> Action:
    slugs = {problem.slug for problem in report.problems}
    if slugs & _NOTHING_TO_MEND:
        raise MediaError(f"{report.path} cannot be mended. {report.problems[0].message}")
    if report.kind == "text":
        return "encode"
    if slugs - _COPY_MENDS:
        return "encode"
    mendable = {note.slug for note in report.notes} & _NOTES_TO_MEND
    if report.codec != "h264":
        mendable -= {"untagged-colours"}
    if not slugs and not mendable:
        return "none"
    return "remux" if report.codec in _COPYABLE else "encode"


@dataclass(frozen=True, slots=True)
class _Job:
    """Writes the mended film into a temporary file, and reads it back."""

    before: MediaReport
    crf: int
    like: Path | None
    in_place: bool
    progress: Callable[[int, int | None], None] | None

    def write(self, temporary: Path, action: Action) -> tuple[Action, tuple[str, ...], MediaReport]:
        notes = self._sound_note()
        if action == "remux":
            try:
                written = self._copy(temporary)
                after = self._verified(temporary, written)
            except (CannotCopyError, _UnverifiedError):
                action = "encode"  # its packets are odder than the probe could see
        if action == "encode":
            written = self._encode(temporary)
            after = self._verified(temporary, written)
        return action, (*notes, *written.notes), after

    def _copy(self, temporary: Path) -> Written:
        tag = self.before.codec == "h264" and self.before.color_space is None
        written = copy_film(
            self.before.path,
            temporary,
            tag_bt601=tag,
            progress=self._progress(self.before.n_frames),
        )
        if written.n_frames < self.before.n_frames:
            raise CannotCopyError("not every packet could be copied")
        return Written(written.n_frames, (_GUESSED_COLOURS,)) if tag else written

    def _encode(self, temporary: Path) -> Written:
        if self.before.kind == "text":
            return self._draw(temporary)
        if self.before.has_moov is False:
            return self._salvage(temporary)
        reader = FrameReader(self.before.path)
        progress = self._progress(self.before.n_frames)
        written = encode_film(
            reader, temporary, rate=lambda: reader.rate, crf=self.crf, progress=progress
        )
        lost = self.before.n_frames - written.n_frames
        if lost <= 0:
            return written
        if self.in_place:
            raise MediaError(
                f"{lost} of {self.before.n_frames} frames of {self.before.path} cannot be decoded, "
                "so it was not replaced; leave in_place out to save the others in a new file"
            )
        note = f"{lost} of {self.before.n_frames} frames are damaged and could not be saved."
        return Written(written.n_frames, (*written.notes, note))

    def _salvage(self, temporary: Path) -> Written:
        salvage = Salvage(self.before.path, self.like)
        recipe = salvage.recipe
        written = encode_film(
            salvage,
            temporary,
            rate=lambda: recipe.rate,
            crf=self.crf,
            progress=self._progress(None),
        )
        origin = (
            f"taken from {recipe.learned_from.name}"
            if recipe.learned_from is not None
            else "guessed, since no finished film was there to learn it from"
        )
        notes = [
            f"The index was missing; {written.n_frames} frames were found without it. Their rate "
            f"({float(recipe.rate):g} per second) is {origin}."
        ]
        # The recorder was killed while it wrote the last one; any other is a loss.
        if salvage.n_damaged > 1:
            if self.in_place:
                raise MediaError(
                    f"{salvage.n_damaged} frames of {self.before.path} are damaged, so it was not "
                    "replaced; leave in_place out to save the others in a new file"
                )
            notes.append(f"{salvage.n_damaged} frames are damaged and could not be saved.")
        return Written(written.n_frames, (*written.notes, *notes))

    def _draw(self, temporary: Path) -> Written:
        from rollcam.encode.raster import rasterise

        # The drawing may repeat the last frame, for players that do not show it otherwise.
        drawn = rasterise(self.before.path, temporary)
        return Written(max(drawn, probe(temporary).n_frames))

    def _verified(self, temporary: Path, written: Written) -> MediaReport:
        """Read the film back: closing a file on a full disk can be silent (playback.md 3)."""
        after = probe(temporary)
        if not after.plays or after.n_frames != written.n_frames:
            why = after.problems[0].message if after.problems else "Is the disk full?"
            raise _UnverifiedError(
                f"the mended film of {self.before.path} holds {after.n_frames} frames where "
                f"{written.n_frames} were written, and was thrown away. {why}"
            )
        return after

    def _progress(self, total: int | None) -> Progress | None:
        report = self.progress
        return None if report is None else lambda done: report(done, total)

    def _sound_note(self) -> tuple[str, ...]:
        if not self.before.n_other_streams:
            return ()
        return ("Sound, subtitles and further pictures were left out.",)


class _UnverifiedError(EncoderFailed):
    """What was written is not what was to be written."""


def _written(
    job: _Job, action: Action, source: Path, target: Path | None
) -> tuple[Action, tuple[str, ...], MediaReport, Path]:
    """Write the film beside where it will be, and give it its name there."""
    # A link stays a link: the file that it points to is the one to replace.
    folder = (source.resolve() if job.in_place else target or source).parent
    temporary = folder / f".rollcam-{uuid.uuid4().hex}.mp4"
    try:
        action, notes, after = job.write(temporary, action)
        with open(temporary, "rb+") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        place = _publish(temporary, source, target, in_place=job.in_place)
    except OSError as error:
        detail = error.strerror or error
        raise EncoderFailed(f"the mended film cannot be written into {folder}: {detail}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return action, notes, after, place


def _publish(temporary: Path, source: Path, target: Path | None, *, in_place: bool) -> Path:
    """Give the finished film its name, in one step and over nobody's file but the source."""
    if in_place:
        original = source.resolve()
        shutil.copymode(original, temporary)
        os.replace(temporary, original)
        return source
    place = _claim(source, target)
    try:
        os.replace(temporary, place)
    except OSError:
        place.unlink(missing_ok=True)
        raise
    return place


def _claim(source: Path, target: Path | None) -> Path:
    """Create an empty file under a name that was free: the one way that no other can take it."""
    n = 1
    while True:
        suffix = "" if n == 1 else f"_{n}"
        place = target or source.with_name(f"{source.stem}-playable{suffix}.mp4")
        try:
            with open(place, "xb"):
                return place
        except FileExistsError:
            if target is not None:
                raise
            n += 1


def _result(
    before: MediaReport,
    after: MediaReport,
    action: Action,
    notes: tuple[str, ...],
    place: Path | None = None,
) -> TranscodeResult:
    return TranscodeResult(
        source=before.path,
        target=place or before.path,
        action=action,
        n_frames=after.n_frames,
        duration_s=after.duration_s,
        size_bytes=after.size_bytes,
        notes=notes,
    )

"""Will a browser play it, and if not, why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rollcam.encode.boxes import Mp4Layout, read_layout
from rollcam.encode.cast import read_cast
from rollcam.encode.streams import StreamFacts, read_stream
from rollcam.errors import MediaError

# What Chromium and Firefox play, as measured (research/playback.md, section 2).
_CODECS = {"mp4": ("h264", "vp9", "av1"), "webm": ("vp8", "vp9", "av1")}
_UNPLAYED = {
    "mpeg4": "MPEG-4 Part 2 (as old gym and OpenCV write it), which no browser plays",
    "hevc": "HEVC (H.265), which only some browsers play",
}
_PIX_FMTS = ("yuv420p", "yuvj420p")
_IMAGES = ("gif", "apng", "png", "jpeg", "image2", "webp", "bmp", "ppm", "tiff")
_LATE_FRAMES = 0.5
"""Share of a frame by which the first one may stand late without a seek hitting another."""
_MENDS = "`rollcam transcode` mends it"
_CONVERTS = "`rollcam transcode` makes an H.264 film of it"
_SNIFF_BYTES = 4096
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\b\x1b")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file, or could be better."""

    slug: str
    """Short name for programs, such as `moov-missing`."""
    message: str
    """One sentence: what it is, what was expected, what to do."""


@dataclass(frozen=True, slots=True)
class MediaReport:
    """What a file is, and whether browsers play it."""

    path: Path
    """The file."""
    kind: Literal["video", "text", "unknown"]
    """`video`, `text` (an asciicast), or `unknown`."""
    plays: bool
    """Whether every browser plays it; the same as having no `problems`."""
    size_bytes: int
    """Of the file."""
    problems: tuple[Problem, ...] = ()
    """Why it does not play."""
    notes: tuple[Problem, ...] = ()
    """It plays, but."""
    container: str | None = None
    """`mp4`, `webm`, `mkv`, `mov`, `gif`, `asciicast-v2`, or FFmpeg's name."""
    codec: str | None = None
    """FFmpeg's name, such as `h264`."""
    profile: str | None = None
    """Of the codec, such as `High`."""
    pix_fmt: str | None = None
    """Pixel format, such as `yuv420p`."""
    width: int | None = None
    """In pixels; columns for text."""
    height: int | None = None
    """In pixels; rows for text."""
    fps: float | None = None
    """Frames per second, on average; None for text."""
    n_frames: int = 0
    """Frames that are there to their last byte, counted."""
    duration_s: float | None = None
    """From the start of the first frame to the end of the last, in seconds."""
    has_moov: bool | None = None
    """Whether the MP4 has its index (`moov`); None for other containers."""
    faststart: bool | None = None
    """Whether `moov` stands before the samples; None for other containers."""
    fragmented: bool = False
    """Whether the MP4 is in fragments, as while it is being recorded."""
    has_b_frames: bool = False
    """Whether frames are stored in another order than they are shown."""
    n_other_streams: int = 0
    """Sound, subtitles and further pictures."""
    color_space: str | None = None
    """Matrix that RGB was converted with; None when the file does not say."""
    color_primaries: str | None = None
    """What red, green and blue are; None when the file does not say."""
    color_trc: str | None = None
    """Transfer function; None when the file does not say."""
    color_range: str | None = None
    """`tv` (16 to 235) or `pc` (0 to 255); None when the file does not say."""


def probe(path: str | os.PathLike[str]) -> MediaReport:
    """Say what a file is and whether browsers play it. A bad file is reported, never raised.

    Every packet is read and counted; only the first frame is decoded.

    Args:
        path: A film or an asciicast, of any origin.

    Raises:
        MediaError: There is nothing at `path`.
    """
    path = Path(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError(f"there is no file {path}; was it moved or renamed?") from error
    except OSError as error:
        return _unreadable(path, error)
    report = MediaReport(path, "unknown", plays=False, size_bytes=status.st_size)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        what = "folder" if stat.S_ISDIR(status.st_mode) else "device or pipe"
        return _failed(report, "not-a-file", f"This is a {what}, where a media file was expected.")
    if not status.st_size:
        message = "The file is empty: its recorder died, or the disk was full, before the first frame was written."
        return _failed(report, "empty-file", message)
    try:
        return _probe_content(report)
    except OSError as error:
        return _unreadable(path, error)


def _probe_content(report: MediaReport) -> MediaReport:
    path = report.path
    with open(path, "rb") as file:
        head = file.read(_SNIFF_BYTES)
    if _is_text(head) or path.suffix.lower() == ".cast":
        return _probe_text(report, head)
    layout = read_layout(path)
    if layout is not None and layout.moov is None:
        message = (
            "The MP4 has no index (`moov`): its recorder was killed or ran out of disk before it "
            "closed the file; `rollcam transcode --like GOOD.mp4` can mend it with the help of "
            "another film by the same recorder."
        )
        report = replace(report, kind="video", container="mp4", has_moov=False, faststart=False)
        return _failed(report, "moov-missing", message)
    try:
        facts = read_stream(path)
    except MediaError as error:
        message = f"This is no media file, or a damaged one ({error}); copy it anew."
        return _failed(report, "not-media", message)
    if facts is None:
        return _failed(report, "no-video", "There is sound or text in this file, but no video.")
    return _judge(_describe(report, layout, facts, head), layout, facts)


def _describe(
    report: MediaReport, layout: Mp4Layout | None, facts: StreamFacts, head: bytes
) -> MediaReport:
    return replace(
        report,
        kind="video",
        container=_container(facts.format, layout, head),
        codec=facts.codec,
        profile=facts.profile,
        pix_fmt=facts.pix_fmt,
        width=facts.width,
        height=facts.height,
        fps=float(facts.rate),
        n_frames=facts.n_frames,
        duration_s=float(facts.duration_s),
        has_moov=None if layout is None else layout.moov is not None,
        faststart=None if layout is None else layout.faststart,
        fragmented=layout is not None and layout.fragmented,
        has_b_frames=facts.reorders,
        n_other_streams=facts.n_other_streams,
        color_space=facts.color_space,
        color_primaries=facts.color_primaries,
        color_trc=facts.color_trc,
        color_range=facts.color_range,
    )


def _container(name: str, layout: Mp4Layout | None, head: bytes) -> str:
    if name.startswith("mov,mp4"):
        return "mov" if layout is not None and layout.brand == "qt  " else "mp4"
    if name.startswith("matroska"):
        return "webm" if b"webm" in head[:64] else "mkv"  # EBML's DocType stands there
    return name.partition(",")[0].removesuffix("_pipe")


def _judge(report: MediaReport, layout: Mp4Layout | None, facts: StreamFacts) -> MediaReport:
    problems = [*_content_problems(report, facts)]
    if not problems:  # what the browser cannot open need not be whole
        problems = [*_wholeness_problems(report, facts)]
    notes = [] if problems else [*_layout_notes(report, facts), *_picture_notes(report, facts)]
    return replace(report, plays=not problems, problems=tuple(problems), notes=tuple(notes))


def _content_problems(report: MediaReport, facts: StreamFacts) -> Iterator[Problem]:
    container, codec = report.container or "", report.codec or ""
    if container in _IMAGES:
        yield Problem(
            "image",
            f"This is a picture ({container.upper()}), which no <video> plays; {_CONVERTS}.",
        )
        return
    if codec not in {name for names in _CODECS.values() for name in names}:
        label = _UNPLAYED.get(codec, f"{codec}, which browsers do not play")
        yield Problem(
            "codec", f"It is coded as {label}; expected H.264, VP9 or AV1, and {_CONVERTS}."
        )
    elif codec not in _CODECS.get(container, ()):
        yield Problem(
            "container",
            f"The container is {container} with {codec}, which not every browser opens or seeks "
            f"in; expected MP4 or WebM, and {_MENDS}.",
        )
    # Without a frame that decodes, FFmpeg does not know the format.
    if facts.pix_fmt and facts.pix_fmt not in _PIX_FMTS and codec in ("h264", "vp8", "vp9", "av1"):
        yield Problem(
            "pixel-format",
            f"The pixels are stored as {facts.pix_fmt}, which many players refuse or show in "
            f"wrong colours; expected 8-bit yuv420p, and {_MENDS}.",
        )


def _wholeness_problems(report: MediaReport, facts: StreamFacts) -> Iterator[Problem]:
    if not facts.n_frames:
        yield Problem(
            "no-frames",
            "There is not one whole frame in this file: its recorder was closed, or died, before "
            "the first one.",
        )
    elif not facts.decodes:
        yield Problem(
            "damaged",
            "The first frame cannot be decoded: the file's content is damaged, as after a power "
            "cut or a broken copy; copy it anew from where it came from.",
        )
    elif missing := _missing(report, facts):
        yield Problem(
            "truncated",
            f"The file is cut off: {missing}; copy it anew, or `rollcam transcode` saves what is "
            "there.",
        )


def _missing(report: MediaReport, facts: StreamFacts) -> str | None:
    """Say what is missing, if something is, from a file that was finished once."""
    if report.fragmented:
        return None
    n_shown = facts.n_declared - facts.n_hidden
    if facts.n_declared and facts.n_frames < n_shown:
        return f"{facts.n_frames} of {n_shown} frames are there"
    # Sound may last longer than the picture, so the container's length says nothing then.
    if facts.declared_s and not facts.n_other_streams and not facts.n_declared:
        frames = (facts.declared_s - facts.start_s - facts.duration_s) * facts.rate
        if frames > 1.5:
            return f"{facts.n_frames} frames are there, {round(frames)} less than it says"
    return None


def _layout_notes(report: MediaReport, facts: StreamFacts) -> Iterator[Problem]:
    if facts.start_s * facts.rate > _LATE_FRAMES:
        yield Problem(
            "late-start",
            f"The first frame stands at {float(facts.start_s):.3f} s instead of 0, as B-frames in "
            f"fragments cause it, so a seek shows the wrong frame; {_MENDS}.",
        )
    if report.fragmented:
        yield Problem(
            "fragmented",
            f"The MP4 is in fragments, as while it was recorded: larger, and without one index "
            f"for seeking; {_MENDS} without loss.",
        )
    elif report.faststart is False:
        yield Problem(
            "moov-at-end",
            f"The index (`moov`) stands at the end, so a browser has to fetch the end first; "
            f"{_MENDS} without loss.",
        )
    if report.container == "webm" and facts.declared_s is None:
        yield Problem(
            "no-duration",
            f"The WebM does not say how long it is, since its recorder was killed, so players "
            f"cannot seek well; {_MENDS} without loss.",
        )
    if facts.torn:
        yield Problem(
            "torn-tail",
            f"The file ends in the middle of a frame; the {facts.n_frames} before it play, and "
            f"`rollcam transcode` keeps them.",
        )


def _picture_notes(report: MediaReport, facts: StreamFacts) -> Iterator[Problem]:
    if facts.color_space is None:
        remedy = f"{_MENDS} without loss" if facts.codec == "h264" else "record it with tags"
        yield Problem(
            "untagged-colours",
            "The file does not say which colour matrix it was made with, so browsers guess, and "
            f"pure red becomes (255, 24, 0) in some; {remedy}.",
        )
    if facts.width % 2 or facts.height % 2:
        yield Problem(
            "odd-size",
            f"The size is odd ({facts.width}x{facts.height}): {report.codec} plays like that, but "
            "it could not be turned into H.264 without padding.",
        )


def _probe_text(report: MediaReport, head: bytes) -> MediaReport:
    suffix = report.path.suffix.lower()
    if suffix not in (".cast", ".json") and not head.lstrip().startswith(b'{"version"'):
        message = (
            f"This is a text file, whatever its name says ({report.path.suffix or 'no suffix'}); "
            "a film or an asciicast was expected."
        )
        return _failed(report, "text-file", message)
    report = replace(report, kind="text")
    try:
        cast = read_cast(report.path)
    except MediaError as error:
        return _failed(report, "cast", f"{str(error).rstrip('.')}; record it anew.")
    report = replace(
        report,
        container=f"asciicast-v{cast.version}",
        width=cast.width,
        height=cast.height,
        n_frames=len(cast.frames),
        duration_s=cast.duration_s,
    )
    if not cast.frames:
        return _failed(report, "no-frames", "The asciicast has a header, but not one frame.")
    torn = Problem(
        "torn-line",
        f"The last line is cut off, since its recorder was killed; the {len(cast.frames)} frames "
        "before it play.",
    )
    return replace(report, plays=True, notes=(torn,) if cast.torn else ())


def _is_text(head: bytes) -> bool:
    if any(byte < 32 and byte not in _TEXT_CONTROLS for byte in head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # a character that the sample cuts in two
    return True


def _failed(report: MediaReport, slug: str, message: str) -> MediaReport:
    return replace(report, plays=False, problems=(*report.problems, Problem(slug, message)))


def _unreadable(path: Path, error: OSError) -> MediaReport:
    report = MediaReport(path, "unknown", plays=False, size_bytes=0)
    message = f"The file cannot be read: {error.strerror or error}; look at its permissions."
    return _failed(report, "unreadable", message)

"""Short animated pictures of a film, for trackers that show images and no films."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from rollcam.encode.rewrite import FrameReader, Shown
from rollcam.errors import MediaError, require

MAX_SIDE = 240
"""Longer side of a preview in pixels."""
MAX_PICTURES = 200
"""A longer film keeps its speed and shows fewer pictures of each second."""
MAX_BYTES = 4 * 2**20
"""A larger preview is made again with every second picture."""
_MAX_RATE = 10

PreviewFormat = Literal["apng", "webp"]


@dataclass(frozen=True, slots=True)
class Preview:
    """An animated picture."""

    data: bytes
    """The file."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""


def read_pictures(film: Path, *, extra: str) -> list[tuple[Any, float]]:
    """Read pictures of a film, evenly spread over it and scaled down.

    Args:
        film: The film.
        extra: The extra of Rollcam that brings Pillow to whoever asks.

    Returns:
        Pillow images, each with the time that it is shown, in seconds.

    Raises:
        MediaError: There is no picture in it.
        MissingDependencyError: Pillow is not installed.
    """
    image_module = require("PIL.Image", extra=extra, package="pillow")
    gap = Fraction(1, _MAX_RATE)
    kept: list[tuple[Any, Fraction]] = []
    end = Fraction(0)
    for shown in FrameReader(film):
        end = shown.at_s + shown.duration_s
        if kept and shown.at_s < kept[-1][1] + gap:
            continue
        if len(kept) == MAX_PICTURES:
            kept, gap = kept[::2], gap * 2
            if shown.at_s < kept[-1][1] + gap:
                continue
        kept.append((image_module.fromarray(_scaled(shown)), shown.at_s))
    if not kept:
        raise MediaError(f"{film} holds no picture that could be shown")
    ends = [at for _, at in kept[1:]] + [max(end, kept[-1][1] + gap)]
    return [(image, float(until - at)) for (image, at), until in zip(kept, ends, strict=True)]


def animate(pictures: list[tuple[Any, float]], kind: PreviewFormat) -> Preview:
    """Write pictures into one animated file that repeats for ever.

    Args:
        pictures: As `read_pictures` returns them.
        kind: `apng` (what TensorBoard's image tab animates) or `webp`.
    """
    while True:
        images = [image for image, _ in pictures]
        file = io.BytesIO()
        options: dict[str, Any] = {"quality": 60} if kind == "webp" else {}
        images[0].save(
            file,
            format="WEBP" if kind == "webp" else "PNG",
            save_all=True,
            append_images=images[1:],
            duration=[round(shown_s * 1000) for _, shown_s in pictures],
            loop=0,
            **options,
        )
        if file.tell() <= MAX_BYTES or len(pictures) <= 2:
            return Preview(file.getvalue(), images[0].width, images[0].height)
        pictures = _halved(pictures)


def _halved(pictures: list[tuple[Any, float]]) -> list[tuple[Any, float]]:
    """Return every second picture, shown for the time of the next one as well."""
    return [
        (pictures[i][0], sum(shown_s for _, shown_s in pictures[i : i + 2]))
        for i in range(0, len(pictures), 2)
    ]


def _scaled(shown: Shown) -> Any:
    picture = shown.picture
    scale = min(1.0, MAX_SIDE / max(picture.width, picture.height))
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.reformat(width=width, height=height, format="rgb24").to_ndarray()

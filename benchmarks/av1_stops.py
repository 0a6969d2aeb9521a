"""How often does SVT-AV1 stop for good under load, and what does it cost the films?

`python -m benchmarks.av1_stops 300`: films of both sizes from ten processes at once, for that many
seconds; every film is decoded. Not a part of `make bench`: see docs/decisions/0005-codec-and-quality.md.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

N_FRAMES, N_PROCESSES = 30, 10
SIZES = ((256, 192), (1280, 720))


class _Count(logging.Handler):
    n = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.n += " stopped, " in record.getMessage()


def _film(size: tuple[int, int], seconds: float, answers: Any) -> None:
    from rollcam.encode.codecs import choose_codec
    from rollcam.encode.timeline import Timeline
    from rollcam.encode.video import VideoEncoder
    from tests import barcode

    stops = _Count()
    logging.getLogger("rollcam").addHandler(stops)
    codec, line = choose_codec("av1"), Timeline(Fraction(30), Fraction(30))
    frames = [barcode.draw(k, *size) for k in range(N_FRAMES)]
    n_films = n_bad = 0
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < deadline:
            encoder = VideoEncoder(Path(folder, "growing.mp4"), *size, line, codec)
            for index, frame in enumerate(frames):
                encoder.add(frame, index)
                encoder.flush()
            made = Path(folder, "made.mp4")
            encoder.deliver(made, encoder.finish(N_FRAMES))
            n_films += 1
            n_bad += barcode.indices(made) != list(range(N_FRAMES))
    answers.put((size, n_films, stops.n, n_bad))


def main(seconds: float) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    sizes = [SIZES[k % len(SIZES)] for k in range(N_PROCESSES)]
    workers = [context.Process(target=_film, args=(size, seconds, answers)) for size in sizes]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=seconds + 300) for _ in workers]
    for worker in workers:
        worker.join(60)
    for size in SIZES:
        films, stops, bad = (sum(row[k] for row in found if row[0] == size) for k in (1, 2, 3))
        print(f"{size}: {films} films, {stops} stops, {bad} films with a frame lost")


if __name__ == "__main__":
    main(float(sys.argv[1]))

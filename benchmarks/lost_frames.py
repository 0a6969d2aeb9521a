"""Which frames are missing from the file?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import Child, child_main
from benchmarks.lab.marked import Marked, read_mark

FPS = 50
LENGTHS = range(1, 1001)

HOW = f"""\
Episodes of 1 to 1000 steps at {FPS} fps, each filmed whole: one frame for `reset` and one for each step. The frames are
16x16 and carry their number in black and white squares. Each file is decoded and every number read back. Both are used
as wrappers around the same environment, one wrapper for all episodes. Rollcam films all 1000 lengths. RecordVideo
starts one ffmpeg for each film, so it films a part of them for real; what moviepy's arithmetic gives,
`int(sum([1 / fps] * n) * fps)` frames of *n*, is checked against each of these and then counted for all 1000."""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    asked = {
        "rollcam": list(LENGTHS[::50] if quick else LENGTHS),
        "gymnasium": sorted({*LENGTHS[:5], *LENGTHS[::200]} if quick else {*LENGTHS[:40], *LENGTHS[9::10]}),
    }  # fmt: skip
    # Nothing is timed here, so both may run at once.
    children = {
        name: Child("benchmarks.lost_frames", {"recorder": name, "lengths": lengths})
        for name, lengths in asked.items()
    }
    found = {name: child.result() for name, child in children.items()}
    formula = {length: moviepy_frames(length + 1) for length in LENGTHS}
    agrees = all(formula[length] == n for length, n, _ in found["gymnasium"])
    rows = [
        _row("Rollcam, filmed", [(length, n) for length, n, _ in found["rollcam"]]),
        _row("RecordVideo, filmed", [(length, n) for length, n, _ in found["gymnasium"]]),
        _row("RecordVideo, by the formula", list(formula.items())),
    ]
    columns = ["recorder", "lengths", "lengths that lose frames", "frames rendered", "frames lost"]
    all_right = all(right for _, _, right in found["rollcam"])
    lost = _lost([(length, n) for length, n, _ in found["rollcam"]])
    figures = [
        Figure(
            f"Frames lost, {len(asked['rollcam'])} lengths at {FPS} fps",
            "none",
            f"{sum(lost)}, {'each frame the right one' if all_right else 'some frames are wrong'}",
            not any(lost) and all_right,
        )
    ]
    note = (
        f"moviepy's formula {'agrees with' if agrees else 'DOES NOT agree with'} each of the {len(asked['gymnasium'])} "
        f"lengths that were filmed with it. What it drops is the last frame."
    )
    return Answer(
        "Frames lost", HOW, figures, [Table("Frames in the file", columns, rows)], [note]
    ).as_dict()


def moviepy_frames(n: int) -> int:
    """Return how many of `n` frames moviepy 2.2 writes."""
    return int(sum([1.0 / FPS] * n) * FPS)


def _lost(counts: list[tuple[int, int]]) -> list[int]:
    return [length + 1 - n for length, n in counts]


def _row(name: str, counts: list[tuple[int, int]]) -> list[str]:
    lost = _lost(counts)
    rendered = sum(length + 1 for length, _ in counts)
    return [name, *map(str, (len(counts), sum(map(bool, lost)), rendered, sum(lost)))]


def _film(recorder: str, lengths: list[int]) -> list[tuple[int, int, bool]]:
    """Film all lengths; return (length, frames in the file, whether each is the right one)."""
    import gymnasium as gym

    import rollcam

    wrapper = {"rollcam": rollcam.RecordVideo, "gymnasium": gym.wrappers.RecordVideo}[recorder]
    with tempfile.TemporaryDirectory() as folder:
        env = wrapper(Marked(FPS), folder, episode_trigger=lambda _: True)
        for length in lengths:
            env.reset()
            for _ in range(length):
                env.step(0)
        env.close()
        films = [Path(folder, f"rl-video-episode-{i}.mp4") for i in range(len(lengths))]
        return [(length, *_check(film)) for length, film in zip(lengths, films, strict=True)]


def _check(film: Path) -> tuple[int, bool]:
    import av

    with av.open(str(film)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        marks = [read_mark(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]
    return len(marks), marks == list(range(len(marks)))


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3:
        child_main(_film)
    else:
        from benchmarks.lab.report import main

        main(run)

"""Which frame of a film does VLC show last, and for how long?

VLC writes the pictures that reach its display into a pipe (vout "yuv"); this script reads their bar
codes and notes when each came. The films are constant-rate H.264 with exact sample durations,
fast-start, no B-frames, and end in one of these ways:

    plain     n frames
    40 ms     the last frame once more, 40 ms before the film's end
    half      the same, but min(40 ms, half a frame time) before the end
    0.6       the same, but 0.6 frame times before the end
    2 x half  the last frame twice more: where "half" has it, and in the middle of what is left

VLC looks only every 100 ms whether it has shown all, so what it drops depends on the film's length
to the millisecond: measure films of several lengths (--longer), never one.

None of them makes the film longer than n / fps.

Needs: VLC 3 with its base plugins (Debian: vlc-bin, vlc-plugin-base), PyAV, numpy. VLC refuses to
run as root; root may name another user. From the top of the repository:

    python -m benchmarks.vlc_last_frame --json vlc_last_frame.json [--user nobody]

It plays in real time, about 4 s per film: 45 minutes. Runs of other `--rates` may go beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.barcode import draw, durations, read

WIDTH, HEIGHT = 64, 48
MARK = b"FRAME\n"  # stands before every picture; one header line before the first
PICTURE_BYTES = len(MARK) + WIDTH * HEIGHT * 3 // 2
TIME_BASE = Fraction(1, 90_000)
SPAN = Fraction(1, 25)
MODES = ("plain", "40 ms", "half", "0.6", "2 x half")
RATES = (1, 4, 10, 15, 20, 24, 25, 30, 50, 60)


def ending(mode: str, fps: int) -> list[Fraction] | None:
    """How long before the film's end each repeat of the last frame starts; None: impossible."""
    half = min(SPAN, Fraction(1, 2 * fps))
    if mode == "40 ms" and SPAN * fps >= 1:
        return None  # the repeat would start with the frame, or before it
    return {
        "plain": [],
        "40 ms": [SPAN],
        "half": [half],
        "0.6": [Fraction(3, 5) / fps],
        "2 x half": [half, half / 2],
    }[mode]


def film(path: Path, fps: int, frames: int, repeats: list[Fraction]) -> None:
    """Write a film of `frames` frames whose last one is repeated `repeats` seconds before the end."""
    end = Fraction(frames, fps)
    shown = [(Fraction(i, fps), i) for i in range(frames)]
    shown += [(end - before, frames - 1) for before in repeats]
    ticks = [round(at / TIME_BASE) for at, _ in shown] + [round(end / TIME_BASE)]
    options = {"preset": "veryfast", "crf": "23", "bf": "0", "threads": "1"}
    with av.open(str(path), "w", format="mp4", container_options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        packets = []
        for tick, (_, index) in zip(ticks, shown, strict=False):
            frame = av.VideoFrame.from_ndarray(draw(index, WIDTH, HEIGHT), format="rgb24")
            frame.pts, frame.time_base = tick, TIME_BASE
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet, start, stop in zip(packets, ticks[:-1], ticks[1:], strict=True):
            packet.duration = stop - start
            out.mux(packet)
    if abs(sum(durations(path)) - end) > 1e-6:
        raise SystemExit(f"{path.name} lasts {sum(durations(path))} s instead of {float(end)} s")


def play(path: Path, *, user: str | None, limit_s: float) -> tuple[list[tuple[float, int]], float]:
    """Play one film: when each picture was displayed and its index, and when the display closed."""
    pipe = path.with_suffix(".yuv")
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    command = ["cvlc", "-I", "dummy", "--vout=yuv", f"--yuv-file={pipe}", "--yuv-chroma=I420"]
    command += ["--no-audio", "--play-and-exit", "--no-video-title-show", path.name]
    vlc = subprocess.Popen(
        command, cwd=path.parent, user=user, env={**os.environ, "HOME": str(path.parent)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pictures: list[tuple[float, int]] = []
    data, started = b"", time.monotonic()
    try:
        while time.monotonic() < started + limit_s:
            if not select.select([reader], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(reader, 1 << 20)
            except BlockingIOError:  # VLC opened the pipe between the two calls
                continue
            if not chunk and (pictures or vlc.poll() is not None):
                break  # an empty read before the first picture: VLC has not opened the pipe yet
            if not chunk:
                time.sleep(0.01)
            data += chunk
            if not pictures:
                data = data[max(0, data.find(MARK)) :]
            while len(data) >= PICTURE_BYTES:
                luma = np.frombuffer(data, np.uint8, WIDTH * HEIGHT, len(MARK))
                luma = luma.reshape(HEIGHT, WIDTH, 1)
                pictures.append((time.monotonic(), read(luma.repeat(3, axis=2))))
                data = data[PICTURE_BYTES:]
        closed = time.monotonic()
        vlc.wait(timeout=limit_s)
    finally:
        vlc.kill()
        vlc.wait()
        os.close(reader)
        pipe.unlink()
    return pictures, closed


def measure(
    folder: Path, fps: int, frames: int, mode: str, *, user: str | None
) -> dict[str, object] | None:
    repeats = ending(mode, fps)
    if repeats is None:
        return None
    path = folder / "film.mp4"
    film(path, fps, frames, repeats)
    path.chmod(0o644)
    pictures, closed = play(path, user=user, limit_s=20 + frames / fps)
    last = pictures[-1][1] if pictures else None
    since = next((at for at, index in pictures if index == last), closed)
    return {
        "fps": fps, "mode": mode, "frames": frames, "last_shown": last,
        "last_missing": last != frames - 1,
        "others_missing": frames - 1 - len({i for _, i in pictures} - {frames - 1}),
        "last_shown_for_ms": round(1000 * (closed - since)),
        "shown_ms": round(1000 * (closed - pictures[0][0])) if pictures else 0,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--times", type=int, default=3, help="measurements of each (default: 3)")
    parser.add_argument(
        "--longer",
        type=int,
        nargs="+",
        default=range(5),
        metavar="N",
        help="films of 2 s (at least 4 frames) and N frames more (default: 0 1 2 3 4)",
    )
    parser.add_argument("--user", help="run VLC as this user (needed for root)")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    args = parser.parse_args()
    if shutil.which("cvlc") is None:
        sys.exit("cvlc is not installed (Debian: vlc-bin, vlc-plugin-base)")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        for fps in args.rates:
            for mode in args.modes:
                for longer in [*args.longer] * args.times:
                    frames = max(4, 2 * fps) + longer
                    row = measure(Path(folder), fps, frames, mode, user=args.user)
                    if row is not None:
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How large, how true and how dear are the films of each codec and preset?"""

from __future__ import annotations

from typing import Any

from benchmarks.lab.answer import Answer, Table
from benchmarks.lab.child import child_main, run_child

CODECS = ("h264", "vp9", "av1")
QUALITIES = ("small", "standard", "high")
SOURCES = ("CartPole-v1", "LunarLander-v3", "ALE/Breakout-v5", "FrozenLake-v1", "noise")
LABELS = {
    "CartPole-v1": "CartPole 600x400",
    "LunarLander-v3": "LunarLander 600x400",
    "ALE/Breakout-v5": "Breakout 160x210",
    "FrozenLake-v1": "FrozenLake 256x256",
    "noise": "noise 600x400",
}
N_FRAMES, N_NOISE = 300, 40

_X264 = {"preset": "veryfast", "tune": "zerolatency", "bf": "0", "crf": "23", "threads": "1"}
_LOOKING = {key: value for key, value in _X264.items() if key != "tune"}
OTHERS = {
    "**veryfast, zerolatency, CRF 23**": _X264,
    "ultrafast": _X264 | {"preset": "ultrafast"},
    "superfast": _X264 | {"preset": "superfast"},
    "faster": _X264 | {"preset": "faster"},
    "medium": _X264 | {"preset": "medium"},
    "CRF 18": _X264 | {"crf": "18"},
    "CRF 28": _X264 | {"crf": "28"},
    "lookahead of 5": _LOOKING | {"rc-lookahead": "5"},
    "lookahead of 10 (the preset's own)": _LOOKING,
}
_OTHER_SOURCES = ("CartPole-v1", "LunarLander-v3", "ALE/Breakout-v5")

HOW = f"""\
{N_FRAMES} frames of each environment ({N_NOISE} of noise), taken before, go through Rollcam's encoder and into the
finished file. Bytes are those of the file, by frames. PSNR is that of the decoded pictures against the frames, over all
three colours and every fifth frame; small sprites suffer most, because 4:2:0 halves the resolution of colour. CPU is
that of the process from the first frame to the finished file, without any other work beside it. Actions are random,
CartPole's balance the pole."""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    sources = SOURCES[:1] if quick else SOURCES
    n_frames = 50 if quick else N_FRAMES
    measured = {source: _measure(source, n_frames, quick) for source in sources}
    tables = [_preset_table(codec, measured) for codec in CODECS]
    tables.append(_other_table({s: m for s, m in measured.items() if s in _OTHER_SOURCES}))
    notes = [_about_held_back(measured)]
    return Answer("Size, fidelity and cost of the presets", HOW, [], tables, notes).as_dict()


def _about_held_back(measured: dict[str, dict[str, Any]]) -> str:
    held = {
        codec: max(
            found[f"{codec} {q}"]["held_back"] for found in measured.values() for q in QUALITIES
        )
        for codec in CODECS
    }
    each = ", ".join(f"{codec} {n}" for codec, n in held.items())
    return (
        f'"Held back" are frames that the encoder still keeps to itself when the last one went in: what a killed process '
        f"loses besides what was waiting. In the presets: {each}."
    )


def _measure(source: str, n_frames: int, quick: bool) -> dict[str, Any]:
    return run_child(
        "benchmarks.presets",
        {
            "source": source,
            "n_frames": min(n_frames, N_NOISE) if source == "noise" else n_frames,
            "with_others": source in _OTHER_SOURCES and not quick,
        },
    )


def _preset_table(codec: str, measured: dict[str, dict[str, Any]]) -> Table:
    columns = [""]
    for quality in QUALITIES:
        crf = next(iter(measured.values()))[f"{codec} {quality}"]["crf"]
        columns += [f"{quality} ({crf}) B", "dB", "ms"]
    rows = [
        [LABELS[source], *(c for quality in QUALITIES for c in _cells(found[f"{codec} {quality}"]))]
        for source, found in measured.items()
    ]
    return Table(f"{codec}: bytes, PSNR and CPU for each frame", columns, rows)


def _other_table(measured: dict[str, dict[str, Any]]) -> Table:
    columns = ["x264 with"]
    for source in measured:
        columns += [f"{LABELS[source].split()[0]} B", "dB", "ms"]
    columns.append("held back")
    rows = []
    for name in OTHERS:
        found = [results[name] for results in measured.values() if name in results]
        if found:
            cells = [cell for one in found for cell in _cells(one)]
            rows.append([name, *cells, str(found[0]["held_back"])])
    return Table("H.264 otherwise: what the default was chosen from", columns, rows)


def _cells(found: dict[str, Any]) -> list[str]:
    return [f"{found['bytes']:.0f}", f"{found['psnr_db']:.1f}", f"{found['cpu_ms']:.2f}"]


def _encode_all(source: str, n_frames: int, with_others: bool) -> dict[str, Any]:
    from benchmarks.lab.corpus import collect
    from rollcam.encode.codecs import Codec, choose_codec

    frames, fps = collect(source, n_frames)
    codecs = {f"{c} {q}": choose_codec(c, q) for c in CODECS for q in QUALITIES}
    if with_others:
        codecs |= {name: Codec("h264", "libx264", options) for name, options in OTHERS.items()}
    return {name: encode(frames, fps, codec) for name, codec in codecs.items()}


def encode(frames: list[Any], fps: float, codec: Any) -> dict[str, Any]:
    """Encode frames as Rollcam does, on this thread; return size, PSNR and cost."""
    import tempfile
    import time
    from pathlib import Path

    from benchmarks.lab.corpus import psnr_db
    from rollcam.encode.faststart import finish_film
    from rollcam.encode.timeline import Timeline, as_rate
    from rollcam.encode.video import VideoEncoder

    timeline = Timeline(as_rate(fps), as_rate(fps))
    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        growing, film = Path(folder, "growing.mp4"), Path(folder, "film.mp4")
        start = time.process_time()
        encoder = VideoEncoder(growing, width, height, timeline, codec)
        for index, frame in enumerate(frames):
            encoder.add(frame, index)
            encoder.flush()
        held_back = len(frames) - encoder.n_encoded
        end = encoder.finish(len(frames))
        finish_film(growing, film, end=end, n_encoded=encoder.n_encoded)
        cpu_s = time.process_time() - start
        return {
            "bytes": film.stat().st_size / len(frames),
            "psnr_db": psnr_db(frames, film),
            "cpu_ms": 1e3 * cpu_s / len(frames),
            "held_back": held_back,
            "crf": codec.options.get("crf"),
        }


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 3:
        child_main(_encode_all)
    else:
        from benchmarks.lab.report import main

        main(run)

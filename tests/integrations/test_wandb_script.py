"""The script of the W&B users whose gym videos stayed blank, with its import changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import barcode
from tests.browser import Browser

SCRIPT = """
import gymnasium as gym
import wandb
from rollcam import VideoRecorder

wandb.init(project="video-bug", mode="offline", dir="wandb-home")
env = gym.make("CartPole-v1", render_mode="rgb_array")
captured = {}
for episode in range(21):
    env.reset(seed=episode)
    path = f"./video_bug/video_{episode}.mp4"
    recorder = VideoRecorder(env, path, enabled=episode % 10 == 0)
    done = False
    while not done:
        recorder.capture_frame()
        captured[episode] = captured.get(episode, 0) + 1
        _, _, terminated, truncated, _ = env.step(episode % 2)
        done = terminated or truncated
    if recorder.enabled:
        wandb.log({"video": wandb.Video(path)}, commit=False)
    wandb.log({"episode": episode})
    recorder.close()
wandb.finish()
print({k: v for k, v in captured.items() if k % 10 == 0})
"""


def test_the_copies_in_the_run_play_and_hold_every_frame(tmp_path: Path, browser: Browser) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "script.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    captured: dict[int, int] = eval(done.stdout.splitlines()[-1])
    assert sorted(captured) == [0, 10, 20]
    copies = sorted(
        (tmp_path / "wandb-home").rglob("media/videos/*.mp4"), key=lambda p: p.stat().st_mtime_ns
    )
    assert len(copies) == 3
    for copy, (episode, n_frames) in zip(copies, sorted(captured.items()), strict=True):
        in_copy = [frame for _, frame in barcode.decode(copy)]
        finished = [
            frame for _, frame in barcode.decode(tmp_path / f"video_bug/video_{episode}.mp4")
        ]
        assert len(in_copy) == n_frames
        assert all((a == b).all() for a, b in zip(in_copy, finished, strict=True))
        report = browser.probe(copy, fps=50, seek_to=[0, n_frames - 1])
        assert (report.first, report.ended) == ("loadeddata", True), report.error_message
        assert (report.width, report.height) == (600, 400)

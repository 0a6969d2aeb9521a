"""CartPole films in a W&B run, in two ways.

`python examples/wandb_cartpole.py` is the script of the W&B users whose gym videos stayed blank;
only the import of `VideoRecorder` changed. `python examples/wandb_cartpole.py --wrapper` does the
same by `RecordVideo`, which publishes by itself, each film at its own step. Without an account:
WANDB_MODE=offline.
"""

from __future__ import annotations

import sys

import gymnasium as gym
import wandb

from rollcam import RecordVideo, VideoRecorder


def by_hand() -> None:
    """The script as it was, but for its import."""
    wandb.init(project="video-bug")
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    for episode in range(21):
        env.reset(seed=episode)
        path = f"./video_bug/video_{episode}.mp4"
        recorder = VideoRecorder(env, path, enabled=episode % 10 == 0)
        done = False
        while not done:
            recorder.capture_frame()
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
        recorder.close()
        if recorder.enabled:
            wandb.log({"video": wandb.Video(path)}, commit=False)
        wandb.log({"episode": episode})
    env.close()
    wandb.finish()


def by_wrapper() -> None:
    """The same in five lines, and a loop that knows nothing of films."""
    wandb.init(project="video-bug")
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env = RecordVideo(env, "video_bug", lambda episode: episode % 10 == 0, sinks=["wandb"])
    train(env)
    env.close()  # the films that are left are published here
    wandb.finish()


def train(env: gym.Env) -> None:
    """21 episodes of a random agent."""
    for episode in range(21):
        env.reset(seed=episode)
        done = False
        while not done:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
        wandb.log({"episode": episode})


if __name__ == "__main__":
    by_wrapper() if "--wrapper" in sys.argv[1:] else by_hand()

"""The recorders that are measured, each behind the same three calls."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

FPS = 50
_GOP = 4 * FPS  # as rollcam.encode.video has it


class Loop(Protocol):
    """An environment, filmed or not, as the training loop sees it."""

    def reset(self) -> Any: ...

    def step(self, action: int) -> tuple[Any, bool]: ...

    def close(self) -> None: ...


class GymLoop:
    """Any `gym.Env`."""

    def __init__(self, env: gym.Env) -> None:
        self.env = env

    def reset(self) -> Any:
        return self.env.reset()[0]

    def step(self, action: int) -> tuple[Any, bool]:
        obs, _, terminated, truncated, _ = self.env.step(action)
        return obs, terminated or truncated

    def close(self) -> None:
        self.env.close()


class VecLoop:
    """A vector environment of Stable-Baselines3 with one sub-environment."""

    def __init__(self, venv: Any) -> None:
        self.venv = venv

    def reset(self) -> Any:
        return self.venv.reset()[0]

    def step(self, action: int) -> tuple[Any, bool]:
        # It cannot be told to be silent: a line and a progress bar for each film.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            obs, _, dones, _ = self.venv.step(np.array([action]))
        return obs[0], bool(dones[0])

    def close(self) -> None:
        self.venv.close()


class BareEncoder(gym.Wrapper):
    """The plainest film that PyAV can make with Rollcam's settings, encoded inside `step`."""

    def __init__(self, env: gym.Env, path: Path) -> None:
        super().__init__(env)
        import av

        from rollcam.encode.codecs import choose_codec, set_up

        self._av = av
        codec = choose_codec()
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(codec.encoder, rate=FPS)
        context = self._stream.codec_context
        set_up(context, 600, 400, FPS, options=codec.options)
        context.gop_size = _GOP
        self._n = 0

    def reset(self, **kwargs: Any) -> Any:
        result = self.env.reset(**kwargs)
        if not self._n:
            self._film()
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._film()
        return result

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self.env.close()

    def _film(self) -> None:
        frame = self._av.VideoFrame.from_ndarray(self.env.render(), format="rgb24")
        frame.pts, frame.time_base = self._n, Fraction(1, FPS)
        self._container.mux(self._stream.encode(frame))
        self._n += 1


def _first(index: int) -> bool:
    return index == 0


def _unrecorded(env: gym.Env, folder: Path, n_steps: int) -> Loop:
    return GymLoop(env)


def _rollcam(env: gym.Env, folder: Path, n_steps: int) -> Loop:
    import rollcam

    return GymLoop(rollcam.RecordVideo(env, folder, episode_trigger=_first))


def _gymnasium(env: gym.Env, folder: Path, n_steps: int) -> Loop:
    return GymLoop(gym.wrappers.RecordVideo(env, str(folder), episode_trigger=_first))


def _vec(env: gym.Env) -> Any:
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda: env])


def _unrecorded_sb3(env: gym.Env, folder: Path, n_steps: int) -> Loop:
    return VecLoop(_vec(env))


def _sb3(env: gym.Env, folder: Path, n_steps: int) -> Loop:
    from stable_baselines3.common.vec_env import VecVideoRecorder

    return VecLoop(VecVideoRecorder(_vec(env), str(folder), _first, video_length=n_steps))


def _bare(env: gym.Env, folder: Path, n_steps: int) -> Loop:
    return GymLoop(BareEncoder(env, folder / "bare.mp4"))


RECORDERS: dict[str, Callable[[gym.Env, Path, int], Loop]] = {
    "unrecorded": _unrecorded,
    "rollcam": _rollcam,
    "gymnasium": _gymnasium,
    "sb3": _sb3,
    "unrecorded-sb3": _unrecorded_sb3,
    "bare": _bare,
}
"""Each takes the environment, a folder of its own, and the length of an episode in steps."""

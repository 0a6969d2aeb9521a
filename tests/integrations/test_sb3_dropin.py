"""`rollcam.integrations.sb3.VecVideoRecorder` against SB3's own, on the same environments."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecVideoRecorder as Sb3VecVideoRecorder

import rollcam
from rollcam.integrations.sb3 import VecVideoRecorder
from tests.integrations.sb3_films import make
from tests.integrations.vector_films import tiles


def test_names_counts_and_attributes_are_sb3s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {
        "record_video_trigger": lambda n: n in (0, 7, 9, 14),
        "video_length": 4,
        "name_prefix": "mine",
    }
    # Episodes that do not end: SB3's loses their last frames. At 4 fps moviepy drops no frame.
    theirs = Sb3VecVideoRecorder(
        make(lengths=(50, 50), fps=4), str(tmp_path / "theirs"), **settings
    )
    capsys.readouterr()
    ours = VecVideoRecorder(make(lengths=(50, 50), fps=25), str(tmp_path / "ours"), **settings)
    names = ("recording", "step_id", "name_prefix", "video_length")

    def state(env: Any) -> tuple[Any, ...]:
        said = tuple(getattr(env, name) for name in names)
        name = Path(env.video_path).name
        assert env.video_name == name
        return (len(env.recorded_frames), name, *said)

    for n_step in range(16):
        if n_step in (0, 3, 13):
            assert (ours.reset() == theirs.reset()).all()
            assert state(ours) == state(theirs)
        for env in (theirs, ours):
            env.step(np.zeros(2, np.int64))
        assert state(ours) == state(theirs)
    theirs.close()
    capsys.readouterr()
    ours.close()
    assert capsys.readouterr().out == ""
    found = {
        who: {p.name: tiles(p, 1, rows=2) for p in sorted((tmp_path / who).glob("*.mp4"))}
        for who in ("theirs", "ours")
    }
    assert found["theirs"] == found["ours"]
    assert len(found["ours"]) == 3


@pytest.mark.parametrize("n", range(1, 11))
def test_tiles_stand_where_sb3_puts_them(n: int, tmp_path: Path) -> None:
    venv = make(lengths=range(3, 3 + n))
    env = VecVideoRecorder(venv, tmp_path, lambda steps: steps == 4, video_length=1)
    env.reset()
    for _ in range(4):
        env.step(np.zeros(n, np.int64))
    wanted = venv.render()
    env.close()
    from tests import barcode

    ((_, picture),) = barcode.decode(next(tmp_path.glob("*.mp4")))
    assert wanted is not None
    assert picture.shape == wanted.shape
    assert np.abs(picture.astype(int) - wanted).mean() < 12


def test_sb3s_shows_the_next_episodes_first_frame_and_ours_the_last_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"record_video_trigger": lambda n: n == 0, "video_length": 4}
    theirs = Sb3VecVideoRecorder(make(lengths=(3,), fps=4), str(tmp_path / "theirs"), **settings)
    ours = VecVideoRecorder(make(lengths=(3,)), tmp_path / "ours", **settings)
    for env in (theirs, ours):
        env.reset()
        for _ in range(5):
            env.step(np.zeros(1, np.int64))
        env.close()
    films = [tiles(next((tmp_path / who).glob("*.mp4")), 1) for who in ("theirs", "ours")]
    assert films[0] == [(0,), (1,), (2,), (0,), (1,)]
    assert films[1] == [(0,), (1,), (2,), (3,), (1,)]


def test_the_signature_is_sb3s() -> None:
    ours = inspect.signature(VecVideoRecorder.__init__).parameters
    theirs = inspect.signature(Sb3VecVideoRecorder.__init__).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind is parameter.kind
        if name != "record_video_trigger":  # ours may have an episode_trigger in its place
            assert ours[name].default == parameter.default
    more = list(ours.values())[len(theirs) :]
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in more)


def test_every_public_attribute_of_sb3s_is_there(tmp_path: Path) -> None:
    theirs = Sb3VecVideoRecorder(make(), str(tmp_path / "theirs"), lambda n: False)
    ours = VecVideoRecorder(make(), tmp_path / "ours", lambda n: False)
    wanted = {name for name in vars(theirs) if not name.startswith("_")}
    wanted |= set(Sb3VecVideoRecorder.__annotations__)
    assert wanted <= {name for name in dir(ours) if not name.startswith("_")}
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "record_video_trigger"),
        ({"record_video_trigger": bool, "episode_trigger": bool}, "not both"),
        ({"record_video_trigger": 5}, "callable"),
        ({"record_video_trigger": bool, "video_length": 0}, "at least 1"),
        ({"record_video_trigger": bool, "video_length": 2.5}, "number of steps"),
        ({"record_video_trigger": bool, "layout": "round"}, "'tiled', 'separate'"),
        ({"record_video_trigger": bool, "env_indices": [2]}, "from 0 to 1"),
        ({"record_video_trigger": bool, "fps": 0}, "fps"),
        ({"record_video_trigger": bool, "on_error": "sing"}, "on_error"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_work(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    venv = make()
    with pytest.raises(rollcam.SettingError, match=message):
        VecVideoRecorder(venv, tmp_path, **settings)
    assert not list(tmp_path.rglob("*.mp4"))
    venv.reset()
    venv.close()


def test_a_render_mode_that_shows_nothing(tmp_path: Path) -> None:
    venv = make()
    venv.render_mode = "human"
    with pytest.raises(rollcam.RenderModeError, match="rgb_array"):
        VecVideoRecorder(venv, tmp_path, lambda n: True)
    venv.close()

"""Our `Monitor` and `RecordVideo` with a real gym; run by tests/integrations/test_legacy_real.py."""

from __future__ import annotations

import gc
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gym
import numpy as np
import pytest

from rollcam.errors import RecordingFailedWarning, RollcamError, SettingError, StoreError
from rollcam.integrations.legacy_gym import Monitor, RecordVideo, VideoRecorder
from rollcam.store.files import list_episodes
from tests import barcode
from tests.beside.old_gyms import IS_NEW, VERSION, Counting, make, play

HAS_MONITOR = VERSION < (0, 23)
HAS_RECORD_VIDEO = VERSION >= (0, 26)  # 0.21's needs ffmpeg on the system


def films(folder: Path) -> dict[str, list[int]]:
    return {path.name: barcode.indices(path) for path in sorted(folder.glob("*.mp4"))}


def names(folder: Path) -> list[str]:
    """File names with the number of the monitor and the process taken out."""
    found = [p.name for p in folder.iterdir() if p.name.startswith("openaigym.")]
    return sorted(re.sub(r"\.\d+\.\w+\.", ".M.P.", name, count=1) for name in found)


def test_monitor_films_to_the_last_frame(tmp_path: Path) -> None:
    env = Monitor(make(), str(tmp_path / "films"), uid="x")
    play(env, 9)
    env.close()
    found = films(tmp_path / "films")
    assert [name.partition(".x.")[2] for name in found] == [
        "video000000.mp4", "video000001.mp4", "video000008.mp4",
    ]  # fmt: skip
    assert all(shown == list(range(6)) for shown in found.values())
    assert [Path(path).name for path, _ in env.videos] == list(found)
    episodes = list_episodes(tmp_path / "films").episodes
    assert [(e.episode_return, e.episode_length, e.terminated, e.env_id) for e in episodes] == (
        [(2.5, 5, True, "Counting-v0")] * 3
    )
    assert episodes[1].metadata == {"episode_id": 1}
    assert (episodes[1].fps, episodes[1].step_index) == (25, 5)
    told = json.loads(Path(env.videos[0][1]).read_text())
    assert told["content_type"] == "video/mp4"


@pytest.mark.parametrize("kind", [Monitor, RecordVideo])
def test_the_signature_is_gyms(kind: type) -> None:
    theirs = getattr(gym.wrappers, kind.__name__, None)
    if theirs is None:
        pytest.skip(f"gym {gym.__version__} has no {kind.__name__}")
    wanted = list(inspect.signature(theirs.__init__).parameters.values())[1:]
    ours = list(inspect.signature(kind).parameters.values())
    assert [p.name for p in ours[: len(wanted)]] == [p.name for p in wanted]
    for own, their in zip(ours, wanted, strict=False):
        assert own.kind is their.kind
        if their.default not in (their.empty, None) and their.name != "episode_trigger":
            assert own.default == their.default


def test_monitor_is_a_wrapper_to_gym(tmp_path: Path) -> None:
    inner = make()
    env = Monitor(inner, tmp_path, video_callable=False)
    assert isinstance(env, Monitor)
    assert isinstance(env, gym.Wrapper)
    assert type(env).__name__ == "Monitor"
    assert env.unwrapped is inner.unwrapped
    assert isinstance(env.unwrapped, Counting)
    assert (env.action_space, env.spec.id) == (inner.action_space, "Counting-v0")
    again = gym.wrappers.TimeLimit(env, max_episode_steps=3)
    play(again, 2)
    again.close()
    assert not inner.unwrapped.n_renders, "where nothing is filmed, nothing is rendered"


def test_statistics_and_manifest(tmp_path: Path) -> None:
    env = Monitor(make(), tmp_path, mode="evaluation", video_callable=lambda i: i == 1)
    play(env, 2)
    env.set_monitor_mode("training")
    play(env, 1)
    assert (env.get_total_steps(), env.get_episode_lengths()) == (15, [5, 5, 5])
    assert env.get_episode_rewards() == [2.5, 2.5, 2.5]
    assert not list(tmp_path.glob("*.json")) or not list(tmp_path.glob("*.stats.json"))
    env.close()
    assert names(tmp_path) == [
        "openaigym.episode_batch.M.P.stats.json",
        "openaigym.manifest.M.P.manifest.json",
        "openaigym.video.M.P.video000001.meta.json",
        "openaigym.video.M.P.video000001.mp4",
        "openaigym.video.M.P.video000001.steps.json",
    ]
    stats = json.loads(next(tmp_path.glob("*.stats.json")).read_text())
    assert stats["episode_types"] == ["e", "e", "t"]
    assert (stats["episode_lengths"], stats["episode_rewards"]) == ([5] * 3, [2.5] * 3)
    assert stats["initial_reset_timestamp"] <= stats["timestamps"][0] <= stats["timestamps"][2]
    manifest = json.loads(next(tmp_path.glob("*.manifest.json")).read_text())
    assert manifest["env_info"] == {"env_id": "Counting-v0", "gym_version": gym.__version__}
    assert all((tmp_path / name).exists() for pair in manifest["videos"] for name in pair)
    assert [e.mode for e in list_episodes(tmp_path).episodes] == ["eval"]


def test_a_reward_that_is_an_array(tmp_path: Path) -> None:
    class Arrays(Counting):
        def step(self, action: int) -> Any:
            observation, _, *others = super().step(action)
            return observation, np.array([0.5]), *others

    env = Monitor(Arrays(), tmp_path)
    play(env, 1)
    env.close()
    assert env.get_episode_rewards() == [2.5]


@pytest.mark.skipif(not HAS_MONITOR, reason="this gym has no Monitor any more")
def test_it_writes_what_gyms_own_writes_and_gym_reads_it(tmp_path: Path) -> None:
    from gym.wrappers.monitor import Monitor as GymMonitor
    from gym.wrappers.monitor import load_results

    told = {}
    for ours, kind in ((True, Monitor), (False, GymMonitor)):
        folder = tmp_path / kind.__module__
        env = kind(make(), str(folder), video_callable=False, mode="training", uid="u")
        play(env, 3)
        env.close()
        told[ours] = load_results(str(folder))
        assert names(folder) == [
            "openaigym.episode_batch.M.P.stats.json", "openaigym.manifest.M.P.manifest.json",
        ]  # fmt: skip
    for key in ("episode_lengths", "episode_rewards", "episode_types", "env_info", "data_sources"):
        assert told[True][key] == told[False][key]
    assert told[True].keys() == told[False].keys()


def test_a_used_directory(tmp_path: Path) -> None:
    def one(**settings: object) -> Monitor:
        env = Monitor(make(), tmp_path, **settings)
        play(env, 1)
        env.close()
        return env

    one()
    (tmp_path / "mine.txt").write_text("stays")
    with pytest.raises(StoreError, match="force=True"):
        one()
    one(resume=True)
    assert len(films(tmp_path)) == 2
    assert len(list(tmp_path.glob("*.manifest.json"))) == 2
    one(force=True)
    assert len(films(tmp_path)) == 1
    assert len(list(tmp_path.glob("*.manifest.json"))) == 1
    assert (tmp_path / "mine.txt").exists()


def test_a_monitor_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    env = Monitor(make(), tmp_path)
    play(env, 1)
    env.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    wrong: list[dict[str, Any]] = [{"fps": 0}, {"codec": "no"}, {"on_finished": 3}]
    for settings in wrong:
        with pytest.raises(RollcamError):
            Monitor(make(), tmp_path, force=True, **settings)
        with pytest.raises(RollcamError):
            Monitor(make(), tmp_path / "new", **settings)
    gc.collect()
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    Monitor(make(), tmp_path / "new").close()  # nobody has left a manifest there


def test_force_spares_what_another_monitor_films(tmp_path: Path) -> None:
    first = Monitor(make(), tmp_path, uid="first")
    play(first, 1)
    first.reset()  # ends the film; the monitor goes on
    first._recorder.flush()
    second = Monitor(make(), tmp_path, uid="second", force=True)
    play(second, 1)
    second.close()
    first.close()
    assert {name.split(".")[3] for name in films(tmp_path)} == {"first", "second"}


def test_write_upon_reset(tmp_path: Path) -> None:
    env = Monitor(make(), tmp_path, write_upon_reset=True)
    play(env, 2)
    env.reset()
    stats = json.loads(next(tmp_path.glob("*.stats.json")).read_text())
    assert stats["episode_lengths"] == [5, 5]
    env.close()


def test_an_episode_may_be_given_up(tmp_path: Path) -> None:
    env = Monitor(make(), tmp_path)
    env.reset()
    env.step(0)
    env.reset()  # gym's raised
    play(env, 1)
    env.close()
    stats = json.loads(next(tmp_path.glob("*.stats.json")).read_text())
    assert (stats["episode_lengths"], stats["episode_types"]) == ([5], ["t"])
    assert [len(shown) for shown in films(tmp_path).values()] == [2, 1]


def test_a_monitor_that_nobody_closes(tmp_path: Path) -> None:
    script = (
        "from rollcam.integrations.legacy_gym import Monitor\n"
        "from tests.beside.old_gyms import make, play\n"
        "import sys\n"
        "env = Monitor(make(), sys.argv[1], lambda i: True)\n"
        "play(env, 2)\n"
    )
    subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", script, str(tmp_path)],
        check=True, timeout=60, env=os.environ,
    )  # fmt: skip
    assert list(films(tmp_path).values()) == [list(range(6))] * 2
    manifest = json.loads(next(tmp_path.glob("*.manifest.json")).read_text())
    assert len(manifest["videos"]) == 2
    stats = json.loads(next(tmp_path.glob("*.stats.json")).read_text())
    assert stats["episode_lengths"] == [5, 5]


def test_a_renderer_that_fails_costs_the_film_alone(tmp_path: Path) -> None:
    env = Monitor(make(), tmp_path, lambda i: True)
    env.unwrapped.raise_at = {3}
    env.reset()
    with pytest.warns(RecordingFailedWarning, match="no OpenGL any more"):
        for _ in range(5):
            env.step(0)
        env.close()
    episode = list_episodes(tmp_path).episodes[0]
    assert (episode.status, episode.episode_length) == ("failed", 5)
    manifest = json.loads(next(tmp_path.glob("*.manifest.json")).read_text())
    assert manifest["videos"] == []


def test_after_close_the_environment_goes_on(tmp_path: Path) -> None:
    env = Monitor(make(), tmp_path, lambda i: True)
    play(env, 1)
    env.close()
    env.close()
    assert not env.enabled
    play(env, 1)
    assert len(films(tmp_path)) == 1
    assert env.get_total_steps() == 5


@pytest.mark.parametrize("kind", [Monitor, RecordVideo])
def test_the_environment_may_be_closed_first_and_the_monitor_dropped(tmp_path: Path, kind) -> None:
    inner = make()
    env = kind(inner, tmp_path)
    play(env, 1)
    inner.close()
    del env
    gc.collect()
    assert list(films(tmp_path).values()) == [list(range(6))]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"video_callable": 3}, "video_callable must be a function, None or False, not 3"),
        ({"uid": "../x"}, "uid stands in file names"),
        ({"mode": "test"}, 'mode must be "training" or "evaluation"'),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Monitor(make(), tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(IS_NEW, reason="seeds go through reset there")
def test_the_seed_that_was_told_before(tmp_path: Path) -> None:
    env = Monitor(make(), tmp_path, lambda i: True)
    assert env.seed(7) == [7]
    play(env, 2)
    env.close()
    assert [e.seed for e in list_episodes(tmp_path).episodes] == [7, None]


@pytest.mark.skipif(not IS_NEW, reason="older environments are seeded by seed()")
def test_the_seed_of_reset(tmp_path: Path) -> None:
    env = RecordVideo(make(), tmp_path, lambda i: True)
    play(env, 1, seed=7)
    env.close()
    assert [e.seed for e in list_episodes(tmp_path).episodes] == [7]


CHOICES = [
    pytest.param(
        {}, ["rl-video-episode-0", "rl-video-episode-1", "rl-video-episode-8"], id="cubes"
    ),
    pytest.param({"step_trigger": lambda i: i % 12 == 0}, None, id="steps"),
    pytest.param(
        {"step_trigger": lambda i: i == 7, "video_length": 4, "name_prefix": "p"},
        ["p-step-7"],
        id="clip",
    ),
    pytest.param(
        {"episode_trigger": lambda i: i % 3 == 1, "video_length": 8},
        ["rl-video-episode-1", "rl-video-episode-4", "rl-video-episode-7"],
        id="clips",
    ),
]


@pytest.mark.parametrize(("settings", "expected"), CHOICES)
def test_record_video_names_its_films_as_gym_does(
    tmp_path: Path, settings: dict, expected: list[str] | None
) -> None:
    env = RecordVideo(make(), str(tmp_path / "ours"), **settings)
    play(env, 9)
    env.close()
    stems = sorted(path.stem for path in (tmp_path / "ours").glob("*.mp4"))
    assert expected is None or stems == expected
    if HAS_RECORD_VIDEO:
        theirs = gym.wrappers.RecordVideo(make(), str(tmp_path / "theirs"), **settings)
        play(theirs, 9)
        theirs.close()
        assert stems == sorted(path.stem for path in (tmp_path / "theirs").glob("*.mp4"))


def test_record_video_ends_with_the_episode(tmp_path: Path) -> None:
    env = RecordVideo(make(), tmp_path, episode_trigger=lambda i: i == 0)
    assert isinstance(env, gym.Wrapper)
    env.reset()
    for _ in range(5):
        assert env.recording
        env.step(0)
    assert (env.recording, env.episode_id, env.step_id) == (False, 1, 5)
    play(env, 1)
    env.close()
    assert films(tmp_path) == {"rl-video-episode-0.mp4": list(range(6))}


def test_a_clip_goes_on_over_the_end_of_an_episode(tmp_path: Path) -> None:
    env = RecordVideo(make(), tmp_path, step_trigger=lambda i: i == 3, video_length=4)
    play(env, 3)
    env.close()
    assert films(tmp_path)["rl-video-step-3.mp4"] == [3, 4, 5, 0, 1]


def test_both_triggers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="not both"):
        RecordVideo(make(), tmp_path, lambda i: True, lambda i: True)


def test_settings_of_the_recorder_reach_it(tmp_path: Path) -> None:
    taken = []
    env = RecordVideo(
        make(), tmp_path, lambda i: True, name="{env_id}-{episode_index}",
        metadata={"team": "a"}, on_finished=taken.append, fps=10,
    )  # fmt: skip
    play(env, 1)
    env.close()
    assert list(films(tmp_path)) == ["Counting-v0-0.mp4"]
    assert (taken[0].metadata, taken[0].fps) == ({"team": "a"}, 10)


def test_the_documented_cartpole(tmp_path: Path) -> None:
    if not IS_NEW:
        pytest.skip("its renderer opens a window there")
    env = RecordVideo(gym.make("CartPole-v1", render_mode="rgb_array"), tmp_path)
    play(env, 1, seed=3)
    length = env.step_id
    env.close()
    assert len(barcode.decode(tmp_path / "rl-video-episode-0.mp4")) == length + 1


def test_an_environment_without_pixels_is_named(tmp_path: Path) -> None:
    if not IS_NEW:
        pytest.skip("modes are not chosen at make there")
    with pytest.warns(RecordingFailedWarning, match='make it with render_mode="rgb_array"'):
        env = Monitor(make(render_mode=None), tmp_path)
    play(env, 1)
    env.close()
    assert not films(tmp_path)


def test_text(tmp_path: Path) -> None:
    if not IS_NEW:
        pytest.skip("the same code as pixels there")
    env = Monitor(make(render_mode="ansi"), tmp_path)
    play(env, 1)
    env.close()
    assert [Path(path).suffix for path, _ in env.videos] == [".cast"]


def test_video_recorder(tmp_path: Path) -> None:
    env = make()
    env.reset()
    recorder = VideoRecorder(env, str(tmp_path / "a.mp4"))
    recorder.capture_frame()
    env.step(0)
    recorder.capture_frame()
    recorder.close()
    assert films(tmp_path) == {"a.mp4": [0, 1]}

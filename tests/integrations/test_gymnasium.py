"""`rollcam.RecordVideo` against what scripts written for Gymnasium's rely on."""

from __future__ import annotations

import copy
import json
import shutil
import threading
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.save_video import capped_cubic_video_schedule
from gymnasium.wrappers import RecordVideo as GymnasiumRecordVideo
from gymnasium.wrappers import RenderCollection, TimeLimit

import rollcam
from rollcam.store.files import list_episodes
from tests import barcode
from tests.integrations.dropin import check_signature


class Counting(gym.Env):
    """Shows the number of frames since its reset; an episode lasts `length` steps."""

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 25}
    observation_space = gym.spaces.Box(0, 1e6, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int = 10, render_mode: str | None = "rgb_array") -> None:
        self.length, self.render_mode, self.count, self.n_renders = length, render_mode, 0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        observation = np.full(1, self.count, np.float32)
        return observation, 0.5, self.count >= self.length, False, {"is_success": True}

    def render(self):
        self.n_renders += 1
        return f"step {self.count}\n" if self.render_mode == "ansi" else barcode.draw(self.count)


def play(env: gym.Env, episodes: int, **reset: int) -> None:
    for _ in range(episodes):
        env.reset(**reset)
        done = False
        while not done:
            *_, terminated, truncated, _ = env.step(0)
            done = terminated or truncated


def films(folder: Path) -> dict[str, list[int]]:
    return {path.name: barcode.indices(path) for path in sorted(folder.glob("*.mp4"))}


def test_the_signature_is_gymnasiums() -> None:
    check_signature(rollcam.RecordVideo, GymnasiumRecordVideo)


def test_whole_episodes_with_their_last_frame(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(10), str(tmp_path), episode_trigger=lambda i: i % 2 == 0)
    play(env, 4)
    env.close()
    assert films(tmp_path) == {
        "rl-video-episode-0.mp4": list(range(11)),
        "rl-video-episode-2.mp4": list(range(11)),
    }


def test_default_trigger_and_attributes(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(2), str(tmp_path), name_prefix="x", fps=12)
    assert [i for i in range(3000) if env.episode_trigger(i)] == [
        i for i in range(3000) if capped_cubic_video_schedule(i)
    ]
    assert (env.step_trigger, env.name_prefix, env.frames_per_sec) == (None, "x", 12)
    assert env.video_folder == str(tmp_path)
    assert (env.recording, env.episode_id, env.step_id) == (False, -1, -1)
    env.reset()
    assert (env.recording, env.episode_id, len(env.recorded_frames)) == (True, 0, 1)
    env.step(0)
    assert (env.step_id, len(env.recorded_frames)) == (0, 2)
    env.recorded_frames = []  # scripts do that, and it must neither raise nor lose anything
    play(env, 9)
    env.close()
    assert sorted(films(tmp_path)) == ["x-episode-0.mp4", "x-episode-1.mp4", "x-episode-8.mp4"]


def test_step_trigger_and_video_length(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(
        Counting(10), str(tmp_path), step_trigger=lambda i: i % 25 == 0, video_length=12
    )
    play(env, 6)
    env.close()
    # Gymnasium's clips hold `video_length` + 1 frames, and go on over a reset.
    clip = [*range(1, 11), 0, 1, 2]
    assert films(tmp_path) == {
        "rl-video-step-0.mp4": clip,
        "rl-video-step-25.mp4": [*range(6, 11), *range(8)],
        "rl-video-step-50.mp4": clip[:10],
    }
    assert {e.kind for e in list_episodes(tmp_path).episodes} == {"clip"}


def test_both_triggers(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(
        Counting(10),
        str(tmp_path),
        step_trigger=lambda i: i == 15,
        episode_trigger=lambda i: i in (0, 3),
    )
    play(env, 5)
    env.close()
    assert films(tmp_path) == {
        "rl-video-episode-0.mp4": list(range(11)),
        "rl-video-episode-3.mp4": list(range(11)),
        "rl-video-step-15.mp4": list(range(6, 11)),
    }


def test_recording_lasts_until_the_length_is_passed(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(
        Counting(100), str(tmp_path), step_trigger=lambda i: i == 0, video_length=10
    )
    env.reset()
    for _ in range(10):
        env.step(0)
    assert env.recording
    env.step(0)
    assert not env.recording
    env.close()
    assert films(tmp_path) == {"rl-video-step-0.mp4": list(range(1, 12))}


def test_video_length_alone_records_everything_in_pieces(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(10), str(tmp_path), video_length=20)
    play(env, 6)
    env.close()
    rendered = [*range(11)] * 6
    found = films(tmp_path)
    pieces = [found[name] for name in sorted(found, key=lambda n: int(n[14:-4]))]
    assert [frame for piece in pieces for frame in piece] == rendered
    assert [len(piece) for piece in pieces] == [21, 21, 21, 3]


def test_start_and_stop_by_hand(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(10), str(tmp_path), episode_trigger=lambda i: False)
    env.reset()
    with pytest.raises(AssertionError, match="no recording was started"):
        env.stop_recording()
    env.step(0)
    env.start_recording("mine")
    env.step(0)
    env.step(0)
    env.start_recording("next")
    env.step(0)
    env.stop_recording()
    env.step(0)
    env.close()
    assert films(tmp_path) == {"mine.mp4": [2, 3], "next.mp4": [4]}


def test_an_episode_that_is_stepped_on_after_its_end_stays_one_film(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(3), str(tmp_path), episode_trigger=lambda i: True)
    env.reset()
    for _ in range(8):
        env.step(0)
    env.close()
    assert films(tmp_path) == {"rl-video-episode-0.mp4": list(range(9))}


def test_a_name_that_is_taken_gets_a_suffix(tmp_path: Path) -> None:
    def run() -> None:
        env = rollcam.RecordVideo(Counting(3), str(tmp_path), episode_trigger=lambda i: True)
        play(env, 2)
        env.close()

    run()
    before = (tmp_path / "rl-video-episode-0.mp4").read_bytes()
    with pytest.warns(rollcam.RollcamWarning, match="is taken") as warned:
        run()
    assert len(warned) == 1, "one warning for the cause, not one for each film"
    assert (tmp_path / "rl-video-episode-0.mp4").read_bytes() == before
    assert sorted(films(tmp_path)) == [
        "rl-video-episode-0.mp4",
        "rl-video-episode-0_2.mp4",
        "rl-video-episode-1.mp4",
        "rl-video-episode-1_2.mp4",
    ]


def test_resume_false_clears_only_what_rollcam_wrote(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(3), str(tmp_path), episode_trigger=lambda i: True)
    play(env, 2)
    env.close()
    foreign = tmp_path / "holiday.mp4"
    foreign.write_bytes(b"mine")
    env = rollcam.RecordVideo(
        Counting(5), str(tmp_path), episode_trigger=lambda i: True, resume=False
    )
    assert len(list(tmp_path.glob("*.mp4"))) == 3, "nothing is cleared before the first film"
    with pytest.warns(rollcam.RollcamWarning, match=r"left alone.*holiday\.mp4"):
        play(env, 1)
    env.close()
    assert foreign.read_bytes() == b"mine"
    foreign.unlink()
    assert films(tmp_path) == {"rl-video-episode-0.mp4": list(range(6))}


@pytest.mark.parametrize("ours_outside", [True, False])
def test_list_modes_leave_the_user_the_frames(tmp_path: Path, ours_outside: bool) -> None:
    inner: gym.Env = Counting(100)
    if ours_outside:
        env: gym.Env = rollcam.RecordVideo(RenderCollection(inner), str(tmp_path))
    else:
        env = RenderCollection(rollcam.RecordVideo(inner, str(tmp_path)))
    env.reset()
    for _ in range(10):
        env.step(0)
    assert [barcode.read(frame) for frame in env.render()] == list(range(11))
    assert env.render() == []
    env.step(0)
    assert [barcode.read(frame) for frame in env.render()] == [11]
    env.close()
    assert films(tmp_path) == {"rl-video-episode-0.mp4": list(range(12))}


def test_a_reset_that_clears_the_list_clears_what_was_kept_for_the_user(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(
        RenderCollection(Counting(5)), str(tmp_path), episode_trigger=lambda i: True
    )
    play(env, 3)
    env.reset()
    assert [barcode.read(frame) for frame in env.render()] == [0]
    env.close()


def test_text_environments_are_filmed(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(
        Counting(4, render_mode="ansi"), str(tmp_path), episode_trigger=lambda i: True
    )
    play(env, 1)
    env.close()
    [episode] = list_episodes(tmp_path).episodes
    assert (episode.media, episode.codec, episode.n_frames) == (
        "rl-video-episode-0.cast", "asciicast", 5,
    )  # fmt: skip
    events = [json.loads(line) for line in episode.media_path.read_text().splitlines()[1:]]
    assert [round(event[0], 3) for event in events] == [0, 0.04, 0.08, 0.12, 0.16, 0.2]
    assert ["step 3" in event[2] for event in events] == [False, False, False, True, False, False]


def test_the_sidecar_says_what_was_filmed(tmp_path: Path) -> None:
    counters = {"iteration": 0}
    env = rollcam.RecordVideo(
        gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=12),
        tmp_path,
        episode_trigger=lambda i: i == 1,
        context=lambda: counters,
        metadata={"mine": [1, 2]},
        info_keys=("x",),
    )
    env.reset(seed=5)
    for _ in range(3):
        env.step(0)
    env.reset(seed=6)
    env.set_context(num_env_steps=3)
    total, n_steps, done = 0.0, 0, False
    while not done:
        _, reward, terminated, truncated, _ = env.step(n_steps % 2)
        total, n_steps, done = total + reward, n_steps + 1, terminated or truncated
    counters["iteration"] = 7  # after the end: must not change what was true at the end
    env.close()
    [episode] = list_episodes(tmp_path).episodes
    assert episode.status == "complete"
    assert (episode.env_id, episode.seed, episode.episode_index) == ("CartPole-v1", 6, 1)
    assert (episode.step_index, episode.fps) == (3, 50)
    assert (episode.episode_return, episode.episode_length) == (total, n_steps)
    assert episode.n_frames == n_steps + 1 == len(barcode.decode(episode.media_path))
    assert (episode.terminated, episode.truncated) == (terminated, truncated)
    assert episode.context_at_start == {"iteration": 0}
    assert episode.context_at_end == {"iteration": 0, "num_env_steps": 3}
    assert episode.metadata == {"mine": [1, 2]}
    assert episode.env_spec["max_episode_steps"] == 12
    columns = episode.read_steps()
    assert columns["reward"] == [None] + [1.0] * n_steps
    assert columns["return"][-1] == total
    assert columns["action"] == [None, *[i % 2 for i in range(n_steps)]]


def test_names_from_a_template(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(
        Counting(3),
        tmp_path,
        episode_trigger=lambda i: True,
        context={"iteration": 4},
        name="it{iteration:03d}/{env_id}-{episode}.{is_success}.{nothing}",
    )
    play(env, 1)
    env.close()
    [episode] = list_episodes(tmp_path).episodes
    assert episode.media_path == tmp_path / "it004" / "Counting-0.True.none.mp4"
    assert episode.media_path.is_file()


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (rollcam.keep_last(2), ["rl-video-episode-3", "rl-video-episode-4"]),
        (rollcam.keep_failures, []),
        (lambda episode: episode.episode_index == 1, ["rl-video-episode-1"]),
    ],
)
def test_keep_policies_leave_no_media_of_the_others(tmp_path: Path, keep, kept) -> None:
    env = rollcam.RecordVideo(Counting(3), tmp_path, episode_trigger=lambda i: True, keep=keep)
    play(env, 5)
    env.close()
    names = sorted(path.name for path in tmp_path.iterdir() if path.name != ".rollcam")
    suffixes = (".meta.json", ".mp4", ".steps.json")
    assert names == sorted(name + suffix for name in kept for suffix in suffixes)
    assert not list((tmp_path / ".rollcam").rglob("*.*"))


def test_nothing_is_rendered_when_no_trigger_fires(tmp_path: Path) -> None:
    inner = Counting(5)
    env = rollcam.RecordVideo(inner, tmp_path, episode_trigger=lambda i: i == 2)
    play(env, 2)
    assert inner.n_renders == 0
    play(env, 1)
    assert inner.n_renders == 6
    env.close()


@pytest.mark.parametrize("mode", [None, "human", "depth_array"])
def test_a_render_mode_without_pictures_is_refused(tmp_path: Path, mode: str | None) -> None:
    with pytest.raises(ValueError, match=r"render_mode=.*rgb_array") as caught:
        rollcam.RecordVideo(Counting(render_mode=mode), tmp_path)
    assert isinstance(caught.value, rollcam.RenderModeError)


@pytest.mark.parametrize("fps", [0, -1, True, "30", float("nan"), float("inf")])
def test_a_frame_rate_that_cannot_work_is_refused(tmp_path: Path, fps: object) -> None:
    with pytest.raises(rollcam.SettingError, match="frames per second"):
        rollcam.RecordVideo(Counting(), tmp_path, fps=fps)
    env = Counting()
    env.metadata = {**env.metadata, "render_fps": fps}
    with pytest.raises(rollcam.SettingError, match="render_fps"):
        rollcam.RecordVideo(env, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"video_length": -1}, {"video_length": 1.5}, {"codec": "mpeg4"}, {"quality": "best"},
        {"on_error": "ignore"}, {"on_full": "wait"}, {"keep": 3}, {"name": "{0}"},
        {"name": "{x.y}"}, {"output_fps": 0}, {"mode": "test"},
    ],
    ids=str,
)  # fmt: skip
def test_other_arguments_that_cannot_work_are_refused(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(rollcam.SettingError):
        rollcam.RecordVideo(Counting(), tmp_path, **arguments)


def test_the_spec_can_be_made_again(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(
        gym.make("CartPole-v1", render_mode="rgb_array"),
        str(tmp_path),
        episode_trigger=rollcam.on_demand(),
        quality="small",
    )
    spec = copy.deepcopy(env.spec)
    assert spec.additional_wrappers[-1].kwargs["quality"] == "small"
    env.close()


def test_wrappers_around_and_inside(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(TimeLimit(Counting(100), 7), tmp_path, episode_trigger=lambda i: True)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    play(env, 1)
    env.close()
    [episode] = list_episodes(tmp_path).episodes
    assert (episode.truncated, episode.terminated, episode.episode_length) == (True, False, 7)


def test_finished_films_are_handed_on_by_callback(tmp_path: Path) -> None:
    handed: list[tuple[str, int]] = []

    def hand_on(episode: rollcam.Episode) -> None:
        handed.append((episode.name, len(barcode.decode(episode.media_path))))

    env = rollcam.RecordVideo(
        Counting(4), tmp_path, episode_trigger=lambda i: True, on_finished=hand_on
    )
    play(env, 2)
    env.close()
    assert handed == [("rl-video-episode-0", 5), ("rl-video-episode-1", 5)]


def test_reset_after_close_films_again(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(3), tmp_path, episode_trigger=lambda i: True)
    play(env, 1)
    env.close()
    play(env, 1)
    env.close()
    assert sorted(films(tmp_path)) == ["rl-video-episode-0.mp4", "rl-video-episode-1.mp4"]


def test_nothing_of_the_trainer_is_copied(tmp_path: Path) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.lock = threading.Lock()  # cannot be copied, like much that a trainer holds
            self.films: list[str] = []

        def counters(self) -> dict[str, int]:
            return {"iteration": 3}

        def done(self, episode: rollcam.Episode) -> None:
            self.films.append(episode.name)

        def wanted(self, episode: int) -> bool:
            return True

    trainer = Trainer()
    env = rollcam.RecordVideo(
        Counting(3),
        tmp_path,
        episode_trigger=trainer.wanted,
        context=trainer.counters,
        on_finished=trainer.done,
        metadata={"trainer": trainer},
    )
    play(env, 1)
    env.close()
    [episode] = list_episodes(tmp_path).episodes
    assert trainer.films == ["rl-video-episode-0"]
    assert episode.context_at_start == {"iteration": 3}


def test_env_arguments_that_json_cannot_say(tmp_path: Path) -> None:
    gym.register("Odd-v0", entry_point=lambda render_mode, table: Counting(3, render_mode))
    env = gym.make("Odd-v0", render_mode="rgb_array", table={(0, 1): object()})
    env = rollcam.RecordVideo(env, tmp_path, episode_trigger=lambda i: True)
    play(env, 1)
    env.close()
    [episode] = list_episodes(tmp_path).episodes
    assert episode.env_spec["kwargs"]["render_mode"] == "rgb_array"
    del gym.registry["Odd-v0"]


def test_the_file_is_there_when_stop_recording_returns(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(100), tmp_path, episode_trigger=lambda i: False)
    env.reset()
    for index in range(5):
        env.start_recording(f"clip-{index}")
        env.step(0)
        env.stop_recording()
        assert barcode.indices(tmp_path / f"clip-{index}.mp4") == [index + 1]
    env.close()


def test_a_recording_flag_that_somebody_clears_costs_no_episode(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(3), tmp_path, episode_trigger=lambda i: True)
    play(env, 1)
    env.recording = False
    play(env, 1)
    env.close()
    assert films(tmp_path)["rl-video-episode-1.mp4"] == list(range(4))


def test_a_folder_that_cannot_be_made_after_close_stops_no_reset(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    env = rollcam.RecordVideo(Counting(3), folder, episode_trigger=lambda i: True)
    env.close()
    shutil.rmtree(folder)
    folder.write_text("in the way")
    with pytest.warns(rollcam.RollcamWarning, match="cannot be written to"):
        play(env, 1)
    env.close()


def test_a_clip_counts_steps_and_not_resets(tmp_path: Path) -> None:
    env = rollcam.RecordVideo(Counting(3), tmp_path, video_length=10)
    play(env, 3)
    env.close()
    [episode] = [e for e in list_episodes(tmp_path).episodes if e.name.endswith("step-0")]
    assert (episode.n_frames, episode.episode_length, episode.episode_return) == (11, 8, 4.0)


@pytest.mark.parametrize("arguments", [{"episode_trigger": 5}, {"step_trigger": "x"}], ids=str)
def test_triggers_that_cannot_be_called_are_refused(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(rollcam.SettingError, match="must be a callable"):
        rollcam.RecordVideo(Counting(), tmp_path, **arguments)

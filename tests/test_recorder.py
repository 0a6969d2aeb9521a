"""`rollcam.Recorder`: the engine, as people with their own loop use it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

import rollcam
from rollcam.encode.cast import read_cast
from rollcam.store import sidecar
from rollcam.store.files import list_episodes
from tests import barcode


def test_begin_frame_end(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, fps=25, metadata={"run": "a"}, env_id="Mine-v0") as recorder:
        recorder.begin("first", seed=4, metadata={"episode": "b"})
        assert recorder.is_filming
        recorder.frame(barcode.draw(0))
        for index in range(1, 6):
            recorder.frame(
                barcode.draw(index), reward=0.5, action=np.array([index, 2.5]), info={"x": index}
            )
        future = recorder.end(terminated=True)
        episode = future.result(timeout=60)
    assert not recorder.is_filming
    assert episode.status is rollcam.EpisodeStatus.COMPLETE
    assert (episode.name, episode.seed, episode.env_id) == ("first", 4, "Mine-v0")
    assert (episode.n_frames, episode.episode_length, episode.episode_return) == (6, 5, 2.5)
    assert episode.final_info == {"x": 5}
    assert episode.metadata == {"run": "a", "episode": "b"}
    assert episode.terminated
    assert not episode.truncated
    assert barcode.indices(episode.media_path) == list(range(6))
    assert episode.size_bytes == episode.media_path.stat().st_size
    columns = episode.read_steps()
    assert columns["reward"] == [None, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert columns["return"] == [None, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert columns["action"] == [None, *([float(i), 2.5] for i in range(1, 6))]


def test_what_is_read_back_is_what_the_future_gave(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path) as recorder:
        recorder.begin()
        recorder.frame(barcode.draw(0))
        episode = recorder.end().result(timeout=60)
    assert sidecar.read(episode.sidecar_path) == episode
    assert list_episodes(tmp_path).episodes == [episode]


def test_the_callback_gets_only_finished_films_and_each_of_them(tmp_path: Path) -> None:
    handed: list[rollcam.Episode] = []
    called = threading.Event()

    def hand_on(episode: rollcam.Episode) -> None:
        assert episode.media_path.is_file()
        assert episode.sidecar_path.is_file()
        assert threading.current_thread().name.startswith("rollcam-")
        handed.append(episode)
        called.set()

    recorder = rollcam.Recorder(tmp_path, on_finished=hand_on)
    recorder.begin()
    recorder.frame(barcode.draw(0))
    future = recorder.end()
    assert called.wait(30)
    recorder.begin()
    recorder.frame(None)  # never rendered: empty, nothing to hand on
    assert recorder.end().result(timeout=30).status == "empty"
    recorder.close()
    assert handed == [future.result(timeout=0)]


def test_empty_leaves_a_sidecar_and_no_media(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path) as recorder:
        recorder.begin()
        recorder.frame(None)
        recorder.frame(None, reward=1.0)
        episode = recorder.end().result(timeout=30)
    assert (episode.status, episode.media, episode.episode_return) == ("empty", None, 1.0)
    assert [path.name for path in tmp_path.glob("rl-*")] == ["rl-video-episode-0.meta.json"]
    assert json.loads(episode.sidecar_path.read_text())["empty"] is True


def test_none_is_skipped_and_its_reward_is_not(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, fps=10) as recorder:
        recorder.begin()
        recorder.frame(barcode.draw(0))
        recorder.frame(None, reward=1.0)
        recorder.frame(barcode.draw(1), reward=2.0)
        episode = recorder.end().result(timeout=30)
    assert (episode.n_frames, episode.episode_length, episode.episode_return) == (2, 2, 3.0)
    assert barcode.indices(episode.media_path)[:2] == [0, 1]
    assert episode.read_steps()["reward"] == [None, 3.0]


def test_text(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, fps=5) as recorder:
        recorder.begin()
        for index, text in enumerate(["a\n", b"b\r\n", "\x1b[31mc\x1b[0m"]):
            recorder.frame(text, **({"reward": 1.0} if index else {}))
        episode = recorder.end().result(timeout=30)
    assert (episode.codec, episode.media) == ("asciicast", "rl-video-episode-0.cast")
    cast = read_cast(episode.media_path)
    assert [at for at, _ in cast.frames] == pytest.approx([0, 0.2, 0.4])
    assert cast.duration_s == pytest.approx(0.6)
    assert [data[-1] for _, data in cast.frames] == ["a", "b", "m"]


def test_context_at_start_and_at_end(tmp_path: Path) -> None:
    steps = iter(range(100))
    recorder = rollcam.Recorder(
        tmp_path, context=lambda: {"steps": next(steps), "object": object()}
    )
    recorder.begin()
    recorder.set_context(iteration=np.int64(3), lr=np.float32(0.5))
    recorder.frame(barcode.draw(0))
    recorder.frame(barcode.draw(1), reward=1.0, terminated=True)
    recorder.set_context(iteration=4)  # after the end of the episode
    recorder.frame(barcode.draw(2), reward=1.0)
    episode = recorder.end().result(timeout=30)
    recorder.close()
    assert episode.context_at_start == {"steps": 0}
    assert episode.context_at_end == {"steps": 1, "iteration": 3, "lr": 0.5}
    assert (episode.terminated, episode.n_frames) == (True, 3)


def test_calls_in_the_wrong_order(tmp_path: Path) -> None:
    recorder = rollcam.Recorder(tmp_path)
    with pytest.raises(rollcam.UsageError, match=r"no episode is open; call begin\(\)"):
        recorder.frame(barcode.draw(0))
    with pytest.raises(rollcam.UsageError, match="no episode is open"):
        recorder.end()
    recorder.begin()
    with pytest.raises(rollcam.UsageError, match=r"call end\(\) before"):
        recorder.begin()
    recorder.close()
    recorder.close()
    with pytest.raises(rollcam.UsageError, match="make a new Recorder"):
        recorder.begin()
    with pytest.raises(rollcam.UsageError, match="needs a path"):
        rollcam.Recorder(None).begin()


def test_close_finishes_what_is_open(tmp_path: Path) -> None:
    recorder = rollcam.Recorder(tmp_path)
    recorder.begin()
    recorder.frame(barcode.draw(0))
    recorder.close()
    [episode] = list_episodes(tmp_path).episodes
    assert (episode.status, episode.terminated, episode.truncated) == ("complete", False, False)


def test_many_episodes_wait_for_nothing_and_all_arrive(tmp_path: Path) -> None:
    recorder = rollcam.Recorder(tmp_path, fps=30)
    futures = []
    for episode in range(20):
        recorder.begin()
        for index in range(episode + 1):
            recorder.frame(barcode.draw(index, 64, 64))
        futures.append(recorder.end())
    recorder.close()
    assert [future.result(timeout=0).n_frames for future in futures] == list(range(1, 21))
    assert len({future.result(timeout=0).episode_id for future in futures}) == 20
    assert len({future.result(timeout=0).run_id for future in futures}) == 1


@pytest.mark.parametrize("returns", [[3, 1, 2, 5, 4]])
@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (rollcam.keep_best(2), {5, 4}),
        (rollcam.keep_worst(2), {1, 2}),
        (rollcam.keep_last(1), {4}),
        (rollcam.keep_all, {1, 2, 3, 4, 5}),
    ],
)
def test_keep(tmp_path: Path, keep, kept, returns) -> None:
    with rollcam.Recorder(tmp_path, keep=keep) as recorder:
        for value in returns:
            recorder.begin()
            recorder.frame(barcode.draw(0))
            recorder.frame(barcode.draw(1), reward=value)
            recorder.end()
    found = list_episodes(tmp_path).episodes
    assert {episode.episode_return for episode in found} == kept
    assert {path.name for path in tmp_path.glob("*.mp4")} == {episode.media for episode in found}


def test_odd_rewards_and_infos_cost_nothing(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, on_error="raise", info_keys=("a", "missing")) as recorder:
        recorder.begin()
        recorder.frame(barcode.draw(0))
        for reward in (np.array([1.0]), np.float32(1), True, [1, 2], "x", float("nan")):
            recorder.frame(
                barcode.draw(1), reward=reward, action={"b": 1}, info={"a": np.zeros(99), "b": {}}
            )
        episode = recorder.end().result(timeout=30)
    assert np.isnan(episode.episode_return)
    assert np.isnan(sidecar.read(episode.sidecar_path).episode_return)
    assert episode.read_steps()["reward"] == [None, 1.0, 1.0, 1.0, None, None, None]
    assert episode.final_info == {}


def test_hostile_names_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    recorder = rollcam.Recorder(folder)
    names = ("../../evil", "/etc/evil", "a/../../evil", ".rollcam/evil", "a\x00b\nc")
    with pytest.warns(rollcam.RollcamWarning, match="is taken"):
        for name in names:
            recorder.begin(name)
            recorder.frame(barcode.draw(0))
            assert recorder.end().result(timeout=30).status == "complete"
        recorder.flush()
    with pytest.warns(rollcam.RollcamWarning, match="is no name for a file"):
        recorder.begin("../..")
        recorder.frame(barcode.draw(0))
        nameless = recorder.end().result(timeout=30)
        recorder.close()
    assert nameless.name == nameless.episode_id, "a name that cannot be does not cost the film"
    nameless.media_path.unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"films"}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.mp4")}
    assert found == {"evil.mp4", "etc/evil.mp4", "a/evil.mp4", "evil_2.mp4", "a_b_c.mp4"}


def test_the_folder_is_made_and_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    rollcam.Recorder(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(rollcam.StoreError, match="cannot be written to"):
        rollcam.Recorder(tmp_path / "file")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("where", ["keep", "on_finished"])
def test_whatever_a_callback_raises_the_future_resolves(tmp_path: Path, where: str, error) -> None:
    def fail(episode: rollcam.Episode) -> bool:
        raise error("no")

    recorder = rollcam.Recorder(tmp_path, **{where: fail})
    recorder.begin()
    recorder.frame(barcode.draw(0))
    future = recorder.end()
    assert future.result(timeout=30).status == "complete"
    with pytest.warns(rollcam.RollcamWarning, match=error.__name__):
        recorder.close()
    assert len(list(tmp_path.glob("*.mp4"))) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"queue_bytes": "x"}, {"queue_bytes": 0}, {"context": 5}, {"on_finished": 5},
        {"metadata": 5}, {"name": 5}, {"name_prefix": None}, {"info_keys": "abc"},
        {"resume": "no"}, {"worker": 5}, {"vector_index": "a"}, {"env_id": 7}, {"env_spec": 5},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_that_cannot_work_are_refused(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(rollcam.SettingError, match=next(iter(arguments))):
        rollcam.Recorder(tmp_path, **arguments)


def test_a_name_for_one_film_wins_over_the_template(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, name="t-{episode}") as recorder:
        for name in (None, "mine"):
            recorder.begin(name)
            recorder.frame(barcode.draw(0))
            recorder.end()
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"t-0.mp4", "mine.mp4"}


def test_clearing_touches_only_files_that_bear_the_sidecars_name(tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path) as recorder:
        recorder.begin("a")
        recorder.frame(barcode.draw(0))
        episode = recorder.end().result(timeout=30)
    precious = tmp_path / "precious.py"
    precious.write_text("mine")
    hostile = episode.sidecar_path.read_text().replace('"a.mp4"', '"precious.py"')
    episode.sidecar_path.write_text(hostile)
    recorder = rollcam.Recorder(tmp_path, resume=False)
    with pytest.warns(rollcam.RollcamWarning, match="left alone"):
        recorder.begin()
    recorder.close()
    assert precious.read_text() == "mine"


def test_clearing_spares_a_recorder_that_is_still_open(tmp_path: Path) -> None:
    first = rollcam.Recorder(tmp_path)
    first.begin("first")
    first.frame(barcode.draw(0))
    first.end().result(timeout=30)
    second = rollcam.Recorder(tmp_path, resume=False)
    with pytest.warns(rollcam.RollcamWarning, match="left 1 film in .* alone.*: first"):
        second.begin("second")
    second.frame(barcode.draw(0))
    second.close()
    first.close()
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"first.mp4", "second.mp4"}

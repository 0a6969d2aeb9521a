from __future__ import annotations

import copy
import dataclasses
import enum
import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from rollcam.episode import Episode, EpisodeStatus, Writer
from rollcam.errors import SidecarError
from rollcam.store import sidecar
from rollcam.store.schema import json_schema

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
OURS = sorted(GOLDEN.glob("sidecar-v1-*.meta.json"))
FULL = GOLDEN / "sidecar-v1-full.meta.json"

# Each foreign file, and what the error must say of it.
FOREIGN = {
    "count-huge": "size_bytes is 1000",
    "count-part": "width is 600.5; expected a whole number or null",
    "count-text": "n_frames is '12'; expected a whole number",
    "count-true": "n_frames is True; expected a whole number",
    "ended-number": "terminated is 1; expected true or false",
    "gym": "not written by Rollcam: it lacks schema_version, run_id, name, status",
    "gym-broken": "lacks schema_version, episode_id, run_id, name, status",
    "info-nested": "final_info.reward is {'sum': 3}; expected",
    "list": "not written by Rollcam: it is no JSON object",
    "media-absolute": "media is '/etc/passwd'; expected the name of a file beside it",
    "media-below": "media is 'other/film.mp4'; expected the name of a file beside it",
    "media-blank": "media is ''; expected the name of a file beside it",
    "media-here": "media is '.'; expected the name of a file beside it",
    "media-nul": r"media is 'film\x00.mp4'; expected the name of a file beside it",
    "media-outside": "media is '../../thesis/results.mp4'; expected the name of a file beside it",
    "media-parent": "media is '..'; expected the name of a file beside it",
    "metadata-list": "metadata is ['a']; expected an object",
    "mode": "mode is 'test'; expected 'train' or 'eval'",
    "newer": "has schema_version 2, and this Rollcam reads up to 1; update it with: pip install",
    "no-name": "it lacks name",
    "not-text": "is no JSON: 'utf-8' codec can't decode byte 0xff",
    "nothing": "is no JSON: it is empty",
    "null": "not written by Rollcam: it is no JSON object",
    "rate-text": "fps is 'fast'; expected a number or null",
    "status": "status is 'finished'; expected 'complete' or 'truncated_by_crash' or",
    "status-list": "status is ['complete']; expected 'complete' or",
    "steps-outside": "steps is '../x.steps.json'; expected the name of a file beside it",
    "torn": "is no JSON: Expecting ':' delimiter",
    "version-text": "has schema_version '1'; expected a whole number",
    "version-true": "has schema_version True; expected a whole number",
    "version-zero": "has schema_version 0; expected a whole number from 1",
    "writer-no-pid": "writer lacks pid",
    "writer-pid": "writer.pid is '4242'; expected a whole number",
    "writer-text": "writer is 'node-7'; expected an object or null",
}

MINIMAL = {"episode_id": "01JD", "run_id": "01JC", "name": "ep", "status": EpisodeStatus.COMPLETE}


def episode(**facts: Any) -> Episode:
    return Episode(**{**MINIMAL, **facts})


def again(film: Episode) -> Episode:
    return sidecar.from_json(sidecar.to_json(film))


class TestGolden:
    @pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
    def test_every_field_survives_reading_and_writing(self, path: Path) -> None:
        before = json.loads(path.read_bytes())
        after = json.loads(sidecar.to_json(sidecar.from_json(path.read_bytes())))
        derived = {"empty", "broken"}
        assert {key: after[key] for key in before if key not in derived} == {
            key: value for key, value in before.items() if key not in derived
        }
        assert after["empty"] is (after["status"] == "empty" or after.get("media") is None)
        assert after["broken"] is (after["status"] == "failed")

    @pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
    def test_what_was_written_back_stays_the_same(self, path: Path) -> None:
        once = sidecar.to_json(sidecar.from_json(path.read_bytes()))
        assert sidecar.to_json(sidecar.from_json(once)) == once

    def test_minimal(self) -> None:
        film = sidecar.from_json((GOLDEN / "sidecar-v1-minimal.meta.json").read_text())
        assert film == Episode(
            episode_id="01JD7Q2ZK3N8W5T4R9V6XMHB0C",
            run_id="01JD7Q2Z9A7D3F5G1H2J4K6M8N",
            name="rl-video-episode-0",
            status=EpisodeStatus.EMPTY,
        )

    def test_full(self) -> None:
        raw = json.loads(FULL.read_bytes())
        film = sidecar.from_json(FULL.read_bytes())
        # A field that the file lacks would be tested by nothing: the full one has each.
        names = {field.name for field in dataclasses.fields(Episode)} - {"folder", "extra"}
        assert raw.keys() == names | {"empty", "broken"}
        assert film.writer == Writer("node-7.example", 4242, "worker-3", 1)
        assert film.status is EpisodeStatus.COMPLETE
        assert (film.fps, film.output_fps, film.episode_return) == (50.0, 29.97, -123.75)
        assert film.extra == {}
        plain = {name: getattr(film, name) for name in names if name not in ("writer", "status")}
        assert plain == {name: raw[name] for name in plain}

    def test_hostile(self, tmp_path: Path) -> None:
        path = tmp_path / "ep.meta.json"
        path.write_bytes((GOLDEN / "sidecar-v1-hostile.meta.json").read_bytes())
        film = sidecar.read(path)
        assert (film.folder, film.name) == (tmp_path, "ep")
        assert film.sidecar_path == path
        assert film.media_path is not None
        assert film.media_path.parent == tmp_path
        assert film.episode_return is not None
        assert math.isnan(film.episode_return)
        assert film.duration_s == math.inf
        assert film.extra["folder"] == "/etc"
        assert film.extra["zukünftig"]["field"] == "of a later Rollcam"
        assert film.schema_version == 1
        assert film.metadata["episode_id"] is None


class TestForeign:
    def test_each_has_its_line_above(self) -> None:
        names = {path.name for path in GOLDEN.glob("not-ours-*")}
        assert names == {f"not-ours-{name}.meta.json" for name in FOREIGN}

    @pytest.mark.parametrize("name", FOREIGN)
    def test_is_refused_in_words(self, name: str) -> None:
        path = GOLDEN / f"not-ours-{name}.meta.json"
        with pytest.raises(SidecarError) as caught:
            sidecar.read(path)
        message = str(caught.value)
        assert str(path) in message
        assert FOREIGN[name] in message
        assert len(message) < len(str(path)) + 300

    def test_a_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "ep.meta.json"
        path.mkdir()
        with pytest.raises(SidecarError, match="is no file"):
            sidecar.read(path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    @pytest.mark.timeout(20)  # opening one waits for a writer that never comes
    def test_a_pipe(self, tmp_path: Path) -> None:
        path = tmp_path / "ep.meta.json"
        os.mkfifo(path)
        with pytest.raises(SidecarError, match="is no file"):
            sidecar.read(path)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(SidecarError, match="cannot be read"):
            sidecar.read(tmp_path / "ep.meta.json")

    def test_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "ep.meta.json"
        path.write_bytes(FULL.read_bytes() + b" " * sidecar.MAX_BYTES)
        with pytest.raises(SidecarError, match="larger than"):
            sidecar.read(path)

    @pytest.mark.parametrize("depth", [50, 150, 300, 450, 600, 800, 900, 980, 2000, 100_000])
    @pytest.mark.parametrize("field", ["n_frames", "metadata", "of_a_later_version", None])
    def test_nested_too_deeply(self, field: str | None, depth: int) -> None:
        nest = (
            "[" * depth + "]" * depth
            if field != "metadata"
            else '{"a":' * depth + "1" + "}" * depth
        )
        text = (
            FULL.read_text().rstrip().removesuffix("}") + f', "{field}": {nest}}}'
            if field
            else nest
        )
        try:
            film = sidecar.from_json(text)
        except SidecarError:
            return
        assert field in ("metadata", "of_a_later_version")
        assert again(film).episode_id == film.episode_id


class TestPlace:
    def sidecar_at(self, path: Path, name: str) -> Episode:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sidecar.to_json(episode(name=name, media=name.rpartition("/")[2] + ".mp4")))
        return sidecar.read(path)

    def test_the_folder_is_above_the_folders_of_the_name(self, tmp_path: Path) -> None:
        film = self.sidecar_at(tmp_path / "a" / "b" / "ep.meta.json", "a/b/ep")
        assert (film.folder, film.name) == (tmp_path, "a/b/ep")
        assert film.media_path == tmp_path / "a" / "b" / "ep.mp4"

    def test_moved_elsewhere(self, tmp_path: Path) -> None:
        film = self.sidecar_at(tmp_path / "c" / "ep.meta.json", "a/b/ep")
        assert (film.folder, film.name) == (tmp_path / "c", "ep")

    def test_renamed(self, tmp_path: Path) -> None:
        film = self.sidecar_at(tmp_path / "a" / "best.meta.json", "a/ep")
        assert (film.folder, film.name) == (tmp_path, "a/best")
        assert film.media_path == tmp_path / "a" / "ep.mp4"

    @pytest.mark.parametrize(
        "name", ["../ep", "../../../etc/ep", "/ep", "//ep", "a/../ep", "/", ""]
    )
    def test_a_name_that_leads_out_counts_for_nothing(self, tmp_path: Path, name: str) -> None:
        film = self.sidecar_at(tmp_path / "a" / "ep.meta.json", name)
        assert film.sidecar_path == tmp_path / "a" / "ep.meta.json"
        assert (film.folder, film.name) == (tmp_path / "a", "ep")

    def test_the_absolute_path_as_name(self, tmp_path: Path) -> None:
        path = tmp_path / "ep.meta.json"
        film = self.sidecar_at(path, path.with_name("ep").as_posix())
        assert (film.folder, film.name) == (tmp_path, "ep")

    def test_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        film = self.sidecar_at(Path("a", "ep.meta.json"), "a/ep")
        assert (film.folder, film.name) == (Path(), "a/ep")
        film = self.sidecar_at(Path("a", "ep.meta.json"), "/a/ep")
        assert film.sidecar_path == Path("a", "ep.meta.json")


class Colour(enum.Enum):
    RED = object()
    PAIR = (np.float64("nan"), np.int16(3))


class TestWriting:
    def test_numbers_that_json_cannot_say(self) -> None:
        film = episode(episode_return=math.nan, fps=math.inf, duration_s=-math.inf)
        raw = json.loads(sidecar.to_json(film), parse_constant=pytest.fail)
        assert (raw["episode_return"], raw["fps"], raw["duration_s"]) == ("nan", "inf", "-inf")
        read = again(film)
        assert math.isnan(read.episode_return or 0)
        assert (read.fps, read.duration_s) == (math.inf, -math.inf)

    def test_values_that_json_cannot_say(self) -> None:
        values = {
            "path": Path("a"),
            "set": {1},
            "bytes": b"\xff",
            "complex": 1j,
            "array": np.arange(4, dtype=np.int8).reshape(2, 2),
            "scalar": np.float32(0.5),
            "odd": np.array([np.nan, np.inf]),
            "long": np.longdouble(1.5),
            "when": np.datetime64("2026-11-21"),
            "enum": Colour.RED,
            "pair": Colour.PAIR,
            "writer": Writer("h", 1),
            7: None,
            None: "key",
        }
        film = episode(metadata=values)
        raw = json.loads(sidecar.to_json(film), parse_constant=pytest.fail)["metadata"]
        assert raw["array"] == [[0, 1], [2, 3]]
        assert raw["scalar"] == 0.5
        assert raw["odd"] == ["nan", "inf"]
        assert raw["pair"] == ["nan", 3]
        assert raw["long"] == 1.5
        assert raw["writer"]["host"] == "h"
        assert raw["7"] is None
        assert raw["None"] == "key"
        assert all(isinstance(raw[key], str) for key in ("path", "set", "bytes", "complex", "enum"))
        assert again(film).metadata == raw

    def test_a_mapping_that_holds_itself(self) -> None:
        endless: dict[str, Any] = {"lr": 0.1}
        endless["self"] = endless
        film = again(episode(metadata=endless))
        assert film.metadata["lr"] == 0.1

    @pytest.mark.parametrize(
        "large",
        [
            {"weights": np.zeros(10**6)},
            {"log": "ü" * sidecar.MAX_BYTES},
            {str(number): number for number in range(400_000)},
        ],
        ids=["array", "text", "keys"],
    )
    def test_what_is_written_can_be_read(self, tmp_path: Path, large: dict[str, Any]) -> None:
        path = tmp_path / "ep.meta.json"
        path.write_text(sidecar.to_json(episode(metadata=large, env_spec={"id": "Env-v0"}, seed=7)))
        film = sidecar.read(path)
        assert (film.seed, film.env_spec) == (7, {"id": "Env-v0"})
        assert "larger than" in film.metadata["left_out"]

    def test_unknown_fields_of_the_writer_are_kept(self) -> None:
        raw = json.loads(FULL.read_bytes())
        raw["writer"]["gpu"] = {"name": "H100"}
        film = sidecar.from_json(json.dumps(raw))
        assert json.loads(sidecar.to_json(film))["writer"] == raw["writer"]
        # A known field counts as it stands in the episode, whatever was read.
        moved = dataclasses.replace(film, writer=Writer("other", 1))
        written = json.loads(sidecar.to_json(moved))["writer"]
        assert (written["host"], written["gpu"]) == ("other", {"name": "H100"})
        nobody = dataclasses.replace(film, writer=None)
        assert json.loads(sidecar.to_json(nobody))["writer"] is None

    def test_a_rate_is_a_float(self) -> None:
        film = sidecar.from_json(FULL.read_text().replace('"fps": 50.0', '"fps": 50'))
        assert isinstance(film.fps, float)

    @pytest.mark.parametrize("status", EpisodeStatus)
    @pytest.mark.parametrize("media", [None, "ep.mp4"])
    def test_the_two_words_of_gym(self, status: EpisodeStatus, media: str | None) -> None:
        raw = json.loads(sidecar.to_json(episode(status=status, media=media)))
        assert raw["empty"] is (media is None or status == "empty")
        assert raw["broken"] is (status == "failed")

    @pytest.mark.skipif(os.name == "nt", reason="names there are not bytes")
    def test_a_file_name_that_is_no_text(self) -> None:
        name = os.fsdecode(b"film-\xff.mp4")
        assert again(episode(media=name)).media == name


ODD_NUMBERS = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}


class TestFuzz:
    """Mutations of the full file, from a fixed seed: a `SidecarError` or an episode, nothing else."""

    N_CASES = 2000

    def test_mutations(self) -> None:
        validator = jsonschema.Draft202012Validator(json_schema())
        counts = {True: 0, False: 0}
        for case, data in enumerate(mutations(random.Random(20261121), self.N_CASES)):
            where = Path("videos", "rl-video-episode-12.meta.json") if case % 3 else None
            try:
                film = sidecar.from_json(data, where=where)
            except SidecarError:
                counts[False] += 1
                continue
            counts[True] += 1
            written = sidecar.to_json(film)
            assert sidecar.to_json(sidecar.from_json(written)) == written
            raw = json.loads(data, parse_constant=ODD_NUMBERS.__getitem__)
            validator.validate({**raw, "empty": False, "broken": False})  # these two are derived
            validator.validate(json.loads(written))
            assert film.media_path is None or film.media_path.parent == Path("videos")
        # Both ways are taken often, or the mutations test little.
        assert min(counts.values()) > self.N_CASES / 5


def mutations(chance: random.Random, n_cases: int) -> Iterator[bytes]:
    whole = FULL.read_bytes()
    for case in range(n_cases):
        if case % 2:
            yield mutated_bytes(chance, whole)
        else:
            yield json.dumps(mutated_tree(chance, json.loads(whole))).encode()


def mutated_bytes(chance: random.Random, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        start = chance.randrange(len(data) + 1)
        end = start + chance.choice([0, 1, 1, 2, 10])
        piece = chance.choice(
            [
                bytes(chance.randrange(256) for _ in range(chance.randrange(3))),
                chance.choice(
                    [b"0", b"9", b"-", b".", b"e9", b"null", b"true", b"NaN", b"Infinity"]
                ),
                chance.choice(
                    [b'"', b",", b":", b"[", b"]", b"{", b"}", b"\\", b"\\u0000", b"\\ud800"]
                ),
                whole[start : start + chance.randrange(60)],
            ]
        )
        data[start:end] = piece
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.05 else data)


ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 10**30, 10**400, 0.0, -0.5, 1e308, math.nan, math.inf),
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "NaN",
        "complete",
        "failed",
        "eval",
        "1",
        ".",
        "..",
        "/",
        "a/b",
    ),
    *("../x", "C:\\x", "\0", "\ud800", "\U0001f3ac", "x" * 3000),
    *([], [[]], [1, "a"], {}, {"a": 1}, {"a": {"b": []}}, {"host": "h", "pid": 1}, {"host": 1}),
]


def mutated_tree(chance: random.Random, tree: dict[str, Any]) -> dict[str, Any]:
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        inner = [value for value in tree.values() if isinstance(value, dict) and value]
        spot = chance.choice(inner) if inner and chance.random() < 0.25 else tree
        key = chance.choice([*spot])
        odd = copy.deepcopy(chance.choice(ODD_VALUES))
        match chance.randrange(5):
            case 0:
                del spot[key]
                if not spot:
                    return tree
            case 1:
                spot[chance.choice(["later", "folder", "extra", "", key.upper()])] = odd
            case 2:
                spot[key] = spot[chance.choice([*spot])]
            case _:
                spot[key] = odd
    return tree


def test_what_holds_itself_is_told_in_words() -> None:
    """Twice, so that the bound of the depth alone would take for ever."""
    told: dict[str, Any] = {"fine": 1}
    told["both"] = [told, told]
    shared = {"a": 1}
    film = again(episode(metadata={"told": told, "shared": [shared, shared]}))
    assert film.metadata["told"]["fine"] == 1
    assert all(isinstance(text, str) for text in film.metadata["told"]["both"])
    assert film.metadata["shared"] == [shared, shared]

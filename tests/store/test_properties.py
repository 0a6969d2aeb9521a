"""Properties of names and sidecars, over whatever hypothesis thinks of."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollcam.episode import Episode, EpisodeStatus, Writer
from rollcam.errors import SettingError, SidecarError
from rollcam.store import columns, sidecar
from rollcam.store.layout import HIDDEN, NameTemplate, clean_name

quick = settings(deadline=None, database=None, derandomize=True, max_examples=100)

HOSTILE = [
    "../x", "..", ".", "/etc/passwd", "a/../../b", "\0", "a\0b", "con", "NUL.mp4", "com1", " ",
    "\ud800", "x" * 10_000, "\x1b]0;evil\x07", "C:\\x", ".rollcam/claims/a", "{0}", "{a.b}", "%s",
    "\u202e", "é" * 200, "a\nb", "-rf", "~", "nan", "inf",
]  # fmt: skip
FIELDS = {field.name for field in dataclasses.fields(Episode)} - set(sidecar.NOT_WRITTEN)
texts = st.one_of(st.text(st.characters(exclude_categories=[])), st.sampled_from(HOSTILE))
odd_floats = st.sampled_from([math.nan, math.inf, -math.inf])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), odd_floats, texts,
)  # fmt: skip
numpy_scalars = st.one_of(
    st.floats(width=32).map(np.float32),
    st.integers(-(2**31), 2**31 - 1).map(np.int32),
    st.booleans().map(np.bool_),
    odd_floats.map(np.float64),
    st.integers(0, 255).map(lambda n: np.array(n, np.uint8)),
)
values = st.recursive(
    st.one_of(scalars, numpy_scalars, st.binary(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3), st.tuples(inner)
    ),
    max_leaves=10,
)
maps = st.dictionaries(texts, values, max_size=5)
scalar_maps = st.dictionaries(texts, scalars, max_size=5)
file_names = st.sampled_from(["film.mp4", "-", "..a", " b ", "ü.cast"])
counts = st.one_of(st.none(), st.integers(-(2**70), 2**70))
episodes = st.builds(
    Episode,
    episode_id=texts, run_id=texts, name=texts, status=st.sampled_from(EpisodeStatus),
    reason=st.one_of(st.none(), texts), kind=st.sampled_from(["episode", "clip"]),
    mode=st.sampled_from(["train", "eval"]), env_id=st.one_of(st.none(), texts),
    env_spec=st.one_of(st.none(), maps), seed=counts, step_index=counts,
    writer=st.one_of(
        st.none(), st.builds(Writer, host=texts, pid=st.integers(), worker=st.one_of(texts)),
    ),
    media=st.one_of(st.none(), file_names), n_frames=st.integers(0, 2**65),
    fps=st.one_of(st.none(), st.floats(), odd_floats),
    episode_return=st.one_of(st.none(), st.floats(), odd_floats),
    started_at=st.one_of(st.none(), texts), terminated=st.booleans(),
    final_info=scalar_maps, context_at_end=scalar_maps, metadata=maps,
    extra=st.dictionaries(st.sampled_from(["new", "later", "../x"]), values, max_size=2),
)  # fmt: skip


class TestSidecars:
    @quick
    @given(episodes)
    def test_what_is_read_is_what_is_written(self, episode: Episode) -> None:
        text = sidecar.to_json(episode)
        read = sidecar.from_json(text)
        assert sidecar.to_json(read) == text
        assert read.name == episode.name
        assert read.seed == episode.seed
        assert read.status is episode.status
        assert read.extra.keys() >= episode.extra.keys()
        json.loads(text, parse_constant=pytest.fail)

    @quick
    @given(episodes)
    def test_its_place_is_where_it_lies(self, episode: Episode) -> None:
        where = Path("videos", "inner", "film.meta.json")
        read = sidecar.from_json(sidecar.to_json(episode), where=where)
        assert read.sidecar_path == where
        assert read.media_path is None or read.media_path.parent == where.parent

    @quick
    @given(st.dictionaries(st.sampled_from([*sorted(FIELDS), "later", "empty"]), values))
    def test_an_episode_or_an_error_in_words(self, changes: dict[str, Any]) -> None:
        minimal = {"schema_version": 1, "episode_id": "1", "run_id": "2", "name": "film"}
        raw = sidecar._plain({**minimal, "status": "complete", **changes})
        try:
            episode = sidecar.from_json(json.dumps(raw))
        except SidecarError as error:
            told = str(error)
            assert len(told) < 500
            return
        written = json.loads(sidecar.to_json(episode))
        assert written.keys() >= FIELDS
        assert sidecar.as_dict(sidecar.from_json(json.dumps(written))) == written

    @quick
    @given(episodes)
    def test_the_index_takes_it(self, episode: Episode) -> None:
        read = sidecar.from_json(sidecar.to_json(episode))
        fields = columns.fields_of(read)
        facts = columns.facts_of(fields)
        text = columns.facts_text(facts)
        assert len(text) <= 2**16
        json.loads(text, parse_constant=pytest.fail)
        assert len(columns.values_of(fields)) == len(columns.COLUMNS)
        for value in columns.values_of(fields):
            stored = columns.storable(value)
            if isinstance(stored, str):
                stored.encode()
        hash(columns.shape_of(fields))
        for key in columns.keys_of(facts):
            columns.expression(key)

    @pytest.mark.parametrize("field", ["name", "reason", "env_id", "media", "metadata"])
    def test_ten_megabytes(self, tmp_path: Path, field: str) -> None:
        large = "x" * 10_000_000
        raw = {"schema_version": 1, "episode_id": "1", "run_id": "2", "name": "film",
               "status": "complete", field: {"a": large} if field == "metadata" else large}  # fmt: skip
        path = tmp_path / "film.meta.json"
        path.write_text(json.dumps(raw))
        with pytest.raises(SidecarError, match="larger than") as caught:
            sidecar.read(path)
        assert len(str(caught.value)) < 500


class TestNames:
    @quick
    @given(texts)
    @example("a/" * 3000)
    def test_a_name_stays_inside(self, told: str) -> None:
        try:
            name = clean_name(told)
        except SettingError:
            return
        assert clean_name(name) == name
        parts = name.split("/")
        assert not {"", ".", "..", HIDDEN} & set(parts)
        assert all(len(part.encode("utf-8", "replace")) <= 200 for part in parts)
        assert "\0" not in name
        assert not os.path.isabs(name)
        inside = os.path.normpath(os.path.join("/videos", name))
        assert inside.startswith("/videos/")

    @quick
    @given(texts, st.dictionaries(st.sampled_from(["a", "b", "step"]), values))
    def test_values_bring_no_folders(self, prefix: str, told: dict[str, Any]) -> None:
        escaped = prefix.replace("{", "{{").replace("}", "}}")
        template = NameTemplate(escaped + "x{a}-{b:06d}-{step:.3f}")
        filled = template.fill(told)
        assert filled.count("/") == prefix.count("/")
        clean_name(filled)

    @quick
    @given(texts)
    def test_a_template_or_an_error_in_words(self, told: str) -> None:
        try:
            template = NameTemplate(told)
        except SettingError:
            return
        assert clean_name(template.fill({"a": 1}))

    @settings(deadline=None, database=None, derandomize=True, max_examples=50)
    @given(texts)
    def test_a_file_of_that_name_can_be(self, told: str) -> None:
        try:
            name = clean_name(told)
        except SettingError:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.meta.json")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"{}")
            except OSError:  # too deep for one path, which the recorder says
                assert len(name) > 1000

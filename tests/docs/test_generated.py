from __future__ import annotations

import ast
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import numpy as np
import pytest
from scripts import generate_docs

from rollcam import errors
from rollcam.cli.main import cli
from rollcam.encode.probe import probe
from rollcam.episode import Episode, EpisodeStatus, Writer
from rollcam.store import catalog, files, schema, sidecar

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = sorted((ROOT / "tests" / "golden").glob("sidecar-v1-*.meta.json"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

MINIMAL = Episode("01JD", "01JC", "ep", EpisodeStatus.EMPTY)
FULL = sidecar.from_json((ROOT / "tests/golden/sidecar-v1-full.meta.json").read_bytes())
ODD = Episode(
    "",
    "\ud800",
    "../\0",
    EpisodeStatus.FAILED,
    reason="x" * 5000,
    env_spec={"kwargs": {"array": np.eye(2), "inf": math.inf, "object": object()}},
    seed=2**100,
    writer=Writer("", np.int64(1)),  # type: ignore[arg-type]
    fps=0.0,
    duration_s=-math.inf,
    episode_return=math.nan,
    episode_length=np.int32(3),  # type: ignore[arg-type]
    final_info={"loss": math.nan, "won": np.bool_(True)},  # type: ignore[dict-item]
    metadata={"": None, "set": {1}, "deep": {"er": [{}]}},
    extra={"later": [1, {"a": math.nan}], "writer": {"gpu": 1}},
)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    made = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


class TestPages:
    @pytest.mark.parametrize("path", [f"docs/reference/{n}" for n in
        ("cli.md", "errors.md", "sidecar.md", "sidecar.schema.json")])  # fmt: skip
    def test_in_sync(self, path: str) -> None:
        made = generate_docs.pages()
        assert (ROOT / path).read_bytes().decode() == made[path], "run `make docs`"

    def test_written_then_checked_then_stale(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--root", str(tmp_path)]
        assert generate_docs.main(["--check", *root]) == 1
        assert not any(tmp_path.iterdir())
        assert len(capsys.readouterr().err.splitlines()) == len(generate_docs.pages())
        assert generate_docs.main(root) == 0
        assert generate_docs.main(["--check", *root]) == 0
        page = tmp_path / "docs" / "reference" / "errors.md"
        page.write_bytes(page.read_bytes().replace(b"\n", b"\r\n"))
        (tmp_path / "docs" / "reference" / "cli.md").unlink()
        capsys.readouterr()
        assert generate_docs.main(["--check", *root]) == 1
        named = re.findall(r"^docs/reference/(\S+) is stale", capsys.readouterr().err, re.MULTILINE)
        assert sorted(named) == ["cli.md", "errors.md"]
        assert generate_docs.main(root) == 0
        assert generate_docs.stale(tmp_path) == {}

    def test_the_same_on_every_machine(self) -> None:
        # Width of the terminal, locale, colours and the seed of hashes differ; the pages do not.
        machine = {"COLUMNS": "40", "LANGUAGE": "de", "FORCE_COLOR": "1", "PYTHONHASHSEED": "7"}
        done = subprocess.run(
            [sys.executable, "scripts/generate_docs.py", "--check"],
            cwd=ROOT,
            env={**os.environ, **machine},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_commands_fit_the_width(self) -> None:
        blocks = re.findall(r"```text\n(.*?)```", generate_docs.cli_page(), re.DOTALL)
        assert len(blocks) == 1 + len(commands())
        lines = "".join(blocks).splitlines()
        assert max(map(len, lines)) <= generate_docs.WIDTH


class TestErrors:
    def test_each_has_a_page_of_its_own(self) -> None:
        anchors = re.findall(r'<a id="([^"]+)">', generate_docs.errors_page())
        found = [c for c in vars(errors).values() if isinstance(c, type)]
        raised = [c for c in found if issubclass(c, errors.RollcamError)]
        warned = [c for c in found if issubclass(c, errors.RollcamWarning)]
        assert sorted(anchors) == sorted([*(c.slug for c in raised), *(c.__name__ for c in warned)])
        assert len(anchors) == len(set(anchors)), "an error without a slug of its own"

    @pytest.mark.parametrize("name", ["FrameError", "NoLongerThere"])
    def test_one_without_its_sentence_fails(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        todo = generate_docs.TODO
        changed = (
            {k: v for k, v in todo.items() if k != name} if name in todo else {**todo, name: ""}
        )
        monkeypatch.setattr(generate_docs, "TODO", changed)
        with pytest.raises(SystemExit, match=name):
            generate_docs.errors_page()

    @pytest.mark.parametrize("text", generate_docs.TODO.values(), ids=generate_docs.TODO)
    def test_the_sentence_is_one(self, text: str) -> None:
        assert text.endswith(".")
        assert ". " not in text
        named = set(re.findall(r"`rollcam ([a-z]+)", text))
        assert named <= commands().keys()


class TestSchema:
    @pytest.mark.parametrize("film", [MINIMAL, FULL, ODD], ids=["minimal", "full", "odd"])
    def test_what_is_written_is_valid(
        self, film: Episode, validator: jsonschema.Draft202012Validator
    ) -> None:
        text = sidecar.to_json(film)
        raw = json.loads(text, parse_constant=pytest.fail)
        validator.validate(raw)
        assert raw.keys() >= validator.schema["properties"].keys()
        assert sidecar.to_json(sidecar.from_json(text)) == text

    @pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
    def test_golden_files_are_valid(
        self, path: Path, validator: jsonschema.Draft202012Validator
    ) -> None:
        validator.validate(json.loads(path.read_bytes()))

    def test_defaults_are_valid(self, validator: jsonschema.Draft202012Validator) -> None:
        for field in validator.schema["properties"].values():
            if "default" in field:
                validator.evolve(schema={**field, "$defs": validator.schema["$defs"]}).validate(
                    field["default"]
                )

    @pytest.mark.parametrize(
        "change",
        [
            {"status": "done"},
            {"kind": "film"},
            {"n_frames": "3"},
            {"n_frames": None},
            {"fps": "fast"},
            {"episode_return": "NaN"},
            {"terminated": 1},
            {"writer": {"host": "h"}},
            {"final_info": {"a": [1]}},
            {"metadata": None},
            {"schema_version": 2},
        ],
        ids=str,
    )
    def test_what_cannot_be_read_is_invalid(
        self, change: dict[str, object], validator: jsonschema.Draft202012Validator
    ) -> None:
        raw = {**json.loads(sidecar.to_json(FULL)), **change}
        assert not validator.is_valid(raw)
        with pytest.raises(errors.SidecarError):
            sidecar.from_json(json.dumps(raw))

    @pytest.mark.parametrize("name", sidecar.REQUIRED)
    def test_what_must_be_there(
        self, name: str, validator: jsonschema.Draft202012Validator
    ) -> None:
        raw = json.loads(sidecar.to_json(FULL))
        del raw[name]
        assert not validator.is_valid(raw)
        with pytest.raises(errors.SidecarError, match=f"it lacks {name}$"):
            sidecar.from_json(json.dumps(raw))

    def test_every_field_has_its_row_and_its_words(self) -> None:
        page = generate_docs.sidecar_page()
        made = schema.json_schema()
        for table in (made, made["$defs"]["Writer"]):
            for name, field in table["properties"].items():
                assert f"| `{name}` |" in page
                assert field["description"].endswith(".")


# What a block of the README takes for granted, and what brings it about.
GIVEN = {
    "env": "import gymnasium\n"
    "env = gymnasium.make('CartPole-v1', render_mode='rgb_array')\n"
    "env.reset(seed=1)",
    "first_picture": "import numpy\nfirst_picture = numpy.zeros((64, 96, 3), numpy.uint8)",
    "rollout": "rollout = [(numpy.full((64, 96, 3), 20 * n, numpy.uint8), 1.0) for n in range(9)]",
}
OFFLINE = (
    "import sys, warnings\n"
    "def refuse(event, arguments):\n"
    "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto'):\n"
    "        raise RuntimeError(f'the README wants the network: {event} {arguments}')\n"
    "sys.addaudithook(refuse)\n"
    "warnings.simplefilter('error', UserWarning)\n"
)


class TestReadme:
    def run(self, block: str, folder: Path) -> None:
        bound = {
            node.id if isinstance(node, ast.Name) else node.asname or node.name
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.alias)
            or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        }
        used = set(re.findall(r"\w+", block)) - bound
        given = "\n".join(code for name, code in GIVEN.items() if name in used)
        done = subprocess.run(
            [sys.executable, "-c", f"{OFFLINE}\n{given}\n{block}"],
            cwd=folder,
            env={**os.environ, "SDL_VIDEODRIVER": "dummy"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
    def test_a_block_runs_and_films(self, block: str, tmp_path: Path) -> None:
        self.run(block, tmp_path)
        listing = files.list_episodes(tmp_path)
        assert listing.episodes
        assert listing.problems == []
        for film in listing.episodes:
            assert film.status == "complete"
            assert film.media_path is not None
            report = probe(film.media_path)
            assert (report.plays, report.problems) == (True, ())
            assert report.n_frames == film.n_encoded
            assert film.n_frames > 0
        kept = {film.media_path for film in listing.episodes}
        assert {p for p in tmp_path.rglob("*.mp4") if ".rollcam" not in p.parts} == kept

    def test_the_first_block_writes_the_files_that_are_named(self, tmp_path: Path) -> None:
        self.run(BLOCKS[0], tmp_path)
        named = set(re.findall(r"`(rl-video-[^`]+)`", README))
        assert {p.name for p in (tmp_path / "videos").glob("*.mp4")} == named
        for name in named:
            with catalog.Catalog(tmp_path / "videos") as episodes:
                film = episodes[name]
            assert film.seed == film.episode_index
            assert film.n_frames == (film.episode_length or 0) + 1
            assert len(film.read_steps()["reward"]) == film.n_frames

    def test_the_commands_exist(self) -> None:
        lines = re.findall(r"(?:^|`)rollcam ([^`\n]*)", README, re.MULTILINE)
        known = commands()
        named = set()
        for line in lines:
            verb, *words = shlex.split(line, comments=True)
            assert verb in known, f"README names `rollcam {verb}`"
            named.add(verb)
            options = {text for option in known[verb].params for text in option.opts}
            given = {word.partition("=")[0] for word in words if word.startswith("-")}
            assert given <= options | {"-h", "--help"}
        assert named == known.keys(), "README does not name every command"


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}

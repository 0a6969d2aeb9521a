"""`rollcam check` and `rollcam transcode`, as commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rollcam.cli.media import check, transcode
from rollcam.encode.probe import probe
from tests import barcode
from tests.encode.bad_films import film, mpeg4, untagged, without_moov

CAST = '{"version": 2, "width": 9, "height": 2}\n[0.0, "o", "a"]\n'
CAST_1 = '{"version": 1, "width": 9, "height": 2, "stdout": [[0, "a"]]}'


def run(command, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def test_check_says_what_plays(tmp_path: Path) -> None:
    result = run(check, film(tmp_path / "a.mp4"))
    assert result.exit_code == 0
    assert result.stdout == (
        f"plays    {tmp_path / 'a.mp4'}  (mp4, h264, yuv420p, 160x120, 12 frames, 0.40 s)\n"
        "1 file: 1 play, 0 do not.\n"
    )


def test_check_says_why_not(tmp_path: Path) -> None:
    film(tmp_path / "good.mp4", container={})
    mpeg4(tmp_path / "old.mp4")
    result = run(check, tmp_path)
    assert result.exit_code == 1
    good, note, bad, why, last = result.stdout.splitlines()
    assert good.startswith("plays ")
    assert "note: The index (`moov`) stands at the end" in note
    assert bad.startswith("FAILS ")
    assert "why: It is coded as MPEG-4 Part 2" in why
    assert last == "2 files: 1 play, 1 do not."


def test_check_searches_folders(tmp_path: Path) -> None:
    for name in ("b/deep/a.MP4", ".rollcam/partial/c.mp4", "b/.rollcam/d.mp4", "b/.e.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "text.cast").write_text(CAST)
    (tmp_path / "old.json").write_text(CAST_1)
    for name in ("a.meta.json", "a.steps.json", "other.json", "notes.txt"):
        (tmp_path / name).write_text('{"schema_version": 1, "version": 1}')
    (tmp_path / "folder.mp4").mkdir()
    result = run(check, "--json", tmp_path)
    found = [Path(item["path"]).relative_to(tmp_path) for item in json.loads(result.stdout)]
    assert found == [Path("old.json"), Path("text.cast"), Path("b/deep/a.MP4")]
    assert run(check, tmp_path / ".rollcam" / "partial" / "c.mp4").exit_code == 1


def test_check_as_json(tmp_path: Path) -> None:
    path = mpeg4(tmp_path / "a.mp4")
    result = run(check, path, "--json")
    assert result.exit_code == 1
    (item,) = json.loads(result.stdout)
    assert item["path"] == str(path)
    assert item["plays"] is False
    assert item["codec"] == "mpeg4"
    assert item["n_frames"] == 12
    assert [problem["slug"] for problem in item["problems"]] == ["codec"]


def test_check_of_nothing(tmp_path: Path) -> None:
    result = run(check, tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no films" in result.stderr
    assert run(check, "--json", tmp_path).stdout == "[]\n"
    assert run(check).exit_code == 2
    assert run(check, tmp_path / "gone.mp4").exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids such names")
def test_a_hostile_name_reaches_no_terminal(tmp_path: Path) -> None:
    path = mpeg4(tmp_path / "a.mp4").rename(tmp_path / "a\x1b[2J[red]\n\udcff.mp4")
    for result in (run(check, tmp_path), run(transcode, path)):
        assert "\x1b" not in result.output
        assert "a�[2J[red]��.mp4" in result.output


def test_transcode_a_film(tmp_path: Path) -> None:
    path = mpeg4(tmp_path / "a.mp4")
    result = run(transcode, path)
    target = tmp_path / "a-playable.mp4"
    assert result.exit_code == 0
    assert result.stdout == f"encoded  {path} -> {target}  (12 frames, 0.40 s)\n"
    assert barcode.indices(target) == list(range(12))


def test_transcode_in_place_and_out(tmp_path: Path) -> None:
    path = untagged(tmp_path / "a.mp4")
    result = run(transcode, path, "--out", tmp_path / "b.mp4")
    assert result.stdout.startswith(f"copied   {path} -> {tmp_path / 'b.mp4'}  (12 frames")
    assert "note: The colours were not tagged" in result.stdout
    assert run(transcode, path, "--in-place").exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]
    assert probe(path).notes == ()
    result = run(transcode, path)
    assert result.stdout.startswith(f"right    {path}  (12 frames")


def test_transcode_goes_on_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    mpeg4(tmp_path / "b.mp4")
    result = run(transcode, tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("failed   ")
    assert "The file is empty" in result.stderr
    assert probe(tmp_path / "b-playable.mp4").plays


def test_transcode_a_folder_twice(tmp_path: Path) -> None:
    mpeg4(tmp_path / "a.mp4")
    mpeg4(tmp_path / "a.avi")
    film(tmp_path / "good.mp4")
    (tmp_path / "text.cast").write_text(CAST)
    assert run(transcode, tmp_path).exit_code == 0
    after = sorted(os.listdir(tmp_path))
    assert after == [
        "a-playable.mp4", "a-playable_2.mp4", "a.avi", "a.mp4", "good.mp4", "text.cast",
    ]  # fmt: skip
    assert run(transcode, tmp_path).exit_code == 0
    assert sorted(os.listdir(tmp_path)) == after


def test_transcode_with_help(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    good = untagged(tmp_path / "old" / "good.mp4")
    broken = without_moov(untagged(tmp_path / "a.mp4", 60))
    result = run(transcode, broken)
    assert result.exit_code == 1
    assert "--like GOOD.mp4" in result.stderr
    result = run(transcode, broken, "--like", good)
    assert result.exit_code == 0
    assert "taken from good.mp4" in result.stdout


def test_transcode_as_json(tmp_path: Path) -> None:
    path = mpeg4(tmp_path / "a.mp4")
    result = run(transcode, path, "--json")
    (item,) = json.loads(result.stdout)
    assert item["source"] == str(path)
    assert item["target"] == str(tmp_path / "a-playable.mp4")
    assert (item["action"], item["n_frames"], item["notes"]) == ("encode", 12, [])


def test_transcode_of_nothing(tmp_path: Path) -> None:
    result = run(transcode, tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing to mend" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.mp4", "b.mp4", "--out", "c.mp4"],
        ["a.mp4", "--out", "c.mp4", "--in-place"],
        [".", "--out", "c.mp4"],
        ["a.mp4", "--like", "gone.mp4"],
        ["gone.mp4"],
        [],
    ],
)
def test_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4"):
        Path(name).touch()
    result = run(transcode, *arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_a_setting_that_cannot_be(tmp_path: Path) -> None:
    result = run(transcode, mpeg4(tmp_path / "a.mp4"), "--out", tmp_path / "b.gif")
    assert result.exit_code == 1
    assert "must end in .mp4" in result.stderr

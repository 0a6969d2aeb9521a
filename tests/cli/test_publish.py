"""`rollcam publish` and `rollcam status`, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rollcam.cli.main import cli
from rollcam.errors import SettingError
from rollcam.publish.ledger import Ledger
from rollcam.publish.registry import make
from tests.example_sink.example_sink import ShelfSink
from tests.publish.rig import add_film, add_films


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add_films(tmp_path / "films", 3)
    return tmp_path / "films"


def shelf(monkeypatch: pytest.MonkeyPatch, path: Path) -> ShelfSink:
    sink = ShelfSink(path)
    monkeypatch.setattr("rollcam.publish.registry.resolve", lambda spec: sink)
    return sink


def test_publish_sends_once_and_says_so(folder: Path, tmp_path: Path) -> None:
    first = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out")
    assert first.stdout.splitlines() == [
        f"3 films, to folder ({tmp_path / 'out'}):",
        "      3 sent (0.0 MB)",
        "      0 already there",
        "      0 failed",
    ]
    second = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out")
    assert "0 sent" in second.stdout
    assert "3 already there" in second.stdout
    Ledger(folder / ".rollcam" / "ledger.sqlite").path.unlink()
    third = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out")
    assert "0 sent" in third.stdout
    assert "3 already there" in third.stdout


def test_only_films_that_are_here_are_already_there(folder: Path, tmp_path: Path) -> None:
    run("publish", folder, "--to", "folder", "--dir", tmp_path / "out")
    for path in [*folder.glob("film-0.*"), *folder.glob("film-1.*")]:
        path.unlink()
    told = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out").stdout.splitlines()
    assert told[0] == f"1 film, to folder ({tmp_path / 'out'}):"
    assert "      1 already there" in told


def test_a_name_with_a_colon_means_the_same_place(folder: Path, tmp_path: Path) -> None:
    run("publish", folder, "--to", "folder", "--dir", tmp_path / "out")
    assert "3 already there" in run("publish", folder, "--to", f"folder:{tmp_path / 'out'}").stdout
    plan = run("publish", folder, "--to", f"folder:{tmp_path / 'out'}", "--dry-run").stdout
    assert plan.count("there  film-") == 3


def test_wandb_with_a_colon_goes_to_the_run_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a run of its own each time, every repetition would send everything again."""
    told: list[dict[str, object]] = []

    def stop(name: str, **settings: object) -> None:
        told.append({"name": name, **settings})
        raise SettingError("enough")

    monkeypatch.setattr("rollcam.publish.registry.make", stop)
    for place in (["wandb:p"], ["wandb", "--project", "p"]):
        CliRunner().invoke(cli, ["publish", str(folder), "--to", *place])
    assert told[0] == told[1]
    assert str(told[0]["run_id"]).startswith("rollcam-")


def test_a_place_that_refuses_is_exit_status_1_with_the_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = shelf(monkeypatch, tmp_path / "shelf")
    (sink.path / "refuses").touch()
    result = run("publish", folder, "--to", "shelf", status=1)
    assert "3 failed" in result.stdout
    assert "failed film-2: the shelf takes no film such as film-2" in result.stderr
    assert sink.is_closed
    (sink.path / "refuses").unlink()
    assert "3 sent" in run("publish", folder, "--to", "shelf").stdout


def test_a_place_that_is_down_is_given_up(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollcam.publish.pace.FIRST_WAIT_S", 0.01)
    sink = shelf(monkeypatch, tmp_path / "shelf")
    (sink.path / "down").touch()
    result = run("publish", folder, "--to", "shelf", status=1)
    assert "3 not delivered yet; the same command tries again" in result.stdout
    assert "the shelf is down" in result.stderr
    (sink.path / "down").unlink()
    assert "3 sent" in run("publish", folder, "--to", "shelf").stdout
    assert len(sink.films()) == 3


def test_a_place_that_cannot_tell_is_no_failure_and_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollcam.publish.pace.FIRST_WAIT_S", 0.01)
    sink = shelf(monkeypatch, tmp_path / "shelf")
    (sink.path / "mute").touch()
    result = run("publish", folder, "--to", "shelf")
    assert "3 handed over, and the place cannot say whether they arrived" in result.stdout


def test_a_place_that_knows_only_after_its_run_ended(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollcam.publish.pace.FIRST_WAIT_S", 0.01)
    sink = shelf(monkeypatch, tmp_path / "shelf")
    (sink.path / "mute").touch()
    monkeypatch.setattr(sink, "close", lambda: (sink.path / "mute").unlink(missing_ok=True))
    result = run("publish", folder, "--to", "shelf")
    assert "3 sent" in result.stdout
    assert "handed over" not in result.stdout


def test_dry_run_writes_nothing(folder: Path, tmp_path: Path) -> None:
    add_film(folder, "lost", status="failed", media=None, reason="no disk")
    before = sorted(folder.rglob("*"))
    result = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out", "--dry-run")
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["no", "lost"], ["send", "film-2"], ["send", "film-1"], ["send", "film-0"],
    ]  # fmt: skip
    assert lines[-1] == "3 of 4 would be sent to folder; nothing was."
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "out").exists()
    run("publish", folder, "--to", "folder", "--dir", tmp_path / "out")
    there = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out", "--dry-run")
    assert there.stdout.count("there  film-") == 3
    other = run("publish", folder, "--to", "folder", "--dir", tmp_path / "other", "--dry-run")
    assert other.stdout.count("send ") == 3


def test_status_in_words_and_json(folder: Path, tmp_path: Path) -> None:
    assert "was published" in run("status", folder).stdout
    run("publish", folder, "--to", "folder", "--dir", tmp_path / "out")
    table = run("status", folder).stdout
    assert "stored" in table
    assert str(tmp_path / "out") in table
    facts = json.loads(run("status", folder, "--json").stdout)
    assert facts["sinks"] == [
        {
            "sink": "folder", "target": str(tmp_path / "out"), "queued": 0, "sending": 0,
            "handed": 0, "stored": 3, "failed": 0, "dropped": 0,
        }
    ]  # fmt: skip
    assert facts["problems"] == []


def test_status_shows_what_went_wrong_without_its_control_characters(folder: Path) -> None:
    from dataclasses import replace

    from rollcam.publish.entry import Entry, State

    ledger = Ledger(folder / ".rollcam" / "ledger.sqlite")
    entry = Entry("x\x1b[2J", "[red]t", "01A", "n\x1b[2J", State.FAILED, reason="why\x07")
    ledger.put([entry, replace(entry, episode_id="01B", reason=None, state=State.STORED)])
    result = run("status", folder)
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert "[red]t" in result.stdout
    assert json.loads(run("status", folder, "--json").stdout)["problems"][0]["reason"] == "why\x07"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--to", "folder"], "--to folder needs --dir"),
        (["--to", "wandb"], "--to wandb needs --project"),
        (["--to", "tensorboard", "--project", "p"], "--project means nothing to --to tensorboard"),
        (["--to", "neptune"], "there is no sink 'neptune'"),
        (["--to", "neptune", "--dry-run"], "there is no sink 'neptune'"),
        (["--to", "folder:"], "--to folder needs --dir"),
        (["--to", "folder:a", "--dir", "b"], "--to folder:a and --dir b contradict each other"),
        ([], "Missing option '--to'"),
    ],
)
def test_wrong_arguments_are_told(folder: Path, arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(cli, ["publish", str(folder), *arguments])
    assert result.exit_code in (1, 2)
    assert why in result.output + str(result.exception or "")


def test_make_passes_the_settings_on(tmp_path: Path) -> None:
    assert make("folder", dir=tmp_path).target == str(tmp_path)


def test_a_film_that_cannot_be_made_ready_does_not_hold_up_the_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rollcam.encode import probe

    def read(report: probe.MediaReport) -> probe.MediaReport:
        if report.path.stem == "film-1":
            raise OSError(5, "Input/output error")
        return real(report)

    real = probe._probe_content
    monkeypatch.setattr(probe, "_probe_content", read)
    monkeypatch.setattr("rollcam.publish.pace.FIRST_WAIT_S", 0.01)
    result = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out", status=1)
    assert "2 sent" in result.stdout
    assert "1 not delivered yet" in result.stdout
    assert "queued film-1" in result.stderr
    assert "Input/output error" in result.stderr
    monkeypatch.setattr(probe, "_probe_content", real)
    assert "1 sent" in run("publish", folder, "--to", "folder", "--dir", tmp_path / "out").stdout


def test_a_film_that_is_damaged_is_a_failure(folder: Path, tmp_path: Path) -> None:
    (folder / "film-1.mp4").write_bytes(b"no film at all")
    result = run("publish", folder, "--to", "folder", "--dir", tmp_path / "out", status=1)
    assert "1 failed" in result.stdout
    assert "failed film-1: MediaError: it does not play, and cannot be mended" in result.stderr

"""The doctor's other checks: encoders, the folder, trackers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rollcam.doctor import inside
from rollcam.doctor.child import Limit
from rollcam.doctor.examine import codec, folder, installation, tracker

LIMIT = Limit(60)


def test_the_installation() -> None:
    finding = installation(LIMIT)
    assert finding.status == "ok"
    assert "PyAV" in finding.message
    assert "rollcam" in finding.message


def test_an_installation_that_is_broken(tmp_path: Path, monkeypatch) -> None:
    shadow(tmp_path, monkeypatch, "filelock", "raise ImportError('broken')")
    finding = installation(LIMIT)
    assert (finding.status, finding.cure) == (
        "failed", "pip install --force-reinstall rollcam",
    )  # fmt: skip
    assert "filelock" in finding.message


def test_encoders_are_opened() -> None:
    assert codec("libx264", LIMIT).status == "ok"
    finding = codec("h264_none", LIMIT)
    assert (finding.status, "does not open" in finding.message) == ("note", True)


@pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 1)() != 0, reason="others cannot become realtime"
)
def test_root_does_not_open_what_makes_itself_realtime() -> None:
    finding = codec("libsvtav1", LIMIT)
    assert (finding.status, "not opened" in finding.message) == ("note", True)


def test_a_folder_that_works_is_left_as_it_was(tmp_path: Path) -> None:
    finding = folder(tmp_path / "films" / "deep", LIMIT)
    assert finding.status == "ok"
    assert "and plays" in finding.message
    assert f"{tmp_path} (there is no {tmp_path / 'films' / 'deep'} yet)" in finding.message
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    finding = folder(tmp_path / "file", LIMIT)
    assert (finding.status, "is no folder" in finding.message) == ("failed", True)
    if Path("/proc/self").exists():
        finding = folder(Path("/proc/films"), LIMIT)
        assert (finding.status, "no film can be written" in finding.message) == ("failed", True)
        assert "df -h" in finding.cure


def test_a_tracker_that_is_not_logged_in(monkeypatch) -> None:
    finding = tracker("wandb", LIMIT)
    assert (finding.status, "not logged in to api.wandb.ai" in finding.message) == ("warning", True)
    assert "wandb login" in finding.cure


def test_a_tracker_that_is_logged_in_and_no_key_is_shown(tmp_path: Path, monkeypatch) -> None:
    key = "0123456789abcdef" * 3
    monkeypatch.setenv("WANDB_API_KEY", key)
    finding = tracker("wandb", LIMIT)
    assert (finding.status, key in finding.message) == ("ok", False)
    monkeypatch.delenv("WANDB_API_KEY")
    secret = tmp_path / "netrc"
    secret.write_text(f"machine wandb.lab.example login user password {key}\n")
    secret.chmod(0o600)
    monkeypatch.setenv("NETRC", str(secret))
    assert tracker("wandb", LIMIT).status == "warning"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.lab.example")
    finding = tracker("wandb", LIMIT)
    assert (finding.status, key in finding.message) == ("ok", False)
    assert "wandb.lab.example" in finding.message


def test_a_server_that_does_not_answer_and_no_password_is_shown(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    finding = tracker("mlflow", LIMIT)
    assert (finding.status, "nobody answers at 127.0.0.1:9" in finding.message) == ("warning", True)
    assert "secret" not in f"{finding}"


@pytest.mark.parametrize(
    ("uri", "status", "message"),
    [
        ("sqlite:///m.db", "ok", "a SQLite file; no login"),
        ("databricks", "ok", "Databricks workspace (not tried)"),
        ("postgresql://user:secret@host/m", "ok", "a database, by postgresql (not tried)"),
        ("http://user:secret@host:port", "warning", "is no address"),
        ("http://[::1", "warning", "is no address"),
    ],
)
def test_where_mlflow_tracks(uri: str, status: str, message: str, monkeypatch) -> None:
    told = SimpleNamespace(get_tracking_uri=lambda: uri)
    monkeypatch.setitem(sys.modules, "mlflow", told)  # to import the real one takes seconds
    found = inside._mlflow()
    assert (found["status"], message in found["message"]) == (status, True), found
    assert "secret" not in f"{found}"


def test_trackers_that_need_no_login() -> None:
    assert tracker("tensorboard", LIMIT).status == "ok"
    assert tracker("trackio", LIMIT).status == "ok"


def test_an_empty_module_of_a_trackers_name(tmp_path: Path, monkeypatch) -> None:
    shadow(tmp_path, monkeypatch, "wandb", "")
    finding = tracker("wandb", LIMIT)
    assert finding.status == "failed"
    assert str(tmp_path / "wandb.py") in finding.message


def test_a_tracker_that_does_not_import_is_a_warning(tmp_path: Path, monkeypatch) -> None:
    shadow(tmp_path, monkeypatch, "trackio", "raise RuntimeError('half installed')")
    finding = tracker("trackio", LIMIT)
    assert (finding.status, "half installed" in finding.message) == ("warning", True)
    assert finding.cure == 'pip install --force-reinstall "rollcam[trackio]"'


def shadow(folder: Path, monkeypatch, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))

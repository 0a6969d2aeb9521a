"""Where flatland and Ray are not installed, what needs them says what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from rollcam.cli.main import cli
from rollcam.errors import MissingDependencyError, SettingError
from rollcam.integrations import flatland

is_absent = importlib.util.find_spec("ray") is None
pytestmark = pytest.mark.skipif(not is_absent, reason="Ray is installed here")


def test_the_renderer() -> None:
    with pytest.raises(MissingDependencyError, match=r"rollcam\[flatland\]"):
        flatland.RailRenderer(object())


def test_the_environment() -> None:
    with pytest.raises(MissingDependencyError, match=r"rollcam\[flatland\]"):
        flatland.make_flatland_env({"n_agents": 2})
    with pytest.raises(MissingDependencyError, match=r"rollcam\[flatland\]"):
        _ = flatland.FlatlandEnv


def test_a_wrong_setting_is_told_first() -> None:
    with pytest.raises(SettingError, match="did you mean 'n_agents'"):
        flatland.make_flatland_env({"n_agent": 2})


def test_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["film", str(tmp_path)])
    assert done.exit_code == 1
    assert "rollcam[rllib]" in done.stderr
    assert "Traceback" not in done.stderr

"""An adapter whose package is absent, or is an empty module of that name, says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rollcam.integrations

ADAPTERS = {
    "gymnasium": ("gymnasium", "rollcam[gymnasium]", ""),
    "vector": ("gymnasium", "rollcam[gymnasium]", ""),
    "sb3": ("stable_baselines3", "rollcam[sb3]", ""),
    "pettingzoo": ("pettingzoo", "rollcam[pettingzoo]", ""),
    "rllib": ("ray", "rollcam[rllib]", ""),
    "rllib_checkpoint": ("ray", "rollcam[rllib]", ""),
    "flatland": ("flatland", "rollcam[flatland]", "RailRenderer(object())"),
    "dm_env": ("dm_env", "dm-env", ""),
    "torchrl": ("torchrl", "torchrl", ""),
}
"""Of each adapter: its package, what to install, and what to call where importing is allowed."""
NEED_NOTHING = {"legacy_gym"}

ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
EMPTY = """
import sys, types
sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
"""
IMPORT = """
from rollcam.errors import MissingDependencyError
try:
    import rollcam.integrations.{adapter} as adapter
    {call}
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["absent", "empty"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_missing_package_is_named_with_the_pip_command(adapter: str, how: str) -> None:
    package, wanted, call = ADAPTERS[adapter]
    code = f"PACKAGE = {package!r}" + (ABSENT if how == "absent" else EMPTY)
    done = subprocess.run(
        [sys.executable, "-c", code + IMPORT.format(adapter=adapter, call=call and f"adapter.{call}")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'pip install "{wanted}"' in done.stdout
    assert package in done.stdout


def test_no_adapter_is_forgotten() -> None:
    folder = Path(rollcam.integrations.__path__[0])
    assert {path.stem for path in folder.glob("[a-z]*.py")} == {*ADAPTERS, *NEED_NOTHING}

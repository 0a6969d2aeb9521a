"""An adapter whose package is absent, or is an empty module of that name, says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

ADAPTERS = {
    "gymnasium": ("gymnasium", "gymnasium"),
    "vector": ("gymnasium", "gymnasium"),
    "sb3": ("stable_baselines3", "sb3"),
    "pettingzoo": ("pettingzoo", "pettingzoo"),
}

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
    import rollcam.integrations.{adapter}
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["absent", "empty"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_missing_package_is_named_with_the_pip_command(adapter: str, how: str) -> None:
    package, extra = ADAPTERS[adapter]
    code = f"PACKAGE = {package!r}" + (ABSENT if how == "absent" else EMPTY)
    done = subprocess.run(
        [sys.executable, "-c", code + IMPORT.format(adapter=adapter)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'pip install "rollcam[{extra}]"' in done.stdout
    assert package in done.stdout

"""A sink whose package is missing says so at once, with the command that brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_TRY = """
import sys
sys.modules[{package!r}] = None
import rollcam.sinks.{package} as sinks
from rollcam.errors import MissingDependencyError
try:
    sinks.{made}
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "made"),
    [
        ("mlflow", "MlflowSink()"),
        ("tensorboard", "TensorBoardSink('runs')"),
        ("trackio", "TrackioSink(project='p')"),
    ],
)
def test_absent_package_is_a_clear_error_at_construction(package: str, made: str) -> None:
    script = _TRY.format(package=package, made=made)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert f'pip install "rollcam[{package}]"' in done.stdout

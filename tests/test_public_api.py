"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rollcam
from rollcam import errors

HEAVY = ("av", "gymnasium", "torch", "jax", "wandb", "mlflow", "tensorboard", "trackio", "ray",
         "PIL", "pyte", "click", "rich", "moviepy")  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_import_rollcam_loads_nothing_heavy() -> None:
    loaded = modules_after("import rollcam")
    assert loaded.isdisjoint(HEAVY)


def test_public_names_without_a_framework_load_none() -> None:
    loaded = modules_after("from rollcam import Recorder, VideoRecorder, Episode, every, keep_best")
    assert loaded.isdisjoint(HEAVY)


def test_ls_loads_neither_the_encoder_nor_a_framework(tmp_path) -> None:
    statement = (
        "from rollcam.cli.main import main\n"
        f"try: main(['ls', {str(tmp_path)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
    )
    assert modules_after(statement).isdisjoint({"av", "gymnasium", "torch", "wandb"})


def test_all_is_sorted_and_true() -> None:
    assert rollcam.__all__ == sorted(
        rollcam.__all__, key=lambda name: (not name.isupper(), name)
    ) or (rollcam.__all__ == sorted(rollcam.__all__))
    for name in rollcam.__all__:
        assert getattr(rollcam, name) is not None
    assert set(rollcam.__all__) <= set(dir(rollcam))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rollcam.nothing  # noqa: B018


def test_every_error_is_one_of_ours() -> None:
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, errors.RollcamError | errors.RollcamWarning)
            assert value.__doc__


def test_require_says_the_pip_command() -> None:
    with pytest.raises(
        errors.MissingDependencyError, match=r'pip install "rollcam\[text\]"'
    ) as error:
        errors.require("no_such_package_at_all", extra="text")
    assert isinstance(error.value, ImportError)
    with pytest.raises(errors.MissingDependencyError, match='pip install "no-such"'):
        errors.require("no_such_package_at_all", package="no-such")


def test_without_gymnasium_record_video_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['gymnasium'] = None\n"
        "import rollcam\n"
        "rollcam.Recorder, rollcam.VideoRecorder\n"
        "try: rollcam.RecordVideo\n"
        "except rollcam.MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert 'pip install "rollcam[gymnasium]"' in done.stdout

"""These tests want Ray, which lives in an environment of its own (`make test` makes it)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

HAS_RAY = importlib.util.find_spec("ray") is not None
if not HAS_RAY:
    collect_ignore_glob = ["test_*.py"]

# Ray's own traffic with the outside, and its colours, are no part of what is tested.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# One idle process for each logical CPU would be started, and then another one for each env runner.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray, RLlib and torch warn of themselves in many ways; what Rollcam says is still an error."""
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.filterwarnings("error::rollcam.RollcamWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)


def start_ray(num_cpus: int) -> None:
    """Start a small Ray whose workers find the tests' own classes."""
    import ray
    from ray import cloudpickle

    from tests import barcode, envs
    from tests.rllib import rollouts

    # flatland-rl installs a package `tests` of its own, which workers would find first.
    for module in (barcode, envs, rollouts):
        cloudpickle.register_pickle_by_value(module)
    ray.init(num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One small Ray for all tests of a file."""
    import ray

    start_ray(num_cpus=4)
    yield
    ray.shutdown()

"""An errand during which a process is killed; in a module of its own, since the darkroom imports it."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rollcam import _place
from rollcam._errand import Errand, Placed
from rollcam.encode.faststart import MediaFacts
from tests.killing import FILE_EVENTS, die_before

WHO, AT = "ROLLCAM_TEST_WHO_DIES", "ROLLCAM_TEST_DIES_AT"


@dataclass(frozen=True, slots=True)
class Dying(Errand):
    """Kills the darkroom, or the trainer, before the n-th thing that is done to a file, or fails there."""

    def __call__(self, media: MediaFacts) -> Placed:
        """Do it, as far as it comes."""
        n, who = int(os.environ[AT]), os.environ[WHO]
        if who == "darkroom":
            die_before(n, self.root)
        elif who == "darkroom behind the name":
            _place.write_columns = _die
        else:
            sys.addaudithook(self._hook(n, os.getppid() if who == "trainer" else None))
        done = Errand.__call__(self, media)
        if n < 0:  # all is done, and nobody was told
            _die()
        return done

    def _hook(self, n: int, trainer: int | None) -> Callable[[str, tuple[Any, ...]], None]:
        count = itertools.count()

        def hook(event: str, args: tuple[Any, ...]) -> None:
            is_ours = event in FILE_EVENTS and str(args[0]).startswith(str(self.root))
            if not is_ours or next(count) != n:
                return
            if trainer is None:
                raise OSError(errno.EIO, "the disk says no")
            os.kill(trainer, signal.SIGKILL)

        return hook


def _die(*_args: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

"""An errand during which a process is killed; in a module of its own, since the darkroom imports it."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from rollcam._errand import Errand, Placed
from rollcam.encode.faststart import MediaFacts
from tests.killing import FILE_EVENTS, die_before

WHO, AT = "ROLLCAM_TEST_WHO_DIES", "ROLLCAM_TEST_DIES_AT"


@dataclass(frozen=True, slots=True)
class Dying(Errand):
    """Kills the darkroom, or the trainer, before the n-th thing that is done to a file."""

    def __call__(self, media: MediaFacts) -> Placed:
        """Do it, as far as it comes."""
        n = int(os.environ[AT])
        if os.environ[WHO] == "darkroom":
            die_before(n, self.root)
            done = Errand.__call__(self, media)
            if n < 0:  # all is done, and nobody was told
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        return self._without_trainer(media, n)

    def _without_trainer(self, media: MediaFacts, n: int) -> Placed:
        count = itertools.count()
        trainer = os.getppid()

        def hook(event: str, args: tuple[Any, ...]) -> None:
            is_ours = event in FILE_EVENTS and str(args[0]).startswith(str(self.root))
            if is_ours and next(count) == n:
                os.kill(trainer, signal.SIGKILL)

        sys.addaudithook(hook)
        return Errand.__call__(self, media)

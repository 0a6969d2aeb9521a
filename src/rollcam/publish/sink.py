"""What a sink is: the protocol that trackers, and third parties, build on.

A sink brings finished films to one place. It knows nothing of queues, retries or ledgers: the
publisher calls it, on one thread of its own, never two calls at once, and never on the training
thread. A sink that raises `SinkError` is asked again later; one that raises `SinkRefused` is not.

Third parties offer theirs by an entry point of the group `rollcam.sinks`.

A sink may have four more attributes: `bytes_per_min`, an `int`, is how much the
place wants to get per minute at most; `confirm_after_s`, a `float`, is how long films usually take to
arrive: `stored` is asked no earlier and no more often, unless somebody waits for the answer; `cli_options`, a `str` such as `--to wandb --project p`, is
what `rollcam publish DIR` has to be told to go on with this very target; `hurry(is_closing)`, a method,
is called with `True` when the publisher begins to close, from another thread and while `publish` may
wait for something, and with `False` when it is done.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from rollcam.episode import Episode


@dataclass(frozen=True, slots=True)
class Delivery:
    """One film as a sink gets it: closed, probed, playable in every browser."""

    episode: Episode
    """The facts, as the sidecar tells them."""
    media: Path
    """The film to publish, an MP4: the episode's own, a text episode drawn as pictures, or a mended
    copy. Read-only; it may be gone after the call."""
    sha256: str
    """Of the episode's own media file: the identity of what is published."""
    text: Path | None = None
    """The text recording (asciicast) of a text episode, for places that take files."""


@runtime_checkable
class Sink(Protocol):
    """Brings finished films to one place."""

    name: str
    """Kind of place, such as `wandb`."""
    target: str
    """Which one, without secrets, such as `team/project/run_id` or a path. Together with `name` it is
    the key under which the ledger remembers what was delivered; so it must be the same after a
    restart."""

    def publish(self, delivery: Delivery) -> str:
        """Hand one film over; return a reference to it, such as a URL or a path.

        What was handed over before (a process may have died right after it) must not appear twice.
        The same episode with another `sha256` is another film, which takes the place of the first.

        Raises:
            SinkError: It did not work this time.
            SinkRefused: It will not work, ever.
        """

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str] | None:
        """Return the episode ids of those that have arrived, as the place itself says.

        `None` when the place cannot tell now, or ever: what was handed over then stays `handed`
        in the ledger, and what a dead process was about to hand over is handed over again. Called
        some time after `publish`, for whatever a dead process was about to hand over, for films of
        which a lost ledger knew, and once more after `close`. What has another content (`sha256`)
        than the one here has not arrived.

        Raises:
            SinkError: It could not be asked.
        """

    def close(self) -> None:
        """Let go of connections. Publishing is over. May be called twice."""

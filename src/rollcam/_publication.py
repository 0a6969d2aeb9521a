"""The publishers of this process: one for each folder and its sinks, shared by the recorders there."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from rollcam._outgoing import Outgoing
from rollcam.episode import Episode
from rollcam.errors import RollcamError, SettingError, StoreError
from rollcam.publish.clock import Clock
from rollcam.publish.entry import Key
from rollcam.publish.line import Problems
from rollcam.publish.publisher import CLOSE_S, Publisher
from rollcam.publish.registry import checked, resolve
from rollcam.publish.sink import Sink
from rollcam.store.names import HIDDEN


class Publication:
    """One recorder's share in a publisher.

    Several recorders of a process with the same folder and sinks share one publisher, which closes
    with the last of them.
    """

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._is_closed = False

    @property
    def problems(self) -> Problems:
        """What went wrong, as `(cause, error)`; causes begin with `publish:`."""
        return self._shared.publisher.problems

    @property
    def sinks(self) -> list[Sink]:
        """Where films go."""
        return self._shared.publisher.sinks

    def owes(self, episode: Episode) -> bool:
        """Say whether a film is still on its way to any sink, and must not be deleted.

        Who cannot tell, since the ledger cannot be read, says yes.
        """
        try:
            return bool(self._shared.publisher.ledger.owes(episode.episode_id))
        except StoreError as error:
            self.problems.append(("publish:ledger", error))
            return True

    def announce(self, episode: Episode, *, is_fresh: bool = False) -> None:
        """Queue a film that is finished and in place. Never raises; writes to the disk.

        Args:
            episode: The film.
            is_fresh: This process has made it just now; whether it plays need not be looked at.
        """
        if is_fresh:
            self._shared.outgoing.trust(episode)
        self._shared.publisher.announce(episode)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that is owed was delivered; say whether that came in time."""
        return self._shared.publisher.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_S, *, wait: bool = True) -> bool:
        """Leave the publisher; the last one closes it. See `Publisher.close`."""
        with _LOCK:
            if self._is_closed:
                return True
            self._is_closed = True
            self._shared.n_users -= 1
            if self._shared.n_users:
                return True
            if _SHARED.get(self._shared.key) is self._shared:
                del _SHARED[self._shared.key]
        return self._shared.publisher.close(timeout_s, wait=wait)


class _Shared:
    def __init__(self, key: tuple[object, ...], publisher: Publisher, outgoing: Outgoing) -> None:
        self.key = key
        self.publisher = publisher
        self.outgoing = outgoing
        self.n_users = 0


_LOCK = threading.RLock()
_SHARED: dict[tuple[object, ...], _Shared] = {}


def open_publisher(
    folder: str | os.PathLike[str],
    sinks: Sequence[str | Sink],
    *,
    run_id: str | None = None,
    bytes_per_min: int | None = None,
    clock: Clock | None = None,
) -> Publication:
    """Publish the films of a folder, as they are announced.

    Args:
        folder: The recordings folder.
        sinks: Names, such as `wandb` or `folder:/mnt/films`, or objects. Sinks made from a name are
            closed with the publisher; objects are left to who made them.
        run_id: The recorder's run: its films are found again when the ledger is lost.
        bytes_per_min: Bytes that each sink may get per minute.
        clock: The time.

    Raises:
        SettingError: There is no such sink, it is none, or one stands there twice.
        MissingDependencyError: The package that a sink needs is not installed.
        StoreError: The folder cannot be written to.
    """
    if isinstance(sinks, str) or not isinstance(sinks, Iterable):
        raise SettingError(f"sinks must be a list of names or sinks, not {sinks!r}")
    root = Path(os.path.abspath(folder))
    specs = list(sinks)
    key = (os.getpid(), root, bytes_per_min, *(s if isinstance(s, str) else id(s) for s in specs))
    with _LOCK:
        shared = _SHARED.get(key)
        if shared is None:
            outgoing = Outgoing(root)
            publisher = _open(root, outgoing, specs, bytes_per_min, clock)
            shared = _SHARED[key] = _Shared(key, publisher, outgoing)
        shared.n_users += 1
        if run_id is not None:
            shared.publisher.join(run_id)
    shared.publisher.start()
    return Publication(shared)


def _open(
    root: Path,
    outgoing: Outgoing,
    specs: Sequence[str | Sink],
    bytes_per_min: int | None,
    clock: Clock | None,
) -> Publisher:
    made: list[Sink] = []
    found: list[Sink] = []
    try:
        for spec in specs:
            sink = resolve(spec) if isinstance(spec, str) else checked(spec)
            if isinstance(spec, str):
                made.append(sink)
            found.append(sink)
        keys: list[Key] = [(sink.name, sink.target) for sink in found]
        double = next((key for key in keys if keys.count(key) > 1), None)
        if double is not None:
            raise SettingError(f"the sink {double[0]} ({double[1]}) stands there twice")
        return Publisher(
            root / HIDDEN, found, outgoing, own=made, bytes_per_min=bytes_per_min,
            command=lambda sink: command_of(root, sink), clock=clock,
        )  # fmt: skip
    except OSError as error:
        _close_quietly(made)
        raise StoreError(f"the folder {root} cannot be written to: {error}") from error
    except RollcamError:
        _close_quietly(made)
        raise


def command_of(root: Path, sink: Sink) -> str:
    """Return the command that sends to a sink what it is owed."""
    options = getattr(sink, "cli_options", None)
    if not isinstance(options, str):
        options = f"--to {sink.name} ..."  # only who wrote the sink knows
    return f"rollcam publish {shlex.quote(str(root))} {options}"


def _close_quietly(sinks: Iterable[Sink]) -> None:
    for sink in sinks:
        try:
            sink.close()
        except Exception:  # noqa: BLE001 - another error is on its way, and says more
            continue


def _forget_inherited() -> None:
    """A forked child begins empty, with a lock that nobody holds."""
    global _LOCK
    _LOCK = threading.RLock()
    _SHARED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)

"""Run the gallery's server until it is told to stop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rollcam.errors import SettingError, require
from rollcam.gallery.guard import is_loopback, new_token
from rollcam.gallery.shelf import Shelf

if TYPE_CHECKING:
    import uvicorn

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7655
"""`ROLL` on a telephone's keys."""

_N_PORTS = 20
_GRACE_S = 3
_ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gallery is served."""

    host: str
    """Address that it listens on."""
    port: int
    """Its port."""
    token: str | None
    """What everybody has to know, if anything."""

    @property
    def url(self) -> str:
        """The address to open, the token with it."""
        return self._at("localhost" if self.host in _ANYWHERE else self.host)

    @property
    def url_elsewhere(self) -> str | None:
        """The address to open on other machines, where this one listens for them by every address."""
        return self._at(socket.gethostname()) if self.host in _ANYWHERE else None

    def _at(self, host: str) -> str:
        name = f"[{host}]" if ":" in host else host
        asked = f"?token={quote(self.token, safe='')}" if self.token else ""
        return f"http://{name}:{self.port}/{asked}"


def serve(
    folders: Sequence[str | PathLike[str]],
    *,
    host: str = DEFAULT_HOST,
    port: int | None = None,
    token: str | None = None,
    names: Collection[str] = (),
    ready: Callable[[Place], None] = lambda place: None,
    keep: Callable[[Any], None] = lambda server: None,
) -> None:
    """Serve a gallery of some recordings folders, until a signal or `should_exit` ends it.

    Args:
        folders: Recordings folders.
        host: Address to listen on. Other than loopback, everybody needs a token.
        port: 0: any free one. `None`: `DEFAULT_PORT`, or one of the next where that is taken.
        token: Needed by everybody; on other than loopback one is made up where none is given.
        names: More names of this machine that browsers may use.
        ready: Called once it listens, with where.
        keep: Called with uvicorn's server, whose `should_exit = True` ends it from another thread.

    Raises:
        MissingDependencyError: Starlette or uvicorn is not installed.
        SettingError: That address or port cannot be had.
        StoreError: There is no such folder.
    """
    for module in ("starlette", "uvicorn"):
        require(module, extra="gallery")
    if token is not None and not (token.isascii() and token.isprintable() and len(token) >= 8):
        raise SettingError("a token is at least 8 printable ASCII characters")
    if token is None and not is_loopback(host):
        token = new_token()
    with contextlib.closing(_listening(host, port)) as listener:
        shelf = Shelf(folders)
        try:
            place = Place(host, listener.getsockname()[1], token)
            server = _server(shelf, place, names)
            keep(server)
            ready(place)
            server.run(sockets=[listener])
        finally:
            shelf.close()


def _server(shelf: Shelf, place: Place, names: Collection[str]) -> uvicorn.Server:
    import uvicorn

    from rollcam.gallery.app import Gallery

    gallery = Gallery(shelf, host=place.host, token=place.token, names=names)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Streams of events end never by themselves, and uvicorn would wait for them.
            gallery.events.close()
            await super().shutdown(sockets)

    return Server(
        uvicorn.Config(
            gallery.app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # What is installed besides must not make a difference.
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_S,
        )
    )


def _listening(host: str, port: int | None) -> socket.socket:
    first = DEFAULT_PORT if port is None else port
    ports = range(first, first + (_N_PORTS if port is None else 1))
    error: OSError | None = None
    for each in ports:
        try:
            found = socket.getaddrinfo(host, each, type=socket.SOCK_STREAM)[0]
            is_six = found[0] == socket.AF_INET6
            # "::" is meant as everywhere.
            both = is_six and host == "::" and socket.has_dualstack_ipv6()
            made = socket.create_server(found[4][:2], family=found[0], dualstack_ipv6=both)
            # asyncio does it for sockets of its own only; without it, answers wait 40 ms for an
            # acknowledgement between head and body.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except (OSError, OverflowError) as failure:
            error = failure if isinstance(failure, OSError) else OSError(str(failure))
    raise SettingError(
        f"the gallery cannot listen on {host}, port {first}: {error}; choose others by --host, --port"
    )

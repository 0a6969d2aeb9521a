"""Who may ask the gallery, and what a page of it may do.

A page on the web can make a browser send requests to this machine, and point a name of its own at
it. So the Host header must name this server, requests that other sites start are refused, and the
page itself may load nothing from elsewhere and run no script that stands inside it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'"
)
"""For the page, also where it is exported; a server adds `frame-ancestors`, which no page can say."""

HEADERS = {
    "content-security-policy": CSP + "; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\s:\[\]/@#?]+))(?::[0-9]{1,5})?")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this machine's own, reached from nowhere else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses what should not be answered, and puts the safety headers on the rest.

    Args:
        app: What it guards.
        host: The address that the server listens on.
        token: Needed by everybody, if given: as `?token=` once, then as a cookie, or as
            `Authorization: Bearer`.
        names: More names that the Host header may have.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, token: str | None, names: Collection[str] = ()
    ) -> None:
        self._app = app
        self._token = token
        # What the cookie holds: a token may have characters that end a cookie.
        self._pass = hashlib.sha256((token or "").encode()).hexdigest()
        self._names = {*_LOOPBACK_NAMES, host.lower(), *(name.lower() for name in names)}
        # By a bare address nobody comes by way of a name that somebody else points here.
        self._takes_addresses = not is_loopback(host)
        if self._takes_addresses:
            self._names.update({socket.gethostname().lower(), socket.getfqdn().lower()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message.get("headers", ())}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [
                    *message.get("headers", ()),
                    *(pair for pair in extra if pair[0] not in there),
                ]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(guarded, *refusal)
        elif self._token is not None and (place := self._let_in(scope)) is not None:
            cookie = f"{self._cookie(scope)}={self._pass}; Path=/; HttpOnly; SameSite=Strict"
            headers_out = [(b"location", place.encode()), (b"set-cookie", cookie.encode())]
            await _answer(guarded, 303, "", headers_out)
        else:
            await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        if not self._is_our_name(headers.get("host", "")):
            return 403, "This server does not answer to that name (Host header)."
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "The gallery only shows: GET and HEAD."
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (
            headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
        ):
            return 403, "Another site asked for this."
        if self._token is not None and not self._has_token(scope, headers):
            return 401, (
                "A token is needed: open the address that `rollcam serve` printed, "
                "with ?token=... at its end."
            )
        return None

    def _is_our_name(self, told: str) -> bool:
        found = _HOST.fullmatch(told.strip().lower())
        if found is None:
            return False
        name = found["address"] or found["name"]
        if name.rstrip(".") in self._names:
            return True
        if not self._takes_addresses:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _has_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        told = [headers.get("authorization", "").removeprefix("Bearer ")]
        told += [value for name, value in _query(scope) if name == "token"]
        # By hand: `http.cookies` gives up at the first odd cookie, and other servers of this machine
        # set such ones for the same name.
        cookies = (each.strip() for each in headers.get("cookie", "").split(";"))
        passes = [
            each.partition("=")[2] for each in cookies if each.startswith(self._cookie(scope) + "=")
        ]
        return _is_among(self._token or "", told) or _is_among(self._pass, passes)

    def _let_in(self, scope: Scope) -> str | None:
        """Return where to go on without the token in the address, if it stands there."""
        pairs = _query(scope)
        if scope["path"] != "/" or not any(name == "token" for name, _ in pairs):
            return None
        rest = urlencode([pair for pair in pairs if pair[0] != "token"])
        return f"/?{rest}" if rest else "/"

    def _cookie(self, scope: Scope) -> str:
        # Cookies of one host are shared by its ports: another gallery has its own.
        server = scope.get("server") or ("", 0)
        return f"rollcam-{server[1]}"


def _is_among(wanted: str, told: Collection[str]) -> bool:
    return any(hmac.compare_digest(each.encode(), wanted.encode()) for each in told)


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)


async def _answer(
    send: Send, status: int, text: str, headers: Collection[tuple[bytes, bytes]] = ()
) -> None:
    body = json.dumps({"error": text}).encode() if text else b""
    start = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})

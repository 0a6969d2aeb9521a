"""Handles of episodes: a key such as `videos/a/b`, in characters that any address and disk takes."""

from __future__ import annotations

import re

from rollcam.errors import EpisodeNotFound

MAX_HANDLE = 3 * 4096
"""Longer ones name no file."""

_PLAIN = re.compile(rb"[A-Za-z0-9_-]")
_HANDLE = re.compile(r"(?:[A-Za-z0-9_.!-]|~[0-9a-f]{2})+")
_ESCAPE = re.compile(r"~([0-9a-f]{2})")


def id_of(key: str) -> str:
    """Return the handle of a key.

    `/` becomes `!`; what is not plain becomes `~` and its bytes in hex, so that no handle has a
    slash, a `..`, or what a browser would mend.
    """
    data = key.encode("utf-8", "surrogateescape")
    parts = []
    for n, byte in enumerate(data):
        character = data[n : n + 1]
        if character == b"/":
            parts.append("!")
        elif _PLAIN.match(character) or (character == b"." and data[n - 1 : n] not in b"./"):
            parts.append(character.decode())
        else:
            parts.append(f"~{byte:02x}")
    return "".join(parts)


def key_of(handle: str) -> str:
    """Return the key of a handle.

    Args:
        handle: Hostile text.

    Raises:
        EpisodeNotFound: It is no handle.
    """
    if len(handle) > MAX_HANDLE or not _HANDLE.fullmatch(handle):
        raise EpisodeNotFound("there is no such episode")
    data = bytearray()
    for n, part in enumerate(_ESCAPE.split(handle)):
        data += bytes.fromhex(part) if n % 2 else part.replace("!", "/").encode()
    return data.decode("utf-8", "surrogateescape")

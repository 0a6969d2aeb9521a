"""Sends a file over WSGI, in parts when the browser asks for parts: without them no film seeks."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from werkzeug.wrappers import Request, Response

_BLOCK = 256 * 1024
# A link is not followed, a pipe does not make us wait, and Windows changes no line ends.
_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def send_film(request: Request, path: Path) -> Response:
    """Answer GET or HEAD for an MP4 with 200, 206, 304, 404 or 416.

    One range is served; a request for several gets the whole file, as HTTP allows.

    Args:
        request: What the browser asked.
        path: The film. A link is not followed, and what is no plain file is not there.
    """
    try:
        file = os.fdopen(os.open(path, _FLAGS), "rb")
    except OSError:
        return _plain(404, "There is no such film.")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        return _plain(404, "There is no such film.")
    size, etag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if _names(request.headers.get("If-None-Match", ""), etag):
        file.close()
        return Response(status=304, headers=headers)
    first, last, code = 0, size - 1, 200
    if asked := _asked_range(request, etag):
        part = _part(asked, size)
        if part is None:
            file.close()
            headers["Content-Range"] = f"bytes */{size}"
            return Response(status=416, headers=headers)
        first, last, code = *part, 206
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    if request.method == "HEAD":
        file.close()
        return Response(status=code, headers=headers, mimetype="video/mp4")
    body = _Blocks(file, first, last - first + 1)
    return Response(body, code, headers, mimetype="video/mp4", direct_passthrough=True)


class _Blocks:
    """The bytes of a part, one block at a time; WSGI servers close it when the browser leaves."""

    def __init__(self, file: BinaryIO, first: int, length: int) -> None:
        self._file, self._left = file, length
        file.seek(first)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = self._file.read(min(_BLOCK, self._left)) if self._left else b""
        if not block:
            self.close()
            raise StopIteration
        self._left -= len(block)
        return block

    def close(self) -> None:
        self._file.close()


def _plain(code: int, text: str) -> Response:
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(text, code, headers, mimetype="text/plain")


def _names(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in [
        tag.strip().removeprefix("W/") for tag in header.split(",")
    ]


def _asked_range(request: Request, etag: str) -> re.Match[str] | None:
    """Return the range asked for, if there is one that counts."""
    if_range = request.headers.get("If-Range", "")
    if if_range and if_range.strip() != etag:
        return None
    asked = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    return asked if asked is not None and any(asked.groups()) else None


def _part(asked: re.Match[str], size: int) -> tuple[int, int] | None:
    """Return the first and the last byte of a range, or None when there is nothing in it."""
    start, end = asked.groups()
    if not start:  # the last so many bytes
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(start), min(int(end or size - 1), size - 1)
    return (first, last) if first <= last else None

"""The gallery's server: the page, and the answers to what it asks. Reads only."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from rollcam.errors import EpisodeNotFound, MediaError, RollcamError, SettingError, SidecarError
from rollcam.gallery.answers import MEDIA_TYPES, Answers, as_text, media_of
from rollcam.gallery.ask import Question, read_question
from rollcam.gallery.events import Events
from rollcam.gallery.guard import Guard
from rollcam.gallery.live import Growing
from rollcam.gallery.names import id_of, key_of
from rollcam.gallery.posters import CHOICES, Posters
from rollcam.gallery.shelf import Shelf

logger = logging.getLogger("rollcam")

STATIC = Path(__file__).with_name("static")
"""The page."""

MAX_POSTERS_WAITING = 200
_POSTERS_AT_ONCE = 2
_LARGEST = 2**53
_POSTER_AGE_S = 60
_SMALL_FILM = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{1,9})-([0-9]{0,9})")


class Gallery:
    """One server's answers to addresses; `app` is what a web server runs.

    Args:
        shelf: The folders; closed with the app.
        host: The address that the server listens on.
        token: Needed by everybody, if given.
        names: More names that the Host header may have.
    """

    def __init__(
        self, shelf: Shelf, *, host: str, token: str | None, names: Collection[str] = ()
    ) -> None:
        self._shelf = shelf
        self._answers = Answers(shelf)
        self._growing = Growing(shelf)
        self._posters = Posters(shelf)
        self._n_posters_waiting = 0
        self._poster_turns: anyio.CapacityLimiter | None = None
        self.events = Events(self._answers, self._growing)
        self.app: ASGIApp = Guard(
            _compressing(self._routes()),
            host=host,
            token=token,
            names=names,
        )

    def _routes(self) -> Starlette:
        api = [
            Route("/gallery.json", self._json(lambda _: self._answers.gallery())),
            Route("/list.json", self._json(self._list)),
            Route("/points.json", self._json(self._points)),
            Route("/facets.json", self._json(lambda r: self._answers.facets(_question(r)))),
            Route("/e/{id}/facts.json", self._json(lambda r: self._answers.facts(_id(r)))),
            Route("/e/{id}/steps.json", self._json(lambda r: self._answers.steps(_id(r)))),
            Route("/e/{id}/neighbours.json", self._json(self._neighbours)),
            Route("/e/{id}/poster-{at}.jpg", self._poster),
            Route("/e/{id}/{file}", self._media),
            Route("/live.json", self._json(lambda _: {"growing": self._growing.list()})),
            Route("/live/{id}/media", self._live_media),
            Route("/live/{id}/steps.json", self._live_steps),
            Route("/events", self._stream),
            Route("/{rest:path}", _nothing),
        ]
        return Starlette(
            routes=[
                Mount("/api", routes=api),
                Mount("/", _Page(directory=STATIC, html=True, check_dir=False)),
            ],
            exception_handlers={
                RollcamError: _told_error,
                HTTPException: _told_http,
                Exception: _told_bug,
            },
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._poster_turns = anyio.CapacityLimiter(_POSTERS_AT_ONCE)
        self._posters.start()
        try:
            yield
        finally:
            self.events.close()
            await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        self._posters.close()
        self._shelf.close()

    def _json(self, answer: Callable[[Request], Any]) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:  # in a thread: SQLite and disks wait
            return _as_json(answer(request))

        return respond

    def _list(self, request: Request) -> Any:
        asked = request.query_params
        more = [name for name in asked.get("columns", "").split(",") if name]
        offset, limit = _number(asked, "offset", 0), _number(asked, "limit", 200)
        return self._answers.rows(_question(request), offset, limit, more)

    def _points(self, request: Request) -> Any:
        asked = request.query_params
        x, y = asked.get("x", "step_index"), asked.get("y", "episode_return")
        return self._answers.points(_question(request), x, y, asked.get("color"))

    def _neighbours(self, request: Request) -> Any:
        return self._answers.neighbours(_id(request), _question(request))

    def _media(self, request: Request) -> Response:
        book, episode = self._shelf.episode(key_of(_id(request)))
        path = media_of(book, episode)
        if path is None or request.path_params["file"] != f"media{path.suffix.lower()}":
            raise EpisodeNotFound("this episode has no such file")
        status = path.stat()
        response = FileResponse(
            path,
            media_type=MEDIA_TYPES[path.suffix.lower()],
            filename=path.name if "download" in request.query_params else None,
            headers={"cache-control": "no-cache"},
            stat_result=status,
        )
        answer = _unless_known(request, response)
        is_small = answer is response and status.st_size <= _SMALL_FILM
        return _at_once(request, response, path) if is_small else answer

    async def _poster(self, request: Request) -> Response:
        at, key = request.path_params["at"], key_of(_id(request))
        if at not in CHOICES:
            raise EpisodeNotFound(f"posters are {', '.join(CHOICES)}")
        if self._n_posters_waiting >= MAX_POSTERS_WAITING:
            return _as_json({"error": "too many posters are being made; try again later"}, 503)
        self._n_posters_waiting += 1
        try:
            data = await anyio.to_thread.run_sync(
                self._posters.get, key, at, limiter=self._poster_turns
            )
        finally:
            self._n_posters_waiting -= 1
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers = {"cache-control": f"private, max-age={_POSTER_AGE_S}", "etag": tag}
        return _unless_known(request, Response(data, media_type="image/jpeg", headers=headers))

    def _live_media(self, request: Request) -> Response:
        start = _number(request.query_params, "from", 0)
        try:
            data = self._growing.film(key_of(_id(request)), start)
        except EpisodeNotFound as error:
            return self._became(request, error)
        headers = {"rollcam-next": str(start + len(data)), "cache-control": "no-store"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    def _live_steps(self, request: Request) -> Response:
        start = _number(request.query_params, "from", 0)
        try:
            return _as_json(self._growing.rows(key_of(_id(request)), start))
        except EpisodeNotFound as error:
            return self._became(request, error)

    def _became(self, request: Request, error: EpisodeNotFound) -> Response:
        """Answer that a film grows no more, and what it has become."""
        key = None
        with contextlib.suppress(RollcamError):
            key = self._growing.became(key_of(_id(request)))
        return _as_json({"error": str(error), "became": None if key is None else id_of(key)}, 404)

    async def _stream(self, request: Request) -> Response:
        if self.events.is_full:
            return _as_json({"error": "too many pages are open on this gallery"}, 503)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(
            self.events.stream(), media_type="text/event-stream", headers=headers
        )


def _compressing(app: ASGIApp) -> ASGIApp:
    """Compress answers and the page; films go as they are, since their bytes are asked for by number."""
    compressed = GZipMiddleware(app, minimum_size=1000, compresslevel=5)

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        is_text = path.endswith(".json") or not path.startswith("/api/")
        await (compressed if is_text else app)(scope, receive, send)

    return choose


class _Page(StaticFiles):
    """The page's own files, asked for anew each time: a new Rollcam brings new ones."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _question(request: Request) -> Question:
    return read_question(request.query_params.multi_items())


def _number(asked: QueryParams, name: str, usual: int) -> int:
    told = asked.get(name, "")
    if not told:
        return usual
    if not told.isascii() or not told.isdecimal() or len(told) > 16 or int(told) > _LARGEST:
        raise SettingError(f"{name}={told!r:.40} is no whole number from 0")
    return int(told)


def _as_json(told: Any, status: int = 200) -> Response:
    return Response(
        as_text(told), status, {"cache-control": "no-store"}, media_type="application/json"
    )


def _unless_known(request: Request, response: Response) -> Response:
    """Return the response, or 304 if whoever asks has the same already."""
    known = [
        tag.strip().removeprefix("W/")
        for tag in request.headers.get("if-none-match", "").split(",")
    ]
    if response.headers["etag"] not in known and "*" not in known:
        return response
    kept = ("etag", "cache-control", "last-modified")
    headers = {name: response.headers[name] for name in kept if name in response.headers}
    return Response(status_code=304, headers=headers)


def _at_once(request: Request, response: FileResponse, path: Path) -> Response:
    """Return a small film, or the one part of it that is asked for, read here and now.

    A `FileResponse` goes to another thread for each look at the file, which costs as much again as
    all the rest, and a grid asks for sixty films at once. What is out of the ordinary stays with it.
    """
    asked = request.headers.get("range")
    part = _RANGE.fullmatch(asked.strip()) if asked else None
    if request.method != "GET" or (asked and part is None) or "if-range" in request.headers:
        return response
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EpisodeNotFound("this film was just deleted") from error
    size, headers = len(data), dict(response.headers)
    if part is None:
        return Response(data, headers={**headers, "content-length": str(size)})
    first, last = int(part[1]), min(int(part[2] or size), size - 1)
    if first > last:
        return response
    data = data[first : last + 1]
    headers |= {"content-range": f"bytes {first}-{last}/{size}", "content-length": str(len(data))}
    return Response(data, 206, headers)


def _nothing(request: Request) -> Response:
    raise EpisodeNotFound("there is nothing at this address")


def _told_error(request: Request, error: Exception) -> Response:
    statuses = {EpisodeNotFound: 404, SettingError: 400, SidecarError: 422, MediaError: 404}
    status = next((n for kind, n in statuses.items() if isinstance(error, kind)), 500)
    return _as_json({"error": str(error)[:1000]}, status)


def _told_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _as_json({"error": error.detail}, error.status_code)


def _told_bug(request: Request, error: Exception) -> Response:
    logger.error("%s: %s", type(error).__name__, error)
    return _as_json({"error": "the gallery failed; what went wrong stands in its terminal"}, 500)

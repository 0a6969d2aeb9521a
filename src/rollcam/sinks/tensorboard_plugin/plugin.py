"""The plugin's answers to TensorBoard: its page, the list of films, and the films."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug.wrappers import Request, Response

from rollcam.sinks.tensorboard_plugin.library import Library
from rollcam.sinks.tensorboard_plugin.ranges import send_film

_METHODS = ("GET", "HEAD")
_STATIC = {"index.js": "text/javascript", "style.css": "text/css"}


class RollcamPlugin(base_plugin.TBPlugin):  # type: ignore[misc] # tensorboard has no types
    """Plays the films that `TensorBoardSink` put below the log directory.

    Args:
        context: What TensorBoard hands to each plugin; its `logdir` is looked at.
    """

    plugin_name = "rollcam"

    def __init__(self, context: base_plugin.TBContext) -> None:
        logdir = context.logdir
        self._library = Library(Path(logdir).expanduser().resolve()) if logdir else None

    def is_active(self) -> bool:
        """Say whether there is a film; without one TensorBoard hides the tab."""
        return self._library is not None and bool(self._library.films())

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return where the page's code lies, and the tab's name."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Rollcam")

    def get_plugin_apps(self) -> Mapping[str, Callable[..., Any]]:
        """Return the answers, by the path behind `/data/plugin/rollcam`."""
        answers = {
            "/films": self._films,
            "/film": self._film,
            **{f"/{name}": _static(name, kind) for name, kind in _STATIC.items()},
        }
        return {path: _app(answer) for path, answer in answers.items()}

    def _films(self, request: Request) -> Response:
        films = self._library.films() if self._library else []
        return _respond(request, {"films": [found.told() for found in films]}, "application/json")

    def _film(self, request: Request) -> Response:
        # The key is looked up among the films that were found: no path ever comes from a request.
        found = self._library.film(request.args.get("key", "")) if self._library else None
        if found is None:
            return _respond(request, "There is no such film.", "text/plain", code=404)
        return send_film(request, found.path)


def _app(answer: Callable[[Request], Response]) -> Callable[..., Any]:
    def application(request: Request) -> Response:
        if request.method not in _METHODS:
            allowed = [("Allow", ", ".join(_METHODS))]
            return _respond(request, "Only GET and HEAD.", "text/plain", code=405, headers=allowed)
        return answer(request)

    as_wsgi: Any = Request.application  # typed where Werkzeug is installed, and only there
    served: Callable[..., Any] = as_wsgi(application)
    return served


def _static(name: str, kind: str) -> Callable[[Request], Response]:
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return lambda request: _respond(request, content, kind)


def _respond(request: Request, content: Any, content_type: str, **options: Any) -> Response:
    response: Response = http_util.Respond(request, content, content_type, **options)
    return response

"""How episodes and catalogs show themselves in a notebook: a film to play, a table with pictures.

Everything told comes from sidecars, so it is hostile: each piece is escaped, films and pictures stand
in the page as data, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import base64
import re
import stat
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollcam.encode.cast import read_cast
from rollcam.encode.poster import poster
from rollcam.episode import Episode
from rollcam.errors import RollcamError

if TYPE_CHECKING:
    from rollcam.store.catalog import Catalog

MAX_FILM_BYTES = 4 * 2**20
"""A larger film is shown by one picture: what a notebook holds is saved with it."""
MAX_ROWS = 20
"""Episodes in the table of a catalog."""
MAX_PICTURES = 12
"""Those of them that come with a picture, so that a cell does not wait for the table."""

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\r")
_MAX_TEXT = 200
_MAX_SCREEN = 20_000
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
_FACTS = (
    "env_id", "status", "reason", "mode", "episode_return", "episode_length", "n_frames",
    "duration_s", "seed", "episode_index", "started_at",
)  # fmt: skip


def episode_html(episode: Episode) -> str:
    """Return an episode as HTML: its film, and the facts."""
    rows = []
    for name in _FACTS:
        value = getattr(episode, name)
        if value is not None:
            rows.append(f"<tr><th style='text-align:left'>{name}</th><td>{_text(value)}</td></tr>")
    for name in ("context_at_start", "context_at_end"):
        for key, value in list(getattr(episode, name).items())[:MAX_ROWS]:
            rows.append(
                f"<tr><th style='text-align:left'>{name}.{_text(key)}</th><td>{_text(value)}</td></tr>"
            )
    return (
        f"<div><strong>{_text(episode.name)}</strong><br>{_film(episode)}"
        f"<table>{''.join(rows)}</table></div>"
    )


def catalog_html(catalog: Catalog) -> str:
    """Return the newest episodes of a catalog as a table in HTML."""
    episodes = catalog.select(sort="-started_at", limit=MAX_ROWS)
    n = catalog.count()
    heads = ("", "name", "env", "status", "return", "length", "started")
    head = "".join(f"<th style='text-align:left'>{each}</th>" for each in heads)
    body = "".join(_row(episode, n < MAX_PICTURES) for n, episode in enumerate(episodes))
    rest = f", the newest {len(episodes)}" if n > len(episodes) else ""
    return (
        f"<div><strong>{_text(catalog.folder)}</strong>: {n} episodes{rest}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(episode: Episode, has_picture: bool) -> str:
    cells: Iterable[Any] = (
        episode.name, episode.env_id, episode.status, episode.episode_return,
        episode.episode_length, episode.started_at,
    )  # fmt: skip
    told = "".join(f"<td>{'' if cell is None else _text(cell)}</td>" for cell in cells)
    return f"<tr><td>{_picture(episode, width=96) if has_picture else ''}</td>{told}</tr>"


def _film(episode: Episode) -> str:
    path = _file(episode)
    if path is None:
        return "<em>no film</em>"
    if episode.is_text:
        return _last_screen(path)
    kind = _TYPES.get(path.suffix.lower())
    if kind is None or path.stat().st_size > MAX_FILM_BYTES:
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        return f"{_picture(episode, width=320)}<br><em>{_text(path.name)}, {size}</em>"
    return (
        f"<video controls loop muted playsinline style='max-width:100%' "
        f"src='{_data(kind, path.read_bytes())}'></video>"
    )


def _picture(episode: Episode, *, width: int) -> str:
    path = _file(episode)
    if path is None or episode.is_text:
        return ""
    try:
        picture = poster(path, (episode.duration_s or 0.0) / 2)
    except RollcamError:
        return ""
    return f"<img alt='' width='{width}' src='{_data('image/jpeg', picture)}'>"


def _last_screen(path: Path) -> str:
    try:
        frames = read_cast(path).frames
    except (RollcamError, OSError):
        return "<em>no film</em>"
    screen = _ESCAPE.sub("", frames[-1][1]) if frames else ""
    return f"<pre style='line-height:1.2'>{escape(screen[:_MAX_SCREEN])}</pre>"


def _file(episode: Episode) -> Path | None:
    path = episode.media_path
    try:
        is_file = path is not None and stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return None
    return path if is_file else None


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _text(value: Any) -> str:
    return escape(str(value)[:_MAX_TEXT])

"""Episodes and catalogs in a notebook: shown without a server, and harmless."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import rollcam
from rollcam import notebook
from tests.envs import AnsiEnv, CountingEnv
from tests.films import film
from tests.gallery.serving import put

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def of_name(folder: Path, name: str) -> rollcam.Episode:
    with rollcam.Catalog(folder) as catalog:
        return catalog[name]


class _Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def names(self) -> set[str]:
        return {tag for tag, _ in self.found}


def test_a_film_plays_inline(tmp_path: Path) -> None:
    film("RecordVideo", CountingEnv(length=5, fps=10), tmp_path, n_episodes=1)
    episode = of_name(tmp_path, "rl-video-episode-0")
    html = episode._repr_html_()
    data = re.search(r"src='data:video/mp4;base64,([^']+)'", html)
    assert data
    assert base64.b64decode(data[1]) == (tmp_path / "rl-video-episode-0.mp4").read_bytes()
    assert "episode_return" in html
    assert "15.0" in html


def test_a_large_film_is_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film("RecordVideo", CountingEnv(length=5, fps=10), tmp_path, n_episodes=1)
    monkeypatch.setattr(notebook, "MAX_FILM_BYTES", 100)
    html = of_name(tmp_path, "rl-video-episode-0")._repr_html_()
    assert "<video" not in html
    assert re.search(r"<img [^>]*src='data:image/jpeg;base64,", html)


def test_a_text_episode_is_its_last_screen(tmp_path: Path) -> None:
    film("RecordVideo", AnsiEnv(length=3, fps=10), tmp_path, n_episodes=1)
    html = of_name(tmp_path, "rl-video-episode-0")._repr_html_()
    screen = re.search(r"<pre[^>]*>(.*?)</pre>", html, re.DOTALL)
    assert screen
    assert "3" in screen[1]
    assert "\x1b" not in html


def test_a_catalog_is_a_table_with_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film("RecordVideo", CountingEnv(length=5, fps=10), tmp_path, n_episodes=3)
    for n in range(30):
        put(tmp_path, f"bare-{n}", n, started_at="2020-01-01T00:00:00+00:00")
    monkeypatch.setattr(notebook, "MAX_PICTURES", 2)
    with rollcam.Catalog(tmp_path) as catalog:
        html = catalog._repr_html_()
    assert html is not None
    assert "33 episodes, the newest 20" in html
    assert html.count("<tr>") == 21
    assert html.count("<img") == 2
    assert catalog._repr_html_() is None  # closed: it says so in plain text


def test_hostile_facts_are_text(tmp_path: Path) -> None:
    put(
        tmp_path, "odd", 1, env_id=SCRIPT, reason=SCRIPT, media="odd.mp4", codec=SCRIPT,
        context_at_end={SCRIPT: SCRIPT},
    )  # fmt: skip
    (tmp_path / "odd.mp4").write_text(SCRIPT)
    put(tmp_path, "linked", 2, media="linked.mp4", codec="h264")
    (tmp_path / "linked.mp4").symlink_to("/etc/passwd")
    put(tmp_path, "gone", 3, media="gone.cast", codec="asciicast")
    put(tmp_path, "torn", 4, media="torn.cast", codec="asciicast")
    (tmp_path / "torn.cast").write_text(SCRIPT)
    with rollcam.Catalog(tmp_path) as catalog:
        pieces = [catalog._repr_html_() or "", *(e._repr_html_() for e in catalog)]
    for html in pieces:
        tags = _Tags(html)
        assert "script" not in tags.names()
        assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    assert "no film" in of_name(tmp_path, "linked")._repr_html_()
    assert "no film" in of_name(tmp_path, "torn")._repr_html_()


def test_it_is_loaded_only_when_it_is_needed() -> None:
    code = "import rollcam, sys; rollcam.Episode, rollcam.Catalog; assert 'rollcam.notebook' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

"""Who may ask: Host headers, tokens, other sites, and what every answer says of safety."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rollcam.errors import SettingError
from tests.gallery.serving import TIMEOUT_S, Served, put

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("guarded") / "videos"
    put(folder, "a")
    with Served(folder, names=["gallery.example"]) as server:
        yield server


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("locked") / "videos"
    put(folder, "a")
    with Served(folder, token=TOKEN) as server:
        yield server


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST.", "Gallery.example:9"]
)
def test_own_names_are_answered(served: Served, host: str) -> None:
    assert served.get("/api/gallery.json", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7655", "", "10.0.0.1", "[::2]",
     "localhost:1:2", "evil.example#localhost", "localhost@evil.example", "[localhost"],
)  # fmt: skip
def test_other_names_are_refused(served: Served, host: str) -> None:
    for path in ("/", "/api/gallery.json", "/api/events", "/api/e/videos!a/facts.json"):
        reply = served.get(path, {"Host": host})
        assert reply.status == 403, path
        assert "Host" in reply.json()["error"]


def test_no_host_at_all_is_refused(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT_S)
    try:
        connection.putrequest("GET", "/api/gallery.json", skip_host=True)
        connection.endheaders()
        assert connection.getresponse().status in (400, 403)
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    assert served.get("/api/e/videos!a/facts.json", method=method).status == 405


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_get_nothing(served: Served, site: str) -> None:
    told = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert served.get("/api/list.json", told).status == 403
    navigating = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert served.get("/api/list.json", navigating).status == 403
    assert served.get("/", navigating).status != 403
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert served.get("/api/list.json", own).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/api/list.json", "/api/nothing", "/nothing", "/api/list.json?sort=x"]
)
def test_every_answer_is_safe(served: Served, path: str) -> None:
    headers = served.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize("told", [None, "wrong", TOKEN[:-1], TOKEN + "x", "\xe9" * 10])
def test_without_the_token_nothing_is_told(locked: Served, told: str | None) -> None:
    headers = {} if told is None else {"Authorization": f"Bearer {told}"}
    for path in ("/", "/api/gallery.json", "/api/e/videos!a/facts.json", "/api/events", "/main.js"):
        reply = locked.get(path, headers)
        assert reply.status == 401, path
        assert "token" in reply.json()["error"]


def test_the_token_opens_once_and_the_cookie_then(locked: Served) -> None:
    address = urlsplit(locked.place.url)
    first = locked.get(f"{address.path}?{address.query}&is=mode%3Deval")
    assert (first.status, first.headers["location"]) == (303, "/?is=mode%3Deval")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    pair = cookie.partition(";")[0]
    assert locked.get("/api/gallery.json", {"Cookie": pair}).status == 200
    assert locked.get("/api/gallery.json", {"Cookie": pair[:-1]}).status == 401
    assert locked.get("/api/gallery.json", {"Cookie": 'a="\\'}).status == 401
    # Cookies know no ports: those of other servers on this machine come along, however odd.
    for odd in ('prefs={"a": 1}; ', "b c=d e; ", '"; ', "=; ;; "):
        assert locked.get("/api/gallery.json", {"Cookie": odd + pair}).status == 200
    assert TOKEN not in cookie
    assert locked.get("/api/gallery.json", {"Authorization": f"Bearer {TOKEN}"}).status == 200


@pytest.mark.parametrize("token", ["abc;def ghi", 'pass"word,12\\x', "a=b&c=d%20+"])
def test_any_printable_token_opens(tmp_path: Path, token: str) -> None:
    put(tmp_path, "a")
    with Served(tmp_path, token=token) as server:
        address = urlsplit(server.place.url)
        cookie = server.get(f"{address.path}?{address.query}").headers["set-cookie"]
        assert cookie.count(";") == 3
        pair = cookie.partition(";")[0]
        assert server.get("/api/gallery.json", {"Cookie": pair}).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_than_loopback_needs_a_token(tmp_path: Path, host: str) -> None:
    put(tmp_path / "videos", "a")
    with Served(tmp_path / "videos", host=host) as server:
        assert server.place.token is not None
        assert len(server.place.token) >= 24
        assert server.get("/api/gallery.json").status == 401
        known = {"Authorization": f"Bearer {server.place.token}"}
        assert server.get("/api/gallery.json", known).status == 200
        elsewhere = urlsplit(server.place.url_elsewhere or "")
        assert elsewhere.query == urlsplit(server.place.url).query
        told = {**known, "Host": elsewhere.netloc}
        assert elsewhere.hostname == socket.gethostname().lower()
        assert server.get("/api/gallery.json", told).status == 200
        # By address it may be reached from elsewhere, by a name that somebody points here it may not.
        assert server.get("/api/gallery.json", {**known, "Host": "10.1.2.3:80"}).status == 200
        assert server.get("/api/gallery.json", {**known, "Host": "evil.example"}).status == 403


@pytest.mark.parametrize("token", ["", "short", "with\nbreak-in-it", "ünprintable-token"])
def test_weak_tokens_are_refused(tmp_path: Path, token: str) -> None:
    put(tmp_path, "a")
    with pytest.raises(SettingError, match="token"), Served(tmp_path, token=token):
        pass

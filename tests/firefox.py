"""A real Firefox, driven over WebDriver BiDi: Playwright drives only one of its own making.

    with Firefox() as firefox, firefox.tab() as tab:
        tab.go(url)
        tab.click(".t-row .row-link")

Commands go over one socket and are answered in turn; what Firefox tells besides (errors of the page,
requests) is noted for the tab that it belongs to.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

# As scripts/install_system.sh looks for it.
NAMES = ("firefox-esr", "firefox")
MAC_FIREFOX = Path("/Applications/Firefox.app/Contents/MacOS/firefox")
PREFERENCES = {
    # Firefox's own requests go to other hosts; those of the page are what the tests look at.
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-provider.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:1/",
    "toolkit.telemetry.enabled": False,
}
EVENTS = ("log.entryAdded", "network.beforeRequestSent")
START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 20.0
LIMIT_S = 15.0
# Private to WebDriver: the code points of keys that write nothing.
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "ArrowDown": "\ue015", "Home": "\ue011"}


def find_firefox() -> Path | None:
    """Return the Firefox to use, if there is one."""
    if named := os.environ.get("ROLLCAM_FIREFOX"):
        return Path(named)
    found = [Path(path) for path in map(shutil.which, NAMES) if path]
    return next(
        (path for path in (*found, MAC_FIREFOX) if path.is_file() and not _is_snap(path)), None
    )


def is_offered() -> bool:
    """Whether `make browser` installs one here, so that no test may do without."""
    return (
        shutil.which("apt-get") is not None
        and Path("/etc/debian_version").exists()
        and "ubuntu" not in Path("/etc/os-release").read_text(encoding="utf-8").lower()
    )


def _is_snap(path: Path) -> bool:
    """Whether it is Ubuntu's: a snap sees no folder of ours, so it takes no profile."""
    return "/snap" in str(path.resolve()) or b"/snap/" in path.read_bytes()[:4096]


class Firefox:
    """One headless Firefox with a profile of its own.

    Args:
        executable: The program; `None`: the one that `find_firefox` finds.
        is_dark: Whether the system's theme is a dark one.

    Raises:
        FileNotFoundError: There is none.
    """

    def __init__(self, executable: Path | None = None, *, is_dark: bool = False) -> None:
        executable = executable or find_firefox()
        if executable is None or not executable.is_file():
            raise FileNotFoundError("no Firefox here: run `make browser` to install it")
        self._numbers = itertools.count(1)
        self._tabs: dict[str, Tab] = {}
        with contextlib.ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(
                prefix="rollcam-firefox-", ignore_cleanup_errors=True
            )
            profile = Path(stack.enter_context(folder))
            wanted = {**PREFERENCES, "ui.systemUsesDarkTheme": int(is_dark)}
            lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in wanted.items()]
            (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
            self._process = subprocess.Popen(
                [executable, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(profile), "MOZ_CRASHREPORTER_DISABLE": "1"},
            )  # fmt: skip
            stack.callback(self._end)
            told = profile / "WebDriverBiDiServer.json"
            address = self._address(told)
            # Screenshots are larger than the usual limit of a message.
            self._socket = stack.enter_context(
                connect(
                    address, max_size=None, proxy=None, open_timeout=ANSWER_TIMEOUT_S,
                    close_timeout=1,
                )
            )  # fmt: skip
            self.capabilities = self.ask("session.new", capabilities={})["capabilities"]
            self.ask("session.subscribe", events=EVENTS)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End Firefox; a second call does nothing."""
        self._stack.close()

    @contextlib.contextmanager
    def tab(self, width: int = 1280, height: int = 800) -> Iterator[Tab]:
        """Open a tab of its own and close it at the end; nothing may have failed in it."""
        context = self.ask("browsingContext.create", type="tab")["context"]
        tab = self._tabs[context] = Tab(self, context)
        self.ask(
            "browsingContext.setViewport", context=context,
            viewport={"width": width, "height": height},
        )  # fmt: skip
        try:
            yield tab
            assert tab.errors == []
            assert tab.away == []
        finally:
            self.ask("browsingContext.close", context=context)
            del self._tabs[context]

    def ask(self, method: str, **params: Any) -> Any:
        """Give a command and return its result.

        Raises:
            RuntimeError: Firefox refused it.
            TimeoutError: There was no answer.
        """
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            told = json.loads(self._socket.recv(max(0.0, deadline - time.monotonic())))
            if told.get("id") != number:
                self._note(told)
            elif told["type"] == "error":
                raise RuntimeError(f"{method}: {told['error']}: {told['message']}")
            else:
                return told["result"]

    def _note(self, told: dict[str, Any]) -> None:
        params = told.get("params", {})
        context = params.get("context") or params.get("source", {}).get("context")
        if (tab := self._tabs.get(context)) is None:
            return
        if told["method"] == "log.entryAdded" and params["level"] == "error":
            tab.errors.append(str(params["text"]))
        elif told["method"] == "network.beforeRequestSent":
            tab.requested(params["request"]["url"])

    def _address(self, told: Path) -> str:
        """Return where Firefox listens, once it says so."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"Firefox ended at once: {self._process.returncode}")
            with contextlib.suppress(OSError, ValueError):
                place = json.loads(told.read_text(encoding="utf-8"))
                return f"ws://{place['ws_host']}:{place['ws_port']}/session"
            time.sleep(0.02)
        raise TimeoutError(f"Firefox did not start within {START_TIMEOUT_S:g} s")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Tab:
    """One tab; made by `Firefox.tab`."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self._firefox = firefox
        self._context = context
        self._base = ""
        self.errors: list[str] = []
        """What the page's console says went wrong."""
        self.away: list[str] = []
        """What the page asked of other hosts."""

    def go(self, url: str) -> None:
        """Open an address and wait until it is loaded; the first names the page's host."""
        self._base = self._base or "/".join(url.split("/", 3)[:3])
        self._ask("browsingContext.navigate", url=url, wait="complete")

    def requested(self, url: str) -> None:
        if not url.startswith((self._base, "blob:", "data:", "about:")):
            self.away.append(url)

    def evaluate(self, function: str, *args: Any) -> Any:
        """Call a JavaScript function in the page; what goes in and comes out is JSON, an element is `True`."""
        result = self._firefox.ask(
            "script.callFunction",
            functionDeclaration=f"""async (args) => {{
              const value = await ({function})(...JSON.parse(args)) ?? null;
              return JSON.stringify(value instanceof Node ? true : value);
            }}""",
            arguments=[{"type": "string", "value": json.dumps(args)}],
            target={"context": self._context},
            awaitPromise=True,
        )
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    def until(self, function: str, *args: Any, limit_s: float = LIMIT_S) -> Any:
        """Call a function until something true comes back.

        Raises:
            TimeoutError: That did not happen.
        """
        deadline = time.monotonic() + limit_s
        while not (value := self.evaluate(function, *args)):
            if time.monotonic() > deadline:
                page = self.evaluate("() => location.href + '\\n' + document.body.innerText")
                raise TimeoutError(f"it did not happen: {function}\n{page[:3000]}\n{self.errors}")
            time.sleep(0.02)
        return value

    def press(self, *keys: str) -> None:
        """Press keys, one after another."""
        codes = [KEYS.get(key, key) for key in keys]
        actions = [{"type": kind, "value": code} for code in codes for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keys", "actions": actions})

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click an element once it is there, at a share of its width and height."""
        place = self.until(
            """(selector, x, y) => {
              const element = document.querySelector(selector);
              element?.scrollIntoView({ block: 'nearest' });
              const box = element?.getBoundingClientRect();
              return box?.width ? [Math.floor(box.left + box.width * x), Math.floor(box.top + box.height * y)] : null;
            }""",
            selector, x, y,
        )  # fmt: skip
        move = {"type": "pointerMove", "x": place[0], "y": place[1]}
        press = [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")]
        self._act({"type": "pointer", "id": "mouse", "actions": [move, *press]})

    def screenshot(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self._ask("browsingContext.captureScreenshot")["data"])

    def back(self) -> None:
        """Go back in the history."""
        self._ask("browsingContext.traverseHistory", delta=-1)

    def _act(self, source: dict[str, Any]) -> None:
        self._ask("input.performActions", actions=[source])

    def _ask(self, method: str, **params: Any) -> Any:
        return self._firefox.ask(method, context=self._context, **params)

"""How quick is the gallery's server with 100,000 episodes?"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.catalog_index import _put
from benchmarks.lab.answer import Answer, Figure, Table
from benchmarks.lab.child import child_main, run_child

SIZES = (1_000, 100_000)
WINDOW = 200
MAX_START_S = 1.0
MAX_LIST_S = 0.1
N_TURNS = 9
N_STARTS = 3
TIMEOUT_S = 120

HOW = f"""\
`rollcam serve` runs as a process of its own over a flat folder of that many sidecars of 2.0 kB, whose index is there. "First
response" is from the start of the process to the first bytes of the page, "first list" to the newest {WINDOW} episodes.
Requests go over one connection on loopback, with gzip, and end when the body is decompressed; medians of {N_TURNS}, starts
the best of {N_STARTS}. What is asked "for the first time" was not asked since the folder last changed: its order is then
computed, and kept. Memory is the server's highest resident set."""

LISTS = {
    "the newest": "",
    "sorted by return": "sort=-episode_return",
    "filtered by mode and return, sorted by return": "is=mode=eval&in=episode_return=100..&sort=-episode_return",
    "found by text": "q=episode-77+lunar&sort=-episode_length",
    "row 50,000 on, sorted by return": "sort=-episode_return&offset=50000",
    "sorted by a trainer's counter": "sort=-context_at_end.num_env_steps",
}
OTHERS = {
    "points of the chart": "points.json?x=context_at_end.num_env_steps",
    "facets": "facets.json",
    "facts of one episode": "e/{id}/facts.json",
    "neighbours of one episode": "e/{id}/neighbours.json",
}


def run(quick: bool = False) -> dict[str, Any]:
    """Measure, and return the answer."""
    sizes = [n // 20 for n in SIZES] if quick else list(SIZES)
    found = {n: run_child("benchmarks.gallery", {"n": n}) for n in sizes}
    largest, many = found[sizes[-1]], f"{sizes[-1]:,} episodes"
    usual = list(LISTS)[:3]
    slowest = max(largest["lists_s"][name] for name in usual)
    figures = [
        _figure(f"Gallery: start to first response, {many}", MAX_START_S, largest["page_s"]),
        _figure(f"Gallery: list request ({', '.join(usual)}), {many}", MAX_LIST_S, slowest),
    ]
    columns = ["", *(f"{n:,} episodes" for n in sizes)]
    return Answer(
        "The gallery's server", HOW, figures, [Table("Gallery, ms", columns, _rows(found))]
    ).as_dict()


def _figure(what: str, limit_s: float, measured_s: float) -> Figure:
    return Figure(
        what, f"below {limit_s * 1e3:.0f} ms", f"{measured_s * 1e3:.0f} ms", measured_s < limit_s
    )


def _rows(found: dict[int, dict[str, Any]]) -> list[list[str]]:
    def row(text: str, value: Callable[[dict[str, Any]], float]) -> list[str]:
        return [text, *(f"{value(one) * 1e3:,.1f}" for one in found.values())]

    rows = [
        row("start to first response", lambda one: one["page_s"]),
        row("start to first list", lambda one: one["list_s"]),
    ]
    for name in LISTS:
        rows.append(row(f"list: {name}", lambda one, name=name: one["lists_s"][name]))
        rows.append(
            row(f"list: {name}, for the first time", lambda one, name=name: one["first_s"][name])
        )
    rows += [
        row(f"{name}, for the first time", lambda one, name=name: one["others_s"][name])
        for name in OTHERS
    ]
    rows.append(["memory, MB", *(f"{one['peak_bytes'] / 1e6:.0f}" for one in found.values())])
    return rows


def _measure(n: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "videos"
        (folder / ".rollcam").mkdir(parents=True)
        for number in range(n):
            _put(folder, number)
        time.sleep(2.5)  # what is younger than that is read again at the next refresh
        _Server(folder).close()  # makes the index
        pages, lists = [], []
        for _ in range(N_STARTS):
            server = _Server(folder)
            pages.append(server.page_s)
            lists.append(server.list_s)
            server.close()
        server = _Server(folder)
        try:
            answer = _ask(server)
            answer["peak_bytes"] = server.peak_bytes()
        finally:
            server.close()
        return {**answer, "page_s": min(pages), "list_s": min(lists)}


def _ask(server: _Server) -> dict[str, Any]:
    first, lists, others = {}, {}, {}
    for name, asked in LISTS.items():
        path = f"/api/list.json?limit={WINDOW}&{asked}"
        first[name] = _time(lambda path=path: server.get(path))
        lists[name] = statistics.median(
            _time(lambda path=path: server.get(path)) for _ in range(N_TURNS)
        )
    handle = json.loads(server.get("/api/list.json?limit=1"))["rows"][0][0]
    for name, path in OTHERS.items():
        asked = "/api/" + path.replace("{id}", handle)
        others[name] = _time(lambda asked=asked: server.get(asked))
    return {"first_s": first, "lists_s": lists, "others_s": others}


class _Server:
    """`rollcam serve`, and one connection to it."""

    def __init__(self, folder: Path) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rollcam", "serve", str(folder), "--no-browser", "--port", "0"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        told = re.search(r":(\d+)/", self._process.stdout.readline())
        assert told is not None
        self._connection = http.client.HTTPConnection("127.0.0.1", int(told[1]), timeout=TIMEOUT_S)
        try:
            self.get("/")
            self.page_s = time.perf_counter() - start
            self.get(f"/api/list.json?limit={WINDOW}")
            self.list_s = time.perf_counter() - start
        except BaseException:
            self.close()
            raise

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, (path, response.status)
        return gzip.decompress(body) if response.getheader("content-encoding") else body

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0

    def close(self) -> None:
        self._connection.close()
        os.kill(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _time(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child_main(_measure)
    else:
        from benchmarks.lab.report import main

        main(run)

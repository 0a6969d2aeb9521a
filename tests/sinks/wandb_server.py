"""A loopback stand-in for W&B's service: what the real wandb-core and public API ask of it, no more.

Start it with `WandbServer()` as a context; `environment()` points wandb at it. Faults are set by
`server.faults` or, from a script in another process, by a POST of the same fields to `/faults`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlparse

ENTITY = "ent"
HISTORY = "wandb-history.jsonl"


@dataclass
class Faults:
    """What goes wrong; counts run down to 0."""

    puts: int = 0
    """So many uploads of media fail."""
    put_status: int = 500
    streams: int = 0
    """So many posts of rows fail with a 500."""
    queries: int = 0
    """So many GraphQL requests fail."""
    query_status: int = 500
    hang: str = ""
    """Requests whose path or operation matches this pattern get no answer."""
    unlisted: str = ""
    """Files whose name matches this are uploaded, and lost."""


@dataclass
class Run:
    """What the service holds of one run."""

    created: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)
    config: str = "{}"
    summary: str = "{}"
    group: str | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows, in order."""
        lines = self.lines.get(HISTORY, {})
        return [json.loads(lines[number]) for number in sorted(lines)]

    @property
    def last_step(self) -> int:
        return max((row.get("_step", -1) for row in self.history), default=-1)

    def media(self) -> dict[str, bytes]:
        return {name: body for name, body in self.files.items() if name.startswith("media/")}


class WandbServer:
    """The service, on a port of its own, until the context ends."""

    def __init__(self, port: int = 0) -> None:
        self.lock = threading.RLock()
        self.runs: dict[tuple[str, str], Run] = {}
        self.faults = Faults()
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self.stopped = threading.Event()
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.service = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> WandbServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._thread.join(10)
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """The settings that send wandb here, and nowhere else."""
        return environment_of(self.url)

    def run(self, run_id: str, project: str = "p") -> Run:
        with self.lock:
            return self.runs.setdefault((project, run_id), Run())

    def known(self, run_id: str | None, project: str | None) -> Run | None:
        with self.lock:
            return self.runs.get((project or "", run_id or ""))

    def takes(self, fault: str) -> bool:
        """Whether this request is one of those that fail."""
        with self.lock:
            left: int = getattr(self.faults, fault)
            setattr(self.faults, fault, max(0, left - 1))
            return left > 0


def environment_of(url: str) -> dict[str, str]:
    """The settings that send wandb there, whether or not anybody listens."""
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_MODE": "online",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
    }


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    service: WandbServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def service(self) -> WandbServer:
        return self.server.service

    def do_GET(self) -> None:
        path = urlparse(self.path)
        if path.path.startswith("/get/"):
            project, run_id, name = unquote(path.path[5:]).split("/", 2)
            run = self.service.known(run_id, project)
            body = run.files.get(name) if run else None
            return self._send(404 if body is None else 200, body or b"", "video/mp4")
        if path.path.startswith("/media/"):  # for scripts: which films the run has
            project, run_id = unquote(path.path[7:]).split("/")
            return self._send(200, sorted(self.service.run(run_id, project).media()))
        self._send(200, {})

    def do_PUT(self) -> None:
        body = self._body()
        project, run_id, name = unquote(urlparse(self.path).path[5:]).split("/", 2)
        if self._hangs("PUT " + name):
            return
        service, run = self.service, self.service.run(run_id, project)
        with service.lock:
            run.puts.append(name)
        if name.startswith("media/") and service.takes("puts"):
            return self._send(service.faults.put_status, {"error": "injected"})
        with service.lock:
            if not (service.faults.unlisted and re.search(service.faults.unlisted, name)):
                run.files[name] = body
        self._send(200, {})

    def do_POST(self) -> None:
        body, path = self._body(), urlparse(self.path).path
        if path == "/faults":
            for key, value in json.loads(body).items():
                setattr(self.service.faults, key, value)
            return self._send(200, {})
        if path.endswith("/graphql"):
            return self._graphql(json.loads(body))
        parts = path.strip("/").split("/")
        if parts[0] == "files" and parts[-1] == "file_stream":
            return self._file_stream(parts[2], parts[3], json.loads(body))
        self._send(200, {})

    def _file_stream(self, project: str, run_id: str, body: dict[str, Any]) -> None:
        if self._hangs("file_stream"):
            return
        if self.service.takes("streams"):
            return self._send(500, {"error": "injected"})
        run = self.service.run(run_id, project)
        with self.service.lock:
            for name, part in body.get("files", {}).items():
                lines = run.lines.setdefault(name, {})
                for number, line in enumerate(part.get("content", []), part.get("offset", 0)):
                    lines[number] = line
                if name == "wandb-summary.json" and part.get("content"):
                    run.summary = part["content"][-1]
            run.uploaded |= set(body.get("uploaded") or [])
        self._send(200, {"exitcode": None, "limits": {}})

    def _graphql(self, request: dict[str, Any]) -> None:
        query, variables = request.get("query", ""), request.get("variables") or {}
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = request.get("operationName") or (found.group(1) if found else "?")
        with self.service.lock:
            self.service.asked.append(operation)
        if self._hangs(operation):
            return
        if self.service.takes("queries"):
            return self._send(self.service.faults.query_status, {"error": "injected"})
        answer = _ANSWERS.get(operation)
        if answer is not None:
            return self._send(200, {"data": answer(self.service, variables)})
        if "viewer" in query:
            return self._send(200, {"data": _viewer()})
        with self.service.lock:
            self.service.unknown.append(operation)
        self._send(200, {"data": {}})

    def _hangs(self, what: str) -> bool:
        pattern = self.service.faults.hang
        if not (pattern and re.search(pattern, what)):
            return False
        self.service.stopped.wait(120)
        self.close_connection = True
        return True

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

    def _send(self, status: int, answer: Any, kind: str = "application/json") -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _viewer() -> dict[str, Any]:
    viewer = {
        "id": "VXNlcjox", "entity": ENTITY, "username": "u", "name": "u", "flags": "{}",
        "email": "u@example.invalid", "admin": False, "teams": {"edges": []},
        "apiKeys": {"edges": []},
    }  # fmt: skip
    return {"viewer": viewer, "serverInfo": None}


def _upsert(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    name, project = v.get("name") or "r", v.get("project") or "uncategorized"
    existed = service.known(name, project) is not None
    run = service.run(name, project)
    run.config = v.get("config") or run.config
    run.group = v.get("groupName") or run.group
    bucket = {
        "id": base64.b64encode(f"Run:v1:{name}".encode()).decode(), "name": name,
        "displayName": v.get("displayName") or name, "description": None, "config": run.config,
        "sweepName": None, "historyLineCount": len(run.history),
        "project": {
            "id": "UHJvamVjdA==", "name": project,
            "entity": {"id": "RW50", "name": v.get("entity") or ENTITY},
        },
    }  # fmt: skip
    return {"upsertBucket": {"bucket": bucket, "inserted": not existed}}


def _resume(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    run = service.known(v.get("name"), v.get("project"))
    if run is None:
        return {"model": None}
    tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
    bucket = {
        "id": "UnVu", "name": v["name"], "summaryMetrics": run.summary, "displayName": v["name"],
        "logLineCount": len(run.lines.get("output.log", {})),
        "historyLineCount": len(run.lines.get(HISTORY, {})),
        "eventsLineCount": len(run.lines.get("wandb-events.jsonl", {})),
        "historyTail": tail, "eventsTail": "[]", "config": run.config, "tags": [], "notes": None,
        "wandbConfig": '{"t": 1}',
    }  # fmt: skip
    entity = {"id": "RW50", "name": v.get("entity") or ENTITY}
    return {"model": {"id": "UHI=", "name": v.get("project"), "entity": entity, "bucket": bucket}}


def _run(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    run = service.known(v.get("name"), v.get("project"))
    if run is None:
        return {"project": {"internalId": "1", "run": None}}
    name, when = v["name"], "2026-01-01T00:00:00"
    node = {
        "id": name, "tags": [], "name": name, "displayName": name, "sweepName": None,
        "state": "finished", "config": run.config, "group": run.group, "jobType": None,
        "commit": None, "readOnly": False, "createdAt": when, "heartbeatAt": when,
        "description": None, "notes": None, "systemMetrics": "{}", "summaryMetrics": run.summary,
        "historyLineCount": len(run.history), "historyKeys": None, "projectId": "1",
        "user": {"name": "u", "username": "u"},
    }  # fmt: skip
    return {"project": {"internalId": "1", "run": node}}


def _files(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    run = service.known(v.get("name"), v.get("project"))
    if run is None:
        return {"project": {"internalId": "1", "run": None}}
    edges = []
    with service.lock:
        for name in v.get("fileNames") or sorted(run.created):
            if name in run.created:
                body = run.files.get(name)
                url = f"{service.url}/get/{v['project']}/{v['name']}/{quote(name)}"
                md5 = base64.b64encode(hashlib.md5(body or b"").digest()).decode()
                node = {
                    "id": name, "name": name, "url": url, "directUrl": url, "md5": md5,
                    "sizeBytes": len(body) if body is not None else 0, "mimetype": "video/mp4",
                    "updatedAt": "2026-01-01T00:00:00",
                }  # fmt: skip
                edges.append({"cursor": name, "node": node})
    page = {"endCursor": None, "hasNextPage": False}
    found = {"fileCount": len(edges), "files": {"edges": edges, "pageInfo": page}}
    return {"project": {"internalId": "1", "run": found}}


def _create_files(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    project, run_id = v.get("project") or "p", v.get("run") or "r"
    run = service.run(run_id, project)
    with service.lock:
        run.created |= set(v["files"])
    base = f"{service.url}/put/{project}/{run_id}/"
    files = [{"name": name, "uploadUrl": base + quote(name)} for name in v["files"]]
    return {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": files}}


def _history_keys(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    run = service.known(v.get("name"), v.get("project"))
    keys = None if run is None else {"lastStep": run.last_step, "keys": {}}
    return {"project": {"run": {"historyKeys": keys}}}


def _live(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    run = service.known(v.get("runName"), v.get("project"))
    rows = [] if run is None else run.history
    keys = set(v.get("liveKeys") or [])
    live = [row for row in rows if keys <= set(row)]
    return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}


def _page(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    run = service.known(v.get("run"), v.get("project"))
    rows = [] if run is None else run.history
    wanted = [row for row in rows if v["minStep"] <= row.get("_step", -1) < v["maxStep"]]
    return {"project": {"run": {"history": [json.dumps(row) for row in wanted]}}}


def _sampled(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    run, spec = service.known(v.get("run"), v.get("project")), json.loads(v["spec"])
    rows = [] if run is None else run.history
    wanted = [
        {key: row[key] for key in spec["keys"]}
        for row in rows
        if spec["minStep"] <= row.get("_step", -1) <= spec["maxStep"]
        and set(spec["keys"]) <= set(row)
    ]
    return {"project": {"run": {"sampledHistory": [wanted]}}}


def _features(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    return {"serverInfo": {"features": []}}


def _stopped(service: WandbServer, v: dict[str, Any]) -> dict[str, Any]:
    return {"project": {"run": {"stopped": False}}}


_ANSWERS: dict[str, Callable[[WandbServer, dict[str, Any]], dict[str, Any]]] = {
    "UpsertBucket": _upsert,
    "RunResumeStatus": _resume,
    "Run": _run,
    "GetRun": _run,
    "RunFiles": _files,
    "CreateRunFiles": _create_files,
    "RunHistoryKeys": _history_keys,
    "RunParquetHistory": _live,
    "HistoryPage": _page,
    "SampledHistoryPage": _sampled,
    "ServerFeaturesQuery": _features,
    "RunStoppedStatus": _stopped,
}

"""An S3 server and a hub on this machine, for what is read from elsewhere."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from moto.server import ThreadedMotoServer


@dataclass(frozen=True)
class Bucket:
    """A bucket of a real S3 server."""

    endpoint: str
    name: str

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        httpx.put(f"{self.endpoint}/{self.name}/{key}", content=data).raise_for_status()


@contextlib.contextmanager
def serve_bucket(name: str = "team-bucket") -> Generator[Bucket]:
    """Serve an S3 api with one bucket. What it holds is the process's: each begins with nothing."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = Bucket(f"http://{host}:{port}", name)
    httpx.post(f"{bucket.endpoint}/moto-api/reset").raise_for_status()
    httpx.put(f"{bucket.endpoint}/{name}").raise_for_status()
    try:
        yield bucket
    finally:
        server.stop()


def point_to(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the environment as an operator would."""
    for setting, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key-of-a-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(setting, value)


@dataclass
class Hub:
    """A hub with one dataset, `acme/chats`, whose branch `main` stands at one commit."""

    files: dict[str, bytes]
    commit: str = "c" * 40
    endpoint: str = ""
    asked: list[str] = field(default_factory=list[str])


@contextlib.contextmanager
def serve_hub(files: dict[str, bytes]) -> Generator[Hub]:
    """Serve what the hub's client asks for: a revision's commit and list of files, and the files."""
    hub = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            data, name = _reply(hub, path), path.rpartition("/")[2]
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.send_header("ETag", f'"{hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()}"')
            self.send_header("X-Repo-Commit", hub.commit)
            self.end_headers()
            if body:
                self.wfile.write(data or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _reply(hub: Hub, path: str) -> bytes | None:
    if path in ("/api/datasets/acme/chats", "/api/datasets/acme/chats/revision/main"):
        siblings = [{"rfilename": name, "size": len(data)} for name, data in hub.files.items()]
        return json.dumps({"id": "acme/chats", "sha": hub.commit, "siblings": siblings}).encode()
    return hub.files.get(path.removeprefix(f"/datasets/acme/chats/resolve/{hub.commit}/"))

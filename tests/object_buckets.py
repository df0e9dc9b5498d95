"""The platform's own bucket on a real S3 server, seen from outside; and a gate that holds requests up."""

import contextlib
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import httpx
import obstore
from obstore.store import S3Store
from tests.remote_stores import Bucket

PREFIX = "steelyard/prod"
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/artifacts-of-a-test"


def bucket_environment(
    endpoint: str, bucket: str = "artifacts", encryption: str = "aws:kms"
) -> dict[str, str]:
    """Return what an operator sets so that artifacts go to a bucket."""
    found = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key-of-a-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
        "AWS_REGION": "us-east-1",
        "STEELYARD_OBJECT_STORE_URL": f"s3://{bucket}/{PREFIX}",
        "STEELYARD_OBJECT_STORE_ENCRYPTION": encryption,
    }
    return found | ({"STEELYARD_OBJECT_STORE_KMS_KEY_ID": KMS_KEY} if encryption == "aws:kms" else {})


def heads_of(bucket: Bucket, prefix: str = "") -> dict[str, httpx.Headers]:
    """Return the headers of each object that the bucket holds, by key, but for those that go meanwhile."""
    store = S3Store(
        bucket.name,
        config={
            "endpoint": bucket.endpoint,
            "access_key_id": "key-of-a-test",
            "secret_access_key": "secret-of-a-test",
            "region": "us-east-1",
        },
        client_options={"allow_http": True},
    )
    pages = store.list(prefix or None)  # pyright: ignore[reportUnknownMemberType]
    keys = [str(entry["path"]) for page in pages for entry in page]
    with httpx.Client(timeout=60.0) as http:
        answers = {key: http.head(obstore.sign(store, "HEAD", key, timedelta(minutes=5))) for key in keys}
    found = {key: answer for key, answer in answers.items() if answer.status_code != HTTPStatus.NOT_FOUND}
    return {key: answer.raise_for_status().headers for key, answer in found.items()}


def unencrypted(heads: dict[str, httpx.Headers]) -> list[str]:
    """Return the keys of objects that were not written under the test's KMS key."""
    return [
        key
        for key, headers in heads.items()
        if headers.get("x-amz-server-side-encryption") != "aws:kms"
        or headers.get("x-amz-server-side-encryption-aws-kms-key-id") != KMS_KEY
    ]


@dataclass
class Gate:
    """A way to the server that notes each request, and holds up those that `holds` says, until it is opened.

    They are dropped then, unless it `lets_on`. Requests for which `refuses` has a status are answered with
    it; headers that begin with `drops` don't pass, and those that `adds` gives for a request are added.
    """

    server: str
    endpoint: str = ""
    holds: Callable[[str, str], bool] = lambda _method, _path: False
    lets_on: bool = False
    refuses: Callable[[str, str], int | None] = lambda _method, _path: None
    drops: str = ""
    adds: Callable[[dict[str, str]], dict[str, str]] = lambda _headers: {}
    held: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    headers: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def passed(self, headers: dict[str, str]) -> dict[str, str]:
        """Return the headers that a request with these is passed on with."""
        lower = {name.lower(): value for name, value in headers.items() if name != "Host"}
        kept = {name: lower[name] for name in lower if not self.drops or not name.startswith(self.drops)}
        return kept | self.adds(lower)

    def puts(self) -> list[str]:
        """Return the paths that were written, without their queries."""
        return [urlsplit(path).path for method, path in self.asked if method == "PUT"]


@contextlib.contextmanager
def gate_to(server: str) -> Generator[Gate]:
    """Open a gate in front of a server."""
    gate = Gate(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            gate.asked.append((self.command, unquote(self.path)))
            gate.headers[unquote(urlsplit(self.path).path)] = dict(self.headers.items())
            if gate.holds(self.command, unquote(self.path)):
                gate.held.set()
                gate.opened.wait()
                if not gate.lets_on:
                    self.close_connection = True
                    return
            if (status := gate.refuses(self.command, unquote(self.path))) is not None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            answer = httpx.request(
                self.command,
                f"{gate.server}{self.path}",
                content=data,
                headers=gate.passed(dict(self.headers.items())),
                timeout=30.0,
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in ("connection", "transfer-encoding", "content-encoding"):
                    self.send_header(name, value)
            if "content-length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815 - the base class names them

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            del format, args

    listening = ThreadingHTTPServer(("127.0.0.1", 0), cast("Any", Handler))
    listening.daemon_threads = True
    gate.endpoint = f"http://127.0.0.1:{listening.server_port}"
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield gate
    finally:
        gate.opened.set()
        listening.shutdown()
        listening.server_close()

"""A real HTTP server that answers an attempt's reports as a test tells it to."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]
RENEWED: Answer = (200, {"lease_seconds": 60.0})
STALE: Answer = (409, {"error": {"type": "conflict", "code": "stale_lease", "message": "epoch 1 is over"}})


class AttemptApi:
    """What came in, and what is answered by verb (`report`, ...); unset, the lease is renewed."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.tokens: set[str] = set()
        self.answers: dict[str, Answer] = {}
        self.url = ""

    def bodies(self, verb: str) -> list[dict[str, Any]]:
        """The messages of one verb, in order."""
        return [body for seen, body in self.seen if seen == verb]


@contextmanager
def serve_attempt_api() -> Generator[AttemptApi]:
    """Serve until the block ends."""
    api = AttemptApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            verb = self.path.rsplit("/", 1)[1]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.seen.append((verb, body))
            api.tokens.add(str(self.headers["Authorization"]))
            status, answer = api.answers.get(verb, RENEWED)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

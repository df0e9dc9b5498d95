"""A small real HTTP server that answers as a test tells it to: drops replies, sheds load, breaks streams.

It stands in for the network's misbehaviour, not for the API: the API's own behaviour has its own tests.
"""

import json
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from steelyard.client.retries import RetryPolicy

JOBS = "/v1/projects/default/jobs"
QUICK = RetryPolicy(base_seconds=0.01, cap_seconds=0.02, look_seconds=0.01)
MOMENT = "2026-11-24T06:00:00Z"


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    raw_path: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Handler = Callable[[Seen], Response | None]
"""Makes an answer; None breaks the connection in the middle of one."""


@dataclass
class ScriptedApi:
    """The server's script, and what it saw. For each route a list of handlers; the last one stays."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list[Seen])
    script: dict[tuple[str, str], list[Handler]] = field(
        default_factory=lambda: defaultdict[tuple[str, str], list[Handler]](list)
    )

    def on(self, method: str, path: str, *handlers: Handler) -> None:
        """Say how a route answers, call by call."""
        self.script[method, path] = list(handlers)

    def reset(self) -> None:
        """Forget script and requests."""
        self.seen.clear()
        self.script.clear()

    def calls(self, method: str, path: str) -> list[Seen]:
        """Return the requests to a route, in order."""
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        seen = Seen(
            request.method,
            scope["path"],
            dict(request.query_params),
            dict(request.headers),
            await request.body(),
            scope["raw_path"].decode(),
        )
        self.seen.append(seen)
        handlers = self.script[seen.method, seen.path]
        if not handlers:
            handlers = [failure(404, "not_found", "no such thing")]
        answer = (handlers.pop(0) if len(handlers) > 1 else handlers[0])(seen)
        if answer is None:
            await _break_off(send)
        else:
            await answer(scope, receive, send)


@contextmanager
def serve(api: ScriptedApi) -> Generator[ScriptedApi]:
    """Run the server in a thread of its own."""
    config = uvicorn.Config(
        api, host="127.0.0.1", port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # Connections wait in the socket's queue until the server takes them.
        api.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def ok(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    """Answer with JSON."""
    return lambda _seen: JSONResponse(body, status, headers)


def failure(
    status: int,
    code: str,
    message: str,
    param: str | None = None,
    details: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Handler:
    """Answer with an error in the API's shape."""
    error = {"type": "some_error", "code": code, "message": message, "param": param, "details": details or {}}
    sent = {"X-Request-Id": "req_1", **(headers or {})}
    return lambda _seen: JSONResponse({"error": error}, status, sent)


def drop(_seen: Seen) -> None:
    """Take the request and break off in the reply."""


def text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    """Answer with text that isn't JSON."""
    return lambda _seen: Response(body, status, dict(headers or {}))


def streamed(*chunks: str, broken: bool = False, headers: Mapping[str, str] | None = None) -> Handler:
    """Answer with a stream; a broken one ends without its end."""

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk.encode()
        if broken:
            raise ConnectionAbortedError

    return lambda _seen: StreamingResponse(body(), 200, dict(headers or {}))


def job(state: str = "running", *, id: str = "job_1", step: int = 0, **more: Any) -> dict[str, Any]:  # noqa: A002
    """Return a JobView as JSON."""
    return {
        "id": id,
        "project": "default",
        "name": "support-tone",
        "type": "fine_tune",
        "state": state,
        "status_reason": None,
        "status_message": None,
        "priority": 500,
        "progress": {"phase": "training", "step": step, "total_steps": 60, "loss": 1.5},
        "tags": {},
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "spec": {},
        "lineage": {},
        "attempts": [],
        "retries_used": 0,
        "metrics": {},
        "model": None,
        "created_by": "admin",
        "started_at": None,
        "ended_at": None,
        **more,
    }


def attempt(number: int = 1, state: str = "running", **more: Any) -> dict[str, Any]:
    """Return an AttemptView as JSON."""
    return {
        "id": f"att_{number}",
        "number": number,
        "stage": "train",
        "epoch": number,
        "state": state,
        "executor": "local",
        "node": "here",
        "pid": 1,
        "resumed_from_step": None,
        "first_step": 1,
        "last_step": 20,
        "cause": None,
        "message": None,
        "counted": False,
        "gpu_seconds": 0.0,
        "started_at": MOMENT,
        "ended_at": None,
        **more,
    }


def event(number: int, message: str = "happened") -> dict[str, Any]:
    """Return an EventView as JSON."""
    return {
        "id": number,
        "created_at": MOMENT,
        "level": "info",
        "type": "job.moved",
        "message": message,
        "data": {},
    }


def frame(number: int, message: str = "happened") -> str:
    """Return an event as a server-sent one."""
    body = json.dumps(event(number, message), ensure_ascii=False)
    return f"id: {number}\nevent: job.moved\ndata: {body}\n\n"


END = "event: end\ndata: {}\n\n"


async def _break_off(send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"9999")]},
    )
    await send({"type": "http.response.body", "body": b"{", "more_body": True})

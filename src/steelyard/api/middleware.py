"""What happens around every request: an id, a log line, figures, and load shedding.

Pure ASGI, because Starlette's request/response middleware costs a task per request and breaks streams.
"""

import re
import time

import structlog
from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steelyard.api.errors import error_response
from steelyard.kit.ids import new_id

_log = structlog.get_logger()
_tracer = trace.get_tracer("steelyard.api")
_VALID_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")

REQUESTS = Counter("steelyard_http_requests_total", "Requests answered.", ("method", "route", "status"))
SECONDS = Histogram(
    "steelyard_http_request_seconds",
    "Time to the first byte of the answer.",
    ("method", "route"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0),
)
IN_FLIGHT = Gauge(
    "steelyard_http_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum"
)

_UNCOUNTED_SUFFIXES = ("/stream", "/logs")


class RequestMiddleware:
    """Gives each request an id (the caller's `X-Request-Id` if it is sane), and refuses what is too much.

    Streams stay open for hours and do next to nothing, so they don't count against the bound.
    """

    def __init__(self, app: ASGIApp, max_in_flight: int) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _VALID_ID.match(asked) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        counted = not scope["path"].endswith(_UNCOUNTED_SUFFIXES)
        if counted and self._in_flight >= self._max_in_flight:
            answer = error_response(
                request_id, 429, "overloaded", "too many requests at once; try again shortly"
            )
            await answer(scope, receive, send)
            return
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            answer = error_response(
                request_id, 422, "invalid_request", "an address can't hold the character NUL"
            )
            await answer(scope, receive, send)
            return
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            _tracer.start_as_current_span(f"{scope['method']} {scope['path']}"),
        ):
            await self._handle(scope, receive, send, request_id, counted)

    async def _handle(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, counted: bool
    ) -> None:
        started = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
                SECONDS.labels(scope["method"], _route(scope)).observe(time.perf_counter() - started)
            await send(message)

        self._in_flight += counted
        IN_FLIGHT.inc()
        try:
            await self._app(scope, receive, answer)
        finally:
            self._in_flight -= counted
            IN_FLIGHT.dec()
            REQUESTS.labels(scope["method"], _route(scope), str(status)).inc()
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                milliseconds=round((time.perf_counter() - started) * 1000, 1),
            )


def _route(scope: Scope) -> str:
    route = scope.get("route")
    return getattr(route, "path", "unmatched")

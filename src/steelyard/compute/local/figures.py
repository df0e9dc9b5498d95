"""`/metrics` of a process that must have one thread only: answered between two of its own requests."""

import contextlib
import socket

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, generate_latest

FORKS = Counter("steelyard_forks", "Attempts that were forked off the fork server.")
REFUSALS = Counter("steelyard_fork_refusals", "Requests that the fork server refused.")

_REQUEST_BYTES = 1 << 12
_PATIENCE_SECONDS = 1.0


def open_figures(port: int) -> socket.socket:
    """Listen for scrapes on a local port. The caller closes it.

    Raises:
        OSError: the port is taken.
    """
    return socket.create_server(("127.0.0.1", port), backlog=8)


def answer_scrape(listener: socket.socket) -> None:
    """Answer the scrape that waits at `listener`, in a second at most; one that breaks off is forgotten."""
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_PATIENCE_SECONDS)
            connection.recv(_REQUEST_BYTES)
            connection.sendall(as_response(generate_latest(REGISTRY)))


def as_response(figures: bytes) -> bytes:
    """Return a whole HTTP response with the figures of a registry."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\n"
        f"Content-Length: {len(figures)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + figures

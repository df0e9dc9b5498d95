"""The supervisor's own log: one JSON object a line, in `logs/supervisor.log` and on a console if asked."""

import logging
import os
import sys
from typing import TextIO

import structlog

from steelyard.server.embedded.spawning import rotate_log
from steelyard.server.home import HomeLayout


class Tee:
    """A text stream that goes to several."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        """Write to all. A stream that can't take it is left out: supervising matters more than its log."""
        for stream in self._streams:
            try:
                stream.write(text)
            except OSError:
                continue
        return len(text)

    def flush(self) -> None:
        """Flush all."""
        for stream in self._streams:
            try:
                stream.flush()
            except OSError:
                continue


def open_journal(layout: HomeLayout, *, console: bool) -> None:
    """Send structlog's events to the log file."""
    path = layout.log("supervisor")
    rotate_log(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "a", buffering=1)
    tee = Tee(file, sys.stderr) if console else Tee(file)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=tee),  # pyright: ignore[reportArgumentType]
        cache_logger_on_first_use=True,
    )

"""Figures over steps. The truth is `metrics.jsonl`; MLflow gets a copy, late where it is away.

One JSON object a line: `{"step", "timestamp_ms", "values"}`. A process killed while it writes leaves half
a line at the end, which readers pass over. `metrics.offset` holds how many bytes MLflow has.
"""

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from steelyard.kit.tls import TlsClient, client_context
from steelyard.runtime.files import write_atomically
from steelyard.specs.run import TrackingTarget

METRICS_NAME = "metrics.jsonl"
OFFSET_NAME = "metrics.offset"
_FLUSH_SECONDS = 10.0
_BATCH_METRICS = 1000
_TIMEOUT_SECONDS = 5.0
_REFUSED = 400
_CHUNK_BYTES = 1 << 18

_log = logging.getLogger(__name__)


Point = tuple[str, float, int, int]
"""Key, value, timestamp in ms, step."""

MetricSink = Callable[[list[Point]], None]
"""Stores points. May raise anything; the same points come again then."""


class MetricsLog:
    """Appends figures to `metrics.jsonl`. One writer; finite values only, since JSON has no NaN."""

    def __init__(self, attempt_dir: Path) -> None:
        self._path = attempt_dir / METRICS_NAME

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line, in a single append."""
        finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        line = {"step": step, "timestamp_ms": time.time_ns() // 1_000_000, "values": finite}
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")


def read_metrics(
    path: Path, offset: int, limit_bytes: int = _CHUNK_BYTES
) -> tuple[list[dict[str, Any]], int]:
    """Read whole lines from byte `offset` on; return them and the offset after the last one.

    A damaged line is passed over, so there may be none although the offset moved. At the end it stays.
    """
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(limit_bytes)
    whole = data[: data.rfind(b"\n") + 1]
    return list(_parsed(whole)), offset + len(whole)


class MetricsFlusher:
    """Copies `metrics.jsonl` to a sink every ten seconds, from a thread of its own.

    A failure is tried again with the next flush. Dying between the sink's answer and the note of the
    offset sends some points twice, with equal step and time.
    """

    def __init__(self, attempt_dir: Path, sink: MetricSink, flush_seconds: float = _FLUSH_SECONDS) -> None:
        self._metrics = attempt_dir / METRICS_NAME
        self._offset_file = attempt_dir / OFFSET_NAME
        self._sink = sink
        self._flush_seconds = flush_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steelyard-metrics", daemon=True)
        self._thread.start()

    def close(self, timeout_seconds: float) -> None:
        """Flush once more and wait no longer than `timeout_seconds`."""
        self._closing.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(self._flush_seconds)
            self._flush()

    def _flush(self) -> None:
        try:
            while self._flush_chunk():
                pass
        except Exception as error:  # noqa: BLE001 - whatever MLflow raises, training goes on
            _log.warning("figures wait in %s until MLflow answers (%s)", METRICS_NAME, type(error).__name__)

    def _flush_chunk(self) -> bool:
        start = int(self._offset_file.read_text()) if self._offset_file.exists() else 0
        lines, end = read_metrics(self._metrics, start)
        if end == start:
            return False
        points = list(_points(lines))
        for first in range(0, len(points), _BATCH_METRICS):
            self._sink(points[first : first + _BATCH_METRICS])
        write_atomically(self._offset_file, str(end).encode())
        return True


def _parsed(whole: bytes) -> Iterator[dict[str, Any]]:
    for line in whole.splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def point_scripts_at(target: TrackingTarget, token: str, tls: TlsClient | None = None) -> None:
    """Let MLflow calls of the user's own script go to the attempt's run. The token stays in this process."""
    os.environ["MLFLOW_TRACKING_URI"] = target.uri
    os.environ["MLFLOW_TRACKING_TOKEN"] = token
    if tls is not None and tls.ca_file is not None:
        os.environ["MLFLOW_TRACKING_SERVER_CERT_PATH"] = str(tls.ca_file)
    if target.run_id is not None:
        os.environ["MLFLOW_RUN_ID"] = target.run_id


def mlflow_sink(uri: str, run_id: str, token: str, tls: TlsClient | None = None) -> MetricSink:
    """Make a sink of an MLflow run, over `POST /api/2.0/mlflow/runs/log-batch`.

    MLflow's own client is not used: importing it takes seconds of a training's time and starts threads.
    """

    def send(points: list[Point]) -> None:
        metrics = [
            {"key": key, "value": value, "timestamp": timestamp_ms, "step": step}
            for key, value, timestamp_ms, step in points
        ]
        # A connection for each flush: ten seconds apart, none would be kept.
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_SECONDS, verify=client_context(tls)) as client:
            response = client.post(
                f"{uri.rstrip('/')}/api/2.0/mlflow/runs/log-batch",
                json={"run_id": run_id, "metrics": metrics},
                headers={"Authorization": f"Bearer {token}"} if token else None,
            )
        if response.status_code == _REFUSED:
            # The same points would be refused for ever, and hold up all after them.
            _log.warning("MLflow refused %d figures, which stay in %s alone", len(points), METRICS_NAME)
            return
        response.raise_for_status()

    return send


def _points(lines: list[dict[str, Any]]) -> Iterator[Point]:
    for line in lines:
        for key, value in line["values"].items():
            yield key, value, line["timestamp_ms"], line["step"]

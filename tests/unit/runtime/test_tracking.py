"""Figures reach the sink in order, once it is there, and survive restarts and half lines."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from steelyard.runtime.tracking import (
    METRICS_NAME,
    OFFSET_NAME,
    MetricsFlusher,
    MetricsLog,
    Point,
    mlflow_sink,
    read_metrics,
)


class Sink:
    """Fails as often as it is told to, then keeps what comes."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.points: list[Point] = []
        self.called = threading.Event()

    def __call__(self, points: list[Point]) -> None:
        if self.failures:
            self.failures -= 1
            self.called.set()
            raise ConnectionError("away")
        self.points.extend(points)
        self.called.set()


class TestMetricsLog:
    def test_lines_say_step_time_and_finite_values(self, tmp_path: Path) -> None:
        MetricsLog(tmp_path).append(3, {"loss": 1.5, "odd": float("nan")})
        line = json.loads((tmp_path / METRICS_NAME).read_text())
        assert line["step"] == 3
        assert line["values"] == {"loss": 1.5}
        assert line["timestamp_ms"] > 1_600_000_000_000

    def test_half_a_line_waits(self, tmp_path: Path) -> None:
        log = MetricsLog(tmp_path)
        log.append(1, {"loss": 1.0})
        path = tmp_path / METRICS_NAME
        with path.open("ab") as file:
            file.write(b'{"step": 2, "val')
        lines, offset = read_metrics(path, 0)
        assert [line["step"] for line in lines] == [1]
        assert read_metrics(path, offset) == ([], offset)

    def test_a_damaged_line_is_passed_over(self, tmp_path: Path) -> None:
        log = MetricsLog(tmp_path)
        path = tmp_path / METRICS_NAME
        path.write_bytes(b'{"step": 0, "va\n')
        assert read_metrics(path, 0) == ([], path.stat().st_size)
        log.append(1, {"loss": 1.0})
        lines, offset = read_metrics(path, 0)
        assert [line["step"] for line in lines] == [1]
        assert offset == path.stat().st_size


@pytest.fixture
def mlflow() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """An address, the requests that came there, and the statuses to answer with (then 200)."""
    seen: list[dict[str, Any]] = []
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"path": self.path, "token": self.headers["Authorization"], **body})
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen, statuses
        server.shutdown()
        thread.join()


class TestMlflowSink:
    def test_points_go_to_the_run_with_the_token(
        self, mlflow: tuple[str, list[dict[str, Any]], list[int]]
    ) -> None:
        uri, seen, _ = mlflow
        mlflow_sink(f"{uri}/mlflow/", "run1", "sat_secret")([("loss", 1.5, 1000, 3)])
        assert seen == [
            {
                "path": "/mlflow/api/2.0/mlflow/runs/log-batch",
                "token": "Bearer sat_secret",
                "run_id": "run1",
                "metrics": [{"key": "loss", "value": 1.5, "timestamp": 1000, "step": 3}],
            }
        ]

    def test_an_outage_raises_and_a_refusal_does_not_hold_up_the_rest(
        self, mlflow: tuple[str, list[dict[str, Any]], list[int]]
    ) -> None:
        uri, _, statuses = mlflow
        statuses.extend([503, 409, 400])
        sink = mlflow_sink(uri, "run1", "")
        for _ in range(2):
            with pytest.raises(httpx.HTTPStatusError):
                sink([("loss", 1.5, 1000, 3)])
        sink([("not a name!", 1.5, 1000, 3)])


class TestFlusher:
    def test_close_sends_the_rest_and_notes_how_far(self, tmp_path: Path) -> None:
        log, sink = MetricsLog(tmp_path), Sink()
        for step in range(1, 4):
            log.append(step, {"loss": float(step), "rate": 0.1})
        MetricsFlusher(tmp_path, sink, flush_seconds=60.0).close(5.0)
        assert [(key, step) for key, _, _, step in sink.points] == [
            (key, step) for step in range(1, 4) for key in ("loss", "rate")
        ]
        assert int((tmp_path / OFFSET_NAME).read_text()) == (tmp_path / METRICS_NAME).stat().st_size

    def test_a_second_flusher_goes_on_where_the_first_ended(self, tmp_path: Path) -> None:
        log, sink = MetricsLog(tmp_path), Sink()
        log.append(1, {"loss": 1.0})
        MetricsFlusher(tmp_path, sink, flush_seconds=60.0).close(5.0)
        log.append(2, {"loss": 2.0})
        MetricsFlusher(tmp_path, sink, flush_seconds=60.0).close(5.0)
        assert [step for _, _, _, step in sink.points] == [1, 2]

    def test_a_sink_that_is_away_gets_everything_later(self, tmp_path: Path) -> None:
        log, sink = MetricsLog(tmp_path), Sink(failures=1)
        log.append(1, {"loss": 1.0})
        flusher = MetricsFlusher(tmp_path, sink, flush_seconds=0.01)
        assert sink.called.wait(5.0)
        flusher.close(5.0)
        assert [step for _, _, _, step in sink.points] == [1]

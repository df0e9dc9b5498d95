"""Figures reach the sink in order, once it is there, and survive restarts and half lines."""

import json
import threading
from pathlib import Path

from steelyard.runtime.tracking import METRICS_NAME, OFFSET_NAME, MetricsFlusher, MetricsLog, read_metrics

Point = tuple[str, float, int, int]


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

"""A platform of a bench's own in a temporary folder, and the figures that benches print."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from steelyard.client import Client

COMMAND = str(Path(sys.executable).with_name("steelyard"))
Value = TypeVar("Value")


@dataclass(frozen=True)
class BenchPlatform:
    """A running platform. `settings` are variables that its processes and commands get."""

    home: Path
    settings: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands that are meant for this platform."""
        return {**os.environ, **self.settings, "STEELYARD_HOME": str(self.home)}

    def run(self, *arguments: str, timeout_seconds: float = 300.0) -> str:
        """Run a command of the CLI and return what it printed.

        Raises:
            RuntimeError: it failed.
        """
        result = subprocess.run(
            [COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if result.returncode != 0:
            raise RuntimeError(f"steelyard {' '.join(arguments)}: {result.stdout}\n{result.stderr}")
        return result.stdout

    def client(self) -> Client:
        """Return a new SDK client of this platform."""
        return Client(home=self.home)

    def processes(self) -> dict[str, dict[str, Any]]:
        """Return the platform's processes by name."""
        status = json.loads(self.run("status", "--json"))
        return {item["name"]: item for item in status["processes"]}

    def wait_for(self, *names: str, timeout_seconds: float = 180.0) -> None:
        """Wait until these processes run."""
        wait_until(
            lambda: all(self.processes()[name]["state"] == "running" for name in names),
            f"{', '.join(names)} to run",
            timeout_seconds,
            poll_seconds=0.5,
        )

    def cpu_seconds(self) -> float:
        """Return the CPU time that the platform's own processes have used, trainers not counted."""
        supervisor = psutil.Process(_supervisor_pid(self.home))
        total = 0.0
        for process in [supervisor, *supervisor.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total


@contextmanager
def temporary_platform(**settings: str) -> Generator[BenchPlatform]:
    """Start a platform in a temporary folder, and take both away at the end.

    Args:
        settings: `local_cpus="200"` sets `STEELYARD_LOCAL_CPUS`.
    """
    # As after Ctrl-C: a bench that is told to end takes its platform away first.
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="steelyard-bench-", ignore_cleanup_errors=True) as folder:
        variables = {f"STEELYARD_{name.upper()}": value for name, value in settings.items()}
        platform = BenchPlatform(Path(os.path.realpath(folder)), variables)
        try:
            platform.run("up")
            yield platform
        finally:
            _take_down(platform)


def _take_down(platform: BenchPlatform) -> None:
    """Stop the platform; where the command itself fails, have its supervisor do so."""
    try:
        platform.run("down", "--grace", "5")
    except (RuntimeError, subprocess.TimeoutExpired):
        supervisor = psutil.Process(_supervisor_pid(platform.home))
        supervisor.terminate()
        supervisor.wait(60)
        raise


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(143)


def _supervisor_pid(home: Path) -> int:
    return int((home / "run" / "supervisor.pid").read_text().split()[0])


def seed_sums(platform: BenchPlatform) -> None:
    """Ingest `sums`: four hundred questions about small sums."""
    rows = [
        {"prompt": f"What is {left} plus {right}?", "completion": f" The sum is {left + right}."}
        for left in range(20)
        for right in range(20)
    ]
    path = platform.home / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    platform.run("data", "ingest", str(path), "--name", "sums")


def wait_until(
    condition: Callable[[], Value | None],
    what: str,
    timeout_seconds: float = 120.0,
    poll_seconds: float = 0.02,
) -> Value:
    """Return the first true value of `condition`.

    Raises:
        RuntimeError: there was none in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(poll_seconds)
    raise RuntimeError(f"waited {timeout_seconds:g} s in vain for {what}")


def read_steps(path: Path) -> list[tuple[int, float, float]]:
    """Return (step, Unix seconds, loss) of the whole lines of a `metrics.jsonl`."""
    if not path.exists():
        return []
    data = path.read_bytes()
    lines = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return [(line["step"], line["timestamp_ms"] / 1000, line["values"]["loss"]) for line in lines]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of `values` don't exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def machine() -> dict[str, Any]:
    """Return what a reader must know of the machine at this moment."""
    return {"cpus": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 2)}


def print_table(title: str, rows: Sequence[tuple[str, dict[str, float]]], digits: int = 3) -> None:
    """Print one line for each row of figures."""
    names = list(rows[0][1])
    print(f"\n{title}")
    print(f"  {'':<52}" + "".join(f"{name:>10}" for name in names))
    for label, figures in rows:
        print(f"  {label:<52}" + "".join(f"{figures[name]:>10.{digits}f}" for name in names))

"""A whole embedded platform in a folder of its own, driven as users drive it: by the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from steelyard.client import Client
from steelyard.specs.views import JobView

Value = TypeVar("Value")
COMMAND = (str(Path(sys.executable).with_name("steelyard")),)


@dataclass(frozen=True)
class LivePlatform:
    """One platform. `home` is its folder."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands that are meant for this platform."""
        return {**os.environ, "STEELYARD_HOME": str(self.home)}

    def run(self, *arguments: str, timeout_seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """Run a command with `--json` and return what it printed."""
        result = self.run(*arguments, "--json")
        assert result.returncode == 0, f"{arguments}: {result.stdout}\n{result.stderr}"
        return json.loads(result.stdout)

    def up(self) -> None:
        """Start the platform, or bring back what is missing of it."""
        result = self.run("up")
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"

    def down(self) -> None:
        """Stop everything."""
        result = self.run("down", "--grace", "10")
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"

    def client(self) -> Client:
        """Return a new SDK client of this platform."""
        return Client(home=self.home)

    def pid(self, process: str) -> int:
        """Return the pid of a process of the platform."""
        processes = {item["name"]: item for item in self.json("status")["processes"]}
        return int(processes[process]["pid"])

    def supervisor_pid(self) -> int:
        """Return the pid of the supervisor."""
        return int((self.home / "run" / "supervisor.pid").read_text().split()[0])

    def kill(self, process: str) -> None:
        """Send SIGKILL to a process of the platform, and wait until another has taken its place."""
        old = self.pid(process)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: self._successor(process, old), f"{process} to come back", 60)

    def _successor(self, process: str, old: int) -> bool:
        result = self.run("status", "--json")
        for item in json.loads(result.stdout)["processes"]:
            if item["name"] == process:
                return item["pid"] not in (None, old) and item["state"] == "running"
        return False


def wait_until(condition: Callable[[], Value | None], what: str, timeout_seconds: float = 60.0) -> Value:
    """Return the first true value of `condition`; fail when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_seconds:g} s in vain for {what}")


def wait_for_step(client: Client, job_id: str, step: int, timeout_seconds: float = 90.0) -> JobView:
    """Wait until a job has trained so far."""

    def reached() -> JobView | None:
        job = client.jobs.get(job_id)
        assert job.state not in ("failed", "cancelled"), f"{job.state}: {job.status_message}"
        return job if job.progress.step >= step else None

    return wait_until(reached, f"{job_id} to reach step {step}", timeout_seconds)


def wait_for_state(client: Client, job_id: str, *states: str, timeout_seconds: float = 90.0) -> JobView:
    """Wait until a job is in one of `states`."""

    def there() -> JobView | None:
        job = client.jobs.get(job_id)
        return job if job.state in states else None

    return wait_until(there, f"{job_id} to be {' or '.join(states)}", timeout_seconds)

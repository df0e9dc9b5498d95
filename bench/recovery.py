"""Seconds from SIGKILL until it goes on: `python bench/recovery.py [--json]`.

trainer: from the kill to the first optimizer step that its successor logs, beside the seconds that the same
job's first attempt took from being made to its first step. The parts come from events and files.
worker: from the kill to a new worker's watch over the attempt that still runs. Training goes on meanwhile;
the steps that were logged in this time are counted.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from temporalio.client import Client as TemporalClient

from bench.live import (
    BenchPlatform,
    machine,
    print_table,
    read_steps,
    seed_sums,
    spread,
    temporary_platform,
    wait_until,
)
from bench.training import attempt_folder, fine_tune
from steelyard.client import Client
from steelyard.server.home import read_platform

SAVE_STEPS = 20
_KILL_AFTER_STEP = 50


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker-rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"before": machine()}
    with temporary_platform() as platform, platform.client() as client:
        seed_sums(platform)
        platform.wait_for("forkserver", "mlflow")
        found["trainer"] = _trainer_rounds(platform, client, options.rounds)
        found["worker"] = _worker_rounds(platform, client, options.worker_rounds)
    found["after"] = machine()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _trainer_rounds(platform: BenchPlatform, client: Client, rounds: int) -> dict[str, Any]:
    totals: list[float] = []
    starts: list[float] = []
    repeated: list[float] = []
    parts: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        seen = _kill_trainer(platform, client)
        totals.append(seen.pop("total"))
        starts.append(seen.pop("first start"))
        repeated.append(seen.pop("repeated steps"))
        for name, seconds in seen.items():
            parts[name].append(seconds)
    return {
        "kill_to_step_seconds": spread(totals),
        "first_start_seconds": spread(starts),
        "ratio": spread([one / other for one, other in zip(totals, starts, strict=True)]),
        "repeated_steps": spread(repeated),
        "parts_seconds_median": {name: statistics.median(values) for name, values in parts.items()},
    }


def _kill_trainer(platform: BenchPlatform, client: Client) -> dict[str, float]:
    job_id, folder = _start(platform, client)
    pid = client.jobs.get(job_id).attempts[0].pid
    if pid is None:
        raise RuntimeError(f"{job_id} runs and has no pid")
    os.kill(pid, signal.SIGKILL)
    killed = time.time()
    wait_until(lambda: len(client.jobs.get(job_id).attempts) > 1, "the successor")
    job = client.jobs.get(job_id)
    successor = attempt_folder(platform, job, 2)
    step = wait_until(lambda: read_steps(successor / "metrics.jsonl"), "its first step")[0]
    times: defaultdict[str, list[float]] = defaultdict(list)
    for event in client.jobs.events(job_id):
        times[event.type].append(event.created_at.timestamp())
    _cancel(client, job_id)
    first, second = times["attempt.started"][:2]
    ended, launched = times["attempt.ended"][0], (successor / "run.json").stat().st_mtime
    last = read_steps(folder / "metrics.jsonl")[-1][0]
    return {
        "total": step[1] - killed,
        "first start": read_steps(folder / "metrics.jsonl")[0][1] - first,
        "repeated steps": float(last - step[0] + 1),
        "kill to noticed and recorded": ended - killed,
        "recorded to successor made": second - ended,
        "successor made to launch": launched - second,
        "launch to first step": step[1] - launched,
    }


def _worker_rounds(platform: BenchPlatform, client: Client, rounds: int) -> dict[str, Any]:
    seconds: list[float] = []
    steps: list[float] = []
    for _ in range(rounds):
        job_id, folder = _start(platform, client)
        os.kill(platform.processes()["worker-1"]["pid"], signal.SIGKILL)
        killed = time.time()
        before = len(read_steps(folder / "metrics.jsonl"))
        seconds.append(asyncio.run(_reattached(platform, job_id, killed)) - killed)
        steps.append(float(len(read_steps(folder / "metrics.jsonl")) - before))
        if len(client.jobs.get(job_id).attempts) != 1:
            raise RuntimeError(f"killing the worker started {job_id} again")
        _cancel(client, job_id)
    return {
        "kill_to_attached_seconds": spread(seconds),
        "steps_meanwhile": spread(steps),
    }


async def _reattached(platform: BenchPlatform, job_id: str, killed: float) -> float:
    """Wait until a worker has taken up the attempt's watch again and sent a heartbeat; return when it did."""
    temporal = await TemporalClient.connect(read_platform(platform.home).temporal_address)
    handle = temporal.get_workflow_handle(f"job/{job_id}")
    deadline = time.time() + 120
    while time.time() < deadline:
        described = await handle.describe()
        for pending in described.raw_description.pending_activities:
            beat = pending.last_heartbeat_time.ToNanoseconds() / 1e9
            started = pending.last_started_time.ToNanoseconds() / 1e9
            if pending.activity_type.name == "watch_attempt" and started > killed and beat > killed:
                return started
        await asyncio.sleep(0.05)
    raise RuntimeError(f"no worker took up {job_id} again")


def _start(platform: BenchPlatform, client: Client) -> tuple[str, Path]:
    """Submit a training of some minutes, and wait until it is well under way."""
    spec = fine_tune("builtin/tiny-random", batch=8, lora=False, max_steps=20_000)
    job_id = client.jobs.submit({**spec, "checkpoint": {"save_steps": SAVE_STEPS}}).id
    wait_until(lambda: client.jobs.get(job_id).attempts, "an attempt")
    folder = attempt_folder(platform, client.jobs.get(job_id))
    wait_until(lambda: len(read_steps(folder / "metrics.jsonl")) >= _KILL_AFTER_STEP, "some steps")
    wait_until(lambda: client.jobs.get(job_id).attempts[0].pid, "the attempt's pid")
    return job_id, folder


def _cancel(client: Client, job_id: str) -> None:
    client.jobs.cancel(job_id)
    client.jobs.wait(job_id)


def _print(found: dict[str, Any]) -> None:
    trainer, worker = found["trainer"], found["worker"]
    rows = [
        ("kill to the successor's first step, s", trainer["kill_to_step_seconds"]),
        ("the first attempt, made to first step, s", trainer["first_start_seconds"]),
        ("ratio, pair by pair", trainer["ratio"]),
        (f"steps done again (interval {SAVE_STEPS})", trainer["repeated_steps"]),
    ]
    print_table("SIGKILL of the trainer (builtin/tiny-random, CPU)", rows)
    for name, seconds in trainer["parts_seconds_median"].items():
        print(f"    {name:<50}{seconds:>20.3f}")
    rows = [
        ("kill to attached to the running attempt again, s", worker["kill_to_attached_seconds"]),
        ("steps trained meanwhile", worker["steps_meanwhile"]),
    ]
    print_table("SIGKILL of the worker", rows)
    print(f"\nload before {found['before']['load_1min']}, after {found['after']['load_1min']}")


if __name__ == "__main__":
    main()

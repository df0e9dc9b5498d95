"""Simulated attempts: rows that run and hold places, and a process that reports for them.

`python bench/attempts.py HOME REPORT_SECONDS` reports until SIGTERM, then prints one JSON object.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import json
import random
import signal
import sys
import time
from pathlib import Path

import asyncpg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.live import quantile
from bench.load import Call, Connection
from steelyard.server import keys
from steelyard.server.home import HomeLayout, database_dsn, read_platform


async def main(home: Path, report_seconds: float) -> None:
    """Report for all running attempts of the platform in `home`."""
    addresses = read_platform(home)
    connection = await asyncpg.connect(database_dsn(home))
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM attempts WHERE state = 'running'")]
    await connection.close()
    tokens = keys.attempt_tokens(HomeLayout(home))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    latencies: list[float] = []
    faults: list[int] = []
    begin = time.monotonic()
    tasks = [
        asyncio.create_task(
            _report(
                addresses.api_host,
                addresses.api_port,
                item,
                tokens.issue(item),
                report_seconds,
                latencies,
                faults,
            )
        )
        for item in ids
    ]
    print("reporting", flush=True)
    await stop.wait()
    for task in tasks:
        task.cancel()
    print(
        json.dumps(
            {
                "attempts": len(ids),
                "reports_per_second": len(latencies) / (time.monotonic() - begin),
                "refused": len(faults),
                "p50_ms": quantile(latencies, 0.5),
                "p99_ms": quantile(latencies, 0.99),
            }
        ),
        flush=True,
    )


async def _report(
    host: str,
    port: int,
    attempt_id: str,
    token: str,
    seconds: float,
    latencies: list[float],
    faults: list[int],
) -> None:
    connection = Connection(host, port)
    headers = (("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"))
    step = 0
    await asyncio.sleep(random.random() * seconds)
    while True:
        step += 1
        body = {
            "epoch": 1,
            "phase": "training",
            "step": step,
            "total_steps": 10**6,
            "loss": 1.0,
            "metrics": {},
        }
        call = Call("POST", f"/v1/attempts/{attempt_id}/report", json.dumps(body).encode(), headers)
        start = time.perf_counter()
        status, _ = await connection.send(call)
        if status != 200:
            faults.append(status)
        elapsed = time.perf_counter() - start
        latencies.append(elapsed * 1000)
        await asyncio.sleep(max(0.0, seconds - elapsed))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))

"""Traces of jobs to schedule: synthetic ones fitted to Microsoft's Philly cluster, or a file.

The fit is to the trace of 82,247 jobs of Sep-Dec 2017 that came with "Analysis of Large-Scale
Multi-Tenant GPU Clusters for DNN Training Workloads" (USENIX ATC 2019), as cleaned for AdaptDL: each
tenant's part of the jobs, its median and mean duration and mean GPUs, the sizes of gangs, and the
hours of the day. Durations are log-normal by tenant.
"""

import csv
import gzip
import heapq
import io
import math
import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

DAY_SECONDS = 86400.0

_TENANTS = (
    # part of the jobs, mean GPUs, mean and median duration in seconds
    (0.5012, 1.044, 7203, 1902),
    (0.1956, 1.117, 3001, 69),
    (0.1210, 1.460, 16035, 1267),
    (0.0903, 1.201, 9766, 1388),
    (0.0235, 1.529, 25743, 474),
    (0.0184, 5.283, 92340, 33376),
    (0.0174, 1.493, 89635, 242),
    (0.0138, 1.000, 28298, 3223),
    (0.0088, 4.326, 139301, 17359),
    (0.0051, 9.687, 74492, 11112),
    (0.0045, 3.361, 55213, 13022),
    (0.0001, 6.250, 9365, 9000),
    (0.0001, 1.000, 10942, 450),
    (0.0001, 1.000, 6108, 2769),
    (0.0001, 5.667, 3472, 1000),
)
_GANGS = ((2, 0.324), (4, 0.333), (8, 0.293), (16, 0.037), (32, 0.013))
_HOUR_WEIGHTS = (
    44,
    34,
    38,
    38,
    24,
    40,
    57,
    72,
    38,
    34,
    35,
    30,
    26,
    24,
    22,
    22,
    30,
    23,
    27,
    25,
    35,
    31,
    39,
    35,
)
_BURSTINESS = 0.7
"""Standard deviation of the log of a day's number of jobs."""
_LONGEST_SECONDS = 20 * DAY_SECONDS


@dataclass(frozen=True, slots=True)
class TraceJob:
    """A job as its user wanted it. `submitted_seconds` count from the trace's start."""

    id: str
    tenant: str
    submitted_seconds: float
    duration_seconds: float
    gpus: int
    priority: int


def synthesize(days: float, seed: int, jobs: int) -> list[TraceJob]:
    """Return a trace of `jobs` jobs over `days`, the same for the same seed."""
    rng = random.Random(seed)
    mean_gang = sum(size * part for size, part in _GANGS)
    day_weights = [rng.lognormvariate(0.0, _BURSTINESS) for _ in range(math.ceil(days))]
    moments = sorted(_moment(rng, day_weights, days) for _ in range(jobs))
    made: list[TraceJob] = []
    for number, moment in enumerate(moments):
        index = rng.choices(range(len(_TENANTS)), [row[0] for row in _TENANTS])[0]
        _, mean_gpus, mean, median = _TENANTS[index]
        gang = rng.random() < (mean_gpus - 1) / (mean_gang - 1)
        gpus = rng.choices([g[0] for g in _GANGS], [g[1] for g in _GANGS])[0] if gang else 1
        duration = rng.lognormvariate(math.log(median), math.sqrt(2 * math.log(mean / median)))
        duration = min(max(1.0, duration), _LONGEST_SECONDS)
        made.append(TraceJob(f"j{number:06}", f"t{index:02}", moment, duration, gpus, _priority(rng)))
    return made


def read_trace(path: Path, days: float, seed: int) -> list[TraceJob]:
    """Read the window of `days` with the most jobs from a CSV file, gzipped or not.

    Columns: `timestamp` (ISO), `duration` (seconds), `num_gpus`, `cluster` (the tenant). The file has no
    priorities: each job gets one by `seed`.
    """
    rows: list[tuple[float, float, int, str]] = []
    for row in csv.DictReader(io.StringIO(_text(path))):
        if row["timestamp"] and row["duration"]:
            moment = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp()
            rows.append((moment, float(row["duration"]), int(row["num_gpus"]), row["cluster"]))
    rows.sort()
    moments = [row[0] for row in rows]
    spans = [bisect_right(moments, moment + days * DAY_SECONDS) - i for i, moment in enumerate(moments)]
    first = spans.index(max(spans))
    last = bisect_left(moments, moments[first] + days * DAY_SECONDS)
    rng = random.Random(seed)
    return [
        TraceJob(f"j{number:06}", tenant, moment - moments[first], max(1.0, duration), gpus, _priority(rng))
        for number, (moment, duration, gpus, tenant) in enumerate(rows[first:last])
    ]


def alone_seconds(jobs: list[TraceJob], gpus: int) -> dict[str, float]:
    """Return each job's JCT if its tenant had its equal part of the pool, first come first served."""
    tenants = by_tenant(jobs)
    part = max(1, gpus // len(tenants))
    by_id = {job.id: job for job in jobs}
    found: dict[str, float] = {}
    for ids in tenants.values():
        free_at = [0.0] * part
        for job_id in ids:
            job = by_id[job_id]
            width = min(job.gpus, part)
            taken = [heapq.heappop(free_at) for _ in range(width)]
            begin = max(job.submitted_seconds, taken[-1])
            end = begin + job.duration_seconds * job.gpus / width
            for _ in range(width):
                heapq.heappush(free_at, end)
            found[job_id] = end - job.submitted_seconds
    return found


def by_tenant(jobs: list[TraceJob]) -> dict[str, list[str]]:
    """Return the ids of each tenant's jobs, in order."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        found.setdefault(job.tenant, []).append(job.id)
    return found


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()


def _moment(rng: random.Random, day_weights: list[float], days: float) -> float:
    while True:
        day = rng.choices(range(len(day_weights)), day_weights)[0]
        hour = rng.choices(range(24), _HOUR_WEIGHTS)[0]
        moment = day * DAY_SECONDS + hour * 3600.0 + rng.random() * 3600.0
        if moment < days * DAY_SECONDS:
            return moment


def _priority(rng: random.Random) -> int:
    """One job in five is urgent and one in five can wait."""
    return rng.choices((300, 500, 700), (1, 3, 1))[0]

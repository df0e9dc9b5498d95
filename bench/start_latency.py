"""Seconds from submission to the first optimizer step: `python bench/start_latency.py [--json]`.

A: `steelyard submit job.json` to the first line of the attempt's `metrics.jsonl`, the fork server warm.
B: `python plain_sft.py` with the same model, rows and arguments to its first logged step.
In turn: A B A B ...; the first A of each model, which makes the model and the rows ready and tokenizes them,
is told of by itself ("cold"); the others find the tokenized rows.
The parts of A come from the job's events.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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
from bench.training import attempt_folder, fine_tune, run_plain
from steelyard.client import Client

MODELS = {"builtin/tiny-random": False, "builtin/smollm2-135m-instruct": True}
"""Each with whether it is trained by LoRA."""
_MARKS = ("job.submitted", "job.prepared", "job.admitted", "attempt.started")


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=sorted(MODELS), action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"before": machine(), "models": {}}
    with (
        temporary_platform() as platform,
        platform.client() as client,
        tempfile.TemporaryDirectory() as scratch,
    ):
        seed_sums(platform)
        platform.wait_for("forkserver", "mlflow")
        for model in options.model or MODELS:
            found["models"][model] = _measure(platform, client, Path(scratch), model, options.rounds)
    found["after"] = machine()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for model, figures in found["models"].items():
        _print(model, figures)
    print(f"\nload before {found['before']['load_1min']}, after {found['after']['load_1min']}")


def _measure(
    platform: BenchPlatform, client: Client, scratch: Path, model: str, rounds: int
) -> dict[str, Any]:
    spec = fine_tune(model, batch=4, lora=MODELS[model], max_steps=200)
    folder, cold = _through_platform(platform, client, scratch, spec)
    ours: list[float] = []
    by_hand: list[float] = []
    parts: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        _, seen = _through_platform(platform, client, scratch, spec)
        ours.append(seen.pop("total"))
        for name, seconds in seen.items():
            parts[name].append(seconds)
        started, steps = run_plain(folder, scratch, spec, until_step=1)
        by_hand.append(read_steps(steps)[0][1] - started)
    return {
        "cold_seconds": cold,
        "platform_seconds": spread(ours),
        "by_hand_seconds": spread(by_hand),
        "ratio": spread([one / other for one, other in zip(ours, by_hand, strict=True)]),
        "parts_seconds_median": {name: statistics.median(values) for name, values in parts.items()},
    }


def _through_platform(
    platform: BenchPlatform, client: Client, scratch: Path, spec: dict[str, Any]
) -> tuple[Path, dict[str, float]]:
    """Submit, wait for the first step, cancel; return the attempt's folder and the parts in seconds."""
    path = scratch / "job.json"
    path.write_text(json.dumps(spec))
    start = time.time()
    job_id = json.loads(platform.run("submit", str(path), "--json"))["id"]
    wait_until(lambda: client.jobs.get(job_id).attempts, "an attempt", 300, poll_seconds=0.2)
    folder = attempt_folder(platform, client.jobs.get(job_id))
    first = wait_until(lambda: read_steps(folder / "metrics.jsonl"), "the first step", 300)[0]
    events = {event.type: event.created_at.timestamp() for event in client.jobs.events(job_id)}
    client.jobs.cancel(job_id)
    client.jobs.wait(job_id)
    moments = [start, *(events[name] for name in _MARKS), (folder / "run.json").stat().st_mtime, first[1]]
    names = (
        "command to accepted",
        "accepted to prepared",
        "prepared to admitted",
        "admitted to attempt made",
        "attempt made to launch",
        "launch to first step",
    )
    parts = {name: moments[place + 1] - moments[place] for place, name in enumerate(names)}
    return folder, {"total": first[1] - start, **parts}


def _print(model: str, figures: dict[str, Any]) -> None:
    rows = [
        ("platform: submit command to first step, s", figures["platform_seconds"]),
        ("by hand: python command to first step, s", figures["by_hand_seconds"]),
        ("ratio, pair by pair", figures["ratio"]),
    ]
    print_table(model, rows)
    for name, seconds in figures["parts_seconds_median"].items():
        print(f"    {name:<50}{seconds:>20.3f}")
    print(f"  cold, once: {figures['cold_seconds']['total']:.3f} s in all, of which")
    print(f"    {'accepted to prepared':<50}{figures['cold_seconds']['accepted to prepared']:>20.3f}")


if __name__ == "__main__":
    main()

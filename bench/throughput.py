"""Optimizer steps per second, through the platform and by hand: `python bench/throughput.py [--json]`.

A: a job on the platform. B: the same TRL training as a script of its own. One compute thread each, the same
model, rows, arguments and seed; both log every step; neither saves within the window. Rounds alternate
which goes first. A round's figure is steps over seconds between the logging of step `SKIPPED` and the last
one, so start, end and the final save are outside. The platform stays up while B runs: its idle cost, also
printed, is in neither. Equal losses at the last step say that both did the same work.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
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

MODEL = "builtin/smollm2-135m-instruct"
SKIPPED = 5
Steps = list[tuple[int, float, float]]


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec = fine_tune(MODEL, batch=2, lora=True, max_steps=options.steps)
    found: dict[str, Any] = {"before": machine(), "model": MODEL, "steps": options.steps}
    with (
        temporary_platform() as platform,
        platform.client() as client,
        tempfile.TemporaryDirectory() as scratch,
    ):
        seed_sums(platform)
        platform.wait_for("forkserver", "mlflow")
        # Makes the model and the rows ready, and gives the script by hand its orders.
        warm = {**spec, "training": {**spec["training"], "max_steps": 2}}
        _, folder = _through_platform(platform, client, warm)
        found |= _rounds(platform, client, Path(scratch), spec, folder, options.rounds)
    found["after"] = machine()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _rounds(
    platform: BenchPlatform, client: Client, scratch: Path, spec: dict[str, Any], folder: Path, rounds: int
) -> dict[str, Any]:
    ours: list[Steps] = []
    by_hand: list[Steps] = []
    busy: dict[str, list[float]] = {"platform": [], "by_hand": []}
    for number in range(rounds):
        for side in ("platform", "by_hand") if number % 2 == 0 else ("by_hand", "platform"):
            cpu, clock = platform.cpu_seconds(), time.monotonic()
            if side == "platform":
                ours.append(_through_platform(platform, client, spec)[0])
            else:
                _, steps = run_plain(folder, scratch, spec, spec["training"]["max_steps"])
                by_hand.append(read_steps(steps))
            busy[side].append((platform.cpu_seconds() - cpu) / (time.monotonic() - clock))
    pairs = list(zip(ours, by_hand, strict=True))
    return {
        "platform_steps_per_second": spread([_rate(steps) for steps in ours]),
        "by_hand_steps_per_second": spread([_rate(steps) for steps in by_hand]),
        "ratio": spread([_rate(one) / _rate(other) for one, other in pairs]),
        "ratio_of_median_steps": spread([_middle(other) / _middle(one) for one, other in pairs]),
        "losses_equal": all(one[-1][2] == other[-1][2] for one, other in pairs),
        "last_losses": [ours[-1][-1][2], by_hand[-1][-1][2]],
        "control_plane_cores": {side: statistics.median(values) for side, values in busy.items()},
    }


def _through_platform(platform: BenchPlatform, client: Client, spec: dict[str, Any]) -> tuple[Steps, Path]:
    """Run a job until its last step was logged, cancel what follows, and return its steps."""
    job_id = client.jobs.submit(spec).id
    wait_until(lambda: client.jobs.get(job_id).attempts, "an attempt", 300, poll_seconds=0.5)
    folder = attempt_folder(platform, client.jobs.get(job_id))
    last = spec["training"]["max_steps"]
    wait_until(
        lambda: len(read_steps(folder / "metrics.jsonl")) >= last, f"step {last}", 900, poll_seconds=0.5
    )
    client.jobs.wait(job_id)
    return read_steps(folder / "metrics.jsonl"), folder


def _rate(steps: Steps) -> float:
    """Steps per second of the window."""
    return (steps[-1][0] - steps[SKIPPED - 1][0]) / (steps[-1][1] - steps[SKIPPED - 1][1])


def _middle(steps: Steps) -> float:
    """Seconds of the window's median step: what a busy neighbour for a moment does not move."""
    moments = [moment for _, moment, _ in steps[SKIPPED - 1 :]]
    return statistics.median(later - sooner for sooner, later in itertools.pairwise(moments))


def _print(found: dict[str, Any]) -> None:
    print_table(
        f"{found['model']}, LoRA, batch 2, {found['steps']} steps, 1 thread, no checkpoint on either side",
        [
            ("platform, steps/s", found["platform_steps_per_second"]),
            ("by hand, steps/s", found["by_hand_steps_per_second"]),
            ("ratio, pair by pair (aim: at least 0.98)", found["ratio"]),
            ("ratio of the median step's speed, pair by pair", found["ratio_of_median_steps"]),
        ],
    )
    ours, by_hand = found["last_losses"]
    print(
        f"  loss of the last step: {ours:.6f} and {by_hand:.6f}; equal in all rounds: {found['losses_equal']}"
    )
    cores = found["control_plane_cores"]
    print(
        f"  cores that the control plane uses: {cores['platform']:.3f} while its job trains,"
        f" {cores['by_hand']:.3f} while the script by hand does"
    )
    print(f"\nload before {found['before']['load_1min']}, after {found['after']['load_1min']}")


if __name__ == "__main__":
    main()

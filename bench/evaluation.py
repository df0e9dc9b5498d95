"""Evaluation: samples/s of an attempt beside lm-evaluation-harness run by hand.

The same model, tasks, batch size and thread, each side in a process of its own, in turn; the ratio is that of
samples/s within a round. Both sides load the model, ask every question and write every sample down. The
attempt does so shard by shard, each on the disk before the next, which is what lets it be killed. The figures
of both sides must be equal, or nothing is printed. The aim is a median ratio of 0.95 at least; on a busy
machine the one by processor time is the one that says something.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
_ONCE = Path(__file__).with_name("evaluate_once.py")
_SUITE = _ROOT / "examples/suites/stdlib-questions"
_TIMEOUT_SECONDS = 1800


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="builtin/smollm2-135m-instruct", help="a builtin/ model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=200, help="samples of each task at most")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        model = _resolve(options.model, Path(folder) / "models")
        rounds = [
            _round(model, Path(folder) / f"round-{number}", options.limit, number)
            for number in range(options.rounds)
        ]
    report = _report(options, rounds, (load_before, os.getloadavg()[0]))
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{report['samples']} samples of {options.model}, 1 thread; load {report['load']}")
    for name in ("steelyard", "by_hand"):
        print(f"{name:>10}: {report[name]['samples_per_second']} samples/s (min, median, max)")
    print(f"     ratio: {report['ratio']} by the wall, {report['processor_ratio']} by processor time")


def _round(model: Path, scratch: Path, limit: int, number: int) -> dict[str, dict[str, float]]:
    """Run both sides, the other one first in every second round."""
    sides = ("steelyard", "by_hand") if number % 2 == 0 else ("by_hand", "steelyard")
    found = {side: _once(side, model, scratch / side, limit) for side in sides}
    if found["steelyard"]["figures"] != found["by_hand"]["figures"]:
        raise SystemExit(f"the sides differ: {found}")
    clocks = ("seconds", "processor_seconds")
    return {side: {clock: float(answer[clock]) for clock in clocks} for side, answer in found.items()}


def _once(side: str, model: Path, scratch: Path, limit: int) -> dict[str, Any]:
    scratch.mkdir(parents=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-P", str(_ONCE), side, str(model), str(_SUITE), str(scratch), str(limit)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def _resolve(name: str, cache: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "steelyard.trainers.models", "resolve", name, "--cache", str(cache)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    return Path(json.loads(done.stdout)["path"])


def _report(
    options: argparse.Namespace, rounds: list[dict[str, dict[str, float]]], load: tuple[float, float]
) -> dict[str, Any]:
    samples = sum(min(options.limit, _lines(path)) for path in _SUITE.glob("*.jsonl"))
    return {
        "model": options.model,
        "samples": samples,
        "rounds": len(rounds),
        "load": [round(each, 1) for each in load],
        "ratio": _ratio(rounds, "seconds"),
        "processor_ratio": _ratio(rounds, "processor_seconds"),
        **{
            side: {"samples_per_second": _spread([samples / each[side]["seconds"] for each in rounds])}
            for side in ("steelyard", "by_hand")
        },
    }


def _ratio(rounds: list[dict[str, dict[str, float]]], clock: str) -> list[float]:
    return _spread([each["by_hand"][clock] / each["steelyard"][clock] for each in rounds])


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _spread(values: list[float]) -> list[float]:
    return [round(each, 3) for each in (min(values), statistics.median(values), max(values))]


if __name__ == "__main__":
    main()

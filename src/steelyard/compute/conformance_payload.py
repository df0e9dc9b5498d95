"""The trainer of the conformance suite: does what the environment variable `CONFORMANCE_PLAN` says.

Before anything else it leaves `started-<pid>.json` in the attempt's folder, so that starts can be counted,
and last of its preparations `ready-<pid>`. Plans: `exit:N`, `die:SIGNAL`, `outcome` (writes one, then
ends with 0), `obey` (saves on SIGTERM), `naive` (no handler), `deaf` (ignores SIGTERM), `family` (two
deaf children in sessions of their own, then as `naive`), `family-exit` (the same, then ends with 0),
`print:BYTES`, `eat:BYTES` (memory, then as `naive`).
"""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

PLAN_VARIABLE = "CONFORMANCE_PLAN"
LINE = b"%063d\n"
"""A line of `print:BYTES`: 64 bytes that number themselves."""

_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main(run_file: str) -> int:
    """Follow the plan; returns the exit code."""
    folder = Path(run_file).parent
    _say_started(folder)
    plan, _, argument = os.environ.get(PLAN_VARIABLE, "exit:0").partition(":")
    if plan == "obey":
        signal.signal(signal.SIGTERM, partial(_save_and_leave, folder))
    elif plan == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif plan.startswith("family"):
        for _ in range(2):
            subprocess.Popen([sys.executable, "-c", _DEAF], start_new_session=True)
    _say_ready(folder)
    return _perform(plan, argument, folder)


def _say_ready(folder: Path) -> None:
    """Whoever sees the file may look at once at what this process holds open: so it is closed by then."""
    mark = folder / f"is-ready-{os.getpid()}"
    mark.touch()
    mark.rename(folder / f"ready-{os.getpid()}")


def _perform(plan: str, argument: str, folder: Path) -> int:
    if plan == "exit":
        return int(argument)
    if plan == "die":
        os.kill(os.getpid(), signal.Signals[argument])
    if plan == "outcome":
        _write_outcome(folder, "succeeded", 0, "completed")
        return 0
    if plan == "print":
        _print_lines(int(argument))
        return 0
    if plan == "family-exit":
        return 0
    hoard = bytearray(b"x") * int(argument) if plan == "eat" else b""
    return _sleep(hoard)


def _say_started(folder: Path) -> None:
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "time": time.time(),
        "argv": sys.argv,
        "environment": dict(os.environ),
        "preloaded": sorted(name for name in ("torch", "transformers") if name in sys.modules),
    }
    temporary = folder / f".started-{os.getpid()}"
    temporary.write_text(json.dumps(facts))
    temporary.rename(folder / f"started-{os.getpid()}.json")


def _save_and_leave(folder: Path, _number: int, _frame: FrameType | None) -> NoReturn:
    _write_outcome(folder, "checkpointed", 143, "platform_stopped")
    sys.stdout.flush()
    os._exit(143)


def _write_outcome(folder: Path, kind: str, code: int, reason: str) -> None:
    outcome = {"kind": kind, "exit_code": code, "reason": reason, "message": "as planned", "step": 7}
    temporary = folder / ".outcome.json"
    temporary.write_text(json.dumps(outcome))
    temporary.rename(folder / "outcome.json")


def _print_lines(size: int) -> None:
    for number in range(size // len(LINE % 0)):
        sys.stdout.buffer.write(LINE % number)
    sys.stdout.buffer.flush()


def _sleep(hoard: bytes | bytearray) -> int:
    while True:
        time.sleep(600)
        if not hoard:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

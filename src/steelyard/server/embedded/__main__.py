"""`python -m steelyard.server.embedded up|down|status|doctor`: what the CLI's commands of these names run."""

import argparse
import json
import os
import sys

from rich.console import Console

from steelyard.kit.errors import SteelyardError
from steelyard.server.embedded.doctor import Verdict, examine
from steelyard.server.embedded.launch import SUPERVISOR, StartFailed, start_platform
from steelyard.server.embedded.progress import WHILE_STARTING, WHILE_STOPPING, Progress, print_status
from steelyard.server.embedded.shutdown import Stopped, stop_platform
from steelyard.server.embedded.state import Overall, live_state
from steelyard.server.embedded.status import PlatformStatus, read_status
from steelyard.server.embedded.supervisor import DEFAULT_GRACE_SECONDS
from steelyard.server.home import HomeLayout
from steelyard.server.settings import Settings

EXIT_NOT_WELL = 1
EXIT_STOPPED = 3
EXIT_INTERRUPTED = 130
_DEFAULT_TIMEOUT_SECONDS = 120.0
_SIMULATION = {
    "--simulate-gpus": "simulated_gpus",
    "--simulate-nodes": "simulated_nodes",
    "--simulated-flavor": "simulated_flavor",
}
"""Flags of `up`, and the settings that they are."""
_MARKS = {Verdict.OK: "[green]ok  [/]", Verdict.WARN: "[yellow]warn[/]", Verdict.FAIL: "[red]fail[/]"}


def main(arguments: list[str] | None = None, supervisor: tuple[str, ...] = SUPERVISOR) -> int:
    """Run one command; returns the exit code. `supervisor` is the command that `up` starts."""
    options = _parser().parse_args(arguments)
    options.supervisor = supervisor
    settings = Settings()
    layout = HomeLayout(settings.home.expanduser().absolute())
    console = Console(stderr=options.json)
    commands = {"up": _up, "down": _down, "status": _status, "doctor": _doctor}
    try:
        return commands[options.command](layout, settings, console, options)
    except SteelyardError as error:
        _print_error(console, error, as_json=options.json)
        return EXIT_NOT_WELL


def exit_code(state: Overall) -> int:
    """Return 0 for running, 3 for stopped, 1 for all between."""
    return {Overall.RUNNING: 0, Overall.STOPPED: EXIT_STOPPED}.get(state, EXIT_NOT_WELL)


def _up(layout: HomeLayout, _settings: Settings, console: Console, options: argparse.Namespace) -> int:
    _simulate(options)
    if options.foreground and not live_state(layout):
        sys.stdout.flush()
        os.execv(options.supervisor[0], [*options.supervisor, "--foreground"])  # noqa: S606 - our own interpreter
    try:
        with Progress(console, f"Starting Steelyard in {layout.root}", WHILE_STARTING) as progress:
            started = start_platform(
                layout,
                timeout_seconds=options.timeout,
                supervisor=options.supervisor,
                on_progress=(lambda _state: None) if options.json else progress.show,
            )
    except KeyboardInterrupt:
        console.print(
            "Steelyard goes on starting in the background. `steelyard status` shows how far it is, "
            "`steelyard down` stops it.",
            highlight=False,
        )
        return EXIT_INTERRUPTED
    status = read_status(layout)
    if options.json:
        _print_json(status.model_dump(mode="json") | {"already_running": started.already})
    else:
        _print_started(console, status, already=started.already)
    return 0


def _down(layout: HomeLayout, _settings: Settings, console: Console, options: argparse.Namespace) -> int:
    try:
        with Progress(console, f"Stopping Steelyard in {layout.root}", WHILE_STOPPING) as progress:
            stopped = stop_platform(
                layout,
                grace_seconds=options.grace,
                on_progress=(lambda _state: None) if options.json else progress.show,
            )
    except KeyboardInterrupt:
        console.print("Steelyard goes on stopping in the background; `steelyard status` shows how far it is.")
        return EXIT_INTERRUPTED
    if options.json:
        _print_json(_stopped_json(layout, stopped))
    else:
        _print_stopped(console, layout, stopped)
    return 0


def _status(layout: HomeLayout, _settings: Settings, console: Console, options: argparse.Namespace) -> int:
    status = read_status(layout)
    if options.json:
        _print_json(status.model_dump(mode="json"))
    else:
        print_status(console, status)
    return exit_code(status.state)


def _doctor(layout: HomeLayout, settings: Settings, console: Console, options: argparse.Namespace) -> int:
    findings = examine(layout, settings)
    failed = any(finding.verdict is Verdict.FAIL for finding in findings)
    if options.json:
        checks = [finding.model_dump(mode="json") for finding in findings]
        _print_json({"home": str(layout.root), "ok": not failed, "checks": checks})
        return EXIT_NOT_WELL if failed else 0
    for finding in findings:
        console.print(_MARKS[finding.verdict], f"{finding.check}:", finding.message, highlight=False)
        if finding.remedy:
            console.print(f"      remedy: {finding.remedy}", highlight=False)
    return EXIT_NOT_WELL if failed else 0


def _simulate(options: argparse.Namespace) -> None:
    """Hand the flags down as settings: all processes that are started from here on read them there."""
    for flag, setting in _SIMULATION.items():
        value = getattr(options, flag.removeprefix("--").replace("-", "_"))
        if value is not None:
            os.environ[f"STEELYARD_{setting.upper()}"] = value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steelyard")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down", "status", "doctor"):
        command = commands.add_parser(name)
        command.add_argument("--json", action="store_true")
        if name == "up":
            command.add_argument("--foreground", action="store_true")
            command.add_argument("--timeout", type=float, default=_DEFAULT_TIMEOUT_SECONDS)
            for flag in _SIMULATION:
                command.add_argument(flag)
        if name == "down":
            command.add_argument("--grace", type=float, default=DEFAULT_GRACE_SECONDS)
    return parser


def _print_started(console: Console, status: PlatformStatus, *, already: bool) -> None:
    if status.state is Overall.DEGRADED:
        print_status(console, status)
        return
    words = "was running already" if already else "is ready"
    console.print(f"Steelyard {words}: {status.api_url}", style="bold green", highlight=False)
    late = [each.name for each in status.processes if each.state in ("waiting", "starting")]
    if late:
        console.print(f"Still starting in the background: {', '.join(late)}.", highlight=False)
    for note in status.notes:
        console.print(f"Note: {note}.", style="yellow", highlight=False)
    if not already:
        console.print("Next: `steelyard demo`, `steelyard status`, `steelyard down`.", highlight=False)


def _stopped_json(layout: HomeLayout, stopped: Stopped) -> dict[str, object]:
    return {
        "home": str(layout.root),
        "state": Overall.STOPPED.value,
        "stopped_processes": list(stopped.processes),
        "stopped_attempts": list(stopped.attempts),
        "supervisor_was_dead": stopped.supervisor_was_dead,
    }


def _print_stopped(console: Console, layout: HomeLayout, stopped: Stopped) -> None:
    if not stopped.processes and not stopped.attempts:
        console.print(f"Nothing of {layout.root} was running.", highlight=False)
        return
    if stopped.supervisor_was_dead:
        console.print("The supervisor had died; this is what it left.", highlight=False)
    if stopped.attempts:
        console.print(f"Training asked to save and leave: {', '.join(stopped.attempts)}.", highlight=False)
    console.print(f"Stopped: {', '.join(stopped.processes)}.", highlight=False)


def _print_error(console: Console, error: SteelyardError, *, as_json: bool) -> None:
    if as_json:
        body = {"code": error.code, "message": error.message, "details": error.details}
        _print_json({"error": body})
        return
    tail = error.details.get("tail") if isinstance(error, StartFailed) else None
    if isinstance(tail, list) and tail:
        console.print(f"The last lines of {error.details['log']}:", style="dim", highlight=False)
        for line in tail:  # pyright: ignore[reportUnknownVariableType]
            console.print(f"  {line}", style="dim", highlight=False, markup=False)
    console.print(f"Error: {error.message}", style="red", highlight=False, markup=False)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())

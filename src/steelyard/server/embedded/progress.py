"""What a person sees while the platform starts or stops, and its status as a table."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from steelyard.server.embedded.state import Overall, PlatformState, ProcessState
from steelyard.server.embedded.status import PlatformStatus

_STYLES = {
    "running": "green",
    "done": "green",
    "starting": "cyan",
    "waiting": "dim",
    "disabled": "dim",
    "stopped": "dim",
    "stopping": "yellow",
    "degraded": "yellow",
    "unresponsive": "yellow",
    "restarting": "red",
    "failed": "red",
}


WHILE_STARTING = (ProcessState.WAITING, ProcessState.STARTING)
WHILE_STOPPING = (ProcessState.RUNNING, ProcessState.DONE, ProcessState.DISABLED, ProcessState.STOPPING)


class Progress:
    """Shows each process as it changes: live on a terminal, a line for each elsewhere.

    Args:
        quiet: states that aren't worth a line.
    """

    def __init__(self, console: Console, title: str, quiet: tuple[ProcessState, ...]) -> None:
        self._console = console
        self._title = title
        self._quiet = quiet
        self._began = time.monotonic()
        self._seen: dict[str, ProcessState] = {}
        self._live = Live(console=console, refresh_per_second=10, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, state: PlatformState | None) -> None:
        """Show the present state."""
        if self._console.is_terminal:
            self._live.update(self._table(state))
        else:
            self._print_changes(state)

    def _table(self, state: PlatformState | None) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(Text(self._title, style="bold"), Text(f"{self._elapsed():.1f} s", style="dim"))
        for record in state.processes if state else ():
            detail = record.message or (
                "in the background" if _is_late(record.essential, record.state) else ""
            )
            table.add_row(record.name, _styled(record.state.value), Text(detail, style="dim"))
        return table

    def _print_changes(self, state: PlatformState | None) -> None:
        for record in state.processes if state else ():
            if self._seen.get(record.name) is record.state:
                continue
            self._seen[record.name] = record.state
            if record.state in self._quiet:
                continue
            words = f"{self._elapsed():5.1f} s  {record.name}: {record.state.value}"
            self._console.print(f"{words} ({record.message})" if record.message else words, highlight=False)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def print_status(console: Console, status: PlatformStatus) -> None:
    """Print the status for a person."""
    console.print(Text.assemble("Steelyard is ", _styled(status.state.value), f" in {status.home}"))
    for label, url in (
        ("api", status.api_url),
        ("MLflow", status.mlflow_url),
        ("Temporal", status.temporal_ui_url),
    ):
        if url and status.state is not Overall.STOPPED:
            console.print(f"  {label}: {url}", highlight=False)
    if status.processes:
        console.print(_process_table(status))
    for note in status.notes:
        console.print(f"Note: {note}.", style="yellow", highlight=False)
    if status.state is Overall.STOPPED:
        console.print("`steelyard up` starts it.", highlight=False)


def _process_table(status: PlatformStatus) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("process", "pid", "state", "restarts", "up", ""):
        table.add_column(heading)
    for each in status.processes:
        up = "" if each.uptime_seconds is None else _duration(each.uptime_seconds)
        pid = "" if each.pid is None else str(each.pid)
        state = _styled(each.state.value)
        table.add_row(each.name, pid, state, str(each.restarts), up, Text(each.message or "", style="dim"))
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _styled(word: str) -> Text:
    return Text(word, style=_STYLES.get(word, ""))


def _is_late(essential: bool, state: ProcessState) -> bool:
    return not essential and state in (ProcessState.WAITING, ProcessState.STARTING)

"""How waiting looks: a live bar per job on a terminal, a line per change elsewhere."""

from types import TracebackType
from typing import Protocol, Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from steelyard.cli.formats import format_time
from steelyard.cli.output import Screen, printable
from steelyard.cli.render import progress_words, state_text
from steelyard.kit.clock import utc_now
from steelyard.specs.states import JobState
from steelyard.specs.views import JobView

_BAR_WIDTH = 18
_NAME_WIDTH = 16


class Display(Protocol):
    """Shows jobs as they change; a context manager, so that a terminal is left clean."""

    def show(self, job: JobView) -> None:
        """Take a job's newest state."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_display(*, quiet: bool) -> Display:
    """Return what suits stdout: nothing with `--json`, bars on a terminal, lines in a pipe or file."""
    if quiet:
        return Silence()
    screen = Screen()
    return Bars(screen) if screen.is_terminal else Lines(screen)


class Silence:
    """Shows nothing."""

    def show(self, job: JobView) -> None:
        """Take a job's newest state."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Lines(Silence):
    """One plain line per change."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last: dict[str, str] = {}

    def show(self, job: JobView) -> None:
        """Print the job's state, if it reads otherwise than before."""
        words = [job.id, job.state.value, job.status_reason or "", progress_words(job.progress)]
        if job.state is not JobState.RUNNING or job.children is not None:
            words = [*words[:3], printable(job.status_message or "")]
        line = "  ".join(word for word in words if word)
        if self._last.get(job.id) != line:
            self._last[job.id] = line
            self._screen.print(f"{format_time(utc_now())}  {line}")
            self._screen.file.flush()


class Bars(Silence):
    """A live bar per job, and above it a line for each change of state."""

    def __init__(self, screen: Screen) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            TextColumn("{task.fields[state]}", markup=False),
            BarColumn(_BAR_WIDTH),
            TextColumn("{task.fields[words]}", markup=False),
            console=screen,
        )
        self._screen = screen
        self._tasks: dict[str, TaskID] = {}
        self._states: dict[str, tuple[JobState, str | None]] = {}

    def show(self, job: JobView) -> None:
        """Move the job's bar."""
        self._note_state(job)
        progress = job.progress
        words = progress_words(progress, running=job.state is JobState.RUNNING)
        if job.children is not None and job.state is JobState.RUNNING:
            words = printable(job.status_message or words)
        known = job.id in self._tasks
        if not known:
            self._tasks[job.id] = self._progress.add_task("", total=None, name="", state="", words="")
        self._progress.update(
            self._tasks[job.id],
            total=progress.total_steps,
            completed=progress.step,
            name=printable(job.name)[:_NAME_WIDTH],
            state=job.state.value,
            words=words,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _note_state(self, job: JobView) -> None:
        now = (job.state, job.status_reason)
        if self._states.get(job.id) == now:
            return
        self._states[job.id] = now
        reason = f" ({job.status_reason})" if job.status_reason else ""
        message = f"  {printable(job.status_message)}" if job.status_message else ""
        self._screen.print(
            Text.assemble(
                (format_time(utc_now()), "dim"), f"  {job.id}  ", state_text(job.state), reason, message
            )
        )

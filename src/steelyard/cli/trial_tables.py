"""Trials as text."""

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from steelyard.cli.formats import format_figure, format_span
from steelyard.cli.output import printable
from steelyard.cli.render import state_text
from steelyard.specs.states import JobState
from steelyard.specs.trials import TrialPoint, TrialView

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 16
_WIDE_COLUMNS = 120


def trial_table(trials: Sequence[TrialView], columns: int) -> Table:
    """Return trials, a column for each parameter; the best one is marked and bold.

    Where `columns` are few, values are cut short before what a trial is worth is; ids and times are left out.
    """
    wide = columns >= _WIDE_COLUMNS
    paths = sorted({path for trial in trials for path in trial.parameters})
    names = _short(paths)
    curves = any(trial.curve for trial in trials)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("TRIAL", "STATE", "VALUE", "STEP"):
        table.add_column(title, no_wrap=True, min_width=_least_width(title, trials))
    for title in (*(["CURVE"] if curves else []), *names, *(["TIME", "JOB"] if wide else [])):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for trial in trials:
        cells = [_number(trial), _state(trial), value_words(trial), str(trial.step)]
        if curves:
            cells.append(bars(trial.curve or []))
        cells += [_value(trial.parameters.get(path)) for path in paths]
        if wide:
            cells += [format_span(trial.started_at, trial.ended_at), trial.job]
        style = "bold green" if trial.is_best else "dim" if _is_out(trial) else ""
        table.add_row(*cells, style=style)
    return table


def trial_line(trial: TrialView) -> str:
    """Return a trial in a line."""
    values = " ".join(f"{path}={_value(value)}" for path, value in sorted(trial.parameters.items()))
    state = trial.state.value + (f" ({trial.status_reason})" if trial.status_reason else "")
    return f"{_number(trial)}  {state}  step {trial.step}  {value_words(trial) or '-'}  {values}"


def value_words(trial: TrialView) -> str:
    """Return what a trial is worth; in brackets what it is worth so far."""
    if trial.value is None:
        return ""
    return format_figure(trial.value) if trial.is_final else f"({format_figure(trial.value)})"


def bars(curve: Sequence[TrialPoint]) -> str:
    """Draw a curve in one line, between its least and its greatest value."""
    stride = max(1, -(-len(curve) // _CURVE_WIDTH))
    values = [point.value for point in curve[::stride]]
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, width = min(known), max(known) - min(known)
    return "".join("?" if value is None else _bar(value, low, width) for value in values)


def _least_width(title: str, trials: Sequence[TrialView]) -> int:
    cells: dict[str, Callable[[TrialView], str]] = {
        "TRIAL": _number,
        "STATE": lambda trial: _state(trial).plain,
        "VALUE": value_words,
        "STEP": lambda trial: str(trial.step),
    }
    return max(len(title), *(len(cells[title](trial)) for trial in trials))


def _bar(value: float, low: float, width: float) -> str:
    return _BARS[round((value - low) / width * (len(_BARS) - 1))] if width else _BARS[0]


def _number(trial: TrialView) -> str:
    return f"{trial.number:04d}{' *' if trial.is_best else ''}"


def _state(trial: TrialView) -> Text:
    if trial.state is JobState.CANCELLED and trial.status_reason == "pruned":
        return Text("pruned")
    return state_text(trial.state)


def _is_out(trial: TrialView) -> bool:
    return trial.state in (JobState.CANCELLED, JobState.FAILED)


def _value(value: object) -> str:
    return (
        format_figure(value) if isinstance(value, float) else printable("" if value is None else str(value))
    )


def _short(paths: Sequence[str]) -> list[str]:
    """Return the last parts of paths, where those tell them apart."""
    last = [path.rpartition(".")[2] for path in paths]
    return [name if last.count(name) == 1 else path for name, path in zip(last, paths, strict=True)]

"""Evaluations, comparisons and suites, as text that is readable at 80 columns."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.cli.formats import format_age, format_bytes, format_figure, format_seconds, format_time
from steelyard.cli.output import printable
from steelyard.cli.safety_tables import safety_lines
from steelyard.specs.comparisons import BaseComparison, MetricComparison
from steelyard.specs.evaluations import (
    EvaluationComparison,
    EvaluationSummary,
    EvaluationView,
    MetricResult,
    SuiteView,
)

_VERDICT_STYLES = {"better": "green", "worse": "bold red"}
_SHORT_DIGEST = 15


def evaluation_table(rows: Sequence[EvaluationSummary]) -> Table:
    """One line an evaluation, with its first figure."""
    table = Table("ID", "MODEL", "SUITE", "N", "RESULT", "AGE", box=None)
    for row in rows:
        known = " (known)" if row.cached_from else ""
        table.add_row(
            row.id,
            printable(f"{row.model_name} ({row.subject})"),
            printable(row.suite),
            str(row.n),
            (_first(row.metrics)) + known,
            format_age(row.created_at),
        )
    return table


def evaluation_lines(view: EvaluationView) -> Iterator[RenderableType]:
    """An evaluation, whole."""
    yield Text.assemble((printable(view.suite), "bold"), f" of {printable(view.model_name)} ({view.subject})")
    table = Table("METRIC", "VALUE", "95 % INTERVAL", "ERROR", "N", "BY", box=None)
    for each in view.metrics:
        table.add_row(
            printable(each.name),
            format_figure(each.mean),
            interval_words(each.interval),
            format_figure(each.standard_error),
            str(each.n),
            each.method,
        )
    yield table
    if view.safety is not None:
        yield from safety_lines(view.safety)
    if view.base is not None:
        yield from _base_lines(view.base)
    facts = Table(box=None, show_header=False)
    for name, value in (
        ("job", view.job_id),
        ("model", view.model_digest),
        ("suite", view.suite_digest),
        ("settings", ", ".join(f"{key}={value}" for key, value in sorted(view.settings.items()) if value)),
        ("engine", view.engine),
        ("samples", view.samples_digest),
        ("result", view.digest),
        ("took", format_seconds(view.seconds)),
        ("known from", view.cached_from or ""),
        ("at", format_time(view.created_at)),
    ):
        if value:
            facts.add_row(name, printable(value))
    yield facts


def comparison_table(found: EvaluationComparison) -> Table:
    """One line a metric; differences are B minus A."""
    return _compared(found.metrics, ("A", "B", "B - A", "B IS"))


def _base_lines(base: BaseComparison) -> Iterator[RenderableType]:
    """The model beside its base."""
    if base.model_name is None:
        yield Text.assemble(("Beside its base model: ", "bold"), printable(base.message))
        return
    yield Text.assemble(("Beside its base model ", "bold"), printable(base.model_name))
    yield _compared(base.metrics, ("BASE", "MODEL", "CHANGE", "MODEL IS"))


def _compared(metrics: Sequence[MetricComparison], titles: tuple[str, str, str, str]) -> Table:
    a, b, difference, verdict = titles
    table = Table("METRIC", a, b, difference, "95 % INTERVAL", "P", "FINDS", "N", verdict, box=None)
    for each in metrics:
        table.add_row(
            printable(each.metric),
            _figure(each.a),
            _figure(each.b),
            _figure(each.difference),
            interval_words(each.interval) if each.interval else "",
            _figure(each.p_value),
            _figure(each.smallest_effect),
            str(each.n) if each.n else "",
            _verdict(each),
        )
    table.caption = "FINDS: the smallest difference that so many samples would have found (80 % power)."
    return table


def suite_table(rows: Sequence[SuiteView]) -> Table:
    """One line a version."""
    table = Table("NAME", "DIGEST", "OF", "TASKS", "SIZE", "AGE", box=None)
    for row in rows:
        table.add_row(
            printable(row.name),
            row.digest[:_SHORT_DIGEST],
            row.scope,
            str(len(row.tasks)),
            format_bytes(row.size_bytes),
            format_age(row.created_at),
        )
    return table


def suite_lines(view: SuiteView) -> Iterator[RenderableType]:
    """A version, whole."""
    removed = ", removed" if view.removed_at else ""
    yield Text.assemble((printable(view.name), "bold"), f"@{view.digest} ({view.scope}{removed})")
    yield f"Tasks: {printable(', '.join(view.tasks))}" + (" (runs Python)" if view.runs_code else "")
    table = Table("FILE", "SIZE", "DIGEST", box=None)
    for file in view.files:
        table.add_row(printable(file.path), format_bytes(file.size), file.digest[:_SHORT_DIGEST])
    yield table


def interval_words(interval: tuple[float, float]) -> str:
    """Write an interval: `0.41 to 0.66`."""
    return f"{format_figure(interval[0])} to {format_figure(interval[1])}"


def _first(metrics: Sequence[MetricResult]) -> str:
    if not metrics:
        return ""
    first = metrics[0]
    return f"{printable(first.name)} {format_figure(first.mean)} ({interval_words(first.interval)})"


def _figure(value: float | None) -> str:
    return "" if value is None else format_figure(value)


def _verdict(each: MetricComparison) -> Text:
    words = each.verdict if not each.message else f"{each.verdict}: {each.message}"
    return Text(words, style=_VERDICT_STYLES.get(each.verdict, ""))

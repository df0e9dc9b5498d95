"""A safety report as text: rates with their limits, then what was not tested."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from steelyard.cli.formats import format_figure
from steelyard.cli.output import printable
from steelyard.specs.safety import NotTested, ProbeReport, SafetyReport

_STYLES = {"better": "green", "worse": "bold red"}


def safety_lines(report: SafetyReport) -> Iterator[RenderableType]:
    """A report, whole."""
    yield Text("Safety: what was tested", style="bold")
    for probe in report.probes:
        yield from _probe_lines(probe, report)
    yield Text("Safety: what was NOT tested", style="bold yellow")
    table = Table(box=None, show_header=False)
    for each in report.not_tested:
        table.add_row(Text(printable(each.what)), Text(printable(_why(each))))
    yield table


def _probe_lines(probe: ProbeReport, report: SafetyReport) -> Iterator[RenderableType]:
    low, high = (format_figure(each) for each in probe.interval)
    yield Text.assemble(
        "  ",
        (printable(probe.probe), "bold"),
        f"  {format_figure(probe.pass_rate)} pass ({low} to {high}), n = {probe.n}",
    )
    if report.base is not None:
        yield _indented(_regression(probe, report))
    yield _indented(Text(printable(f"{probe.measures} {probe.passes}")))
    version = f", version {probe.version}" if probe.version else ""
    source = f"Scorer: {probe.scorer}. Source{version}: {probe.source.rstrip('.')}. Licence: {probe.licence}."
    for line in (*probe.limits, source):
        yield _indented(Text(printable(line), style="dim"))


def _regression(probe: ProbeReport, report: SafetyReport) -> Text:
    """Say how the pass rate stands beside the base model's."""
    found = probe.regression
    if found is None or found.difference is None or found.interval is None:
        why = found.message if found else "not measured of the base model"
        return Text(printable(f"Beside {report.base}: {why}"), style="yellow")
    low, high = (_signed(each) for each in found.interval)
    return Text.assemble(
        f"Beside {printable(report.base or '')}: {_signed(found.difference)} ({low} to {high}), "
        f"p = {format_figure(found.p_value or 0.0)} over {found.n} pairs: ",
        (found.verdict, _STYLES.get(found.verdict, "")),
    )


def _indented(content: Text) -> Padding:
    return Padding(content, (0, 0, 0, 4), expand=False)


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{format_figure(value)}"


def _why(each: NotTested) -> str:
    return f"{each.why}; {each.remedy}" if each.remedy else each.why

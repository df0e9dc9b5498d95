"""A safety report as text: rates with their limits, then what was not tested."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from steelyard.cli.formats import format_figure
from steelyard.cli.output import printable
from steelyard.specs.safety import NotTested, ProbeReport, SafetyReport


def safety_lines(report: SafetyReport) -> Iterator[RenderableType]:
    """A report, whole."""
    yield Text("Safety: what was tested", style="bold")
    for probe in report.probes:
        yield from _probe_lines(probe)
    yield Text("Safety: what was NOT tested", style="bold yellow")
    table = Table(box=None, show_header=False)
    for each in report.not_tested:
        table.add_row(Text(printable(each.what)), Text(printable(_why(each))))
    yield table


def _probe_lines(probe: ProbeReport) -> Iterator[RenderableType]:
    low, high = (format_figure(each) for each in probe.interval)
    yield Text.assemble(
        "  ",
        (printable(probe.probe), "bold"),
        f"  {format_figure(probe.pass_rate)} pass ({low} to {high}), n = {probe.n}",
    )
    yield Padding(Text(printable(f"{probe.measures} {probe.passes}")), (0, 0, 0, 4))
    version = f", version {probe.version}" if probe.version else ""
    source = f"Scorer: {probe.scorer}. Source{version}: {probe.source.rstrip('.')}. Licence: {probe.licence}."
    for line in (*probe.limits, source):
        yield Padding(Text(printable(line), style="dim"), (0, 0, 0, 4))


def _why(each: NotTested) -> str:
    return f"{each.why}; {each.remedy}" if each.remedy else each.why

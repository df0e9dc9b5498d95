"""`budget set show list remove` and `cost report ledger verify`: what may be used, and what was."""

import csv
import sys
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.cli.formats import format_time, spreadsheet_cell
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, tell_removed, write_json
from steelyard.cli.session import connect
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import MAX_LIMIT
from steelyard.specs.budgets import (
    BudgetFigures,
    BudgetSpec,
    BudgetView,
    CostReport,
    LedgerEntry,
    Unit,
    plain,
)

_PANEL = "Platform"
_WORDS: dict[Unit, str] = {"gpu_hours": "GPU-hours", "money": "money"}
_STYLES = {"warned": "yellow", "exhausted": "bold red", "closed": "bold red", "ok": "green"}
_CENTS = Decimal("0.01")

Amount = Annotated[str | None, typer.Option(metavar="N", help="Hard limit.")]
OrganizationName = Annotated[
    str | None, typer.Option("--organization", metavar="NAME", help="All projects of this organization.")
]
Since = Annotated[str | None, typer.Option("--since", metavar="DAY", help="First day, as 2026-01-31 (UTC).")]
Until = Annotated[str | None, typer.Option("--until", metavar="DAY", help="Last day, included.")]


def register(app: typer.Typer) -> None:
    """Add the groups."""
    budget = typer.Typer(no_args_is_help=True, help="What a project may use in a month, quarter, or span.")
    for name, command in (("set", set_), ("show", show), ("list", list_), ("remove", remove)):
        budget.command(name)(command)
    app.add_typer(budget, name="budget", rich_help_panel=_PANEL)
    cost = typer.Typer(no_args_is_help=True, help="What was used, by whom and for what.")
    cost.command("report")(report)
    cost.command("ledger")(ledger)
    cost.command("verify")(verify)
    app.add_typer(cost, name="cost", rich_help_panel=_PANEL)


def set_(
    gpu_hours: Annotated[
        str | None, typer.Option("--gpu-hours", metavar="N", help="Hard limit of GPU-hours.")
    ] = None,
    money: Annotated[str | None, typer.Option("--money", metavar="N", help="Hard limit of money.")] = None,
    soft_gpu_hours: Annotated[
        str | None, typer.Option("--soft-gpu-hours", metavar="N", help="Warn at so many GPU-hours.")
    ] = None,
    soft_money: Annotated[
        str | None, typer.Option("--soft-money", metavar="N", help="Warn at so much money.")
    ] = None,
    period: Annotated[
        Literal["month", "quarter", "fixed"],
        typer.Option("--period", help="Of the calendar, or fixed: from --from to --to."),
    ] = "month",
    starts_on: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day of a fixed period.")
    ] = None,
    ends_on: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="Last day of a fixed period.")
    ] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Set a project's budget, in place of the one it had.

    Beyond a hard limit submissions are refused, and running jobs save and pause until there is money again.
    """
    try:
        spec = BudgetSpec(
            period=period,
            starts_on=_day(starts_on, "--from"),
            ends_on=_day(ends_on, "--to"),
            gpu_hours=_decimal(gpu_hours, "--gpu-hours"),
            money=_decimal(money, "--money"),
            soft_gpu_hours=_decimal(soft_gpu_hours, "--soft-gpu-hours"),
            soft_money=_decimal(soft_money, "--soft-money"),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"])
        raise InvalidRequest(f"{where}{first['msg'].removeprefix('Value error, ')}") from error
    with connect(project, persistent=True) as client:
        _show(client.budgets.put(spec), as_json)


def show(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show a project's budget: spent, reserved, left, and the forecast to the period's end."""
    with connect(project) as client:
        _show(client.budgets.get(), as_json)


def list_(
    organization: Annotated[str, typer.Option("--organization", metavar="NAME", help="Whose.")] = "default",
    as_json: JsonFlag = False,
) -> None:
    """Show where each project of an organization stands."""
    with connect() as client:
        views = client.budgets.search(organization)
    if as_json:
        write_json(views)
        return
    table = _table("PROJECT", "STATE", "UNIT", *_FIGURES)
    for view in views:
        for figures in view.figures:
            table.add_row(view.project, _state(view), _WORDS[figures.unit], *_cells(figures))
    Screen().print(table)


def remove(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Remove a project's budget. What it uses is metered all the same."""
    with connect(project, persistent=True) as client:
        client.budgets.remove()
        tell_removed("project", client.project, f"{client.project} has no budget any more.", as_json)


def report(
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by", metavar="A,B", help="project, user, type, flavor, job, day, tag:KEY; several."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    organization: OrganizationName = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Show costs of this month, or from --since to --until, with a forecast where that is not over."""
    if as_csv and as_json:
        raise InvalidRequest("Give --csv or --json, not both.")
    words = [word.strip() for word in (group_by or "").split(",") if word.strip()]
    with connect(project) as client:
        found = client.costs.report(
            words, since=_day(since, "--since"), until=_day(until, "--until"), organization=organization
        )
    if as_json:
        write_json(found)
    elif as_csv:
        _write_csv(found)
    else:
        Screen().print(_report(found))


def ledger(
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="Only this job's.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many.")] = 20,
    after: Annotated[str | None, typer.Option("--after", metavar="N", help="Read on after this one.")] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """List transactions of the ledger with their postings, newest first."""
    with connect(project) as client:
        page = client.costs.ledger(job=job, limit=limit, after=after)
    if as_json:
        write_json(page)
        return
    screen = Screen()
    screen.print(_entries(page.data) if page.data else "Nothing posted yet.")
    if page.has_more:
        Screen(stderr=True).print(f"There are more: --after {page.next}.")


def verify(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Add up the ledger anew, and compare it with all sums that are kept. Exit code 1 where they differ."""
    with connect(project) as client:
        found = client.costs.verify()
    if as_json:
        write_json(found)
    elif found.faults:
        Screen().print(*(printable(fault) for fault in found.faults), sep="\n")
    else:
        Screen().print(
            f"All {found.transactions} transactions balance, and every sum is that of its postings."
        )
    if found.faults:
        raise typer.Exit(1)


_FIGURES = ("LIMIT", "SOFT", "SPENT", "RESERVED", "LEFT", "FORECAST")


def _show(view: BudgetView, as_json: bool) -> None:
    if as_json:
        write_json(view)
        return
    Screen().print(budget_summary(view))


def budget_summary(view: BudgetView) -> RenderableType:
    """Return where a project stands, as text."""
    table = _table("UNIT", *_FIGURES)
    for figures in view.figures:
        table.add_row(_WORDS[figures.unit], *_cells(figures))
    span = f"{view.starts_on} to {view.ends_on}"
    return Group(Text.assemble((printable(view.project), "bold"), f"  {span}  ", _state(view)), table)


def _state(view: BudgetView) -> Text:
    return Text(view.state, style=_STYLES.get(view.state, ""))


def _cells(figures: BudgetFigures) -> list[str]:
    amounts = (
        figures.limit,
        figures.soft_limit,
        figures.spent,
        figures.reserved,
        figures.left,
        figures.forecast,
    )
    return ["-" if amount is None else short(amount) for amount in amounts]


def short(amount: Decimal) -> str:
    """Write an amount for people, with two digits after the point; a trace of something isn't nothing."""
    return f"{amount.quantize(_CENTS):,f}" if amount == 0 or abs(amount) >= _CENTS else f"{amount:.2g}"


def _report(found: CostReport) -> RenderableType:
    table = _table(*(word.upper() for word in found.group_by), "GPU-HOURS", "MONEY", "JOBS")
    for row in found.rows:
        names = [printable(row.group[word]) or "-" for word in found.group_by]
        table.add_row(*names, short(row.gpu_hours), short(row.money), str(row.jobs))
    parts: list[RenderableType] = [table] if found.group_by else []
    parts.append(
        Text(
            f"{found.since} to {found.until}: {short(found.gpu_hours)} GPU-hours,"
            f" {short(found.money)} of money.",
            style="bold",
        )
    )
    if found.forecast is not None:
        ahead = found.forecast
        parts.append(
            Text(
                f"Expected by {ahead.until}: {short(ahead.gpu_hours)} GPU-hours, {short(ahead.money)} of"
                f" money ({ahead.method})."
            )
        )
    return Group(*parts)


def _write_csv(found: CostReport) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*found.group_by, "gpu_hours", "money", "jobs"])
    for row in found.rows:
        names = [spreadsheet_cell(row.group[word]) for word in found.group_by]
        writer.writerow([*names, plain(row.gpu_hours), plain(row.money), row.jobs])
    if not found.group_by:
        writer.writerow([plain(found.gpu_hours), plain(found.money), ""])


def _entries(entries: list[LedgerEntry]) -> Table:
    table = _table("TIME", "KIND", "JOB", "ACCOUNT", "DAY", "FLAVOR", "GPU-SECONDS", "MONEY")
    for entry in entries:
        for number, line in enumerate(entry.lines):
            head = (format_time(entry.posted_at), entry.kind, entry.job_id) if number == 0 else ("", "", "")
            table.add_row(
                *head, line.account, str(line.day or ""), printable(line.flavor or ""),
                plain(line.gpu_seconds), plain(line.money),
            )  # fmt: skip
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def _decimal(value: str | None, option: str) -> Decimal | None:
    if value is None:
        return None
    try:
        return Decimal(value.replace("_", "").replace(",", ""))
    except InvalidOperation as error:
        raise InvalidRequest(f"{option} {value}: give a number, such as 1000 or 12.5.") from error


def _day(value: str | None, option: str) -> date | None:
    if value is None:
        return None
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError as error:
        raise InvalidRequest(f"{option} {value}: give a day, such as 2026-01-31.") from error

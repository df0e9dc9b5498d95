"""`models list|show|versions|history|events|promote|rollback`: what there is, and where aliases point."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from steelyard.cli.exits import ExitCode
from steelyard.cli.formats import format_time
from steelyard.cli.lineage import parse_model
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.outages import OutageNotice
from steelyard.cli.output import Screen, printable, write_json, write_json_line
from steelyard.cli.promotion_tables import promotion_details, transition_table
from steelyard.cli.session import connect
from steelyard.client.sync_client import Client
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import MAX_LIMIT
from steelyard.specs.promotions import OPEN_STATES, Alias, PromotionState, PromotionView, RegistryEventView
from steelyard.specs.views import ListView

_POLL_SECONDS = 0.3
_RESTING = frozenset({PromotionState.AWAITING_APPROVAL, PromotionState.AWAITING_THAW})

ModelName = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model.")]
ModelRef = Annotated[str, typer.Argument(metavar="MODEL@V", help="A registered version, such as demo@1.")]
AliasOption = Annotated[Alias, typer.Option("--alias", help="Which alias.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the record.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many.")]
After = Annotated[str | None, typer.Option("--after", metavar="ID", help="Read on after this one.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True, help="Registered models: versions, aliases, promotion and rollback."
    )
    commands: dict[str, Callable[..., None]] = {
        "list": list_models,
        "show": show,
        "versions": versions,
        "history": history,
        "events": events,
        "promote": promote,
        "rollback": rollback,
    }
    for name, command in commands.items():
        group.command(name)(command)
    app.add_typer(group, name="models", rich_help_panel="Models")


def list_models(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List models, with the version that each alias points to."""
    with connect(project) as client:
        found = client.models.search()
    if as_json:
        write_json(ListView(data=found))
        return
    table = Table("NAME", "VERSIONS", *(alias.value.upper() for alias in Alias), "SINCE", box=None)
    for view in found:
        points = [str(view.aliases.get(alias.value, "-")) for alias in Alias]
        table.add_row(printable(view.name), str(view.latest_version), *points, format_time(view.created_at))
    Screen().print(table if found else "No models yet; a job that succeeds registers one.")


def show(model: ModelName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show a model and its aliases."""
    with connect(project) as client:
        view = client.models.get(model)
        found = client.models.versions(model)
    if as_json:
        write_json(
            {**view.model_dump(mode="json"), "versions": [each.model_dump(mode="json") for each in found]}
        )
        return
    screen = Screen()
    points = ", ".join(f"{alias} -> {version}" for alias, version in view.aliases.items())
    screen.print(
        f"{printable(view.name)}: {view.latest_version} versions; {points or 'no alias points to it'}"
    )
    for each in found[:1]:
        kind = each.kind.replace("_", " ")
        screen.print(f"newest: {each.version}, a {kind} made by {each.job_id}, {each.manifest_digest}")


def versions(model: ModelName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List a model's versions, newest first."""
    with connect(project) as client:
        found = client.models.versions(model)
    if as_json:
        write_json(ListView(data=found))
        return
    table = Table("VERSION", "KIND", "ALIASES", "JOB", "DIGEST", "REGISTERED", box=None)
    for view in found:
        aliases = ", ".join(view.aliases)
        table.add_row(
            str(view.version), view.kind, aliases, view.job_id, view.manifest_digest[:19],
            format_time(view.created_at),
        )  # fmt: skip
    Screen().print(table)


def history(
    model: ModelName,
    alias: AliasOption = Alias.PROD,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Which version it was then, as 2026-01-31T12:00:00Z."),
    ] = None,
    limit: Limit = 20,
    after: After = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Show every move of an alias, newest first; with --at, which version it pointed to at that moment."""
    with connect(project) as client:
        if at is not None:
            move = client.models.at(model, alias, read_moment(at, "--at"))
            if as_json:
                write_json(move)
            else:
                Screen().print(f"{alias} was {printable(model)}@{move.to_version}")
                Screen().print(transition_table([move]))
            return
        page = client.models.history(model, alias, limit=limit, after=after)
    if as_json:
        write_json(page)
        return
    Screen().print(
        transition_table(page.data) if page.data else f"{alias} of {printable(model)} never pointed anywhere."
    )
    if page.has_more:
        Screen(stderr=True).print(f"There are more: --after {page.next}.")


def events(
    model: ModelName,
    limit: Limit = 50,
    after: After = None,
    follow_on: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")
    ] = False,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what happened to a model, oldest first. With --json: one document, or with -f one event a line."""
    with connect(project) as client:
        if follow_on:
            notice = OutageNotice(quiet=as_json)
            for each in client.models.follow(model, after=after, on_outage=notice, max_outage_seconds=None):
                if as_json:
                    write_json_line(each)
                else:
                    Screen().print(_event_line(each))
        page = client.models.events(model, limit=limit, after=after)
    if as_json:
        write_json(page)
        return
    for each in page.data:
        Screen().print(_event_line(each))


def promote(
    model: ModelRef,
    to: Annotated[Alias, typer.Option("--to", help="The alias that is to point to it.")],
    reason: Reason = "",
    override_freeze: Annotated[
        bool, typer.Option("--override-freeze", help="Move in a freeze window; for owners alone.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is decided, not only until the gates are judged.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="Give up looking after so long.")
    ] = 120.0,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask that an alias point to a version: gates, then approvals, then the move.

    Looks until the gates are judged and says who must agree. Exit codes: 0 promoted, or it waits for
    approval; 1 refused; 7 not so far yet, which stops nothing.
    """
    name, version = parse_model(model)
    with connect(project, persistent=True) as client:
        asked = client.models.promote(name, version, to, reason=reason, override_freeze=override_freeze)
        view = follow(client, asked, to_the_end=wait, timeout_seconds=timeout)
    if as_json:
        write_json(view)
    else:
        _say(view)
    code = _exit_code(view, to_the_end=wait)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def rollback(
    model: ModelName,
    alias: AliasOption = Alias.PROD,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="V", min=1, help="A version that it pointed to; unset: the one before."),
    ] = None,
    reason: Reason = "",
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Return an alias to the version before, at once: no gate, no approval, no freeze."""
    with connect(project, persistent=True) as client:
        move = client.models.roll_back(model, alias, to=to, reason=reason)
    if as_json:
        write_json(move)
        return
    Screen().print(f"{alias} points to {printable(model)}@{move.to_version} again (was {move.from_version}).")


def follow(
    client: Client, promotion: PromotionView, *, to_the_end: bool, timeout_seconds: float
) -> PromotionView:
    """Look at a promotion until it rests or is over, or the time is up; return it as it is then."""
    deadline = time.monotonic() + timeout_seconds
    view = promotion
    while view.state in OPEN_STATES and time.monotonic() < deadline:
        unsettled = (
            view.state is PromotionState.AWAITING_APPROVAL and view.required_approvals <= view.approvals
        )
        if view.state in _RESTING and not unsettled and not to_the_end:
            return view
        time.sleep(_POLL_SECONDS)
        view = client.approvals.get(view.id)
    return view


def read_moment(text: str, option: str) -> datetime:
    """Read a moment with its time zone.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no moment; write 2026-01-31T12:00:00Z", param=option) from error
    if moment.tzinfo is None:
        raise InvalidRequest(f"{text!r} has no time zone; write 2026-01-31T12:00:00Z", param=option)
    return moment


def _say(view: PromotionView) -> None:
    screen = Screen()
    screen.print(promotion_details(view))
    if view.state is PromotionState.AWAITING_APPROVAL:
        screen.print(f"\nAn approver goes on with: steelyard approvals approve {view.id}")


def _event_line(event: RegistryEventView) -> str:
    return f"{format_time(event.created_at)}  {event.type}  {printable(event.message)}"


def _exit_code(view: PromotionView, *, to_the_end: bool) -> ExitCode:
    if view.state is PromotionState.PROMOTED:
        return ExitCode.OK
    if view.state in _RESTING and not to_the_end:
        return ExitCode.OK
    return ExitCode.TIMED_OUT if view.state in OPEN_STATES else ExitCode.JOB_FAILED

"""`gates`, `policies` and `freezes`: what promotions must keep to."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from steelyard.cli.formats import format_time
from steelyard.cli.models import read_moment
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, tell_removed, write_json
from steelyard.cli.session import connect
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.access import ProjectRole
from steelyard.specs.policies import ApprovalPolicy, FreezeView, PolicyView
from steelyard.specs.promotions import Alias
from steelyard.specs.views import ListView

_PANEL = "Models"

OrganizationName = Annotated[
    str | None,
    typer.Option(
        "--organization",
        metavar="NAME",
        help="For all projects of this organization, by its owner; none of them loosens it.",
    ),
]
To = Annotated[Alias, typer.Option("--to", help="Before which alias.")]


def register(app: typer.Typer) -> None:
    """Add the groups."""
    _group(
        app,
        "gates",
        "What a version's figures must keep before an alias moves to it.",
        {"list": list_gates, "set": set_gate, "remove": remove_gate},
    )
    _group(
        app,
        "policies",
        "Who must agree before an alias moves.",
        {"list": list_policies, "set": set_policy, "remove": remove_policy},
    )
    _group(
        app,
        "freezes",
        "Times in which aliases are not promoted.",
        {"list": list_freezes, "add": add_freeze, "remove": remove_freeze},
    )


def list_gates(
    to: Annotated[Alias | None, typer.Option("--to", help="Only those before this alias.")] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """List the gates of a project, its organization's among them."""
    with connect(project) as client:
        found = client.rules.gates(to)
    if as_json:
        write_json(ListView(data=found))
        return
    table = Table("ID", "TO", "METRIC", "BOUND", "SET FOR", "BY", box=None)
    for view in found:
        bound = ", ".join(f"{name} {value}" for name, value in view.gate.items() if name != "metric")
        metric = printable(str(view.gate["metric"]))
        table.add_row(view.id, view.alias, metric, bound, view.scope, printable(view.created_by))
    Screen().print(table if found else "No gates; `steelyard gates set METRIC --to prod --min 0.8` sets one.")


def set_gate(
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="suite/metric, such as heldout/loss.")],
    to: To,
    minimum: Annotated[float | None, typer.Option("--min", help="At least.")] = None,
    maximum: Annotated[float | None, typer.Option("--max", help="At most.")] = None,
    max_regression: Annotated[
        float | None,
        typer.Option("--max-regression", help="At most so much worse than what the alias points to now."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="The bound must be shown at this, as 0.95.")
    ] = None,
    min_samples: Annotated[int | None, typer.Option("--min-samples", help="Of so many samples.")] = None,
    suite_digest: Annotated[
        str | None,
        typer.Option("--suite-digest", metavar="SHA256", help="With this content of the suite alone."),
    ] = None,
    organization: OrganizationName = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Put a gate before an alias. A figure that was not measured never passes."""
    gate: dict[str, Any] = {
        "metric": metric,
        "min": minimum,
        "max": maximum,
        "max_regression": max_regression,
        "confidence": confidence,
        "min_samples": min_samples,
        "suite_digest": suite_digest,
    }
    given = {name: value for name, value in gate.items() if value is not None}
    with connect(project, persistent=True) as client:
        view = client.rules.set_gate(to, given, organization=organization)
    if as_json:
        write_json(view)
        return
    Screen().print(f"{view.id}: {printable(metric)} stands before {view.alias}.")


def remove_gate(
    gate: Annotated[str, typer.Argument(metavar="GATE", help="Id, as `gates list` shows it.")],
    organization: OrganizationName = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a gate away."""
    with connect(project, persistent=True) as client:
        client.rules.remove_gate(gate, organization=organization)
    tell_removed("gate", gate, f"{printable(gate)} is gone.", as_json)


def list_policies(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show who must agree before each alias moves."""
    with connect(project) as client:
        found = client.rules.policies()
    if as_json:
        write_json(ListView(data=found))
        return
    table = Table("TO", "APPROVERS", "ROLES", "SELF", "STAGE BEFORE", "EXPIRES", "SET BY", box=None)
    for view in found:
        table.add_row(*_policy_row(view))
    Screen().print(table)


def set_policy(
    to: Annotated[Alias, typer.Argument(metavar="ALIAS", help="dev, staging or prod.")],
    approvers: Annotated[int, typer.Option("--approvers", min=0, max=10, help="How many people must agree.")],
    roles: Annotated[
        list[ProjectRole] | None,
        typer.Option("--role", help="Roles of which an approver must hold one; repeatable."),
    ] = None,
    allow_self_approval: Annotated[
        bool, typer.Option("--allow-self-approval", help="Who asked or trained may approve; it is recorded.")
    ] = False,
    skip_stages: Annotated[
        bool, typer.Option("--skip-stages", help="A version need not have been in the stage before.")
    ] = False,
    expires_after_seconds: Annotated[
        int | None, typer.Option("--expires-after", metavar="SECONDS", help="Unset: seven days.")
    ] = None,
    organization: OrganizationName = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Say who must agree before an alias moves. A project only makes its organization's policy stricter."""
    given: dict[str, Any] = {
        "approvers": approvers,
        "allow_self_approval": allow_self_approval,
        "requires_stage_before": not skip_stages,
    }
    if roles:
        given["roles"] = roles
    if expires_after_seconds is not None:
        given["expires_after_seconds"] = expires_after_seconds
    policy = _policy(given)
    with connect(project, persistent=True) as client:
        client.rules.set_policy(to, policy, organization=organization)
        holds = next(each for each in client.rules.policies() if each.alias is to)
    if as_json:
        write_json(holds)
        return
    people = "person" if holds.policy.approvers == 1 else "people"
    Screen().print(f"{holds.policy.approvers} {people} must agree before {to} moves.")
    if organization is None and holds.policy != policy:
        Screen(stderr=True).print("The organization asks for more; the stricter of both holds.")


def remove_policy(
    to: Annotated[Alias, typer.Argument(metavar="ALIAS", help="dev, staging or prod.")],
    organization: OrganizationName = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Forget what was set for an alias."""
    with connect(project, persistent=True) as client:
        client.rules.remove_policy(to, organization=organization)
    tell_removed("policy", to.value, f"What was set for {to} is forgotten.", as_json)


def list_freezes(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List freeze windows, and which of them hold now."""
    with connect(project) as client:
        found = client.rules.freezes()
    if as_json:
        write_json(ListView(data=found))
        return
    table = Table("ID", "ALIASES", "WHEN", "NOW", "SET FOR", "REASON", box=None)
    for view in found:
        now = f"frozen until {format_time(view.until)}" if view.until else "-"
        aliases = ", ".join(view.aliases)
        table.add_row(view.id, aliases, _when(view), now, view.scope, printable(view.reason))
    Screen().print(table if found else "No freeze windows.")


def add_freeze(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    starts: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="As 2026-12-20T00:00:00Z; with --until.")
    ] = None,
    ends: Annotated[str | None, typer.Option("--until", metavar="TIME", help="End of the span.")] = None,
    days: Annotated[
        list[str] | None, typer.Option("--day", help="Every week on this day, as friday; repeatable.")
    ] = None,
    hours: Annotated[
        str | None,
        typer.Option("--hours", metavar="FROM-TO", help="With --day: as 18:00-08:00, over midnight too."),
    ] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", help="Of --hours, as Europe/Berlin.")] = "UTC",
    aliases: Annotated[list[Alias] | None, typer.Option("--alias", help="Unset: prod; repeatable.")] = None,
    organization: OrganizationName = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Let aliases not be promoted for a time, once or every week. A rollback may always be."""
    window = _window(starts, ends, days or [], hours, time_zone)
    chosen = [alias.value for alias in aliases or [Alias.PROD]]
    with connect(project, persistent=True) as client:
        view = client.rules.add_freeze(window, aliases=chosen, reason=reason, organization=organization)
    if as_json:
        write_json(view)
        return
    Screen().print(f"{view.id}: {', '.join(chosen)} {_when(view)}.")


def remove_freeze(
    freeze: Annotated[str, typer.Argument(metavar="FREEZE", help="Id, as `freezes list` shows it.")],
    organization: OrganizationName = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a freeze window away."""
    with connect(project, persistent=True) as client:
        client.rules.remove_freeze(freeze, organization=organization)
    tell_removed("freeze", freeze, f"{printable(freeze)} is gone.", as_json)


def _group(app: typer.Typer, name: str, words: str, commands: Mapping[str, Callable[..., None]]) -> None:
    group = typer.Typer(no_args_is_help=True, help=words)
    for verb, command in commands.items():
        group.command(verb)(command)
    app.add_typer(group, name=name, rich_help_panel=_PANEL)


def _policy(given: dict[str, Any]) -> ApprovalPolicy:
    try:
        return ApprovalPolicy.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{param}: {first['msg']}", param=param) from error


def _policy_row(view: PolicyView) -> list[str]:
    policy = view.policy
    return [
        view.alias.value,
        str(policy.approvers),
        ", ".join(policy.roles),
        "allowed" if policy.allow_self_approval else "no",
        "needed" if policy.requires_stage_before else "no",
        f"{policy.expires_after_seconds / 86400:g} days",
        printable(view.updated_by or "organization or default"),
    ]


def _window(
    starts: str | None, ends: str | None, days: list[str], hours: str | None, time_zone: str
) -> dict[str, Any]:
    if days:
        first, dash, last = (hours or "00:00-00:00").partition("-")
        if not dash:
            raise InvalidRequest(f"{hours!r} is no span of hours; write 18:00-08:00", param="--hours")
        return {"kind": "weekly", "days": days, "starts": first, "ends": last, "time_zone": time_zone}
    if starts is None or ends is None:
        raise InvalidRequest("give --from and --until, or --day (with --hours)", param="--from")
    span = {"starts_at": read_moment(starts, "--from"), "ends_at": read_moment(ends, "--until")}
    return {"kind": "span", **{name: moment.isoformat() for name, moment in span.items()}}


def _when(view: FreezeView) -> str:
    window = view.window
    if window.kind == "span":
        return f"from {format_time(window.starts_at)} to {format_time(window.ends_at)}"
    hours = f"{window.starts:%H:%M}-{window.ends:%H:%M} {window.time_zone}"
    return f"every {', '.join(window.days)} {hours}"

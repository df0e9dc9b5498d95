"""`pool` and `quota`: what there is to train on, and which part of it is whose."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer
import yaml
from pydantic import ValidationError
from rich.console import Group
from rich.table import Table
from rich.text import Text

from steelyard.cli.formats import format_age, format_bytes, format_figure
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.session import connect
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.budgets import plain
from steelyard.specs.pool import (
    FlavorSpec,
    FlavorView,
    IdlePolicy,
    Interruption,
    NodeView,
    PoolSettings,
    PoolView,
    ProjectQuotas,
    QuotaChange,
)

Made = TypeVar("Made")
_PANEL = "Platform"
_STYLES = {"up": "green", "interrupted": "yellow", "down": "bold red"}

FlavorName = Annotated[str, typer.Option("--flavor", metavar="NAME", help="A kind of nodes.")]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="As `steelyard pool nodes` names it.")]
ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Whose quota.")]


def register(app: typer.Typer) -> None:
    """Add the groups."""
    pool = typer.Typer(no_args_is_help=True, help="Nodes, flavors, and the rules of the scheduler.")
    for name, command in (
        ("show", show),
        ("nodes", nodes),
        ("set", set_rules),
        ("interrupt", interrupt),
        ("restore", restore),
    ):
        pool.command(name)(command)
    flavors = typer.Typer(no_args_is_help=True, help="Kinds of nodes, and what their GPUs cost.")
    flavors.command("set")(set_flavor)
    flavors.command("list")(list_flavors)
    pool.add_typer(flavors, name="flavors")
    app.add_typer(pool, name="pool", rich_help_panel=_PANEL)
    quota = typer.Typer(no_args_is_help=True, help="Which part of the pool is a project's.")
    for name, command in (("set", set_quota), ("show", show_quota), ("idle", set_idle)):
        quota.command(name)(command)
    app.add_typer(quota, name="quota", rich_help_panel=_PANEL)


def show(as_json: JsonFlag = False) -> None:
    """Show flavors, nodes, and the rules that differ from the defaults."""
    with connect() as client:
        view = client.pool.show()
    if as_json:
        write_json(view)
        return
    Screen().print(_pool(view))


def nodes(as_json: JsonFlag = False) -> None:
    """List the nodes, with what of each is free."""
    with connect() as client:
        found = client.pool.show().nodes
    if as_json:
        write_json(found)
        return
    Screen().print(
        _nodes(found) if found else "No node has reported yet; `steelyard status` shows the workers."
    )


def set_rules(
    file: Annotated[
        Path | None, typer.Option("--from-file", metavar="FILE", help="YAML or JSON: the whole settings.")
    ] = None,
    currency: Annotated[str | None, typer.Option("--currency", metavar="CODE", help="As EUR.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set the currency, or all rules of the scheduler from a file; `show --json` prints the present ones."""
    if (file is None) == (currency is None):
        raise InvalidRequest("Give --currency, or --from-file.")
    with connect(persistent=True) as client:
        present = client.pool.show().settings
        wanted = (
            _settings(file)
            if file
            else _valid(lambda: PoolSettings(currency=currency or "", policy=present.policy))
        )
        found = client.pool.put_settings(wanted)
    if as_json:
        write_json(found)
        return
    Screen().print("The scheduler goes by these rules from its next round on.")


def set_flavor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As a100.")],
    price: Annotated[
        str | None, typer.Option("--price", metavar="N", help="Of a GPU-hour. Unset: it costs nothing.")
    ] = None,
    gpu_type: Annotated[str, typer.Option("--gpu-type", metavar="NAME", help="As people call it.")] = "",
    spot: Annotated[
        bool, typer.Option("--spot", help="Its nodes can be taken back at short notice.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Set what a flavor is and costs, in place of what it was. What was charged before keeps its price."""
    spec = _valid(lambda: FlavorSpec(gpu_type=gpu_type, spot=spot, price_per_gpu_hour=_decimal(price)))
    with connect(persistent=True) as client:
        view = client.pool.put_flavor(name, spec)
    if as_json:
        write_json(view)
        return
    Screen().print(_flavors([view]))


def list_flavors(as_json: JsonFlag = False) -> None:
    """List the flavors, with the GPUs of their nodes that are up."""
    with connect() as client:
        found = client.pool.show().flavors
    if as_json:
        write_json(found)
        return
    Screen().print(_flavors(found))


def interrupt(
    node: NodeArgument,
    in_seconds: Annotated[
        float, typer.Option("--in-seconds", metavar="N", min=0, help="So long jobs have to save and leave.")
    ] = 120.0,
    reason: Annotated[str, typer.Option("--reason", help="What the jobs' events say.")] = (
        "spot capacity is taken back"
    ),
    as_json: JsonFlag = False,
) -> None:
    """Announce that a node is taken away: its jobs save and queue again, and it gets no new ones.

    It is back when its agent starts anew after the deadline, or with `steelyard pool restore`.
    """
    notice = _valid(lambda: Interruption(in_seconds=in_seconds, reason=reason))
    with connect(persistent=True) as client:
        view = client.pool.interrupt(node, notice)
    if as_json:
        write_json(view)
        return
    Screen().print(f"{printable(view.name)} gets no new work; {view.jobs} jobs were asked to save and leave.")


def restore(node: NodeArgument, as_json: JsonFlag = False) -> None:
    """Let a node take work again."""
    with connect(persistent=True) as client:
        view = client.pool.restore(node)
    if as_json:
        write_json(view)
        return
    Screen().print(f"{printable(view.name)} takes work again.")


def set_quota(
    project: ProjectArgument,
    flavor: FlavorName,
    nominal: Annotated[int, typer.Option("--nominal", metavar="N", min=0, help="GPUs that are guaranteed.")],
    borrowing_limit: Annotated[
        int | None,
        typer.Option("--borrowing-limit", metavar="N", min=0, help="GPUs beyond them. Unset: any."),
    ] = None,
    lending_limit: Annotated[
        int | None,
        typer.Option("--lending-limit", metavar="N", min=0, help="Of them, lent at most. Unset: all."),
    ] = None,
    weight: Annotated[
        float | None, typer.Option("--weight", metavar="W", min=0, help="Part of what is lent; at first 1.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set a project's quota of one flavor, in place of the one it had."""
    change = _valid(
        lambda: QuotaChange(
            nominal=nominal, borrowing_limit=borrowing_limit, lending_limit=lending_limit, weight=weight
        )
    )
    with connect(project, persistent=True) as client:
        _print_quotas(client.quotas.put(flavor, change), as_json)


def show_quota(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show what a project may have, holds, borrows and lends, and what it has used lately."""
    with connect(project) as client:
        _print_quotas(client.quotas.get(), as_json)


def set_idle(
    project: ProjectArgument,
    action: Annotated[
        Literal["none", "warn", "requeue", "stop", "default"],
        typer.Option("--action", help="After a warning; default: as the installation says."),
    ],
    window_seconds: Annotated[float, typer.Option("--window-seconds", min=1, help="So long.")] = 1800.0,
    warning_seconds: Annotated[
        float, typer.Option("--warning-seconds", min=0, help="From the warning to the action.")
    ] = 600.0,
    min_gpu_utilisation: Annotated[
        float, typer.Option("--min-gpu-utilisation", min=0, max=1, help="Less is idle, where measured.")
    ] = 0.05,
    min_steps: Annotated[int, typer.Option("--min-steps", min=1, help="Fewer in a window is idle.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Say what happens to a project's attempts that hold GPUs and don't use them."""
    with connect(project, persistent=True) as client:
        if action == "default":
            _print_quotas(client.quotas.remove_idle_policy(), as_json)
            return
        policy = _valid(
            lambda: IdlePolicy(
                action=action,
                window_seconds=window_seconds,
                warning_seconds=warning_seconds,
                min_gpu_utilisation=min_gpu_utilisation,
                min_steps=min_steps,
            )
        )
        _print_quotas(client.quotas.put_idle_policy(policy), as_json)


def _pool(view: PoolView) -> Group:
    changed = view.settings.policy.model_dump(mode="json", exclude_defaults=True)
    rules = ", ".join(f"{name} {value}" for name, value in changed.items()) or "the defaults"
    return Group(
        Text(
            f"{view.running_jobs} jobs run, {view.queued_jobs} wait. Prices are in {view.settings.currency}."
        ),
        Text(""),
        _flavors(view.flavors),
        Text(""),
        _nodes(view.nodes),
        Text(""),
        Text(printable(f"Rules: {rules}.")),
    )


def _flavors(found: list[FlavorView]) -> Table:
    table = _table("FLAVOR", "GPU", "KIND", "GPU-HOUR", "NODES", "GPUS", "FREE")
    for view in found:
        price = "-" if view.price_per_gpu_hour is None else plain(view.price_per_gpu_hour)
        table.add_row(
            printable(view.name), printable(view.gpu_type), "spot" if view.spot else "on demand", price,
            str(view.nodes), str(view.gpus), str(view.free_gpus),
        )  # fmt: skip
    return table


def _nodes(found: list[NodeView]) -> Table:
    table = _table("NODE", "STATE", "FLAVOR", "JOBS", "FREE GPUS", "FREE CPUS", "FREE MEMORY", "SEEN")
    for view in found:
        name = f"{view.name} (simulated)" if view.simulated else view.name
        table.add_row(
            printable(name), Text(view.state, style=_STYLES[view.state]), printable(view.flavor),
            str(view.jobs), f"{view.free_gpus} of {view.gpus}", f"{view.free_cpus} of {view.cpus}",
            format_bytes(max(0, view.free_memory_bytes)), f"{format_age(view.last_seen_at)} ago",
        )  # fmt: skip
    return table


def _print_quotas(view: ProjectQuotas, as_json: bool) -> None:
    if as_json:
        write_json(view)
        return
    table = _table("FLAVOR", "NOMINAL", "HELD", "BORROWED", "LENT", "MAY BORROW", "MAY LEND", "POOL")
    for figures in view.quotas:
        table.add_row(
            printable(figures.flavor), str(figures.nominal), str(figures.held_gpus),
            str(figures.borrowed_gpus), str(figures.lent_gpus), _limit(figures.borrowing_limit),
            _limit(figures.lending_limit), str(figures.flavor_gpus),
        )  # fmt: skip
    idle = f"idle attempts: {view.idle.action} after {view.idle.window_seconds:g} s"
    Screen().print(
        f"{printable(view.project)}: weight {view.weight:g}, share {format_figure(view.share)},"
        f" {format_figure(view.used_gpu_hours)} GPU-hours of late, {view.queued_jobs} jobs wait; {idle}."
    )
    Screen().print(table if view.quotas else "It has no quota: it borrows what is idle.")


def _limit(value: int | None) -> str:
    return "all" if value is None else str(value)


def _settings(file: Path) -> PoolSettings:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{file} can't be read: {error}", param="--from-file") from error
    return _valid(lambda: PoolSettings.model_validate(document, strict=False))


def _valid(make: Callable[[], Made]) -> Made:
    try:
        return make()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{where}: {first['msg'].removeprefix('Value error, ')}", param=where) from error


def _decimal(value: str | None) -> Decimal | None:
    try:
        return None if value is None else Decimal(value)
    except InvalidOperation as error:
        raise InvalidRequest(f"--price {value}: give a number, such as 2.50.") from error


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table

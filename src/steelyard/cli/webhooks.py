"""`webhooks add|list|remove|deliveries`: where a project's events are sent."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.table import Table

from steelyard.cli.formats import format_time
from steelyard.cli.models import After, Limit
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, tell_removed, write_json
from steelyard.cli.session import connect
from steelyard.specs.views import ListView

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Id, as hook_06dq...")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Where events of models and promotions are sent, signed.")
    commands: dict[str, Callable[..., None]] = {
        "add": add,
        "list": list_webhooks,
        "remove": remove,
        "deliveries": deliveries,
    }
    for name, command in commands.items():
        group.command(name)(command)
    app.add_typer(group, name="webhooks", rich_help_panel="Models")


def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://...")],
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--event", help="As promotion.awaiting_approval or promotion.*; repeatable. Unset: all."
        ),
    ] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Send events to an address. Prints the secret of the signatures, this once."""
    with connect(project) as client:
        view = client.webhooks.add(url, events or ["*"])
    if as_json:
        write_json(view)
        return
    screen = Screen()
    screen.print(f"{view.id} sends {', '.join(view.events)} to {printable(view.url)}")
    screen.print(f"Secret of its signatures (not shown again): {view.secret}")


def list_webhooks(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List webhooks; secrets are not shown."""
    with connect(project) as client:
        found = client.webhooks.search()
    if as_json:
        write_json(ListView(data=found))
        return
    table = Table("ID", "URL", "EVENTS", "BY", "SINCE", box=None)
    for view in found:
        url, by = printable(view.url), printable(view.created_by)
        table.add_row(view.id, url, ", ".join(view.events), by, format_time(view.created_at))
    Screen().print(table if found else "No webhooks; `steelyard webhooks add URL` makes one.")


def remove(webhook: WebhookId, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Send nothing more there; what is under way is dropped."""
    with connect(project, persistent=True) as client:
        client.webhooks.remove(webhook)
    tell_removed("webhook", webhook, f"{printable(webhook)} is gone.", as_json)


def deliveries(
    webhook: WebhookId,
    limit: Limit = 20,
    after: After = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what was sent to a webhook, newest first, and what became of it."""
    with connect(project) as client:
        page = client.webhooks.deliveries(webhook, limit=limit, after=after)
    if as_json:
        write_json(page)
        return
    table = Table("ID", "EVENT", "STATE", "TRIES", "STATUS", "WHEN", "ERROR", box=None)
    for each in page.data:
        status, error = str(each.last_status or "-"), printable(each.last_error or "")
        table.add_row(
            each.id, each.type, each.state, str(each.tries), status, format_time(each.created_at), error
        )
    Screen().print(table if page.data else "Nothing was sent yet.")

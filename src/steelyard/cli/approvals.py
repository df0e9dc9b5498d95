"""`approvals list|show|approve|reject|withdraw`: the inbox of those who must agree."""

from collections.abc import Callable
from typing import Annotated

import typer

from steelyard.cli.models import After, Limit, Reason, follow
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, write_json
from steelyard.cli.promotion_tables import inbox_table, promotion_details
from steelyard.cli.session import connect
from steelyard.specs.promotions import OPEN_STATES, PromotionState, PromotionView

_SETTLE_SECONDS = 15.0

PromotionId = Annotated[str, typer.Argument(metavar="PROMOTION", help="Id, as promo_06dq...")]
Binding = Annotated[
    str | None,
    typer.Option(
        "--binding", metavar="DIGEST", help="What you read; unset: what `show` says now. Refused if changed."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Promotions that wait for somebody's yes or no.")
    commands: dict[str, Callable[..., None]] = {
        "list": list_promotions,
        "show": show,
        "approve": approve,
        "reject": reject,
        "withdraw": withdraw,
    }
    for name, command in commands.items():
        group.command(name)(command)
    app.add_typer(group, name="approvals", rich_help_panel="Models")


def list_promotions(
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Of one model.")] = None,
    limit: Limit = 20,
    after: After = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """List promotions that are not over, newest first."""
    states = [] if everything else sorted(OPEN_STATES)
    with connect(project) as client:
        page = client.approvals.search(states=states, model=model, limit=limit, after=after)
    if as_json:
        write_json(page)
        return
    Screen().print(inbox_table(page.data) if page.data else "Nothing waits.")
    if page.has_more:
        Screen(stderr=True).print(f"There are more: --after {page.next}.")


def show(promotion: PromotionId, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show a promotion: gates with their numbers, evidence, and what was said so far."""
    with connect(project) as client:
        _print(client.approvals.get(promotion), as_json)


def approve(
    promotion: PromotionId,
    reason: Reason = "",
    binding: Binding = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Agree to a promotion as it is shown. If model, evidence or gates change, the yes is void."""
    with connect(project, persistent=True) as client:
        view = client.approvals.get(promotion)
        view = client.approvals.approve(promotion, binding or view.binding or "", reason=reason)
        if view.state is PromotionState.AWAITING_APPROVAL and view.approvals >= view.required_approvals:
            view = follow(client, view, to_the_end=False, timeout_seconds=_SETTLE_SECONDS)
        _print(view, as_json)


def reject(
    promotion: PromotionId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the record.")],
    binding: Binding = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Refuse a promotion, which ends it."""
    with connect(project, persistent=True) as client:
        view = client.approvals.get(promotion)
        _print(client.approvals.reject(promotion, binding or view.binding or "", reason=reason), as_json)


def withdraw(promotion: PromotionId, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Take your own request back."""
    with connect(project, persistent=True) as client:
        _print(client.approvals.withdraw(promotion), as_json)


def _print(view: PromotionView, as_json: bool) -> None:
    if as_json:
        write_json(view)
    else:
        Screen().print(promotion_details(view))

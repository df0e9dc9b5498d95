"""The demo's last step: its model goes to staging through gates and an approval, and is verified there.

Every part finds what an earlier run did: gates that are set, an alias that points where it should.
"""

from typing import Any

from rich.text import Text

from steelyard.cli.models import follow
from steelyard.cli.output import Screen
from steelyard.cli.promotion_tables import gate_table
from steelyard.client.errors import ClientError
from steelyard.client.sync_client import Client
from steelyard.specs.gates import Judgement
from steelyard.specs.promotions import Alias, PromotionState, PromotionView
from steelyard.specs.views import ModelVersionRef

GATES: tuple[dict[str, Any], ...] = (
    {"metric": "heldout/loss", "max": 3.8, "min_samples": 50},
    {"metric": "heldout/loss", "max_regression": 0.1},
)
"""Before staging. The second holds a later version against the one that is there."""
_PATIENCE_SECONDS = 180.0


def promote_demo(client: Client, screen: Screen, model: ModelVersionRef) -> bool:
    """Bring a version to staging, as a person would, and say whether it is there and whole."""
    for gate in GATES:
        client.rules.set_gate(Alias.STAGING, gate)
    for alias in (Alias.DEV, Alias.STAGING):
        if client.models.get(model.name).aliases.get(alias) == model.version:
            screen.print(f"  {alias} points to {model.name}@{model.version} already")
            continue
        if not _promote(client, screen, model, alias):
            return False
    return _verify(client, screen, model)


def _promote(client: Client, screen: Screen, model: ModelVersionRef, alias: Alias) -> bool:
    ref = f"{model.name}@{model.version}"
    screen.print(f"  steelyard models promote {ref} --to {alias}")
    asked = client.models.promote(model.name, model.version, alias, reason="the demo")
    view = follow(client, asked, to_the_end=False, timeout_seconds=_PATIENCE_SECONDS)
    if alias is Alias.STAGING and view.judgement is not None:
        screen.print(gate_table(Judgement.model_validate(view.judgement)))
    if view.state is PromotionState.AWAITING_APPROVAL and view.approvals < view.required_approvals:
        view = _approve(client, screen, view)
    good = view.state is PromotionState.PROMOTED
    screen.print(Text(f"  {view.message}", style="green" if good else "bold red"))
    return good


def _approve(client: Client, screen: Screen, view: PromotionView) -> PromotionView:
    """Approve as whoever runs the demo. Where that may not be, it waits for somebody else, and stays so."""
    screen.print(f"  steelyard approvals approve {view.id}")
    try:
        view = client.approvals.approve(view.id, view.binding or "", reason="the demo")
    except ClientError as error:
        screen.print(Text(f"  {error.message}", style="yellow"))
        return view
    for note in (note for decision in view.decisions for note in decision.notes):
        screen.print(f"  noted in the record: {note}")
    return follow(client, view, to_the_end=True, timeout_seconds=_PATIENCE_SECONDS)


def _verify(client: Client, screen: Screen, model: ModelVersionRef) -> bool:
    screen.print(f"  steelyard verify {model.name}@{model.version}")
    found = client.lineage.verify(model.name, model.version)
    bad = [check for check in found.checks if check.status in ("differs", "missing")]
    for check in bad:
        screen.print(Text(f"  {check.subject} {check.status}: {check.message}", style="bold red"))
    if found.verified:
        screen.print(
            Text(f"  verified: {len(found.checks)} digests of its lineage are as sealed", style="green")
        )
    return found.verified

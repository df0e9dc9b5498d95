"""Promotions, gates and moves as people see them."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.cli.formats import format_figure, format_time
from steelyard.cli.output import printable
from steelyard.specs.gates import Check, GateJudgement, Judgement, Verdict
from steelyard.specs.promotions import PromotionState, PromotionSummary, PromotionView, TransitionView

_VERDICTS = {
    Verdict.PASS: Text("pass", style="green"),
    Verdict.FAIL: Text("fail", style="bold red"),
    Verdict.NOT_ENOUGH_EVIDENCE: Text("not enough evidence", style="yellow"),
}
_GOOD = frozenset({PromotionState.PROMOTED})
_OPEN = frozenset({PromotionState.CHECKING, PromotionState.AWAITING_APPROVAL, PromotionState.AWAITING_THAW})


def gate_table(judgement: Judgement) -> RenderableType:
    """Show each gate with the numbers that it was judged by."""
    if not judgement.gates:
        return Text("no gates are set; 'steelyard gates set' puts one before an alias", style="yellow")
    table = Table("GATE", "BOUND", "FIGURE", "LIMIT", "SAMPLES", "SET BY", "VERDICT", box=None)
    for gate in judgement.gates:
        for check in gate.checks:
            table.add_row(*_gate_row(gate, check))
    reasons = [Text(f"  {printable(reason)}", style="yellow") for reason in judgement.reasons]
    return Group(table, *reasons)


def promotion_details(view: PromotionView) -> RenderableType:
    """Show what an approver reads before deciding."""
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(view):
        facts.add_row(Text(name, style="dim"), value)
    parts: list[RenderableType] = [facts]
    if view.judgement is not None:
        parts += [Text(""), gate_table(Judgement.model_validate(view.judgement))]
    if view.decisions:
        parts += [Text(""), _decision_table(view)]
    return Group(*parts)


def inbox_table(promotions: Sequence[PromotionSummary]) -> Table:
    """Show promotions, a line each."""
    table = Table("ID", "MODEL", "TO", "STATE", "APPROVALS", "BY", "AGE", "MESSAGE", box=None)
    for each in promotions:
        table.add_row(
            each.id,
            f"{printable(each.model)}@{each.version}",
            each.to.value,
            state_text(each.state),
            f"{each.approvals}/{each.required_approvals}",
            printable(each.requested_by),
            format_time(each.created_at),
            printable(each.message),
        )
    return table


def transition_table(moves: Sequence[TransitionView]) -> Table:
    """Show moves of an alias, a line each."""
    table = Table("#", "WHEN", "FROM", "TO", "HOW", "BY", "APPROVALS", "REASON", box=None)
    for move in moves:
        table.add_row(
            str(move.sequence),
            format_time(move.at),
            str(move.from_version or "-"),
            str(move.to_version),
            move.kind,
            printable(move.actor),
            str(len(move.approvals)),
            printable("; ".join([move.reason, *move.notes]).strip("; ")),
        )
    return table


def state_text(state: PromotionState) -> Text:
    """Show a state in its colour."""
    style = "green" if state in _GOOD else "cyan" if state in _OPEN else "red"
    return Text(state.value.replace("_", " "), style=style)


def _gate_row(gate: GateJudgement, check: Check) -> list[RenderableType]:
    bound = "-" if check.bound is None else f"{check.kind} {format_figure(check.bound)}"
    return [
        Text(printable(gate.gate.metric)),
        bound,
        _figure(check.value if check.value is not None else gate.value),
        _figure(check.limit),
        str(check.n or gate.n or "-"),
        gate.scope,
        _VERDICTS[check.verdict],
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else format_figure(value)


def _facts(view: PromotionView) -> list[tuple[str, RenderableType]]:
    before = "nothing" if view.from_version is None else f"{printable(view.model)}@{view.from_version}"
    facts: list[tuple[str, RenderableType]] = [
        ("promotion", view.id),
        ("move", Text(f"{view.to} from {before} to {printable(view.model)}@{view.version}")),
        ("state", state_text(view.state)),
        ("", Text(printable(view.message))),
        ("asked by", Text(f"{printable(view.requested_by)}  {printable(view.reason)}")),
        ("approvals", f"{view.approvals} of {view.required_approvals}"),
    ]
    if view.expires_at is not None and view.state in _OPEN:
        facts.append(("expires", format_time(view.expires_at)))
    if view.model_digest is not None:
        facts.append(("model", view.model_digest))
    facts += [("evidence", Text(digest)) for digest in view.evidence.values()]
    if view.binding is not None:
        facts.append(("binding", view.binding))
    return facts


def _decision_table(view: PromotionView) -> Table:
    table = Table("WHO", "SAID", "WHEN", "ROLES", "REASON", box=None)
    for each in view.decisions:
        table.add_row(
            printable(each.approver),
            each.verdict,
            format_time(each.at),
            ", ".join(each.roles),
            printable("; ".join([each.reason, *each.notes]).strip("; ")),
        )
    return table

"""Rows as the API shows them. Pure."""

from collections.abc import Sequence

from steelyard.specs.promotions import (
    Alias,
    AliasView,
    DecisionView,
    PromotionState,
    PromotionSummary,
    PromotionView,
    RegistryEventView,
    TransitionView,
)
from steelyard.storage.tables import AliasRow, ApprovalRow, ModelEventRow, PromotionRow, TransitionRow


def alias_view(row: AliasRow) -> AliasView:
    """Show where an alias points."""
    return AliasView(
        alias=Alias(row.alias), version=row.version, sequence=row.sequence, moved_at=row.moved_at
    )


def transition_view(row: TransitionRow) -> TransitionView:
    """Show a move."""
    return TransitionView.model_validate({name: getattr(row, name) for name in TransitionView.model_fields})


def promotion_summary(row: PromotionRow, approvals: int) -> PromotionSummary:
    """Show a promotion as a line."""
    return PromotionSummary(
        id=row.id,
        project=row.project_id,
        model=row.model,
        version=row.version,
        to=Alias(row.alias),
        state=PromotionState(row.state),
        message=row.message,
        requested_by=row.requested_by,
        approvals=approvals,
        required_approvals=row.required_approvals,
        expires_at=row.expires_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def promotion_view(row: PromotionRow, decisions: Sequence[ApprovalRow]) -> PromotionView:
    """Show a promotion whole."""
    given = sum(1 for each in decisions if each.verdict == "approve" and each.binding == row.binding)
    return PromotionView(
        **promotion_summary(row, given).model_dump(),
        reason=row.reason,
        from_version=row.from_version,
        model_digest=row.model_digest,
        evidence=row.evidence,
        judgement=row.judgement,
        binding=row.binding,
        policy=row.policy,
        decisions=[_decision_view(each) for each in decisions],
        freeze_override_by=row.freeze_override_by,
        transition_id=row.transition_id,
    )


def event_view(row: ModelEventRow) -> RegistryEventView:
    """Show an event."""
    return RegistryEventView.model_validate(
        {name: getattr(row, name) for name in RegistryEventView.model_fields}
    )


def _decision_view(row: ApprovalRow) -> DecisionView:
    return DecisionView.model_validate({name: getattr(row, name) for name in DecisionView.model_fields})

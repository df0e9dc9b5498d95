"""What a family tells of its children's ends: each once, in the look that sees it first."""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.hpo.trials import value_in
from steelyard.jobs.events import append_event
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason
from steelyard.storage.tables import JobRow

# A child that is started again ends again: the order notes which of its runs was told of, counted from one.
_UNTOLD = text(
    """
    UPDATE jobs SET child_order = child_order || jsonb_build_object('told', run_number + 1)
    WHERE parent_id = :parent AND state = ANY(:over)
        AND COALESCE(CAST(child_order ->> 'told' AS INTEGER), 0) <= run_number
    RETURNING id, child_key, state, status_reason, status_message, metrics, child_order
    """
)


async def tell_ends(session: AsyncSession, parent: JobRow) -> None:
    """Write an event of the family for each child that has ended since the last look.

    Part of the caller's transaction, which holds the parent's row.
    """
    ended = (await session.execute(_UNTOLD, {"parent": parent.id, "over": list(TERMINAL_STATES)})).all()
    metric = parent.spec.get("search", {}).get("metric")
    for row in sorted(ended, key=lambda row: row.child_key):
        value = value_in(row.metrics, metric) if metric else None
        await append_event(
            session, parent, "family.child_ended", _sentence(row, metric, value),
            level="warn" if row.state == JobState.FAILED else "info",
            data={
                "child": row.id,
                "key": row.child_key,
                "state": row.state,
                "reason": row.status_reason,
                "parameters": row.child_order["parameters"],
                "value": value,
            },
        )  # fmt: skip


def _sentence(row: Row[Any], metric: str | None, value: float | None) -> str:
    how = Reason.PRUNED.value if row.status_reason == Reason.PRUNED else row.state
    told = f"{row.child_key} ({row.id}) {how}"
    if row.state == JobState.SUCCEEDED:
        return told if value is None else f"{told}: {metric} {value:.6g}"
    return f"{told}: {row.status_message or row.status_reason}"

"""Writing a row in the transaction of the act, so neither stands without the other."""

from typing import Any, Literal

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.identity import Actor
from steelyard.storage.tables import AuditRow

Outcome = Literal["accepted", "refused"]


async def record(
    session: AsyncSession,
    actor: Actor,
    verb: str,
    object_kind: str,
    object_id: str,
    *,
    project_id: str | None = None,
    before_digest: str | None = None,
    after_digest: str | None = None,
    detail: dict[str, Any] | None = None,
    outcome: Outcome = "accepted",
) -> None:
    """Append one act to the trail. `detail` holds no secrets.

    Id, moment and transaction are the database's to set: no caller can choose them.

    Args:
        session: the transaction of the act; for a refused one, a transaction of its own.
        actor: who, with the request's id and source address.
        verb: the act, as `job.cancel`.
        object_kind: what kind of thing it was done to.
        object_id: which one.
        project_id: whose it is; None for what belongs to the organization.
        before_digest: digest of the thing as it was.
        after_digest: digest of the thing as it is now.
        detail: further facts.
        outcome: whether the act was done.
    """
    await session.execute(
        insert(AuditRow)
        .inline()
        .values(
            actor=f"{actor.kind}:{actor.id}",
            verb=verb,
            object_kind=object_kind,
            object_id=object_id,
            project_id=project_id,
            request_id=actor.request_id,
            source=actor.source,
            before_digest=before_digest,
            after_digest=after_digest,
            detail=detail or {},
            outcome=outcome,
        )
    )

"""The audit trail. A row is written in the transaction of the act, so neither stands without the other."""

from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.identity import Actor
from steelyard.storage.tables import AuditRow


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
) -> None:
    """Append one act to the trail. `detail` holds no secrets."""
    await session.execute(
        insert(AuditRow).values(
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
        )
    )

"""Writing a row in the transaction of the act, so neither stands without the other."""

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.identity import Actor
from steelyard.kit.canonical import digest_json
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
        detail: further facts. Where an API token was sent, its id is added as `token`.
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
            detail={**(detail or {}), **_token_of(actor)},
            outcome=outcome,
        )
    )


def _token_of(actor: Actor) -> dict[str, str]:
    return {} if actor.token_id is None else {"token": actor.token_id}


async def record_change(
    session: AsyncSession,
    actor: Actor,
    verb: str,
    object_kind: str,
    object_id: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    project_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append an act that changed something small: as `record`, with the thing as it was and is, digests too.

    Args:
        session: the transaction of the act.
        actor: who.
        verb: the act.
        object_kind: what kind of thing was changed.
        object_id: which one.
        before: what it was, as plain JSON without secrets; None where it wasn't there.
        after: what it is now; None where it is gone.
        project_id: whose it is.
        detail: further facts.
    """
    await record(
        session,
        actor,
        verb,
        object_kind,
        object_id,
        project_id=project_id,
        before_digest=None if before is None else digest_json(before),
        after_digest=None if after is None else digest_json(after),
        detail={**(detail or {}), "before": before, "after": after},
    )

"""The way back: one transaction, no gate, no approval, no freeze. It only goes to where the alias was."""

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.canonical import digest_json
from steelyard.kit.errors import Conflict, IdempotencyMismatch
from steelyard.kit.ids import new_id
from steelyard.rollouts import repository
from steelyard.rollouts.mirror import promise_mirror
from steelyard.rollouts.promotion import announce_move, wake_open
from steelyard.rollouts.stages import version_before
from steelyard.rollouts.views import transition_view
from steelyard.specs.access import Permission
from steelyard.specs.promotions import RollbackRequest, TransitionView
from steelyard.storage.database import Database
from steelyard.storage.tables import AliasRow, TransitionRow


class RollbackService:
    """Rolls aliases back. A request that is sent twice with one key goes back once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def roll_back(
        self, actor: Actor, project: str, name: str, request: RollbackRequest, key: str | None = None
    ) -> TransitionView:
        """Return an alias to the version before, or to a named one that it pointed to.

        Raises:
            Conflict: the alias points nowhere, or there is nothing to go back to.
            IdempotencyMismatch: the key came before with another request.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_ROLLBACK)
            here = await repository.lock_alias(session, checked, name, request.alias)
            earlier = await repository.transition_by_key(session, checked, key) if key else None
            if earlier is not None:
                return _answer(earlier, name, request)
            if here is None:
                raise Conflict(f"{request.alias} of {name} points to no version yet", param="alias")
            target = await _target(session, checked, name, request, here)
            transition = await _move(session, actor, checked, name, request, here, target, key)
            return transition_view(transition)


async def _target(
    session: AsyncSession, project: ProjectId, name: str, request: RollbackRequest, here: AliasRow
) -> int:
    moves = await repository.moves_of(session, project, name, request.alias)
    if request.to is None:
        target = version_before(moves)
        if target is None:
            raise Conflict(f"{request.alias} of {name} has no version before {here.version}", param="alias")
        return target
    if request.to == here.version:
        raise Conflict(f"{request.alias} points to {name}@{request.to} already", param="to")
    if all(move.to_version != request.to for move in moves):
        raise Conflict(
            f"{request.alias} never pointed to {name}@{request.to}; a rollback goes where the alias was, "
            f"'steelyard models promote {name}@{request.to} --to {request.alias}' goes elsewhere",
            param="to",
        )
    return request.to


async def _move(
    session: AsyncSession,
    actor: Actor,
    project: ProjectId,
    name: str,
    request: RollbackRequest,
    here: AliasRow,
    target: int,
    key: str | None,
) -> TransitionRow:
    version = await repository.find_version(session, project, name, target)
    transition = TransitionRow(
        id=new_id("move"),
        project_id=project,
        model=name,
        alias=request.alias.value,
        sequence=here.sequence + 1,
        kind="rollback",
        from_version=here.version,
        to_version=target,
        actor=actor.id,
        request_id=actor.request_id,
        request_key=key,
        reason=request.reason,
        model_digest=version.manifest_digest,
        evidence={},
        approvals=[],
        notes=[] if request.to is None else [f"to a named version: {target}"],
    )
    await repository.append_transition(session, transition)
    await announce_move(session, transition)
    await audit.record(
        session, actor, "alias.rollback", "model", f"{name}@{request.alias}", project_id=project,
        after_digest=version.manifest_digest,
        detail={
            "transition": transition.id, "from": here.version, "to": target, "reason": request.reason,
            "request": _digest(name, request),
        },
    )  # fmt: skip
    await promise_mirror(session, project, name, request.alias)
    await wake_open(session, project, name, request.alias)
    return transition


def _answer(earlier: TransitionRow, name: str, request: RollbackRequest) -> TransitionView:
    same = (earlier.model, earlier.alias, earlier.kind) == (name, request.alias, "rollback")
    if not same or request.to not in (None, earlier.to_version):
        raise IdempotencyMismatch("this idempotency key came before with another request; use a new one")
    return transition_view(earlier)


def _digest(name: str, request: RollbackRequest) -> str:
    return digest_json({"name": name, **request.model_dump(mode="json")})

"""The way of a version to prod over a real api and database: gates, approvals, the move, and back."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.shelf import ANN, ASKER, BEN, MODEL, OWNER, PROJECT, evaluate, people, shelve

from steelyard.governance.identity import Actor
from steelyard.kit.errors import Conflict, PermissionDenied
from steelyard.rollouts.promotion import PromotionService
from steelyard.rollouts.scopes import Scope
from steelyard.specs.gates import Gate
from steelyard.specs.policies import ApprovalPolicy, GateRequest
from steelyard.specs.promotions import (
    Alias,
    DecisionRequest,
    PromoteRequest,
    PromotionState,
    PromotionView,
    RollbackRequest,
)
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditRow, OutboxRow


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def house(plane: ControlPlane) -> ControlPlane:
    """A plane with people."""
    await people(plane.database)
    return plane


async def promote(
    plane: ControlPlane, version: int, to: Alias, *, by: Actor = ASKER, approvers: tuple[Actor, ...] = ()
) -> PromotionView:
    """Ask, and do what the workflow does, with approvals in between."""
    asked = await plane.services.promotions.request(
        by, PROJECT, MODEL, PromoteRequest(version=version, to=to), None
    )
    service = PromotionService(plane.workers)
    await service.check(asked.id)
    await service.settle(asked.id)
    for approver in approvers:
        shown = await plane.services.approvals.get(approver, PROJECT, asked.id)
        assert shown.binding is not None
        decision = DecisionRequest(binding=shown.binding)
        await plane.services.approvals.decide(approver, PROJECT, asked.id, "approve", decision)
        await service.settle(asked.id)
    return await plane.services.approvals.get(by, PROJECT, asked.id)


async def to_prod(plane: ControlPlane, version: int) -> None:
    for alias, approvers in ((Alias.DEV, ()), (Alias.STAGING, (ANN,)), (Alias.PROD, (ANN, BEN))):
        done = await promote(plane, version, alias, approvers=approvers)
        assert done.state is PromotionState.PROMOTED, done.message


async def pointing(plane: ControlPlane, alias: Alias = Alias.PROD) -> int | None:
    found = (await plane.services.history.aliases(ADMIN, PROJECT)).get(MODEL, [])
    return next((each.version for each in found if each.alias is alias), None)


async def test_a_version_goes_through_the_stages_and_the_log_tells_when(
    house: ControlPlane, tmp_path: Path
) -> None:
    version = await shelve(house, tmp_path)
    await evaluate(house.database, version, 0.9)
    with pytest.raises(Conflict, match="--to dev"):
        await promote(house, version, Alias.STAGING)

    await to_prod(house, version)

    page = await house.services.history.transitions(ADMIN, PROJECT, MODEL, Alias.PROD, 10, None)
    (move,) = page.data
    assert (move.kind, move.from_version, move.to_version, move.actor) == ("promotion", None, 1, "asker")
    assert len(move.approvals) == 2
    assert move.evidence
    assert move.judgement is not None
    at_it = await house.services.history.at(ADMIN, PROJECT, MODEL, Alias.PROD, move.at)
    assert at_it.id == move.id
    async with house.database.transaction() as session:
        verbs = list(await session.scalars(select(AuditRow.verb).order_by(AuditRow.id)))
        topics = list(await session.scalars(select(OutboxRow.topic)))
    assert verbs.count("alias.move") == 3
    assert verbs.count("promotion.approve") == 3
    assert topics.count("mirror_alias") == 3


async def test_prod_is_not_reached_with_one_approval(house: ControlPlane, tmp_path: Path) -> None:
    version = await shelve(house, tmp_path)
    await promote(house, version, Alias.DEV)
    await promote(house, version, Alias.STAGING, approvers=(ANN,))

    waiting = await promote(house, version, Alias.PROD, approvers=(ANN,))

    assert waiting.state is PromotionState.AWAITING_APPROVAL
    assert "1 more of 2" in waiting.message
    assert await pointing(house) is None


async def test_a_gate_that_fails_and_one_that_was_not_measured_stop_it(
    house: ControlPlane, tmp_path: Path
) -> None:
    gate = GateRequest(alias=Alias.DEV, gate=Gate(metric="smoke/accuracy", min=0.8))
    await house.services.configuration.set_gate(OWNER, Scope(organization="default"), gate)
    version = await shelve(house, tmp_path)

    unknown = await promote(house, version, Alias.DEV)
    await evaluate(house.database, version, 0.5)
    bad = await promote(house, version, Alias.DEV)
    better = await shelve(house, tmp_path)
    await evaluate(house.database, better, 0.95)
    good = await promote(house, better, Alias.DEV)

    assert unknown.state is PromotionState.NOT_ENOUGH_EVIDENCE
    assert "smoke/accuracy" in unknown.message
    assert bad.state is PromotionState.GATE_FAILED
    assert good.state is PromotionState.PROMOTED
    assert await pointing(house, Alias.DEV) == better


async def test_what_was_never_measured_goes_no_further_than_dev(house: ControlPlane, tmp_path: Path) -> None:
    version = await shelve(house, tmp_path, measured=False)
    assert (await promote(house, version, Alias.DEV)).state is PromotionState.PROMOTED
    stopped = await promote(house, version, Alias.STAGING, approvers=())
    assert stopped.state is PromotionState.NOT_ENOUGH_EVIDENCE
    assert "nothing was ever measured" in stopped.message
    assert await pointing(house, Alias.STAGING) is None


async def test_a_version_is_held_against_the_one_that_it_would_replace(
    house: ControlPlane, tmp_path: Path
) -> None:
    gate = GateRequest(alias=Alias.DEV, gate=Gate(metric="smoke/accuracy", max_regression=0.05))
    await house.services.configuration.set_gate(OWNER, Scope(project=PROJECT), gate)
    ended: list[PromotionState] = []
    for value, n in ((0.9, 400), (0.5, 400), (0.89, 40), (0.9, 4000)):
        version = await shelve(house, tmp_path)
        await evaluate(house.database, version, value, n=n)
        done = await promote(house, version, Alias.DEV)
        ended.append(done.state)
        assert done.judgement is not None
        assert "smoke/accuracy" in str(done.judgement["gates"][0]["checks"])
    assert ended == [
        PromotionState.PROMOTED,
        PromotionState.GATE_FAILED,
        PromotionState.NOT_ENOUGH_EVIDENCE,
        PromotionState.PROMOTED,
    ]


async def test_a_rollback_goes_back_at_once_and_once_for_a_key(house: ControlPlane, tmp_path: Path) -> None:
    for _ in range(3):
        await to_prod(house, await shelve(house, tmp_path))
    started = time.monotonic()
    first = await house.services.rollbacks.roll_back(
        ANN, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD, reason="it swears"), "key-1"
    )
    seconds = time.monotonic() - started
    again = await house.services.rollbacks.roll_back(
        ANN, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD, reason="it swears"), "key-1"
    )

    assert first == again
    assert seconds < 1.0
    assert await pointing(house) == 2
    back = await house.services.rollbacks.roll_back(
        ANN, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD), "key-2"
    )
    assert back.to_version == 1
    with pytest.raises(Conflict, match="no version before 1"):
        await house.services.rollbacks.roll_back(ANN, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD))
    with pytest.raises(Conflict, match="never pointed"):
        await house.services.rollbacks.roll_back(
            ANN, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD, to=99)
        )
    forward = await house.services.rollbacks.roll_back(
        ANN, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD, to=3)
    )
    assert forward.to_version == 3


async def test_a_home_with_one_person_reaches_staging_and_not_prod(
    plane: ControlPlane, tmp_path: Path
) -> None:
    version = await shelve(plane, tmp_path, by=ADMIN)
    await promote(plane, version, Alias.DEV, by=ADMIN)
    staged = await promote(plane, version, Alias.STAGING, by=ADMIN, approvers=(ADMIN,))
    assert staged.state is PromotionState.PROMOTED
    assert staged.decisions[0].notes
    with pytest.raises(PermissionDenied, match="somebody else"):
        await promote(plane, version, Alias.PROD, by=ADMIN, approvers=(ADMIN,))
    assert await pointing(plane) is None


async def test_a_project_tightens_its_organizations_policy_and_never_loosens_it(
    house: ControlPlane, tmp_path: Path
) -> None:
    service = house.services.configuration
    loose = ApprovalPolicy(approvers=0, allow_self_approval=True, requires_stage_before=False)
    await service.set_policy(OWNER, Scope(project=PROJECT), Alias.PROD, loose)
    held = next(each for each in await service.policies(OWNER, PROJECT) if each.alias is Alias.PROD)
    assert held.policy == held.organization
    version = await shelve(house, tmp_path)
    with pytest.raises(Conflict, match="never in staging"):
        await promote(house, version, Alias.PROD)


async def test_the_routes_speak_the_same(plane: ControlPlane, tmp_path: Path) -> None:
    version = await shelve(plane, tmp_path, by=ADMIN)
    async with plane.http() as http:
        asked = await _ask(http, version, "dev")
        service = PromotionService(plane.workers)
        await service.check(asked["id"])
        await service.settle(asked["id"])
        done = (await http.get(f"/v1/projects/default/promotions/{asked['id']}")).json()
        model = (await http.get(f"/v1/projects/default/models/{MODEL}")).json()
        history = (await http.get(f"/v1/projects/default/models/{MODEL}/aliases/dev/history")).json()
        events = (await http.get(f"/v1/projects/default/models/{MODEL}/events")).json()
        nowhere = await http.get(
            f"/v1/projects/default/models/{MODEL}/aliases/dev/at", params={"time": "2020-01-01T00:00:00Z"}
        )
    assert done["state"] == "promoted"
    assert model["aliases"] == {"dev": version}
    assert [each["to_version"] for each in history["data"]] == [version]
    assert [each["type"] for each in events["data"]] == [
        "promotion.requested",
        "alias.moved",
        "promotion.promoted",
    ]
    assert nowhere.status_code == 404


async def test_a_request_that_is_sent_again_is_one_promotion(house: ControlPlane, tmp_path: Path) -> None:
    version = await shelve(house, tmp_path)
    wish = PromoteRequest(version=version, to=Alias.DEV)
    asked = await asyncio.gather(
        *(house.services.promotions.request(ASKER, PROJECT, MODEL, wish, "key") for _ in range(8))
    )
    assert len({each.id for each in asked}) == 1
    service = PromotionService(house.database)
    await asyncio.gather(*(service.check(asked[0].id) for _ in range(4)))
    await asyncio.gather(*(service.settle(asked[0].id) for _ in range(4)))
    late = await house.services.promotions.request(ASKER, PROJECT, MODEL, wish, "key")
    assert late.id == asked[0].id
    assert late.state is PromotionState.PROMOTED
    with pytest.raises(Conflict, match="already"):
        await house.services.promotions.request(ASKER, PROJECT, MODEL, wish, "another")


async def _ask(http: httpx.AsyncClient, version: int, to: str) -> dict[str, str]:
    answer = await http.post(
        f"/v1/projects/default/models/{MODEL}/promotions", json={"version": version, "to": to}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()

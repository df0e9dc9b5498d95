"""Every way that we could think of to move an alias to prod without its gates and approvals. None works."""

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from tests.contract.test_promotions import promote, to_prod
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.shelf import (
    ANN,
    ASKER,
    BEN,
    DEVELOPER,
    MODEL,
    OWNER,
    PROJECT,
    ROBOT,
    TRAINER,
    evaluate,
    people,
    shelve,
)

from steelyard.governance.identity import Actor, AttemptTokens, FixedKey
from steelyard.kit.errors import (
    Conflict,
    InvalidTransition,
    NotFound,
    PermissionDenied,
    SteelyardError,
    Unauthenticated,
)
from steelyard.rollouts.promotion import PromotionService
from steelyard.rollouts.scopes import Scope
from steelyard.specs.gates import Gate
from steelyard.specs.policies import ApprovalPolicy, FreezeRequest, GateRequest, SpanWindow
from steelyard.specs.promotions import (
    Alias,
    DecisionRequest,
    PromoteRequest,
    PromotionState,
    PromotionView,
    RollbackRequest,
    TransitionView,
)
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditRow, ModelVersionRow

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        await people(database)
        yield plane


@pytest.fixture
async def waiting(plane: ControlPlane, tmp_path: Path) -> PromotionView:
    """A version that is in staging and whose promotion to prod waits for two approvals."""
    version = await shelve(plane, tmp_path)
    await evaluate(plane.database, version, 0.9)
    await promote(plane, version, Alias.DEV)
    await promote(plane, version, Alias.STAGING, approvers=(ANN,))
    return await promote(plane, version, Alias.PROD)


async def approve(plane: ControlPlane, promotion: PromotionView, by: Actor) -> PromotionView:
    assert promotion.binding is not None
    return await plane.services.approvals.decide(
        by, PROJECT, promotion.id, "approve", DecisionRequest(binding=promotion.binding)
    )


async def settle(plane: ControlPlane, promotion: PromotionView) -> PromotionView:
    await PromotionService(plane.workers).settle(promotion.id)
    return await plane.services.approvals.get(ADMIN, PROJECT, promotion.id)


async def log_of(plane: ControlPlane, alias: Alias = Alias.PROD) -> list[TransitionView]:
    page = await plane.services.history.transitions(ADMIN, PROJECT, MODEL, alias, 200, None)
    return page.data[::-1]


async def change(plane: ControlPlane, statement: str) -> None:
    async with plane.database.transaction() as session:
        await session.execute(text(statement))


class TestWhoApproves:
    async def test_who_may_not_is_refused(self, plane: ControlPlane, waiting: PromotionView) -> None:
        for who in (DEVELOPER, ASKER, TRAINER, ROBOT, ADMIN):
            with pytest.raises(PermissionDenied):
                await approve(plane, waiting, who)
        assert (await settle(plane, waiting)).state is PromotionState.AWAITING_APPROVAL

    async def test_a_role_doesnt_help_who_asked_or_trained(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        for who in (ASKER, TRAINER):
            await change(
                plane,
                "INSERT INTO project_members (project_id, principal_id, role, granted_by)"
                f" VALUES ('default', '{who.id}', 'approver', 'x'), ('default', '{who.id}', 'admin', 'x')",
            )
            with pytest.raises(PermissionDenied, match="somebody else"):
                await approve(plane, waiting, who)

    async def test_strangers_and_attempts_find_nothing(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        for actor in (
            Actor(kind="user", id="nobody"),
            Actor(kind="attempt", id="att_1", attempt_id="att_1"),
            Actor(kind="anonymous", id="anonymous"),
        ):
            with pytest.raises((NotFound, Unauthenticated)):
                await approve(plane, waiting, actor)

    async def test_one_person_is_one_approval(self, plane: ControlPlane, waiting: PromotionView) -> None:
        for _ in range(3):
            await approve(plane, waiting, ANN)
        after = await settle(plane, waiting)
        assert (after.state, after.approvals) == (PromotionState.AWAITING_APPROVAL, 1)

    @pytest.mark.parametrize(
        "gone",
        [
            "DELETE FROM project_members WHERE principal_id = 'ann'",
            "UPDATE project_members SET role = 'developer' WHERE principal_id = 'ann'",
            "UPDATE principals SET disabled_at = now() WHERE id = 'ann'",
            "UPDATE principals SET deleted_at = now() WHERE id = 'ann'",
        ],
    )
    async def test_an_approval_counts_while_its_giver_may_give_it(
        self, plane: ControlPlane, waiting: PromotionView, gone: str
    ) -> None:
        await approve(plane, waiting, ANN)
        await change(plane, gone)
        await approve(plane, waiting, BEN)
        after = await settle(plane, waiting)
        assert after.state is PromotionState.AWAITING_APPROVAL
        assert "the approval of ann doesn't count" in after.message
        assert not await log_of(plane)

    async def test_who_rejects_ends_it(self, plane: ControlPlane, waiting: PromotionView) -> None:
        assert waiting.binding is not None
        await approve(plane, waiting, ANN)
        no = DecisionRequest(binding=waiting.binding, reason="it swears")
        rejected = await plane.services.approvals.decide(BEN, PROJECT, waiting.id, "reject", no)
        assert rejected.state is PromotionState.REJECTED
        with pytest.raises(InvalidTransition):
            await approve(plane, waiting, OWNER)
        assert not await log_of(plane)


class TestWhatChanged:
    async def _approved(self, plane: ControlPlane, waiting: PromotionView) -> None:
        await approve(plane, waiting, ANN)
        await approve(plane, waiting, BEN)

    async def _void(self, plane: ControlPlane, waiting: PromotionView, words: str) -> None:
        after = await settle(plane, waiting)
        assert after.state is PromotionState.VOID
        assert words in after.message
        assert not await log_of(plane)

    async def test_evidence_that_came_after_the_approvals_voids_them(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        await self._approved(plane, waiting)
        await evaluate(plane.database, waiting.version, 0.99, suite="other")
        await self._void(plane, waiting, "the evidence")

    async def test_evidence_cannot_be_exchanged(self, plane: ControlPlane, waiting: PromotionView) -> None:
        with pytest.raises(DBAPIError, match=r"permission denied|append-only"):
            await change(plane, "UPDATE evaluations SET metrics = '[]'")
        assert waiting.evidence

    async def test_gates_that_came_after_the_approvals_void_them(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        await self._approved(plane, waiting)
        gate = GateRequest(alias=Alias.PROD, gate=Gate(metric="smoke/accuracy", min=0.95))
        await plane.services.configuration.set_gate(OWNER, Scope(organization="default"), gate)
        await self._void(plane, waiting, "the gates")

    async def test_changed_bytes_void_them(self, plane: ControlPlane, waiting: PromotionView) -> None:
        await self._approved(plane, waiting)
        async with plane.database.transaction() as session:
            row = await session.get_one(ModelVersionRow, (PROJECT, MODEL, waiting.version))
        path = Path(row.path) / "model.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        await self._void(plane, waiting, "files are not what was registered")

    async def test_a_changed_digest_voids_them(
        self, plane: ControlPlane, waiting: PromotionView, superuser: Engine
    ) -> None:
        await self._approved(plane, waiting)
        with pytest.raises(DBAPIError, match="never changes"):
            await change(plane, "UPDATE model_versions SET manifest_digest = 'sha256:0'")
        with superuser.connect() as connection:
            connection.execute(text("ALTER TABLE model_versions DISABLE TRIGGER model_versions_fixed"))
            connection.execute(text("UPDATE model_versions SET manifest_digest = 'sha256:0'"))
        await self._void(plane, waiting, "the model")

    async def test_a_stricter_policy_asks_for_more(self, plane: ControlPlane, waiting: PromotionView) -> None:
        await self._approved(plane, waiting)
        strict = ApprovalPolicy(approvers=3)
        await plane.services.configuration.set_policy(OWNER, Scope(project=PROJECT), Alias.PROD, strict)
        assert (await settle(plane, waiting)).state is PromotionState.AWAITING_APPROVAL
        await approve(plane, waiting, OWNER)
        assert (await settle(plane, waiting)).state is PromotionState.PROMOTED

    async def test_a_looser_policy_doesnt_reach_what_was_asked_before(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        loose = ApprovalPolicy(approvers=0)
        await plane.services.configuration.set_policy(OWNER, Scope(organization="default"), Alias.PROD, loose)
        assert (await settle(plane, waiting)).state is PromotionState.AWAITING_APPROVAL

    async def test_an_approver_is_told_at_once_that_things_have_changed(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        await evaluate(plane.database, waiting.version, 0.1, suite="other")
        with pytest.raises(Conflict, match="the evidence"):
            await approve(plane, waiting, ANN)
        after = await plane.services.approvals.get(ADMIN, PROJECT, waiting.id)
        assert after.state is PromotionState.VOID

    async def test_an_approval_is_good_for_one_promotion(
        self, plane: ControlPlane, waiting: PromotionView, tmp_path: Path
    ) -> None:
        other = await shelve(plane, tmp_path)
        asked = await promote(plane, other, Alias.DEV)
        assert asked.state is PromotionState.PROMOTED
        staged = await promote(plane, other, Alias.STAGING)
        assert waiting.binding is not None
        replayed = DecisionRequest(binding=waiting.binding)
        with pytest.raises(Conflict, match="not what the promotion is bound to"):
            await plane.services.approvals.decide(ANN, PROJECT, staged.id, "approve", replayed)

    async def test_it_expires(self, plane: ControlPlane, waiting: PromotionView) -> None:
        assert waiting.expires_at is not None
        late = PromotionService(plane.workers, lambda: waiting.expires_at or datetime.now(UTC))
        await self._approved(plane, waiting)
        assert (await late.settle(waiting.id)).state is PromotionState.EXPIRED
        assert not await log_of(plane)


class TestFreezes:
    async def _freeze(self, plane: ControlPlane) -> datetime:
        now = datetime.now(UTC)
        window = SpanWindow(starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1))
        request = FreezeRequest(window=window, reason="the holidays")
        await plane.services.configuration.add_freeze(OWNER, Scope(organization="default"), request)
        return window.ends_at

    async def test_an_approved_promotion_waits_for_the_thaw(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        thaw = await self._freeze(plane)
        await approve(plane, waiting, ANN)
        await approve(plane, waiting, BEN)
        standing = await PromotionService(plane.workers).settle(waiting.id)
        assert (standing.state, standing.wake_at) == (PromotionState.AWAITING_THAW, thaw)
        assert not await log_of(plane)
        later = await PromotionService(plane.workers, lambda: thaw).settle(waiting.id)
        assert later.state is PromotionState.PROMOTED

    async def test_only_an_owner_overrides_it(self, plane: ControlPlane, waiting: PromotionView) -> None:
        await self._freeze(plane)
        await approve(plane, waiting, ANN)
        await approve(plane, waiting, BEN)
        wish = PromoteRequest(version=waiting.version, to=Alias.PROD, override_freeze=True)
        for actor in (ASKER, DEVELOPER):
            with pytest.raises(PermissionDenied, match="owner"):
                await plane.services.promotions.request(actor, PROJECT, MODEL, wish)
        found = await plane.services.promotions.request(OWNER, PROJECT, MODEL, wish)
        assert found.id == waiting.id
        assert (await settle(plane, waiting)).state is PromotionState.PROMOTED
        (move,) = await log_of(plane)
        assert "owner overrode the freeze windows" in move.notes

    async def test_a_rollback_is_not_frozen(self, plane: ControlPlane, tmp_path: Path) -> None:
        for _ in range(2):
            await to_prod(plane, await shelve(plane, tmp_path))
        await self._freeze(plane)
        back = await plane.services.rollbacks.roll_back(
            ANN, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD)
        )
        assert back.to_version == 1


class TestRaces:
    async def _ready(self, plane: ControlPlane, folder: Path) -> PromotionView:
        version = await shelve(plane, folder)
        await promote(plane, version, Alias.DEV)
        await promote(plane, version, Alias.STAGING, approvers=(ANN,))
        return await promote(plane, version, Alias.PROD)

    async def test_of_two_approved_promotions_one_moves_and_the_other_is_void(
        self, plane: ControlPlane, tmp_path: Path
    ) -> None:
        both = [await self._ready(plane, tmp_path), await self._ready(plane, tmp_path)]
        for promotion, approver in itertools.product(both, (ANN, BEN)):
            await approve(plane, promotion, approver)

        await asyncio.gather(*(settle(plane, promotion) for promotion in both * 3))

        states = {(await settle(plane, promotion)).state for promotion in both}
        assert states == {PromotionState.PROMOTED, PromotionState.VOID}
        assert len(await log_of(plane)) == 1

    @pytest.mark.parametrize("seed", range(4))
    async def test_whatever_meets_whatever_the_log_stays_whole(
        self, plane: ControlPlane, tmp_path: Path, seed: int
    ) -> None:
        draw = random.Random(seed)
        for _ in range(2):
            await to_prod(plane, await shelve(plane, tmp_path))
        ready = [await self._ready(plane, tmp_path) for _ in range(2)]
        acts: list[Callable[[], Awaitable[object]]] = []
        for promotion in ready:
            acts += [lambda promotion=promotion: approve(plane, promotion, ANN)]
            acts += [lambda promotion=promotion: approve(plane, promotion, BEN)]
            acts += [lambda promotion=promotion: settle(plane, promotion)] * 3
        acts += [
            lambda: plane.services.rollbacks.roll_back(
                OWNER, PROJECT, MODEL, RollbackRequest(alias=Alias.PROD, to=draw.choice([None, 1, 2]))
            )
        ] * 3
        acts += [
            lambda: change(plane, "UPDATE principals SET disabled_at = now() WHERE id = 'ben'"),
            lambda: change(plane, "UPDATE principals SET disabled_at = NULL WHERE id = 'ben'"),
        ]
        draw.shuffle(acts)

        await asyncio.gather(*(_try(act) for act in acts))

        await _require_whole(plane)


async def _try(act: Callable[[], Awaitable[object]]) -> None:
    try:
        await act()
    except SteelyardError:
        return


async def _require_whole(plane: ControlPlane) -> None:
    """The alias is where the log ends, the log has no gap, and each promotion in it was approved by two."""
    log = await log_of(plane)
    assert [move.sequence for move in log] == list(range(1, len(log) + 1))
    assert [move.from_version for move in log] == [None, *(move.to_version for move in log[:-1])]
    aliases = (await plane.services.history.aliases(ADMIN, PROJECT))[MODEL]
    here = next(alias for alias in aliases if alias.alias is Alias.PROD)
    assert (here.version, here.sequence) == (log[-1].to_version, log[-1].sequence)
    for move in log:
        if move.kind == "rollback":
            assert move.to_version in {each.to_version for each in log[: move.sequence - 1]}
            continue
        assert move.promotion_id is not None
        shown = await plane.services.approvals.get(ADMIN, PROJECT, move.promotion_id)
        assert shown.state is PromotionState.PROMOTED
        said = {each.approver for each in shown.decisions if each.id in move.approvals}
        assert len(said) >= 2
        assert not said & {"asker", "trainer"}


_INSERT = (
    "INSERT INTO model_transitions (id, project_id, model, actor, reason, approvals, notes, alias, sequence,"
    " kind, from_version, to_version, model_digest, evidence, promotion_id)"
    " SELECT 'x', 'default', 'chat', 'x', '', '[]', '[]',"
)
_REFUSED = frozenset({"42501", "23514"})
"""SQLSTATEs of missing privileges and of our own guards."""


class TestDirectSql:
    """The platform's own role, with whatever statement: the database says no."""

    STATEMENTS = (
        "UPDATE model_aliases SET version = 2",
        "UPDATE model_aliases SET version = 2, sequence = sequence + 1",
        "DELETE FROM model_aliases",
        "TRUNCATE model_aliases",
        "INSERT INTO model_aliases VALUES ('default', 'chat', 'prod', 2, 1, now())",
        "UPDATE model_transitions SET to_version = 2",
        "DELETE FROM model_transitions",
        "TRUNCATE model_transitions CASCADE",
        "UPDATE approvals SET verdict = 'approve'",
        "DELETE FROM approvals",
        "UPDATE model_versions SET manifest_digest = 'sha256:1'",
        # A rollback to where the alias never was; promotions that nobody approved; one that is over.
        f"{_INSERT} 'prod', 1, 'rollback', NULL, 2, manifest_digest, '{{}}', NULL FROM model_versions"
        " WHERE version = 2",
        f"{_INSERT} alias, 1, 'promotion', NULL, version, model_digest, evidence, id FROM promotions"
        " WHERE alias = 'prod'",
        f"{_INSERT} alias, 2, 'promotion', 1, version, model_digest, evidence, id FROM promotions"
        " WHERE alias = 'staging'",
    )

    @pytest.mark.parametrize("owns", [True, False], ids=["owner", "application role"])
    async def test_it_is_refused(
        self, plane: ControlPlane, waiting: PromotionView, superuser: Engine, tmp_path: Path, owns: bool
    ) -> None:
        await shelve(plane, tmp_path)
        before = await log_of(plane), await log_of(plane, Alias.STAGING)
        with superuser.connect() as connection:
            role = "steelyard" if owns else f"app_{id(plane)}"
            if not owns:
                connection.execute(text(f"CREATE ROLE {role}"))
                connection.execute(text(f"SELECT grant_application('{role}')"))
            connection.execute(text(f"SET ROLE {role}"))
            connection.execute(text("SELECT set_config('steelyard.project', :id, false)"), {"id": PROJECT})
            for statement in self.STATEMENTS:
                with pytest.raises(DBAPIError) as refused:
                    connection.execute(text(statement))
                assert getattr(refused.value.orig, "pgcode", None) in _REFUSED, statement
            connection.execute(text("RESET ROLE"))
            if not owns:
                connection.execute(text(f"DROP OWNED BY {role}"))
                connection.execute(text(f"DROP ROLE {role}"))
        assert (await log_of(plane), await log_of(plane, Alias.STAGING)) == before
        assert waiting.state is PromotionState.AWAITING_APPROVAL

    async def test_a_transition_without_its_move_is_not_committed(
        self, plane: ControlPlane, waiting: PromotionView
    ) -> None:
        await approve(plane, waiting, ANN)
        await approve(plane, waiting, BEN)
        lonely = (
            "INSERT INTO model_transitions (id, project_id, model, alias, sequence, kind, to_version, actor,"
            " reason, model_digest, evidence, judgement, approvals, notes, promotion_id)"
            " SELECT 'x', project_id, model, alias, 1, 'promotion', version, 'x', '', model_digest, evidence,"
            " judgement, (SELECT jsonb_agg(id) FROM approvals WHERE promotion_id = promotions.id), '[]', id"
            " FROM promotions WHERE alias = 'prod'"
        )
        with pytest.raises(DBAPIError, match="moves its alias"):
            await change(plane, lonely)


async def test_tokens_of_attempts_reach_no_route_of_it(plane: ControlPlane, waiting: PromotionView) -> None:
    token = AttemptTokens(FixedKey(b"a" * 32)).issue("att_1")
    body = {"binding": waiting.binding}
    async with httpx.AsyncClient(
        base_url=f"{plane.url}/v1/projects/default", headers={"Authorization": f"Bearer {token}"}
    ) as http:
        answers = [
            await http.get("promotions"),
            await http.get(f"promotions/{waiting.id}"),
            await http.post(f"promotions/{waiting.id}/approve", json=body),
            await http.post(f"promotions/{waiting.id}/reject", json=body),
            await http.post(f"promotions/{waiting.id}/withdraw"),
            await http.post(f"models/{MODEL}/promotions", json={"version": 1, "to": "prod"}),
            await http.post(f"models/{MODEL}/rollbacks", json={"alias": "prod"}),
            await http.post("gates", json={"alias": "prod", "gate": {"metric": "a/b", "min": 1.0}}),
            await http.put("policies/prod", json={"approvers": 0}),
            await http.get("webhooks"),
        ]
    assert {answer.status_code for answer in answers} == {404}


async def test_sigkill_at_any_statement_of_the_move_leaves_nothing_half_done(
    plane: ControlPlane, waiting: PromotionView, database_dsn: str
) -> None:
    await approve(plane, waiting, ANN)
    await approve(plane, waiting, BEN)
    assert await _kill_on_and_on(database_dsn, waiting.id, "settle") > 20
    await _require_whole(plane)
    assert len(await log_of(plane)) == 1


async def test_sigkill_at_any_statement_of_the_check_leaves_it_to_be_done_again(
    plane: ControlPlane, database_dsn: str, tmp_path: Path
) -> None:
    wish = PromoteRequest(version=await shelve(plane, tmp_path), to=Alias.DEV)
    asked = await plane.services.promotions.request(ASKER, PROJECT, MODEL, wish)
    assert await _kill_on_and_on(database_dsn, asked.id, "check") > 10
    assert (await settle(plane, asked)).state is PromotionState.PROMOTED
    async with plane.database.transaction() as session:
        judged = await session.scalars(select(AuditRow.id).where(AuditRow.verb == "promotion.judge"))
    assert len(list(judged)) == 1


async def _kill_on_and_on(dsn: str, promotion_id: str, step: str) -> int:
    """Kill each child one statement later than the one before, until one gets through; return how many."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.killed_settlements", dsn, promotion_id, step,
        cwd=_ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    endings = out.decode().split()
    assert set(endings[:-1]) == {f"-{int(signal.SIGKILL)}"}
    assert endings[-1] == "0"
    return len(endings)

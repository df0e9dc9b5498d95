"""Which results a promotion is judged by, where a model was measured more than once."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.contract.test_promotions import promote
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve
from tests.shelf import ANN, MODEL, OWNER, evaluate, people, shelve

import steelyard
from steelyard.rollouts.promotion import PromotionService
from steelyard.rollouts.scopes import Scope
from steelyard.specs.gates import Gate
from steelyard.specs.policies import GateRequest
from steelyard.specs.promotions import Alias, PromotionState
from steelyard.storage.database import Database

_EXAMPLE = Path(__file__).parents[2] / "examples/suites/stdlib-questions"
EASY = "sha256:" + "e" * 64
EIGHT = "sha256:" + "8" * 64


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        await people(database)
        yield plane


async def set_gate(plane: ControlPlane, gate: Gate, alias: Alias = Alias.DEV) -> None:
    scope = Scope(organization="default")
    await plane.services.configuration.set_gate(OWNER, scope, GateRequest(alias=alias, gate=gate))


async def test_a_small_run_that_went_well_does_not_hide_a_whole_one_that_did_not(
    plane: ControlPlane, tmp_path: Path
) -> None:
    await set_gate(plane, Gate(metric="smoke/accuracy", min=0.8))
    version = await shelve(plane, tmp_path)
    await evaluate(plane.database, version, 0.5, n=400)
    await evaluate(plane.database, version, 1.0, n=8, settings_digest=EIGHT)
    refused = await promote(plane, version, Alias.DEV)
    assert refused.state is PromotionState.GATE_FAILED
    assert "0.5 over 400 samples" in refused.message


async def test_a_small_run_after_the_approval_changes_nothing_and_a_whole_one_voids_it(
    plane: ControlPlane, tmp_path: Path
) -> None:
    version = await shelve(plane, tmp_path)
    await evaluate(plane.database, version, 0.9, n=400)
    await promote(plane, version, Alias.DEV)
    waiting = await promote(plane, version, Alias.STAGING)
    await evaluate(plane.database, version, 0.1, n=8, settings_digest=EIGHT)
    service = PromotionService(plane.workers)
    assert (await service.settle(waiting.id)).state is PromotionState.AWAITING_APPROVAL
    await evaluate(plane.database, version, 0.2, n=400)
    assert (await service.settle(waiting.id)).state is PromotionState.VOID


async def test_a_gate_that_pins_a_content_is_judged_by_that(plane: ControlPlane, tmp_path: Path) -> None:
    await set_gate(plane, Gate(metric="smoke/accuracy", min=0.8, suite_digest=EASY))
    version = await shelve(plane, tmp_path)
    await evaluate(plane.database, version, 0.9, n=50, suite_digest=EASY)
    await evaluate(plane.database, version, 0.4, n=4000)
    promoted = await promote(plane, version, Alias.DEV)
    assert promoted.state is PromotionState.PROMOTED, promoted.message


async def test_what_its_training_measured_is_evidence_of_a_policy_beside_its_evaluations(
    plane: ControlPlane, tmp_path: Path
) -> None:
    await set_gate(plane, Gate(metric="policy/kl", max=0.5))
    near, far = {"policy/kl": 0.2, "policy/kl_n": 64.0}, {"policy/kl": 0.9, "policy/kl_n": 64.0}
    states: list[PromotionState] = []
    for metrics in (near, far, {}):
        version = await shelve(plane, tmp_path, metrics=metrics)
        states.append((await promote(plane, version, Alias.DEV)).state)
    alone = await shelve(plane, tmp_path, metrics=near, measured=False)
    states.append((await promote(plane, alone, Alias.DEV)).state)
    assert states == [
        PromotionState.PROMOTED,
        PromotionState.GATE_FAILED,
        PromotionState.NOT_ENOUGH_EVIDENCE,
        PromotionState.NOT_ENOUGH_EVIDENCE,
    ]


async def test_the_incumbent_is_held_beside_by_what_was_measured_alike(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """The incumbent has a larger result of other settings, which says nothing beside the new one's."""
    first = await shelve(plane, tmp_path)
    await evaluate(plane.database, first, 0.7, n=4000, settings_digest=EIGHT)
    await evaluate(plane.database, first, 0.9, n=400)
    await promote(plane, first, Alias.DEV)
    await set_gate(plane, Gate(metric="smoke/accuracy", max_regression=0.05))
    second = await shelve(plane, tmp_path)
    await evaluate(plane.database, second, 0.7, n=400)
    refused = await promote(plane, second, Alias.DEV)
    assert refused.state is PromotionState.GATE_FAILED, refused.message
    assert "the incumbent's 0.9" in refused.message


async def test_a_project_s_suite_of_the_same_name_does_not_count_for_its_organization_s_gate(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
        theirs = await client.suites.add(_EXAMPLE, name="smoke", organization="default")
        easy = tmp_path / "smoke"
        easy.mkdir()
        for name in ("purposes.yaml", "purposes.jsonl"):
            (easy / name).write_bytes((_EXAMPLE / name).read_bytes())
        own = await client.suites.add(easy)
    assert own.digest != theirs.digest
    await set_gate(plane, Gate(metric="smoke/accuracy", min=0.8))
    version = await shelve(plane, tmp_path)
    await evaluate(plane.database, version, 1.0, n=4000, suite_digest=own.digest)
    unknown = await promote(plane, version, Alias.DEV)
    assert unknown.state is PromotionState.NOT_ENOUGH_EVIDENCE, unknown.message
    await evaluate(plane.database, version, 0.9, n=40, suite_digest=theirs.digest)
    promoted = await promote(plane, version, Alias.DEV)
    assert promoted.state is PromotionState.PROMOTED, promoted.message


async def test_another_content_of_the_organization_s_suite_voids_what_was_approved(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
        before = await client.suites.add(_EXAMPLE, name="smoke", organization="default")
        version = await shelve(plane, tmp_path)
        await evaluate(plane.database, version, 0.9, suite_digest=before.digest)
        await promote(plane, version, Alias.DEV)
        await set_gate(plane, Gate(metric="smoke/accuracy", min=0.8), Alias.STAGING)
        waiting = await promote(plane, version, Alias.STAGING)
        assert waiting.state is PromotionState.AWAITING_APPROVAL, waiting.message
        changed = tmp_path / "smoke"
        changed.mkdir()
        for path in _EXAMPLE.iterdir():
            (changed / path.name).write_bytes(path.read_bytes())
        with (changed / "modules.jsonl").open("a") as file:
            file.write('{"name": "os.getcwd", "module": "os"}\n')
        await client.suites.add(changed, organization="default")
    assert (await PromotionService(plane.workers).settle(waiting.id)).state is PromotionState.VOID
    shown = await plane.services.approvals.get(ANN, "default", waiting.id)
    assert "the gates" in shown.message, (MODEL, shown.message)

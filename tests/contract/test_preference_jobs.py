"""Methods beside sft in the control plane: what data they take, what they are launched with, what is made."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.contract.ingests import ingest, jsonl
from tests.control_plane import ADMIN, ADMIN_TOKEN, ControlPlane, serve

import steelyard
from steelyard.client.errors import SteelyardApiError
from steelyard.datasets.examination import ExaminationService
from steelyard.datasets.files import DatasetFileService
from steelyard.datasets.tokenized import TokenizedService
from steelyard.evals.suite_folders import SuiteFolderService
from steelyard.governance.audit.notes import Signer
from steelyard.jobs.preparation import PreparationService, Prepared
from steelyard.jobs.registration import RegistrationService
from steelyard.jobs.tracking import TrackingService
from steelyard.kit.errors import Unavailable
from steelyard.registry.mlflow import Mlflow
from steelyard.registry.verification import VerificationService
from steelyard.runtime.manifests import write_manifest
from steelyard.specs.states import Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

_SIGNER = Signer("test/lineage", b"s" * 32)
_PAIRS = [
    {"prompt": f"Say {i} politely.", "chosen": f"With pleasure: {i}.", "rejected": f"No, {i}!"}
    for i in range(60)
]
_UNPAIRED = [
    {"prompt": f"Say {i} politely.", "completion": f"Gladly: {i}.", "label": i % 2 == 0} for i in range(60)
]
_CHATS = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(60)]
_MODEL_DIR = "models/e00001"
_ONLINE = {"reward_model": "models/scorer@1"}


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncGenerator[steelyard.AsyncClient]:
    async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
        yield client


@pytest.fixture
async def pairs(plane: ControlPlane) -> ControlPlane:
    """A plane with preferences."""
    ended = await ingest(plane, jsonl(_PAIRS), name="pairs")
    assert ended["state"] == "succeeded", ended
    return plane


@pytest.fixture
async def data(pairs: ControlPlane) -> ControlPlane:
    """A plane with preferences of both kinds, and with what is none."""
    for name, rows in (("unpaired", _UNPAIRED), ("chats", _CHATS)):
        ended = await ingest(pairs, jsonl(rows), name=name)
        assert ended["state"] == "succeeded", ended
    return pairs


def _spec(method: str, dataset: str = "pairs", **blocks: Any) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": f"{method}-test",
        "method": method,
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": dataset},
        "training": {"max_steps": 2},
        **blocks,
    }


def _pipeline(**blocks: Any) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "rlhf",
        "name": "aligned",
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": "pairs"},
        "reward_model": {"max_steps": 2},
        "policy": {"method": "ppo", "max_steps": 2},
        **blocks,
    }


async def _refusal(client: steelyard.AsyncClient, spec: dict[str, Any]) -> tuple[str | None, str]:
    with pytest.raises(SteelyardApiError) as caught:
        await client.jobs.submit(spec)
    assert caught.value.code == "invalid_spec"
    return caught.value.param, str(caught.value)


async def test_each_method_takes_the_rows_that_it_learns_from(
    data: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    await _register_scorer(data, client, tmp_path)
    fits = {
        "reward": ["pairs"],
        "dpo": ["pairs"],
        "kto": ["unpaired"],
        "ppo": ["pairs", "chats"],
        "grpo": ["pairs", "chats"],
        "sft": ["chats"],
    }
    for method, fitting in fits.items():
        online = {"online": _ONLINE} if method in ("ppo", "grpo") else {}
        for dataset in ("pairs", "unpaired", "chats"):
            spec = _spec(method, dataset, **online)
            if dataset in fitting:
                assert (await client.jobs.plan(spec)).valid
                continue
            param, words = await _refusal(client, spec)
            assert param == "dataset.ref"
            assert f"method {method} learns from" in words


async def test_suites_that_are_made_from_rows_need_rows_to_imitate(
    data: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    await _register_scorer(data, client, tmp_path)
    heldout = {"suites": ["heldout"]}

    assert (await client.jobs.plan(_spec("ppo", "chats", online=_ONLINE, evaluation=heldout))).valid
    param, words = await _refusal(client, _spec("ppo", online=_ONLINE, evaluation=heldout))
    assert (param, "use safety" in words) == ("evaluation.suites", True)
    alone = {key: value for key, value in _spec("sft").items() if key not in ("method", "training")}
    param, words = await _refusal(client, {**alone, "type": "eval_only", "evaluation": heldout})
    assert param == "evaluation.suites"


async def test_a_pipeline_is_held_against_its_data_before_anything_is_spent(
    data: ControlPlane, client: steelyard.AsyncClient
) -> None:
    plan = await client.jobs.plan(_pipeline())
    assert plan.valid

    too_sure = _pipeline(reward_model={"max_steps": 2, "min_accuracy": 0.99})
    param, words = await _refusal(client, too_sure)
    assert param == "reward_model.min_accuracy"
    assert "ingest at least" in words
    uneven = {"method": "grpo", "max_steps": 2, "num_generations": 3}
    param, words = await _refusal(client, _pipeline(policy=uneven))
    assert (param, "make it a multiple" in words) == ("training.per_device_train_batch_size", True)
    single = {"per_device_train_batch_size": 1, "max_steps": 2}
    param, words = await _refusal(client, _spec("kto", "unpaired", training=single))
    assert (param, "2 or more" in words) == ("training.per_device_train_batch_size", True)
    param, words = await _refusal(client, _pipeline(dataset={"ref": "unpaired"}))
    assert param == "dataset.ref"


async def test_a_reward_model_is_a_version_of_its_own_kind(
    data: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    job = await _register_scorer(data, client, tmp_path)

    (version,) = await client.models.versions("scorer")
    assert (version.kind, version.lineage["method"]) == ("reward_model", "reward")
    assert version.metrics["reward/accuracy"] == 0.9
    assert "| reward/accuracy | 0.9 |" in await client.lineage.card("scorer", 1)
    with pytest.raises(SteelyardApiError) as caught:
        await client.models.promote("scorer", 1, to="dev")
    assert "is a reward model" in str(caught.value)
    assert caught.value.http_status == 409

    for name in ("models/scorer@1", f"checkpoints/{await _checkpoint(data, job)}"):
        for method, dataset in (("sft", "chats"), ("dpo", "pairs"), ("reward", "pairs")):
            spec = _spec(method, dataset) | {"model": {"name_or_path": name}}
            param, words = await _refusal(client, spec)
            assert (param, "scores texts and writes none" in words) == ("model.name_or_path", True)
        writing = {key: value for key, value in _spec("sft").items() if key not in ("method", "training")}
        for spec in (_pipeline(), {**writing, "type": "eval_only", "evaluation": {"suites": ["safety"]}}):
            param, _ = await _refusal(client, spec | {"model": {"name_or_path": name}})
            assert param == "model.name_or_path"


async def test_nothing_but_a_reward_model_of_the_project_scores(
    pairs: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    param, unknown = await _refusal(client, _spec("ppo", online=_ONLINE))
    assert param == "online.reward_model"
    async with pairs.database.transaction() as session:
        await session.execute(text("INSERT INTO projects (id) VALUES ('other')"))
    await _register_scorer(pairs, client, tmp_path)
    async with steelyard.AsyncClient(api_url=pairs.url, token=ADMIN_TOKEN, project="other") as stranger:
        with pytest.raises(SteelyardApiError) as caught:
            await stranger.jobs.submit(_spec("ppo", online=_ONLINE) | {"dataset": {"ref": "none"}})
    assert caught.value.param == "online.reward_model"
    assert str(caught.value).replace("'other'", "'default'") == unknown, "existence is not told"

    writer = await client.jobs.submit(_spec("dpo", register_as={"model_name": "writer"}))
    await _register(pairs, writer.id, tmp_path, {})
    param, words = await _refusal(client, _spec("ppo", online={"reward_model": "models/writer@1"}))
    assert (param, "made by method dpo" in words) == ("online.reward_model", True)
    there, next_one = {"name_or_path": "models/writer@1"}, {"name_or_path": "models/writer@2"}
    assert (await client.jobs.plan(_spec("dpo") | {"model": there})).valid
    param, _ = await _refusal(client, _spec("dpo") | {"model": next_one})
    assert param == "model.name_or_path"


async def test_a_policy_is_launched_with_its_scorer_and_tells_of_it(
    pairs: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    await _register_scorer(pairs, client, tmp_path)
    scorer = (await client.models.versions("scorer"))[0]
    policy = await client.jobs.submit(_spec("ppo", online=_ONLINE, register_as={"model_name": "aligned"}))

    prepared = await _prepare(pairs, policy.id, tmp_path)
    assert prepared.ready, prepared.message
    await pairs.admit(policy.id)
    started = await pairs.lifecycle.start_attempt(policy.id, 0, "0:1", "train")
    assert started.attempt_id is not None
    launched = await pairs.launching.launch_spec(started.attempt_id)

    assert launched.module == "steelyard.trainers.ppo"
    assert launched.run.reward_model_path == scorer.path
    assert launched.run.tokens is None
    await _register(pairs, policy.id, tmp_path, {"policy/kl": 0.2})
    (version,) = await client.models.versions("aligned")
    assert version.kind == "model"
    assert version.lineage["reward_model"] == scorer.manifest_digest
    assert version.lineage["reward_model_name"] == "models/scorer@1"
    graph = await client.lineage.graph("model", "scorer@1", hops=2)
    assert ("model:scorer@1", f"job:{policy.id}", "used") in {
        (edge.source, edge.target, edge.relation) for edge in graph.edges
    }

    checks = await _verify(pairs, "aligned")
    assert {checks[name] for name in ("reward_model", "sealed_reward_model", "base_model")} == {"ok"}
    (Path(scorer.path) / "model.safetensors").write_bytes(b"other weights")
    assert (await _verify(pairs, "aligned"))["reward_model"] == "differs"
    async with pairs.database.transaction() as session:
        await session.execute(text("ALTER TABLE model_versions DISABLE TRIGGER USER"))
        await session.execute(
            text(
                "UPDATE model_versions SET lineage = lineage || jsonb_build_object('reward_model', "
                "'sha256:' || repeat('0', 64)) WHERE name = 'aligned'"
            )
        )
    assert (await _verify(pairs, "aligned"))["sealed_reward_model"] == "differs"


async def test_a_damaged_scorer_is_trained_against_by_nobody(
    pairs: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    await _register_scorer(pairs, client, tmp_path)
    policy = await client.jobs.submit(_spec("grpo", online=_ONLINE))
    scorer = (await client.models.versions("scorer"))[0]
    (Path(scorer.path) / "model.safetensors").write_bytes(b"other weights")

    prepared = await _prepare(pairs, policy.id, tmp_path)

    assert (prepared.ready, prepared.reason) == (False, Reason.MODEL_DAMAGED)
    assert "models/scorer@1 is damaged" in prepared.message


async def test_what_training_measured_is_judged_by_gates(
    pairs: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    gates = [{"metric": "policy/kl", "max": 0.5}, {"metric": "safety/pass_rate", "min": 0.0}]
    evaluation = {"suites": ["safety"], "gates": gates}
    told: dict[str, str] = {}
    for name, figures in (
        ("near", {"policy/kl": 0.2, "policy/kl_n": 12.0, "policy/kl_stderr": 0.01}),
        ("far", {"policy/kl": 0.9, "policy/kl_n": 12.0, "policy/kl_stderr": 0.01}),
        ("unmeasured", {}),
    ):
        job = await client.jobs.submit(_spec("dpo", evaluation=evaluation) | {"name": name})
        await _register(pairs, job.id, tmp_path, figures, refused=True)
        judged = (await client.jobs.get(job.id)).gates
        assert judged is not None
        told[name] = next(each.verdict.value for each in judged.gates if each.gate.metric == "policy/kl")
    assert told == {"near": "pass", "far": "fail", "unmeasured": "not_enough_evidence"}


async def _register_scorer(plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path) -> str:
    job = await client.jobs.submit(_spec("reward", register_as={"model_name": "scorer"}))
    await _register(plane, job.id, tmp_path, {"reward/accuracy": 0.9, "reward/accuracy_n": 40.0})
    return job.id


async def _register(
    plane: ControlPlane, job_id: str, tmp_path: Path, metrics: dict[str, float], *, refused: bool = False
) -> None:
    """Leave a finished model as a trainer would, and register it; MLflow is away, so its mirror waits."""
    prepared = await _prepare(plane, job_id, tmp_path)
    assert prepared.ready, prepared.message
    async with plane.database.transaction() as session:
        job = await session.get_one(JobRow, job_id)
        job.model_dir, job.metrics = _MODEL_DIR, metrics
        folder = plane.folders.job(job.project_id, job_id) / _MODEL_DIR
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(job_id.encode() * 8)
    write_manifest(folder, kind="model", job_id=job_id, attempt_id="att_1", epoch=1, step=2)
    async with httpx.AsyncClient(transport=httpx.MockTransport(_away), base_url="http://mlflow") as http:
        mlflow = Mlflow(http)
        tracking = TrackingService(plane.workers, plane.folders, mlflow)
        registration = RegistrationService(plane.workers, plane.folders, mlflow, tracking, _SIGNER)
        if refused:
            assert not (await registration.register(job_id)).accepted
            return
        with pytest.raises(Unavailable):
            await registration.register(job_id)


def _away(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("it is down", request=request)


async def _prepare(plane: ControlPlane, job_id: str, tmp_path: Path) -> Prepared:
    preparation = PreparationService(
        plane.workers,
        DatasetFileService(tmp_path / "cache", lambda _version, _split, _out: 0),
        tmp_path / "models",
        lambda _name: None,
        SuiteFolderService(plane.workers, plane.folders.objects, tmp_path / "suites"),
        plane.folders,
        TokenizedService(plane.workers, tmp_path / "tokenized"),
    )
    return await preparation.prepare(job_id)


async def _checkpoint(plane: ControlPlane, job_id: str) -> str:
    """Enter a checkpoint of a job."""
    name = "ckpt_" + "a" * 26
    async with plane.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO checkpoints (id, project_id, job_id, attempt_id, attempt_number, epoch, step,"
                " path, manifest_digest, size_bytes, status) VALUES (:id, 'default', :job, 'att_1', 1, 1, 1,"
                " 'x', 'sha256:0', 1, 'available')"
            ),
            {"id": name, "job": job_id},
        )
    return name


async def _verify(plane: ControlPlane, name: str) -> dict[str, str]:
    service = VerificationService(
        plane.workers, ExaminationService(plane.folders.objects).verify, lambda: _SIGNER.verifier
    )
    found = await service.verify(ADMIN, "default", name, 1)
    return {check.subject: check.status for check in found.checks}

"""Registered models without a training: real files with a manifest, their rows, and evaluations of them."""

from pathlib import Path

from sqlalchemy import func, select, text
from tests.control_plane import ControlPlane
from tests.e2e.specs import script_spec

from steelyard.governance.identity import Actor
from steelyard.kit.canonical import canonical_json, digest_json
from steelyard.kit.ids import new_id
from steelyard.runtime.manifests import write_manifest
from steelyard.storage.database import Database
from steelyard.storage.tables import EvaluationRow, ModelRow, ModelVersionRow

TRAINER = Actor(kind="user", id="trainer")
ASKER = Actor(kind="user", id="asker")
ANN = Actor(kind="user", id="ann")
BEN = Actor(kind="user", id="ben")
DEVELOPER = Actor(kind="user", id="dev")
ROBOT = Actor(kind="service_account", id="robot")
OWNER = Actor(kind="user", id="owner")
_PEOPLE = {
    TRAINER: "developer",
    ASKER: "developer",
    DEVELOPER: "developer",
    ANN: "approver",
    BEN: "approver",
}
PROJECT = "default"
MODEL = "chat"


async def people(database: Database) -> None:
    """Let the people of these tests be there, with their roles."""
    async with database.transaction() as session:
        for actor in (*_PEOPLE, OWNER):
            await session.execute(
                text(
                    "INSERT INTO principals (id, kind, display_name, created_by)"
                    " VALUES (:id, 'user', :id, 'test')"
                ),
                {"id": actor.id},
            )
        await session.execute(
            text(
                "INSERT INTO principals (id, kind, organization_id, display_name, created_by)"
                " VALUES ('robot', 'service_account', 'default', 'robot', 'test')"
            )
        )
        for name, role in [*((actor.id, role) for actor, role in _PEOPLE.items()), ("robot", "admin")]:
            await session.execute(
                text(
                    "INSERT INTO project_members (project_id, principal_id, role, granted_by)"
                    " VALUES ('default', :name, :role, 'test')"
                ),
                {"name": name, "role": role},
            )
        await session.execute(
            text(
                "INSERT INTO organization_members (organization_id, principal_id, role, granted_by)"
                " VALUES ('default', 'owner', 'owner', 'test')"
            )
        )


async def shelve(
    plane: ControlPlane,
    folder: Path,
    *,
    name: str = MODEL,
    by: Actor = TRAINER,
    measured: bool = True,
    metrics: dict[str, float] | None = None,
) -> int:
    """Register a version of a model that `by` trained, measured in a suite of no gate; return its number."""
    body = canonical_json(script_spec("shelf"))
    job = (await plane.services.submission.submit(by, PROJECT, body, None)).job_id
    files = folder / "models" / job
    files.mkdir(parents=True)
    (files / "model.safetensors").write_bytes(job.encode() * 8)
    manifest = write_manifest(files, kind="model", job_id=job, attempt_id="att_1", epoch=1, step=1)
    async with plane.database.transaction() as session:
        model = await session.get(ModelRow, (PROJECT, name), with_for_update=True)
        if model is None:
            model = ModelRow(project_id=PROJECT, name=name, latest_version=0)
            session.add(model)
        model.latest_version += 1
        session.add(
            ModelVersionRow(
                project_id=PROJECT,
                name=name,
                version=model.latest_version,
                job_id=job,
                run_number=0,
                path=str(files),
                manifest_digest=manifest.digest(),
                lineage={},
                metrics=metrics or {},
            )
        )
        number = model.latest_version
    if measured:
        await evaluate(plane.database, number, 0.5, name=name, suite="shelf")
    return number


async def evaluate(
    database: Database,
    version: int,
    value: float,
    *,
    name: str = MODEL,
    suite: str = "smoke",
    metric: str = "accuracy",
    n: int = 400,
    suite_digest: str = "sha256:" + "0" * 64,
    settings_digest: str = "sha256:" + "1" * 64,
) -> None:
    """Store a result of a version, as an evaluation does."""
    async with database.transaction() as session:
        row = await session.get_one(ModelVersionRow, (PROJECT, name, version))
        runs = await session.scalar(
            select(func.count()).select_from(EvaluationRow).where(EvaluationRow.job_id == row.job_id)
        )
        error = (value * (1 - value) / n) ** 0.5
        figure = {
            "name": metric,
            "mean": value,
            "standard_error": error,
            "n": n,
            "interval": [value - 1.96 * error, value + 1.96 * error],
            "method": "wilson",
            "higher_is_better": True,
            "proportion": True,
        }
        content = {"metrics": [figure], "model": row.manifest_digest, "suite": suite}
        session.add(
            EvaluationRow(
                id=new_id("eval"),
                project_id=PROJECT,
                job_id=row.job_id,
                run_number=runs or 0,
                subject="tuned",
                model_name=f"{name}@{version}",
                model_digest=row.manifest_digest,
                suite=suite,
                suite_digest=suite_digest,
                settings={},
                settings_digest=settings_digest,
                engine="test",
                n=n,
                samples_digest="sha256:" + "2" * 64,
                metrics=[figure],
                digest=digest_json(content),
                seconds=1.0,
            )
        )

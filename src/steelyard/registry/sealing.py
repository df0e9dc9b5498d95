"""Sealing a version: its lineage as a signed statement, in the database and beside the weights."""

import asyncio
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.audit.notes import Signer
from steelyard.kit.canonical import digest_bytes, digest_json
from steelyard.registry import repository
from steelyard.registry.envelopes import sign_statement
from steelyard.registry.software import environment, environment_digest
from steelyard.registry.statements import Judged, Provenance, build_statement
from steelyard.runtime.files import write_atomically
from steelyard.specs.manifest import Manifest
from steelyard.storage.tables import JobRow, LineageStatementRow, ModelVersionRow


def statement_file(model_folder: Path) -> Path:
    """Return where the statement of a model folder lies: beside it, since the manifest counts its files."""
    return model_folder.with_name(f"{model_folder.name}.intoto.dsse.json")


async def seal_version(
    session: AsyncSession, job: JobRow, version: ModelVersionRow, manifest: Manifest, signer: Signer
) -> LineageStatementRow:
    """Sign what a new version was made of, in the transaction that registers it."""
    known = version.lineage.get("environment") == environment_digest()
    statement = build_statement(
        Provenance(
            project=version.project_id,
            name=version.name,
            version=version.version,
            kind=job.type,
            job_id=job.id,
            run_number=job.run_number,
            attempts=await repository.attempts_of_run(session, job),
            spec=job.spec,
            lineage=version.lineage,
            metrics=version.metrics,
            evaluations=[
                Judged(row.digest, row.samples_digest, digest_json(row.metrics))
                for row in await repository.evaluations_of_run(session, job)
            ],
            checkpoint=await repository.newest_checkpoint(session, job.id),
            manifest=manifest,
            environment=environment() if known else None,
        )
    )
    envelope = sign_statement(statement, signer)
    row = LineageStatementRow(
        project_id=version.project_id,
        name=version.name,
        version=version.version,
        digest=digest_bytes(envelope.encode()),
        envelope=envelope,
        created_at=version.created_at,
    )
    session.add(row)
    return row


async def publish_statement(model_folder: Path, envelope: str) -> None:
    """Write the statement beside the weights. Written again, it is the same."""
    await asyncio.to_thread(write_atomically, statement_file(model_folder), envelope.encode())

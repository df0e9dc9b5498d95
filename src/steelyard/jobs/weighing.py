"""What a job's gates say to what was measured of its model: judged once a run, and kept as an event."""

import asyncio
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.comparing import Pairs
from steelyard.evals.evidence import Evidence, assemble, metrics_of
from steelyard.evals.gates import Incumbent, ScopedGate, judge
from steelyard.evals.samples import SampleReader
from steelyard.evals.training import training_evidence
from steelyard.jobs import repository
from steelyard.jobs.events import append_event
from steelyard.rlhf.stages import POLICY_STAGE
from steelyard.specs.blocks import EvaluationBlock
from steelyard.specs.gates import Gate, Judgement, Verdict
from steelyard.storage.database import Database
from steelyard.storage.tables import EvaluationRow, EventRow, JobRow

JUDGED = "gates.judged"


async def weigh_job(
    database: Database, reader: SampleReader, job: JobRow, model_digest: str | None
) -> Judgement | None:
    """Judge a job's gates and write down what they say; None where it has none.

    Doing it again over equal evidence writes nothing new.

    Args:
        model_digest: of the finished model. None: the job made none, and its gates are for the model that it
            evaluated; nothing is an incumbent then.
    """
    gates = gates_of(job)
    if not gates:
        return None
    async with database.transaction() as session:
        evidence = await _evidence(session, job, "tuned" if model_digest else "base", model_digest)
        incumbent = await _evidence(session, job, "base", None) if model_digest else None
    pairs = await asyncio.to_thread(_pairs, reader, gates, evidence, incumbent)
    judgement = judge([ScopedGate(gate) for gate in gates], evidence, Incumbent(incumbent, pairs))
    await _write_down(database, job, judgement)
    return judgement


def gates_of(job: JobRow) -> list[Gate]:
    """Return the gates of a job's spec."""
    block = job.spec.get("evaluation")
    return [] if block is None else EvaluationBlock.model_validate(block, strict=False).gates


async def judgement_of(session: AsyncSession, job: JobRow) -> Judgement | None:
    """Return what the gates said in the job's last run, if they have been judged in it.

    Of a pipeline they are those of its policy, whose gates stand for it.
    """
    if job.type == "rlhf":
        policy = select(JobRow).where(JobRow.parent_id == job.id, JobRow.child_key == POLICY_STAGE)
        found = await session.scalar(policy)
        return None if found is None else await judgement_of(session, found)
    data = await _last_data(session, job) if gates_of(job) else None
    if data is None or data.get("run") != job.run_number:
        return None
    return Judgement.model_validate(data["judgement"])


async def _evidence(
    session: AsyncSession, job: JobRow, subject: str, model_digest: str | None
) -> Evidence | None:
    """The newest result of each suite that this job measured; of a finished model, only of that very one."""
    query = (
        select(EvaluationRow)
        .where(EvaluationRow.job_id == job.id, EvaluationRow.subject == subject)
        .order_by(EvaluationRow.id)
    )
    if model_digest is not None:
        query = query.where(EvaluationRow.model_digest == model_digest)
    rows = {row.suite: row for row in await session.scalars(query)}
    trained = training_evidence(job.metrics, job.lineage) if model_digest is not None else []
    # A suite that somebody has named like a figure of training is what counts: it was asked for.
    found = [*trained, *(each for row in rows.values() for each in metrics_of(row))]
    if not found:
        return None
    return assemble(model_digest or next(iter(rows.values())).model_digest, found)


def _pairs(
    reader: SampleReader, gates: list[Gate], evidence: Evidence | None, incumbent: Evidence | None
) -> Mapping[str, Pairs]:
    if evidence is None or incumbent is None:
        return {}
    names = {gate.metric for gate in gates if gate.max_regression is not None}
    found: dict[str, Pairs] = {}
    for name in sorted(names & evidence.metrics.keys() & incumbent.metrics.keys()):
        pairs = reader.pairs(evidence.metrics[name], incumbent.metrics[name])
        if pairs is not None:
            found[name] = pairs
    return found


async def _write_down(database: Database, job: JobRow, judgement: Judgement) -> None:
    data = {"run": job.run_number, "judgement": judgement.model_dump(mode="json")}
    async with database.transaction() as session:
        locked = await repository.lock_job(session, job.id)
        if await _last_data(session, locked) == data:
            return
        passed = judgement.verdict is Verdict.PASS
        message = "; ".join(each.reason for each in judgement.gates)
        await append_event(
            session, locked, JUDGED, f"gates: {judgement.verdict.value}: {message}",
            level="info" if passed else "warn", data=data,
        )  # fmt: skip


async def _last_data(session: AsyncSession, job: JobRow) -> dict[str, object] | None:
    return await session.scalar(
        select(EventRow.data)
        .where(EventRow.job_id == job.id, EventRow.type == JUDGED)
        .order_by(EventRow.id.desc())
        .limit(1)
    )

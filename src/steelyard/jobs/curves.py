"""Curves of trials: taken from reports, and read for who judges trials or looks at them."""

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.hpo.curves import curve_metric, decides, is_kept, spacing
from steelyard.hpo.trials import Curve
from steelyard.jobs.pokes import poke_family
from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.reports import CurvePoint
from steelyard.specs.search import SearchBlock
from steelyard.storage.tables import AttemptRow, JobRow, TrialPointRow


async def take_points(
    session: AsyncSession, attempt_id: str, points: Sequence[CurvePoint], parent_id: str
) -> None:
    """Store what a search keeps of points that an attempt has told, whose lease the caller has checked.

    Doing it again changes nothing; a later epoch's value replaces an earlier one's. The search looks again
    once this is committed, where a point came by which trials are judged.
    """
    search = await session.scalar(select(JobRow.spec["search"]).where(JobRow.id == parent_id))
    if search is None:
        return
    job = (
        await session.execute(
            select(JobRow.id, JobRow.project_id, JobRow.spec["training"].label("training"), AttemptRow.epoch)
            .join(AttemptRow, AttemptRow.job_id == JobRow.id)
            .where(AttemptRow.id == attempt_id)
        )
    ).one()
    block, training = _blocks(search, job.training)
    name = curve_metric(block, training)
    apart = spacing(name, training)
    kept = {
        point.step: math.nan if point.value is None else point.value
        for point in points
        if point.name == name and is_kept(block.pruning, point.step, apart)
    }
    if not kept:
        return
    fixed = {"job_id": job.id, "project_id": job.project_id, "name": name, "epoch": job.epoch}
    await _store(session, [{**fixed, "step": step, "value": value} for step, value in kept.items()])
    if any(decides(block.pruning, step, apart) for step in kept):
        await poke_family(session, job.id)


async def curves_of(session: AsyncSession, parent: JobRow) -> dict[str, Curve]:
    """Return job id -> curve, of the trials of a search that have one; nothing of another job."""
    if parent.type != "hpo":
        return {}
    block, training = _blocks(parent.spec["search"], parent.spec["trial"]["training"])
    return await _read(session, curve_metric(block, training), JobRow.parent_id == parent.id)


async def curve_of(session: AsyncSession, parent: JobRow, job_ids: Sequence[str]) -> dict[str, Curve]:
    """Return job id -> curve, as `curves_of`, of some trials."""
    block, training = _blocks(parent.spec["search"], parent.spec["trial"]["training"])
    chosen = (JobRow.parent_id == parent.id) & JobRow.id.in_(job_ids)
    return await _read(session, curve_metric(block, training), chosen)


async def _read(session: AsyncSession, name: str, of: ColumnElement[bool]) -> dict[str, Curve]:
    query = (
        select(
            TrialPointRow.job_id,
            func.array_agg(aggregate_order_by(TrialPointRow.step, TrialPointRow.step)),
            func.array_agg(aggregate_order_by(TrialPointRow.value, TrialPointRow.step)),
        )
        .join(JobRow, JobRow.id == TrialPointRow.job_id)
        .where(of, TrialPointRow.name == name)
        .group_by(TrialPointRow.job_id)
    )
    return {
        job_id: tuple(zip(steps, values, strict=True))
        for job_id, steps, values in await session.execute(query)
    }


async def _store(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    statement = upsert(TrialPointRow).values(rows)
    given = statement.excluded
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "name", "step"],
            set_={"value": given.value, "epoch": given.epoch},
            where=TrialPointRow.epoch <= given.epoch,
        )
    )


def _blocks(search: Any, training: Any) -> tuple[SearchBlock, TrainingBlock]:
    return (
        SearchBlock.model_validate(search, strict=False),
        TrainingBlock.model_validate(training, strict=False),
    )

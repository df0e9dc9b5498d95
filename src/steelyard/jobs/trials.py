"""Trials of a search: each with its values, how far it is, and what it is worth."""

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.hpo.curves import curve_metric
from steelyard.hpo.trials import Curve, has_own_curve, key_of, number_of
from steelyard.jobs import repository
from steelyard.jobs.curves import curve_of
from steelyard.jobs.specs import stored_spec
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import Page, page_of
from steelyard.specs.access import Permission
from steelyard.specs.job import HpoSpec
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.specs.trials import TrialOrder, TrialPoint, TrialView
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow


class TrialQueryService:
    """Reads the trials of a search that the actor may see; anything else is not found."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def trials(
        self,
        actor: Actor,
        project: str,
        job_id: str,
        limit: int,
        after: str | None,
        order: TrialOrder = "number",
        *,
        curves: bool = False,
    ) -> Page[TrialView]:
        """Return a page of trials, with their curves if asked.

        Raises:
            NotFound: no such job in the project.
            InvalidRequest: it is no search, or `after` is no trial's number.
        """
        passed = _passed(after)
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            job = await repository.find_job(session, checked, job_id)
            spec = _search_of(job)
            rows = await _read(session, job, spec, order, limit + 1, passed)
            best = await best_number(session, job, spec)
            ids = [row["id"] for row in rows[:limit]]
            found = await curve_of(session, job, ids) if curves else {}
        views = [_view(row, spec, best, found.get(row["id"], ()) if curves else None) for row in rows]
        return page_of(views, limit, [str(view.number) for view in views])


async def best_trial(session: AsyncSession, job: JobRow) -> TrialView | None:
    """Return the best trial of a search so far; None of another job, or where none has succeeded."""
    spec = stored_spec(job)
    if not isinstance(spec, HpoSpec):
        return None
    number = await best_number(session, job, spec)
    if number is None:
        return None
    rows = await _read(session, job, spec, "number", 1, key_of(number - 1) if number else None)
    return _view(rows[0], spec, number, None)


async def best_number(session: AsyncSession, job: JobRow, spec: HpoSpec) -> int | None:
    """Return the number of the trial that would be chosen now; of equal ones the first."""
    direction = "ASC" if spec.search.direction == "minimize" else "DESC"
    query = text(
        f"SELECT child_key FROM ({_SUCCEEDED}) trials WHERE {_IS_FINITE}"  # noqa: S608 - no text of a caller's
        f" ORDER BY value {direction}, child_key LIMIT 1"
    )
    key = await session.scalar(query, _arguments(job, spec))
    return None if key is None else number_of(key)


async def _read(
    session: AsyncSession, job: JobRow, spec: HpoSpec, order: TrialOrder, limit: int, after: str | None
) -> Sequence[RowMapping]:
    query = _BY_NUMBER if order == "number" else text(_RANKED.format(ranks=_by_value(spec)))
    rows = await session.execute(query, {**_arguments(job, spec), "after": after, "limit": limit})
    return rows.mappings().all()


def _by_value(spec: HpoSpec) -> str:
    direction = "ASC" if spec.search.direction == "minimize" else "DESC"
    group = f"CASE WHEN NOT ({_IS_FINITE}) THEN 2 WHEN state = 'succeeded' THEN 0 ELSE 1 END"
    return f"{group}, CASE WHEN {_IS_FINITE} THEN value END {direction}, child_key"


def _arguments(job: JobRow, spec: HpoSpec) -> dict[str, Any]:
    block = spec.search
    return {
        "parent": job.id,
        "tuned": f"tuned/{block.metric}",
        "metric": block.metric,
        "curve": curve_metric(block, spec.trial.training),
        "own_curve": has_own_curve(block),
    }


# What a trial is worth: what it measured at its end, else the last of the search's own curve.
_TRIALS = """
    SELECT job.id, job.child_key, job.state, job.status_reason, job.status_message, job.child_order,
        job.started_at, job.ended_at,
        greatest(coalesce((job.progress ->> 'step')::bigint, 0), coalesce(last.step, 0),
                 CASE WHEN attempt.stage = 'train' THEN attempt.last_step ELSE 0 END) AS step,
        coalesce((job.metrics ->> CAST(:tuned AS TEXT))::double precision,
                 (job.metrics ->> CAST(:metric AS TEXT))::double precision,
                 CASE WHEN CAST(:own_curve AS BOOLEAN) THEN last.value END) AS value
    FROM jobs job
    LEFT JOIN attempts attempt ON attempt.id = job.current_attempt_id
    LEFT JOIN LATERAL (
        SELECT step, value FROM trial_points WHERE job_id = job.id AND name = CAST(:curve AS TEXT)
        ORDER BY step DESC LIMIT 1
    ) last ON true
    WHERE job.parent_id = CAST(:parent AS TEXT)
"""
# Of each that has measured something, the curve isn't read.
_SUCCEEDED = """
    SELECT job.child_key,
        coalesce((job.metrics ->> CAST(:tuned AS TEXT))::double precision,
                 (job.metrics ->> CAST(:metric AS TEXT))::double precision,
                 CASE WHEN CAST(:own_curve AS BOOLEAN) THEN (
                     SELECT value FROM trial_points WHERE job_id = job.id AND name = CAST(:curve AS TEXT)
                     ORDER BY step DESC LIMIT 1
                 ) END) AS value
    FROM jobs job
    WHERE job.parent_id = CAST(:parent AS TEXT) AND job.state = 'succeeded'
"""
_IS_FINITE = "(value IS NOT NULL AND value > '-Infinity' AND value < 'Infinity')"
_BY_NUMBER = text(
    f"{_TRIALS} AND (CAST(:after AS TEXT) IS NULL OR job.child_key > CAST(:after AS TEXT))"
    " ORDER BY job.child_key LIMIT :limit"
)
# Whoever passes a number that no trial has gets nothing: it is beyond the last.
_RANKED = f"""
    WITH ranked AS (SELECT *, row_number() OVER (ORDER BY {{ranks}}) AS place FROM ({_TRIALS}) trials)
    SELECT * FROM ranked
    WHERE CASE WHEN CAST(:after AS TEXT) IS NULL THEN true
        ELSE place > (SELECT place FROM ranked WHERE child_key = CAST(:after AS TEXT)) END
    ORDER BY place LIMIT :limit
"""  # noqa: S608 - put together from what stands here


def _view(row: RowMapping, spec: HpoSpec, best: int | None, curve: Curve | None) -> TrialView:
    number, state, value = number_of(row["child_key"]), JobState(row["state"]), row["value"]
    return TrialView(
        number=number,
        job=row["id"],
        state=state,
        status_reason=row["status_reason"],
        status_message=row["status_message"],
        parameters=row["child_order"]["parameters"],
        value=value if value is not None and math.isfinite(value) else None,
        is_final=state is JobState.SUCCEEDED and value is not None,
        is_best=number == best,
        step=row["step"],
        curve=None if curve is None else [_point(step, at) for step, at in curve],
        started_at=row["started_at"],
        ended_at=row["ended_at"] if state in TERMINAL_STATES else None,
    )


def _point(step: int, value: float) -> TrialPoint:
    return TrialPoint(step=step, value=value if math.isfinite(value) else None)


def _search_of(job: JobRow) -> HpoSpec:
    spec = stored_spec(job)
    if isinstance(spec, HpoSpec):
        return spec
    raise InvalidRequest(
        f"{job.id} is of type {job.type} and has no trials; 'steelyard list --type hpo' shows searches",
        param="job",
    )


def _passed(after: str | None) -> str | None:
    if after is None or after == "":
        return None
    if not after.isdecimal() or len(after) > 9:
        raise InvalidRequest(f"{after!r} is no trial's number; pass that of the last one seen", param="after")
    return key_of(int(after))

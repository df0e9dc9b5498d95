"""Late use of projects: GPU- and CPU-seconds that lose half their weight with every half-life.

What a grant has used up to `charged_until` is in the project's sum; the rest is worked out when somebody
asks. Both by the exact integral of the decay, so it makes no difference how often, or by whom, a grant is
charged: for a constant amount a over d seconds, seen at their end, it is a * h / ln 2 * (1 - 2^(-d / h)).
"""

import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True)
class Usage:
    """Decayed use, in GPU- and CPU-seconds."""

    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0


def held_for(seconds: float, half_life_seconds: float) -> float:
    """Return the decayed use of one GPU that was held for the last `seconds`."""
    if seconds <= 0:
        return 0.0
    return half_life_seconds / math.log(2) * -math.expm1(-math.log(2) * seconds / half_life_seconds)


_HELD = (
    "(:half_life / ln(2::FLOAT8) * (1 - power(0.5::FLOAT8,"
    " GREATEST(0, EXTRACT(EPOCH FROM CAST(:now AS TIMESTAMPTZ) - charged_until)::FLOAT8) / :half_life)))"
)
_SINCE = "power(0.5::FLOAT8, GREATEST(0, EXTRACT(EPOCH FROM {late} - {early})::FLOAT8) / :half_life)"
_NEW_IS_LATER = _SINCE.format(late="excluded.decayed_to", early="total.decayed_to")
_OLD_IS_LATER = _SINCE.format(late="total.decayed_to", early="excluded.decayed_to")
_UP_TO_NOW = _SINCE.format(late="CAST(:now AS TIMESTAMPTZ)", early="decayed_to")

# Grants are locked first, all in one order, and sums last, so that nobody waits in a ring.
_CHARGE = text(
    f"""
    WITH due AS (
        SELECT job_id, node, project_id, cpus, jsonb_array_length(gpu_ids) AS gpus, charged_until
        FROM allocations
        WHERE charged_until < :now AND (CAST(:job AS TEXT) IS NULL OR job_id = :job)
        ORDER BY job_id, node FOR UPDATE
    ), moved AS (
        UPDATE allocations SET charged_until = :now FROM due
        WHERE allocations.job_id = due.job_id AND allocations.node = due.node
    )
    INSERT INTO project_usage AS total (project_id, gpu_seconds, cpu_seconds, decayed_to)
    SELECT project_id, sum(gpus * {_HELD}), sum(cpus * {_HELD}), CAST(:now AS TIMESTAMPTZ)
    FROM due GROUP BY project_id ORDER BY project_id
    ON CONFLICT (project_id) DO UPDATE SET
        gpu_seconds = total.gpu_seconds * {_NEW_IS_LATER} + excluded.gpu_seconds * {_OLD_IS_LATER},
        cpu_seconds = total.cpu_seconds * {_NEW_IS_LATER} + excluded.cpu_seconds * {_OLD_IS_LATER},
        decayed_to = GREATEST(total.decayed_to, excluded.decayed_to)
    """  # noqa: S608 - made of constants
)
USAGE_QUERY = f"""
    SELECT project_id, sum(gpu_seconds) AS gpu_seconds, sum(cpu_seconds) AS cpu_seconds FROM (
        SELECT project_id,
            gpu_seconds * {_UP_TO_NOW} AS gpu_seconds, cpu_seconds * {_UP_TO_NOW} AS cpu_seconds
        FROM project_usage
        UNION ALL
        SELECT project_id, jsonb_array_length(gpu_ids) * {_HELD}, cpus * {_HELD} FROM allocations
    ) AS parts GROUP BY project_id
"""  # noqa: S608 - made of constants
"""The decayed use of all projects that ever used anything, with `:now` and `:half_life` in seconds."""
_USAGE = text(USAGE_QUERY)


async def charge(
    session: AsyncSession, now: datetime, half_life_seconds: float, job_id: str | None = None
) -> None:
    """Add to the projects' sums what grants were used since they were charged last, each moment once.

    Whoever gives a grant back does this first, in the same transaction.

    Args:
        session: a transaction that takes no other locks afterwards but on the same project's rows.
        now: up to when.
        half_life_seconds: of the decay.
        job_id: only what this job holds; None: all.
    """
    await session.execute(_CHARGE, {"now": now, "half_life": half_life_seconds, "job": job_id})


async def usage_at(session: AsyncSession, now: datetime, half_life_seconds: float) -> dict[str, Usage]:
    """Return the decayed use of all projects that ever used anything."""
    rows = await session.execute(_USAGE, {"now": now, "half_life": half_life_seconds})
    return {project: Usage(gpu or 0.0, cpu or 0.0) for project, gpu, cpu in rows}

"""What people ask about evaluations."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals import repository
from steelyard.evals.base_models import base_of, beside_base
from steelyard.evals.comparison import compare_metric
from steelyard.evals.evidence import MetricEvidence, chosen_of, metrics_of
from steelyard.evals.safety.report import safety_report
from steelyard.evals.samples import SampleReader
from steelyard.governance import access
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.kit.paging import Page, page_of
from steelyard.specs.access import Permission
from steelyard.specs.comparisons import MetricComparison
from steelyard.specs.evaluations import EvaluationComparison, EvaluationSummary, EvaluationView
from steelyard.storage.database import Database
from steelyard.storage.tables import EvaluationRow, ModelVersionRow

_EVALUATION = re.compile(r"^eval_[a-z0-9]{26}$")
_JOB = re.compile(r"^(job_[a-z0-9]{26})(:base|:tuned)?$")
_VERSION = re.compile(r"^([a-z0-9][a-z0-9._-]*)@([1-9][0-9]{0,17})$")


class EvaluationQueryService:
    """Reads evaluations of a project that the actor may see.

    Args:
        store_root: folder of the object store.
    """

    def __init__(self, database: Database, store_root: Path) -> None:
        self._database = database
        self._reader = SampleReader(store_root)

    async def search(
        self,
        actor: Actor,
        project: str,
        limit: int,
        after: str | None = None,
        *,
        job: str | None = None,
        suite: str | None = None,
    ) -> Page[EvaluationSummary]:
        """Return a page of evaluations, newest first."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.EVALUATION_READ)
            rows = await repository.list_evaluations(
                session, checked, limit=limit + 1, after=after, job=job, suite=suite
            )
        return page_of([_summary(row) for row in rows], limit, [row.id for row in rows])

    async def get(self, actor: Actor, project: str, evaluation_id: str) -> EvaluationView:
        """Return one evaluation, beside that of the model which was trained from.

        Raises:
            NotFound: no such evaluation in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.EVALUATION_READ)
            row = await repository.find_evaluation(session, checked, evaluation_id)
            base = await base_of(session, checked, row)
        view = EvaluationView.model_validate(
            {name: getattr(row, name) for name in EvaluationView.model_fields if hasattr(row, name)}
        )
        beside = await asyncio.to_thread(beside_base, row, base, self._reader)
        report = safety_report(view.suite, view.settings, view.metrics, beside)
        return view.model_copy(update={"safety": report, "base": beside})

    async def samples(self, actor: Actor, project: str, evaluation_id: str) -> Path:
        """Return the Parquet file of an evaluation's per-sample records.

        Raises:
            NotFound: no such evaluation in the project, or its file is gone from the store.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.EVALUATION_READ)
            row = await repository.find_evaluation(session, checked, evaluation_id)
        return await asyncio.to_thread(self._reader.file_of, row.samples_digest)

    async def compare(self, actor: Actor, project: str, a: str, b: str) -> EvaluationComparison:
        """Set two models side by side on the samples that both saw.

        Args:
            a: an evaluation's id, a version `NAME@V`, or a job's id (its trained model; `:base` its base).

        Raises:
            NotFound: nothing was measured there.
            InvalidRequest: the name is none of these.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.EVALUATION_READ)
            rows_b = await _rows_of(session, checked, b, "b")
            rows_a = await _rows_of(session, checked, a, "a", like=rows_b)
        metrics = await asyncio.to_thread(self._compare, rows_a, rows_b)
        return EvaluationComparison(
            a=[_summary(row) for row in rows_a], b=[_summary(row) for row in rows_b], metrics=metrics
        )

    def _compare(
        self, rows_a: Sequence[EvaluationRow], rows_b: Sequence[EvaluationRow]
    ) -> list[MetricComparison]:
        found_a, found_b = _by_name(rows_a), _by_name(rows_b)
        return [
            self._compare_one(metric, found_a.get(metric), found_b.get(metric))
            for metric in sorted({*found_a, *found_b})
        ]

    def _compare_one(
        self, metric: str, a: MetricEvidence | None, b: MetricEvidence | None
    ) -> MetricComparison:
        pairs = self._reader.pairs(b, a) if a is not None and b is not None else None
        return compare_metric(metric, a, b, pairs)


async def _rows_of(
    session: AsyncSession,
    project: ProjectId,
    name: str,
    param: str,
    like: Sequence[EvaluationRow] = (),
) -> Sequence[EvaluationRow]:
    """Return the results of what is named; of a version those that were measured as `like`, if there are."""
    if _EVALUATION.match(name):
        return [await repository.find_evaluation(session, project, name)]
    if match := _JOB.match(name):
        rows = await repository.list_evaluations(session, project, limit=1000, after=None, job=match[1])
        found = _of_subject(rows, (match[2] or "").removeprefix(":"))
    elif match := _VERSION.match(name):
        version = await session.get(ModelVersionRow, (project, match[1], int(match[2])))
        found = await _of_version(session, project, version, like) if version else []
    else:
        raise InvalidRequest(
            f"{name!r} must be an evaluation's id, a version NAME@V, or a job's id (with :base for its base)",
            param=param,
        )
    if not found:
        raise NotFound(
            f"nothing was measured of {name!r}; 'steelyard evals list' shows what was", param=param
        )
    return found


async def _of_version(
    session: AsyncSession, project: ProjectId, version: ModelVersionRow, like: Sequence[EvaluationRow]
) -> list[EvaluationRow]:
    wanted = {(row.suite, row.suite_digest, row.settings_digest) for row in like}
    chosen = await chosen_of(session, project, version.manifest_digest, version.job_id, like=wanted)
    return list({row.suite: row for row in (*chosen.first, *chosen.others)}.values())


def _of_subject(rows: Sequence[EvaluationRow], subject: str) -> list[EvaluationRow]:
    """Return the rows of a job's last run and one subject: the trained model, where there is one."""
    run = max((row.run_number for row in rows), default=0)
    last = [row for row in rows if row.run_number == run]
    wanted = subject or ("tuned" if any(row.subject == "tuned" for row in last) else "base")
    return [row for row in last if row.subject == wanted]


def _by_name(rows: Sequence[EvaluationRow]) -> dict[str, MetricEvidence]:
    return {each.metric: each for row in rows for each in metrics_of(row)}


def _summary(row: EvaluationRow) -> EvaluationSummary:
    return EvaluationSummary.model_validate(
        {name: getattr(row, name) for name in EvaluationSummary.model_fields}
    )

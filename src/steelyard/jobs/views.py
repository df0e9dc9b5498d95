"""Rows turned into what people see."""

from collections.abc import Sequence

from steelyard.datasets.report_links import report_of_lineage
from steelyard.jobs.checkpoints import SWEPT
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.specs.views import (
    AttemptView,
    CheckpointView,
    EventView,
    JobSummary,
    JobView,
    ModelVersionRef,
    Progress,
)
from steelyard.storage.tables import AttemptRow, CheckpointRow, EventRow, JobRow, ModelVersionRow


def progress_of(job: JobRow, attempt: AttemptRow | None) -> Progress:
    """Return how far a job is: steps of training, and the phase of the attempt that is at work."""
    if attempt is None or attempt.state == "ended":
        return Progress.model_validate(job.progress)
    if attempt.stage != job_main_stage(job):
        return Progress.model_validate({**job.progress, "phase": attempt.phase, "eta_seconds": None})
    return Progress(
        phase=attempt.phase,
        step=attempt.last_step,
        total_steps=attempt.total_steps,
        loss=attempt.loss,
        tokens_per_second=attempt.tokens_per_second,
        eta_seconds=attempt.eta_seconds,
    )


def job_main_stage(job: JobRow) -> str:
    """Return the stage whose steps are the job's progress."""
    return "evaluate" if job.type == "eval_only" else "train"


def summary_of(job: JobRow, attempt: AttemptRow | None) -> JobSummary:
    """Return a job as a line of a list."""
    return JobSummary(
        id=job.id,
        project=job.project_id,
        name=job.name,
        type=job.type,
        state=JobState(job.state),
        status_reason=job.status_reason,
        status_message=job.status_message,
        priority=job.priority,
        progress=progress_of(job, attempt),
        tags=job.tags,
        created_at=job.created_at,
        updated_at=job.updated_at,
    )


def view_of(
    job: JobRow,
    attempts: Sequence[AttemptRow],
    model: ModelVersionRow | None,
    children: dict[str, int] | None = None,
) -> JobView:
    """Return a job whole. `attempts` are oldest first; `children` counts a family's, by state."""
    current = attempts[-1] if attempts else None
    return JobView(
        **summary_of(job, current).model_dump(),
        spec=job.spec,
        lineage=job.lineage,
        dataset_report=report_of_lineage(job.project_id, job.lineage),
        attempts=[attempt_view(attempt) for attempt in attempts],
        retries_used=job.retries_used,
        metrics=job.metrics,
        model=_model_ref(model),
        created_by=job.created_by,
        parent=job.parent_id,
        children=(children or {}) if job.type in FAMILY_TYPES else None,
        started_at=job.started_at,
        ended_at=job.ended_at if JobState(job.state) in TERMINAL_STATES else None,
    )


def attempt_view(attempt: AttemptRow) -> AttemptView:
    """Return an attempt as people see it."""
    gpu_seconds = 0.0
    if attempt.gpus and attempt.ended_at:
        gpu_seconds = attempt.gpus * (attempt.ended_at - attempt.started_at).total_seconds()
    return AttemptView.model_validate(
        {
            "id": attempt.id,
            "number": attempt.number,
            "stage": attempt.stage,
            "epoch": attempt.epoch,
            "state": attempt.state,
            "executor": attempt.executor,
            "node": attempt.node,
            "pid": attempt.pid,
            "resumed_from_step": attempt.resumed_from_step,
            "first_step": attempt.first_step,
            "last_step": attempt.last_step,
            "cause": attempt.cause,
            "message": attempt.message,
            "counted": attempt.counted,
            "gpu_seconds": gpu_seconds,
            "gpu_utilisation": attempt.gpu_utilisation,
            "started_at": attempt.started_at,
            "ended_at": attempt.ended_at,
        }
    )


def checkpoint_view(row: CheckpointRow) -> CheckpointView:
    """Return a checkpoint as people see it."""
    fields = {name: getattr(row, name) for name in CheckpointView.model_fields}
    if row.status == SWEPT:
        fields["status"] = "deleted"
    return CheckpointView.model_validate(fields)


def event_view(row: EventRow) -> EventView:
    """Return an event as people see it."""
    return EventView.model_validate({name: getattr(row, name) for name in EventView.model_fields})


def _model_ref(model: ModelVersionRow | None) -> ModelVersionRef | None:
    if model is None:
        return None
    return ModelVersionRef(name=model.name, version=model.version, manifest_digest=model.manifest_digest)

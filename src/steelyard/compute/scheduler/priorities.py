"""In which order a project's own jobs are due."""

from steelyard.compute.scheduler.queue import QueuedJob
from steelyard.compute.scheduler.snapshot import Policy

Rank = tuple[float, float, int, str]


def effective_priority(job: QueuedJob, now_seconds: float, policy: Policy) -> float:
    """Return the priority with what waiting has added to it.

    It grows without bound, so that whatever comes later is passed in the end.
    """
    waited = now_seconds - job.submitted_seconds - policy.ageing_grace_seconds
    if waited <= 0:
        return float(job.priority)
    return job.priority + policy.ageing_points_per_hour * waited / 3600.0


def rank(job: QueuedJob, now_seconds: float, policy: Policy) -> Rank:
    """Return the sort key: higher effective priority first, then first come."""
    effective = effective_priority(job, now_seconds, policy)
    return -effective, job.submitted_seconds, job.sequence, job.id

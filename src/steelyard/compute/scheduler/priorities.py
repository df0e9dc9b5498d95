"""In which order a project's own jobs are due."""

from steelyard.compute.scheduler.queue import QueuedJob
from steelyard.compute.scheduler.snapshot import Policy

_LONGER = 4.0
"""How many times as long each turn of a job is as the one before."""

Rank = tuple[float, bool, float, int, str]


def effective_priority(job: QueuedJob, now_seconds: float, policy: Policy) -> float:
    """Return the priority with what waiting has added to it.

    It grows without bound, so that whatever comes later is passed in the end.
    """
    waited = waited_seconds(job, now_seconds) - policy.ageing_grace_seconds
    if waited <= 0:
        return float(job.priority)
    return job.priority + policy.ageing_points_per_hour * waited / 3600.0


def waited_seconds(job: QueuedJob, now_seconds: float) -> float:
    """Return how long a job has waited in all: the time in which it ran doesn't count."""
    return now_seconds - job.submitted_seconds - job.ran_seconds


def had_its_turn(ran_seconds: float, gpus: int, policy: Policy, evictions: int = 0) -> bool:
    """Whether a job has used its turn up, which is longer after each eviction: the few that are allowed
    shouldn't be over before the job has come far. One without GPUs counts as if it had one."""
    return ran_seconds * max(1, gpus) >= policy.turn_gpu_seconds * _LONGER**evictions


def lent_score(score: float, first: Rank, policy: Policy) -> float:
    """Return what projects are ordered by where GPUs are lent, lowest first.

    Args:
        score: the project's.
        first: the rank of its first job.
        policy: the rules' numbers.
    """
    _, turned, *_ = first
    return score if turned else score / policy.turn_advance


def rank(job: QueuedJob, now_seconds: float, policy: Policy) -> Rank:
    """Return the sort key: higher effective priority first, then who hasn't had its turn, then first come."""
    effective = effective_priority(job, now_seconds, policy)
    turned = had_its_turn(job.ran_seconds, job.gpus * job.nodes, policy)
    return -effective, turned, job.submitted_seconds, job.sequence, job.id

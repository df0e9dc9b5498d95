"""What holds between a family and its children, as pure functions over states."""

from steelyard.jobs.recovery import FINAL_REASONS
from steelyard.specs.job import HpoSpec, JobSpec
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason, Verb

_TYPES_THAT_NEED_ALL = ("rlhf",)
"""Every child of these is a step on the way: without it there is no result."""

PAUSED_WITH_FAMILY = frozenset({Reason.FAMILY_PAUSED, Reason.BUDGET_EXHAUSTED})
"""Reasons of a paused child that goes on together with its family."""


RUN_KEY = "run"
"""Entry of a child's order: the run of its family in which it was made, or started again last."""


def most_at_once(spec: JobSpec) -> int:
    """Return how many launches of a job, or of the children of a family, there may be at once."""
    return min(spec.search.max_concurrent_trials, spec.search.trials) if isinstance(spec, HpoSpec) else 1


def is_due(family_type: str, family_run: int, child_run: int, state: JobState, reason: str | None) -> bool:
    """Whether a child waits to be started again in its family's present run.

    It stays so until it is, through pauses and deaths; what ends in the present run has had its turn.
    """
    return child_run < family_run and starts_again(family_type, state, reason)


def starts_again(family_type: str, state: JobState, reason: str | None) -> bool:
    """Whether a child that is over is started again when its family is retried.

    What succeeded stands, and so does what a search has pruned, and what another try would only repeat. Of a
    family that needs every child, each that failed has its chance.
    """
    if state is JobState.CANCELLED:
        return reason != Reason.PRUNED
    if state is not JobState.FAILED:
        return False
    return family_type in _TYPES_THAT_NEED_ALL or reason not in {*FINAL_REASONS, Reason.GATE_FAILED}


def refuse_for_room(live: int, most: int, parent_id: str) -> str | None:
    """Return why a child can't be started again by itself beside those that are not over, or None."""
    if live < most:
        return None
    return (
        f"{live} of {parent_id} are not over, and no more may be at once; retry it when one has ended, or "
        f"'steelyard retry {parent_id}' at its end"
    )


def refuse_for_family(verb: Verb, child_reason: str | None, parent_id: str, parent: JobState) -> str | None:
    """Return why a person may not ask `verb` of a child by itself, with what to do instead, or None."""
    if verb is Verb.RETRY and child_reason == Reason.PRUNED:
        return "its search has pruned it: that is a result, and it is not tried again"
    if verb not in (Verb.RETRY, Verb.RESUME):
        return None
    if parent in TERMINAL_STATES:
        return f"it is part of {parent_id}, which is {parent.value}; {_way_back(parent, parent_id)}"
    if parent in (JobState.PAUSING, JobState.PAUSED):
        return (
            f"it is part of {parent_id}, which is {parent.value}; 'steelyard resume {parent_id}' resumes both"
        )
    if parent is JobState.CANCELLING:
        return f"it is part of {parent_id}, which is being cancelled"
    return None


def _way_back(parent: JobState, parent_id: str) -> str:
    if parent is JobState.SUCCEEDED:
        return "submit the child's spec ('steelyard get JOB --json') as a job of its own"
    return f"'steelyard retry {parent_id}' starts what is left of it again"

"""Who runs, who waits and who makes room: one pure function from a snapshot to decisions.

`decide` reads no clock, no random numbers and nothing but its argument, and equal snapshots give equal
decisions, in whatever order their parts come.
"""

from steelyard.compute.scheduler.admission import Round
from steelyard.compute.scheduler.decisions import (
    Decisions,
    Grant,
    Nomination,
    Placement,
    Preemption,
    Waiting,
    WaitingCode,
)
from steelyard.compute.scheduler.queue import JobQueue, QueuedJob, SpotPolicy
from steelyard.compute.scheduler.snapshot import (
    Allocation,
    Flavor,
    Node,
    NodeShare,
    Policy,
    PreemptionRule,
    Project,
    Quota,
    Snapshot,
)

__all__ = [
    "Allocation",
    "Decisions",
    "Flavor",
    "Grant",
    "JobQueue",
    "Node",
    "NodeShare",
    "Nomination",
    "Placement",
    "Policy",
    "Preemption",
    "PreemptionRule",
    "Project",
    "QueuedJob",
    "Quota",
    "Snapshot",
    "SpotPolicy",
    "Waiting",
    "WaitingCode",
    "decide",
]


def decide(snapshot: Snapshot) -> Decisions:
    """Run one round: grants, preemptions, nominations, and why everyone else waits.

    What the caller owes between rounds: a granted job is an `Allocation` from the next snapshot on; a
    preempted one stays there with `stopping` set until its last process has gone, then it is queued again
    with its old `submitted_seconds`, one eviction more, and `Preemption.for_job` added to its
    `made_way_for`; a nominated one brings its nodes back in `nominated_nodes`, each round, as long as
    `Decisions.nominations` names it.
    """
    return Round(snapshot).run()

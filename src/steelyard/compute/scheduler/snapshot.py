"""What the scheduler sees: nodes, projects, running and queued jobs, and the rules, at one moment.

Everything is immutable. Times are seconds of one clock (Unix time will do); memory is in bytes. The
order of nodes, projects, allocations and jobs within their tuples means nothing.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from steelyard.compute.scheduler.queue import JobQueue, QueuedJob, SpotPolicy

__all__ = [
    "Allocation",
    "Flavor",
    "Node",
    "NodeShare",
    "Policy",
    "PreemptionRule",
    "Project",
    "QueuedJob",
    "Quota",
    "Snapshot",
    "SpotPolicy",
]


class PreemptionRule(StrEnum):
    """Why a running job may be asked to leave for another."""

    RECLAIM = "reclaim"
    """The other one is within its project's nominal quota; the victim's project is beyond its own."""
    FAIR_SHARE = "fair_share"
    """The other one's project stays at or below the share that is left to the victim's."""
    PRIORITY = "priority"
    """Both are of one project; the other one has the higher priority."""
    TURN = "turn"
    """Both are of one project and the victim's priority is no higher; it has had its turn since it started,
    and the other one has had none: see `Policy.turn_gpu_seconds`."""
    LENT_TURN = "lent_turn"
    """As `TURN`, but of another project, which holds beyond its nominal quota: with the other one, that one's
    project has at most `Policy.turn_advance` times the share that is left to the victim's."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules' numbers."""

    min_runtime_seconds: float = 600.0
    """A job that has run for less since its last start is never preempted: at least twice what a
    checkpoint and a restart cost."""
    eviction_cap: int = 3
    """A job that was evicted so many times is never preempted again."""
    preemption: frozenset[PreemptionRule] = frozenset(
        (
            PreemptionRule.RECLAIM,
            PreemptionRule.PRIORITY,
            PreemptionRule.TURN,
            PreemptionRule.LENT_TURN,
        )
    )
    """The kinds that are switched on. `FAIR_SHARE` costs evictions and, on the Philly trace, a fifth of
    mean completion time beside quotas that guarantee as much; it is for pools without quotas."""
    priority_margin: int = 1
    """How much higher a job's priority must be to preempt another of its project."""
    turn_gpu_seconds: float = 4 * 3600.0
    """A job that has used so many GPU-seconds has had its first turn: of equal priority, those that have not
    go first. Most jobs are over by then, so nobody needs to know how long a job will run (least attained
    service, after Gu et al., Tiresias, NSDI 2019). It keeps its place for a whole turn from each start; each
    is four times as long as the one before."""
    turn_wait_seconds: float = 300.0
    """How long a job waits before others leave for its turn: where much ends, room comes by itself."""
    turn_advance: float = 4.0
    """Where GPUs are lent, a project whose first job has not had its turn counts as if its score were divided
    by this: jobs that are over soon get up to so much more of what is lent than those that run for days."""
    usage_half_life_seconds: float = 7 * 86400.0
    """The half-life by which `Project.decayed_*_seconds` were decayed."""
    usage_weight: float = 0.5
    """0: projects are ordered by what they hold now; 1: by what they used lately; between: a blend."""
    entry_penalty_seconds: float = 300.0
    """A job is charged so many seconds of use in advance when it starts, so that a burst of starts
    counts before it has run."""
    ageing_grace_seconds: float = 7 * 86400.0
    """How long a job waits before its priority begins to grow: shorter, and in a pool that is overloaded for
    days everybody's has grown, and whoever came first goes first, however long it runs."""
    ageing_points_per_hour: float = 5.0
    """Points of priority that a job gains for every hour that it waits beyond the grace."""
    patience_seconds: float = 7 * 86400.0
    """The first job that doesn't fit has nodes kept for it at once where the limits of the jobs in its way
    say when they will be free. Where they have no limit it lets smaller jobs pass for so long first. And who
    has waited for so long has a turn again."""


@dataclass(frozen=True, slots=True)
class Flavor:
    """A kind of node. `price_per_gpu_hour` in the platform's currency."""

    name: str
    price_per_gpu_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Node:
    """A machine: what it has, and which of its GPUs nobody holds.

    `free_cpus` and `free_memory_bytes` are what no allocation holds, stopping ones counted as holding.
    """

    name: str
    flavor: str
    cpus: int
    memory_bytes: int
    free_cpus: int
    free_memory_bytes: int
    gpu_ids: tuple[str, ...] = ()
    free_gpu_ids: tuple[str, ...] = ()
    spot: bool = False
    up: bool = True


@dataclass(frozen=True, slots=True)
class Quota:
    """A project's part of one flavor, in GPUs.

    `nominal` is guaranteed. Beyond it the project borrows what is idle, up to `borrowing_limit` (None:
    no limit). Of what it doesn't use itself it lends up to `lending_limit` (None: all of it).
    """

    flavor: str
    nominal: int = 0
    borrowing_limit: int | None = None
    lending_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant. Without quotas nothing is guaranteed to it, and nothing limits it.

    `decayed_gpu_seconds` and `decayed_cpu_seconds` are past use, halved every
    `Policy.usage_half_life_seconds`. A project of weight 0 gets only what nobody else wants.
    """

    name: str
    weight: float = 1.0
    quotas: tuple[Quota, ...] = ()
    decayed_gpu_seconds: float = 0.0
    decayed_cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What an allocation holds on one node."""

    node: str
    cpus: int
    memory_bytes: int
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Allocation:
    """A job that holds capacity, from its grant until its last process has gone.

    `stopping` says that it was asked to leave: it still holds what it holds, and is no victim again.
    """

    job_id: str
    project: str
    placements: tuple[NodeShare, ...]
    started_seconds: float
    priority: int = 500
    evictions: int = 0
    preemptible: bool = True
    stopping: bool = False
    max_runtime_seconds: float | None = None
    """What is left of its limit, counted from `started_seconds`; None: not known."""
    checkpoint_age_seconds: float | None = None
    """Seconds since the newest checkpoint; None: there is none."""
    ran_seconds: float = 0.0
    """How long it ran before this start."""
    saves: bool = True
    """Whether it can go on from where it left; who can't is not asked to leave for another's turn."""
    made_way_for: tuple[str, ...] = ()
    """The jobs for which it was preempted before, as in `QueuedJob`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that `decide` knows. `queued` may be a tuple, or a `JobQueue` that is kept between rounds."""

    now_seconds: float
    nodes: tuple[Node, ...]
    queued: tuple[QueuedJob, ...] | JobQueue = ()
    running: tuple[Allocation, ...] = ()
    projects: tuple[Project, ...] = ()
    flavors: tuple[Flavor, ...] = ()
    policy: Policy = field(default_factory=Policy)

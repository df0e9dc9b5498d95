"""The language of the pool: flavors, nodes, quotas, and the rules of its scheduler."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from steelyard.specs.base import Message, Spec
from steelyard.specs.budgets import Exact

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""ISO 4217."""
Gpus = Annotated[int, Field(ge=0, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0.0, le=366 * 86400.0)]


class FlavorSpec(Spec):
    """A kind of node."""

    gpu_type: Annotated[str, Field(max_length=128)] = ""
    """As people call it: `a100-80gb`."""
    spot: bool = False
    """Its nodes can be taken back at short notice."""
    price_per_gpu_hour: Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)] | None = None
    """In the installation's currency. Unset: use of it costs nothing."""


class FlavorView(Message):
    """A flavor, with what its nodes have that are up."""

    name: str
    gpu_type: str
    spot: bool
    price_per_gpu_hour: Exact | None
    nodes: int
    gpus: int
    free_gpus: int
    updated_by: str
    updated_at: datetime


class NodeView(Message):
    """A node, what it has, and what of it nobody holds."""

    name: str
    flavor: str
    spot: bool
    executor: str
    simulated: bool
    state: Literal["up", "interrupted", "down"]
    """`interrupted`: it gets no new work until it is back."""
    cpus: int
    free_cpus: int
    memory_bytes: int
    free_memory_bytes: int
    gpus: int
    free_gpus: int
    jobs: int
    last_seen_at: datetime
    interruption_deadline: datetime | None
    interruption_reason: str | None


class IdlePolicy(Spec):
    """What happens to an attempt that holds GPUs and doesn't use them.

    It is idle when for a whole window its GPUs worked less than `min_gpu_utilisation` of the time, as far as
    somebody measures that, or else made fewer than `min_steps` steps.
    """

    action: Literal["none", "warn", "requeue", "stop"] = "requeue"
    """After a warning: `requeue` saves and queues it again, `stop` saves and pauses it until somebody resumes
    it."""
    window_seconds: Annotated[float, Field(ge=1.0, le=7 * 86400.0)] = 1800.0
    warning_seconds: Annotated[float, Field(ge=0.0, le=7 * 86400.0)] = 600.0
    """How long it has from the warning to show work."""
    min_gpu_utilisation: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    min_steps: Annotated[int, Field(ge=1)] = 1


class PoolPolicy(Spec):
    """The rules of the scheduler, for the whole installation."""

    min_runtime_seconds: Seconds = 600.0
    """A job that has run for less since its last start is never preempted."""
    eviction_cap: Annotated[int, Field(ge=0, le=1000)] = 3
    """A job that was evicted so many times is never preempted again."""
    preemption: list[Literal["reclaim", "fair_share", "priority", "turn", "lent_turn"]] = [
        "reclaim",
        "priority",
        "turn",
        "lent_turn",
    ]
    """For whom others must leave: a project below its nominal quota; one with the lower share; within a
    project the higher priority, and at no lower priority who has not had its turn; and beyond quotas who has
    not had its turn, of whatever project."""
    priority_margin: Annotated[int, Field(ge=1, le=1000)] = 1
    """How much higher a job's priority must be to preempt another of its project."""
    turn_gpu_seconds: Seconds = 4 * 3600.0
    """A job that has used so many GPU-seconds (seconds, without GPUs) has had its turn: of equal priority,
    those that have not go first."""
    turn_wait_seconds: Seconds = 300.0
    """How long a job waits before others must leave for its turn."""
    turn_advance: Annotated[float, Field(ge=1.0, le=1000.0)] = 4.0
    """Beyond quotas, a project whose first job has not had its turn counts as if its score were divided by
    this."""
    usage_half_life_seconds: Annotated[float, Field(ge=60.0, le=366 * 86400.0)] = 7 * 86400.0
    """In so long past use loses half its weight."""
    usage_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """0: what projects hold now decides; 1: what they used lately."""
    entry_penalty_seconds: Seconds = 300.0
    """Use that a job is charged with in advance when it starts."""
    ageing_grace_seconds: Seconds = 7 * 86400.0
    """How long a job waits before its priority begins to grow."""
    ageing_points_per_hour: Annotated[float, Field(ge=0.0, le=1000.0)] = 5.0
    patience_seconds: Seconds = 7 * 86400.0
    """How long the first job that doesn't fit lets smaller ones pass, where nobody knows when it will fit."""
    idle: IdlePolicy = IdlePolicy()
    """Of projects that have no rule of their own."""


class PoolSettings(Spec):
    """What holds for the whole installation."""

    currency: Currency = "EUR"
    """Of all prices and budgets."""
    policy: PoolPolicy = PoolPolicy()


class PoolView(Message):
    """The pool at one moment."""

    settings: PoolSettings
    flavors: list[FlavorView]
    nodes: list[NodeView]
    queued_jobs: int
    running_jobs: int


class QuotaSpec(Spec):
    """A project's part of one flavor, in GPUs."""

    nominal: Gpus = 0
    """Guaranteed: others who hold it must leave when the project needs it."""
    borrowing_limit: Gpus | None = None
    """GPUs beyond `nominal` that it may hold while they are idle. Unset: no limit."""
    lending_limit: Gpus | None = None
    """GPUs of `nominal` that others may hold while it doesn't need them. Unset: all."""


class QuotaChange(QuotaSpec):
    """A quota as it is set, and with it the project's weight where one is named."""

    weight: Annotated[float, Field(ge=0.0, le=1e6)] | None = None
    """Its part of what is lent, beside other projects' weights. 0: only what nobody else wants."""


class QuotaFigures(Message):
    """A quota, and what the project holds of it."""

    flavor: str
    nominal: int
    borrowing_limit: int | None
    lending_limit: int | None
    held_gpus: int
    borrowed_gpus: int
    """Held beyond `nominal`."""
    lent_gpus: int
    """GPUs of `nominal` that others hold now."""
    flavor_gpus: int
    """All that the flavor has."""


class PlanQuota(Message):
    """What a job would do to a project's quota of a flavor that could take it."""

    flavor: str
    nominal: int
    held_gpus: int
    """Before the job."""
    would_borrow_gpus: int
    """Held beyond `nominal` with the job: others can have them back, by checkpoint."""
    admissible: bool
    """Whether nominal and borrowing limit leave room for a job of this size at all."""
    message: str


class ProjectQuotas(Message):
    """A project's standing in the pool."""

    project: str
    weight: float
    share: float
    """Weighted dominant share of what it holds beyond its quotas: who has the lowest goes first."""
    score: float
    """The share blended with late use: what projects are ordered by."""
    used_gpu_hours: float
    """Late use, halved with each half-life."""
    queued_jobs: int
    quotas: list[QuotaFigures]
    idle: IdlePolicy
    idle_is_own: bool
    """Whether `idle` is the project's rule, not the installation's."""


class Interruption(Spec):
    """Notice that a node will be taken away."""

    in_seconds: Annotated[float, Field(ge=0.0, le=86400.0)] = 120.0
    """So long jobs have to save and leave."""
    reason: Annotated[str, Field(max_length=256)] = "spot capacity is taken back"

"""What goes into workflows and activities, and what comes out. Ids and plain values; never a secret."""

from dataclasses import dataclass
from datetime import datetime

from steelyard.jobs.recovery import AttemptEnd
from steelyard.specs.states import JobState

__all__ = [
    "AttemptEnd",
    "Command",
    "FamilyPlan",
    "FamilyStanding",
    "FamilyStart",
    "GiveUp",
    "JobPlan",
    "JobResult",
    "JobStart",
    "LaunchRequest",
    "Launched",
    "Move",
    "PromotionStanding",
    "Registration",
    "Standing",
    "Stop",
]


@dataclass(frozen=True)
class JobStart:
    """The beginning of a job's run, or the point at which a long history is cut and goes on."""

    job_id: str
    run_number: int
    segment: int = 0
    """Launches so far in this run."""
    admitted: bool = False
    sequence: int = -1
    desired: str = "run"


@dataclass(frozen=True)
class JobPlan:
    """What preparation found: the stages that are still to do, or why there will be none."""

    ready: bool
    stages: list[str]
    max_retries: int = 0
    grace_seconds: float = 120.0
    registers: bool = False
    reason: str | None = None
    message: str = ""


@dataclass(frozen=True)
class Command:
    """What people want, in the order in which they asked."""

    sequence: int
    desired: str


@dataclass(frozen=True)
class Move:
    """A change of state that the workflow asks for."""

    job_id: str
    run_number: int
    target: JobState
    reason: str | None
    message: str
    release: bool = False


@dataclass(frozen=True)
class Standing:
    """How a job stands after a move: whether it was made, and what people want now."""

    moved: bool
    state: JobState
    desired: str
    sequence: int


@dataclass(frozen=True)
class LaunchRequest:
    """One launch of a stage. The same `segment` makes the same attempt."""

    job_id: str
    run_number: int
    segment: int
    stage: str


@dataclass(frozen=True)
class Launched:
    """The attempt, or None where the job may not run now; and how it stands."""

    attempt_id: str | None
    standing: Standing


@dataclass(frozen=True)
class Stop:
    """A request to an attempt to save and leave."""

    attempt_id: str
    reason: str
    grace_seconds: float


@dataclass(frozen=True)
class Registration:
    """Whether the model was taken into the registry; where it wasn't, why."""

    accepted: bool
    reason: str | None = None
    message: str = ""


@dataclass(frozen=True)
class JobResult:
    """How the run ended."""

    job_id: str
    state: JobState


@dataclass(frozen=True)
class FamilyStart:
    """The beginning of a family's run, or the point at which a long history is cut and goes on."""

    job_id: str
    run_number: int
    prepared: bool = False


@dataclass(frozen=True)
class FamilyPlan:
    """Whether a family can begin; where it can't, why."""

    ready: bool
    reason: str | None = None
    message: str = ""


@dataclass(frozen=True)
class FamilyStanding:
    """How a family stands after a look at it. `registers`: its result is to be registered now."""

    state: JobState
    over: bool
    registers: bool = False


@dataclass(frozen=True)
class GiveUp:
    """Why a family's run can't be carried on."""

    job_id: str
    run_number: int
    reason: str
    message: str


@dataclass(frozen=True)
class PromotionStanding:
    """How a promotion stands, and when to look again if nobody says anything before."""

    state: str
    over: bool
    wake_at: datetime | None = None

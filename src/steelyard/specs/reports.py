"""What a trainer and the api say to each other. Every message carries the lease epoch."""

from typing import Annotated, Literal

from pydantic import Field

from steelyard.specs.base import Message
from steelyard.specs.outcome import Outcome
from steelyard.specs.search import CurveMetric

Phase = Literal["loading", "tokenizing", "training", "saving", "evaluating", "finishing"]


MAX_POINTS = 200
"""Points of curves in one report; what is left comes with the next."""


class CurvePoint(Message):
    """What a figure was at a step."""

    step: Annotated[int, Field(ge=0)]
    name: CurveMetric
    value: float | None
    """None: not a finite number."""


class AttemptReport(Message):
    """Sent every `report_interval_seconds` at least, and at each logged step. Renews the lease.

    `POST /v1/attempts/{attempt_id}/report`
    """

    epoch: int
    phase: Phase
    step: Annotated[int, Field(ge=0)] = 0
    total_steps: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    gpu_utilisation: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Part of the time in which the attempt's GPUs worked lately; unset where nobody measures it."""
    metrics: dict[str, float] = {}
    points: Annotated[list[CurvePoint], Field(max_length=MAX_POINTS)] = []
    """What there is since the last report that got through. Of an attempt whose job is no trial it is passed
    over."""


class CheckpointReport(Message):
    """A checkpoint whose manifest is on the disk. `POST /v1/attempts/{attempt_id}/checkpoints`"""

    epoch: int
    step: Annotated[int, Field(ge=0)]
    path: str
    """Folder relative to the job's folder, such as `checkpoints/e00001/step-00000020`."""
    manifest_digest: str
    size_bytes: Annotated[int, Field(ge=0)]


class ResultReport(Message):
    """The outcome, as in `outcome.json`. `POST /v1/attempts/{attempt_id}/result`"""

    epoch: int
    outcome: Outcome


class EventReport(Message):
    """Something that a user should read. `POST /v1/attempts/{attempt_id}/events`"""

    epoch: int
    level: Literal["info", "warn", "error"] = "info"
    type: str
    message: str
    data: dict[str, object] = {}


class Directives(Message):
    """The api's answer to every report. A 409 `stale_lease` instead means: write nothing more, leave."""

    lease_seconds: float
    """The lease holds so long from now; a trainer whose lease ran out saves and leaves."""
    stop: bool = False
    """Save at the next step's end and exit with `ExitCode.CHECKPOINTED`."""
    checkpoint: bool = False
    """Save at the next step's end and go on."""

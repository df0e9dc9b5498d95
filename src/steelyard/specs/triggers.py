"""What starts a retraining, and how its model goes out."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steelyard.specs.base import Name, Spec

Percent = Annotated[int, Field(ge=1, le=100)]


class TriggerBlock(Spec):
    """One cause that starts a run of the template."""

    kind: Literal["schedule", "drift", "performance"]
    cron: Annotated[str, Field(pattern=r"^\S+ \S+ \S+ \S+ \S+$")] | None = None
    """Five fields, UTC; for kind schedule."""
    metric: str | None = None
    """The watched figure; for kinds drift and performance."""
    threshold: float | None = None
    window_hours: Annotated[int, Field(ge=1)] = 24
    cooldown_hours: Annotated[int, Field(ge=0)] = 24
    """No second run within this time of the last."""

    @model_validator(mode="after")
    def _kind_has_its_fields(self) -> Self:
        if self.kind == "schedule" and self.cron is None:
            raise ValueError("kind schedule needs cron")
        if self.kind != "schedule" and (self.metric is None or self.threshold is None):
            raise ValueError(f"kind {self.kind} needs metric and threshold")
        return self


class RolloutBlock(Spec):
    """The way from a trained version to all traffic."""

    alias: Name = "prod"
    strategy: Literal["shadow", "canary", "ab"] = "canary"
    steps_percent: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=1)] = [
        1,
        10,
        50,
        100,
    ]
    """Shares of traffic, each held until its checks pass."""
    hold_minutes: Annotated[int, Field(ge=1)] = 60

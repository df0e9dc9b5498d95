"""Curves of trials."""

from sqlalchemy import Float, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base


class TrialPointRow(Base):
    """What a figure of a trial was at a step. NaN: no finite number."""

    __tablename__ = "trial_points"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    value: Mapped[float] = mapped_column(Float)
    epoch: Mapped[int]
    """Of the attempt that told it; a later one's stands."""

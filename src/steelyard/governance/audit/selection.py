"""Which rows a search or an export is for. Pure."""

from dataclasses import dataclass
from datetime import datetime

from steelyard.governance.audit.leaves import LeafRow

_ANY = "*"


@dataclass(frozen=True)
class Selection:
    """What is None doesn't matter."""

    actor: str | None = None
    """`user:ada`, or `ada` for every kind of actor."""
    object_id: str | None = None
    object_kind: str | None = None
    verb: str | None = None
    """`job.cancel`, or `job.*` for all that begins so."""
    outcome: str | None = None
    project_id: str | None = None
    since: datetime | None = None
    """Included."""
    until: datetime | None = None
    """Not included."""

    @property
    def is_everything(self) -> bool:
        """Whether no row is left out."""
        return self == Selection()

    def takes(self, row: LeafRow) -> bool:
        """Whether a row is meant."""
        actor, verb, at = str(row["actor"]), str(row["verb"]), _moment(row)
        named = self.actor is None or self.actor in (actor, actor.partition(":")[2])
        spoken = self.verb is None or _matches(self.verb, verb)
        begun = self.since is None or (at is not None and at >= self.since)
        ended = self.until is None or (at is not None and at < self.until)
        exact = (
            ("object_id", self.object_id),
            ("object_kind", self.object_kind),
            ("outcome", self.outcome),
            ("project_id", self.project_id),
        )
        meant = all(wanted in (None, row[column]) for column, wanted in exact)
        return named and spoken and begun and ended and meant


def _matches(wanted: str, verb: str) -> bool:
    return verb.startswith(wanted.removesuffix(_ANY)) if wanted.endswith(_ANY) else verb == wanted


def _moment(row: LeafRow) -> datetime | None:
    try:
        return datetime.fromisoformat(str(row["at"]))
    except ValueError:  # infinity, or before Christ: nothing that was written by us
        return None

"""What speaks for a version before an alias, and what the gates say to it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.evidence import Evidence, evidence_of
from steelyard.governance.access import ProjectId
from steelyard.rollouts import repository
from steelyard.rollouts.binding import Binding
from steelyard.rollouts.rules import gates_of, parse_gate
from steelyard.specs.blocks import Gate
from steelyard.specs.promotions import Alias
from steelyard.storage.tables import AliasRow, ModelVersionRow


@dataclass(frozen=True)
class Gathered:
    """All that a judgement is made of, read in one transaction."""

    binding: Binding
    gates: list[Gate]
    evidence: Evidence | None
    incumbent: Evidence | None


@dataclass(frozen=True)
class Weighed:
    """What the gates say. `record` holds each gate with its numbers, as JSON."""

    verdict: str
    """`pass`, `fail`, or `not_enough_evidence`."""
    reasons: list[str]
    record: dict[str, Any]


async def gather(
    session: AsyncSession, project: ProjectId, subject: ModelVersionRow, alias: Alias, here: AliasRow | None
) -> Gathered:
    """Read evidence and gates as they are now.

    Args:
        here: where the alias points.
    """
    rows = await gates_of(session, project, alias)
    evidence = await evidence_of(session, project, subject.manifest_digest)
    incumbent = None
    if here is not None:
        there = await repository.find_version(session, project, subject.name, here.version)
        incumbent = await evidence_of(session, project, there.manifest_digest)
    binding = Binding(
        project=project,
        model=subject.name,
        version=subject.version,
        alias=alias,
        model_digest=subject.manifest_digest,
        evidence=_digests(evidence),
        incumbent_evidence=_digests(incumbent),
        gates=[row.digest for row in rows],
        alias_sequence=here.sequence if here else 0,
    )
    return Gathered(binding, [parse_gate(row) for row in rows], evidence, incumbent)


def weigh(gathered: Gathered) -> Weighed:
    """Hold the evidence against the gates."""
    faults: list[str] = []
    missing = False
    metrics = gathered.evidence.metrics if gathered.evidence else {}
    for gate in gathered.gates:
        found = metrics.get(gate.metric)
        if found is None:
            missing = True
            faults.append(f"{gate.metric} was not measured")
        elif (gate.min is not None and found.mean < gate.min) or (
            gate.max is not None and found.mean > gate.max
        ):
            faults.append(f"{gate.metric} is {found.mean:.4g}")
    verdict = "pass" if not faults else "not_enough_evidence" if missing else "fail"
    return Weighed(verdict, faults, {"verdict": verdict, "reasons": faults})


def _digests(evidence: Evidence | None) -> dict[str, str]:
    return {} if evidence is None else {"evaluations": evidence.digest}

"""What speaks for a version before an alias, and what the gates say to it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.comparing import Pairs
from steelyard.evals.evidence import Evidence, MetricEvidence, evidence_of
from steelyard.evals.gates import Incumbent, judge
from steelyard.evals.merging import Merged, merge_gates
from steelyard.governance.access import ProjectId
from steelyard.rollouts import repository
from steelyard.rollouts.binding import Binding
from steelyard.rollouts.rules import gates_of, parse_gate
from steelyard.specs.gates import Judgement, Verdict
from steelyard.specs.promotions import Alias
from steelyard.storage.tables import AliasRow, ModelVersionRow

_UNMEASURED = "nothing was ever measured of this model"


@dataclass(frozen=True)
class Gathered:
    """All that a judgement is made of, read in one transaction."""

    binding: Binding
    gates: Merged
    evidence: Evidence | None
    replaces: bool
    """Whether the alias points to a version, against which gates may hold this one."""
    incumbent: Evidence | None
    """Of that version."""


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
    organization = [parse_gate(row) for row in rows if row.project_id is None]
    own = [parse_gate(row) for row in rows if row.project_id is not None]
    merged = merge_gates(organization, own)
    return Gathered(binding, merged, evidence, here is not None, incumbent)


def paired_metrics(gathered: Gathered) -> list[tuple[MetricEvidence, MetricEvidence]]:
    """Return the figures that gates compare with the incumbent's, both of each."""
    if gathered.evidence is None or gathered.incumbent is None:
        return []
    names = {each.gate.metric for each in gathered.gates.gates if each.gate.max_regression is not None}
    mine, theirs = gathered.evidence.metrics, gathered.incumbent.metrics
    return [(mine[name], theirs[name]) for name in sorted(names & mine.keys() & theirs.keys())]


def weigh(gathered: Gathered, pairs: Mapping[str, Pairs]) -> Judgement:
    """Hold the evidence against the gates. The same binding and samples give the same judgement.

    Past dev no model goes unmeasured, even where nobody has set a gate.

    Args:
        pairs: values of the samples that both versions have in common, by metric.
    """
    incumbent = Incumbent(gathered.incumbent, pairs) if gathered.replaces else None
    judgement = judge(gathered.gates.gates, gathered.evidence, incumbent, gathered.gates.notes)
    if gathered.binding.alias == Alias.DEV or gathered.evidence is not None:
        return judgement
    verdict = Verdict.NOT_ENOUGH_EVIDENCE if judgement.verdict is Verdict.PASS else judgement.verdict
    return judgement.model_copy(update={"verdict": verdict, "missing": [_UNMEASURED]})


def _digests(evidence: Evidence | None) -> dict[str, str]:
    return {} if evidence is None else {"evaluations": evidence.digest}

"""What speaks for a version before an alias, and what the gates say to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.comparing import Pairs
from steelyard.evals.evidence import Evidence, MetricEvidence, evidence_of
from steelyard.evals.gates import Incumbent, judge
from steelyard.evals.merging import Merged, merge_gates
from steelyard.evals.repository import organization_suites
from steelyard.evals.training import with_training
from steelyard.governance.access import ProjectId
from steelyard.rollouts import repository
from steelyard.rollouts.binding import Binding
from steelyard.rollouts.rules import gates_of, parse_gate
from steelyard.specs.gates import Gate, Judgement, Verdict
from steelyard.specs.promotions import Alias
from steelyard.storage.tables import AliasRow, GateRow, ModelVersionRow

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
    suites = await organization_suites(session, project)
    organization = [_pin(parse_gate(row), suites) for row in rows if row.project_id is None]
    own = [parse_gate(row) for row in rows if row.project_id is not None]
    pinned = {gate.suite_digest for gate in (*organization, *own) if gate.suite_digest is not None}
    evidence = await evidence_of(
        session, project, subject.manifest_digest, trained_by=subject.job_id, pinned=pinned
    )
    incumbent = None
    if here is not None:
        there = await repository.find_version(session, project, subject.name, here.version)
        incumbent = await evidence_of(
            session, project, there.manifest_digest, trained_by=there.job_id, beside=evidence
        )
        incumbent = with_training(incumbent, there.metrics, there.lineage)
    evidence = with_training(evidence, subject.metrics, subject.lineage)
    binding = Binding(
        project=project,
        model=subject.name,
        version=subject.version,
        alias=alias,
        model_digest=subject.manifest_digest,
        evidence=_digests(evidence),
        incumbent_evidence=_digests(incumbent),
        gates=[*(row.digest for row in rows), *sorted(_pins(organization, rows))],
        alias_sequence=here.sequence if here else 0,
    )
    merged = merge_gates(organization, own)
    return Gathered(binding, merged, evidence, here is not None, incumbent)


def paired_metrics(gathered: Gathered) -> dict[str, tuple[MetricEvidence, MetricEvidence]]:
    """Return the figures that gates compare with the incumbent's, both of each, by name."""
    if gathered.evidence is None or gathered.incumbent is None:
        return {}
    found: dict[str, tuple[MetricEvidence, MetricEvidence]] = {}
    for gate in (each.gate for each in gathered.gates.gates):
        mine = gathered.evidence.find(gate.metric, gate.suite_digest)
        theirs = gathered.incumbent.like(mine) if mine is not None else None
        if gate.max_regression is not None and mine is not None and theirs is not None:
            found[gathered.evidence.name_of(mine)] = (mine, theirs)
    return found


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


def _pin(gate: Gate, suites: Mapping[str, str]) -> Gate:
    """Hold an organization's gate to the organization's own suite, where it has one of that name: a project's
    suite of the same name doesn't count for it."""
    digest = suites.get(gate.suite) if gate.suite_digest is None else None
    return gate if digest is None else gate.model_copy(update={"suite_digest": digest})


def _pins(gates: Sequence[Gate], rows: Sequence[GateRow]) -> set[str]:
    """Return the contents of suites that gates are held to and do not name themselves."""
    named = {row.gate.get("suite_digest") for row in rows}
    return {gate.suite_digest for gate in gates if gate.suite_digest is not None} - named


def _digests(evidence: Evidence | None) -> dict[str, str]:
    return {} if evidence is None else {"evaluations": evidence.digest}

"""What the training of a policy measures itself, as evidence that gates can be judged by. Pure."""

from collections.abc import Mapping

from steelyard.evals.evidence import Evidence, MetricEvidence, assemble
from steelyard.kit.canonical import digest_json
from steelyard.specs.gates import POLICY_KL

_NORMAL_95 = 1.959963984540054


def with_training(
    evidence: Evidence | None, metrics: Mapping[str, float], lineage: Mapping[str, str]
) -> Evidence | None:
    """Return a version's evidence with what its training measured, which alone speaks for no model."""
    trained = training_evidence(metrics, lineage)
    if evidence is None or not trained:
        return evidence
    return assemble(evidence.model_digest, [*trained, *evidence.metrics.values()], evidence.others)


def training_evidence(metrics: Mapping[str, float], lineage: Mapping[str, str]) -> list[MetricEvidence]:
    """Return the figures of a training that gates may name, with what says how sure they are.

    Args:
        metrics: of the job: `policy/kl`, its `policy/kl_stderr`, and the held-out prompts `policy/kl_n`.
        lineage: of the job: figures over other data or settings are other measurements.
    """
    mean = metrics.get(POLICY_KL)
    if mean is None:
        return []
    error = metrics.get(f"{POLICY_KL}_stderr", 0.0)
    measured = digest_json({"measured_by": "training", "dataset": lineage.get("dataset")})
    return [
        MetricEvidence(
            metric=POLICY_KL,
            mean=mean,
            standard_error=error,
            n=int(metrics.get(f"{POLICY_KL}_n", 0)),
            interval=(mean - _NORMAL_95 * error, mean + _NORMAL_95 * error),
            higher_is_better=False,
            suite_digest=measured,
            settings_digest=lineage.get("config", ""),
            samples_digest=measured,
            samples=None,
        )
    ]

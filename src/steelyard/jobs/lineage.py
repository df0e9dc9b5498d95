"""What a job is made of, as digests that are fixed at submission and never change."""

from steelyard.datasets.catalogue import DatasetVersion
from steelyard.evals.suites import suite_lineage
from steelyard.kit.canonical import digest_bytes, digest_json
from steelyard.registry.kinds import METHOD_KEY
from steelyard.registry.software import code_digest, code_version, environment_digest
from steelyard.specs.blocks import ScriptBlock
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec, HpoSpec, RlhfSpec

_IMITATION = frozenset({"sft", "script"})
REGISTERED_PREFIX = "models/"
"""Begins the name of a base model that is a registered version: `models/NAME@VERSION`."""


def lineage_of(
    spec: FineTuneSpec | EvalOnlySpec | HpoSpec | RlhfSpec, dataset: DatasetVersion | None
) -> dict[str, str]:
    """Return the digests that can be known without I/O. Preparation adds the base model's."""
    lineage = {
        "config": digest_json(spec.model_dump(mode="json")),
        "code": code_version(),
        "code_digest": code_digest(),
        "environment": environment_digest(),
    }
    if isinstance(spec, HpoSpec):
        spec = spec.trial
    if isinstance(spec, FineTuneSpec) and spec.script is not None:
        lineage |= _script_lineage(spec.script)
    if isinstance(spec, FineTuneSpec) and spec.method not in _IMITATION:
        lineage[METHOD_KEY] = spec.method
    if isinstance(spec, FineTuneSpec) and spec.online is not None:
        lineage["reward_model_name"] = spec.online.reward_model
    if dataset is not None:
        lineage["dataset"] = dataset.digest
        lineage["dataset_ref"] = dataset.ref
    lineage |= suite_lineage(spec.evaluation)
    if spec.model is not None:
        lineage["base_model_name"] = spec.model.name_or_path
        if spec.model.name_or_path.startswith(REGISTERED_PREFIX):
            lineage["parent_model"] = spec.model.name_or_path
    return lineage


def _script_lineage(script: ScriptBlock) -> dict[str, str]:
    told = {"script_commit": script.commit, "script_diff": script.diff_digest}
    return {
        "script": digest_bytes(script.source.encode()),
        **{name: value for name, value in told.items() if value is not None},
    }

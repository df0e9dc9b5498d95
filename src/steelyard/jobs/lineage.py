"""What a job is made of, as digests that are fixed at submission and never change."""

import sys
from functools import cache
from importlib.metadata import distributions, version

from steelyard.datasets.catalogue import DatasetVersion
from steelyard.kit.canonical import digest_bytes, digest_json
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec


def lineage_of(spec: FineTuneSpec | EvalOnlySpec, dataset: DatasetVersion | None) -> dict[str, str]:
    """Return the digests that can be known without I/O. Preparation adds the base model's."""
    lineage = {
        "config": digest_json(spec.model_dump(mode="json")),
        "code": f"steelyard=={version('steelyard')}",
        "environment": environment_digest(),
    }
    if isinstance(spec, FineTuneSpec) and spec.script is not None:
        lineage["script"] = digest_bytes(spec.script.source.encode())
    if dataset is not None:
        lineage["dataset"] = dataset.digest
        lineage["dataset_ref"] = dataset.ref
    if spec.model is not None:
        lineage["base_model_name"] = spec.model.name_or_path
    return lineage


@cache
def environment_digest() -> str:
    """Return the digest of the interpreter's version and of all installed distributions' versions."""
    found = {item.metadata["Name"].lower(): item.version for item in distributions()}
    return digest_json({"python": sys.version, "distributions": dict(sorted(found.items()))})

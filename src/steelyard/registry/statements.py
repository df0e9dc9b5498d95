"""What a model was made of, as an in-toto statement with SLSA provenance (slsa.dev/provenance/v1). Pure.

Everything in it was fixed when the job was submitted or when its model was registered, so making it twice
gives the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.kit.canonical import digest_json
from steelyard.specs.manifest import Manifest

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "https://steelyard.dev/jobs/{kind}/v1"
_BUILDER = "https://steelyard.dev/control-plane"


@dataclass(frozen=True)
class Judged:
    """One result that a model was judged by."""

    digest: str
    samples: str
    """Of the file of its per-sample records."""
    figures: str
    """Of its figures, as they stand in the database."""


@dataclass(frozen=True)
class Provenance:
    """What a statement is made from. Digests are `sha256:<hex>`."""

    project: str
    name: str
    version: int
    kind: str
    """The job's type."""
    job_id: str
    run_number: int
    attempts: Sequence[str]
    spec: Mapping[str, Any]
    lineage: Mapping[str, str]
    metrics: Mapping[str, float]
    evaluations: Sequence[Judged]
    checkpoint: tuple[str, str] | None
    """Path and manifest digest of the newest checkpoint."""
    manifest: Manifest
    environment: Mapping[str, Any] | None
    """Interpreter and distributions, where they are those that `lineage` has the digest of."""


def build_statement(made: Provenance) -> dict[str, Any]:
    """Return the statement about one registered version."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": list(_subjects(made)),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE.format(kind=made.kind),
                "externalParameters": {"spec": made.spec},
                "internalParameters": {
                    "config": made.lineage.get("config"),
                    "environment": made.lineage.get("environment"),
                    "lock": made.environment,
                    "seeds": _seeds(made.spec),
                    **_family(made.lineage),
                },
                "resolvedDependencies": list(_dependencies(made)),
            },
            "runDetails": {
                "builder": {"id": _BUILDER, "version": {"steelyard": made.lineage.get("code", "")}},
                "metadata": {"invocationId": f"{made.project}/{made.job_id}/{made.run_number}"},
                "byproducts": list(_byproducts(made)),
            },
        },
    }


def byproducts_of(statement: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, str]]]:
    """Return digest and annotations of each by-product of a name."""
    return [
        (f"sha256:{each['digest']['sha256']}", each.get("annotations", {}))
        for each in statement["predicate"]["runDetails"]["byproducts"]
        if each["name"] == name
    ]


def subject_digests(statement: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests that a statement vouches for, by name of version or file."""
    return {each["name"]: f"sha256:{each['digest']['sha256']}" for each in statement["subject"]}


def _family(lineage: Mapping[str, str]) -> dict[str, str]:
    """Name the search or pipeline that had the job made."""
    return {"made_by": lineage["parent"]} if "parent" in lineage else {}


def _subjects(made: Provenance) -> Iterator[dict[str, Any]]:
    yield _resource(f"{made.name}@{made.version}", made.manifest.digest())
    for path, file in sorted(made.manifest.files.items()):
        yield _resource(path, file.digest)


def _dependencies(made: Provenance) -> Iterator[dict[str, Any]]:
    lineage = made.lineage
    if "dataset" in lineage:
        uri = f"steelyard:{made.project}/datasets/{lineage.get('dataset_ref', '')}"
        yield _resource("dataset", lineage["dataset"], uri)
    if "base_model" in lineage:
        yield _resource("base_model", lineage["base_model"], lineage.get("base_model_name"))
    if "parent_model" in lineage:
        yield _resource("parent_model", lineage["base_model"], lineage["parent_model"])
    if "reward_model" in lineage:
        yield _resource("reward_model", lineage["reward_model"], lineage.get("reward_model_name"))
    for name in sorted(name for name in lineage if name == "tokens" or name.startswith("suite.")):
        yield _resource(name, lineage[name])
    if "code_digest" in lineage:
        yield _resource("code", lineage["code_digest"], f"pkg:pypi/{lineage['code'].replace('==', '@')}")
    if "script" in lineage:
        git = {name: lineage[name] for name in ("script_commit", "script_diff") if name in lineage}
        yield {**_resource("script", lineage["script"]), **({"annotations": git} if git else {})}


def _byproducts(made: Provenance) -> Iterator[dict[str, Any]]:
    for attempt in made.attempts:
        yield {"name": "attempt", "uri": f"steelyard:{made.project}/attempts/{attempt}"}
    if made.checkpoint is not None:
        path, digest = made.checkpoint
        yield _resource("checkpoint", digest, path)
    if made.metrics:
        yield _resource("metrics", digest_json(dict(made.metrics)))
    for each in made.evaluations:
        seen = {"samples": each.samples, "figures": each.figures}
        yield {**_resource("evaluation", each.digest), "annotations": seen}


def _resource(name: str, digest: str, uri: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
    return {**found, "uri": uri} if uri else found


def _seeds(spec: Mapping[str, Any]) -> dict[str, int]:
    training: Mapping[str, Any] | None = spec.get("training")
    return {"training": training["seed"]} if training and "seed" in training else {}

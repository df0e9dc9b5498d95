"""How a version of ours is known in MLflow: by its run, its source, and its tags. Pure."""

from collections.abc import Mapping

from steelyard.registry.mlflow import MirroredVersion
from steelyard.storage.tables import ModelVersionRow

ARTIFACT = "model"
VERSION_TAG = "steelyard.version"
_OUR_TAGS = "steelyard."
_HIDING_TAG = "mlflow.prompt.is_prompt"
"""MLflow's own searches leave out what bears it."""


def tags_of(version: ModelVersionRow) -> dict[str, str]:
    """Return the tags that a version bears in MLflow."""
    lineage = {f"{_OUR_TAGS}{key}": str(value) for key, value in version.lineage.items()}
    return {**lineage, VERSION_TAG: str(version.version)}


def is_same(run_id: str | None, there: MirroredVersion) -> bool:
    """Whether a version of MLflow's is the files of this run. `run_id` None: it was noted by no one."""
    return run_id is None or (there.run_id, there.source) == (run_id, f"runs:/{run_id}/{ARTIFACT}")


def wrong_tags(wanted: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str | None]:
    """Return what to set: tags of ours that are missing or changed; None: one that is to go."""
    ours = {key for key in found if key.startswith(_OUR_TAGS) or key == _HIDING_TAG}
    removed: dict[str, str | None] = dict.fromkeys(sorted(ours - wanted.keys()))
    return {key: value for key, value in wanted.items() if found.get(key) != value} | removed

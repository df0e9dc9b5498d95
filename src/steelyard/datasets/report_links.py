"""Where the report of a version is read: the link that lineage, models and MLflow carry. Pure."""

from collections.abc import Mapping
from urllib.parse import quote

DATASET_REF = "dataset_ref"
"""Entry of a lineage that names the version, `name@vN`."""


def report_path(project_id: str, ref: str) -> str:
    """Return the path, on the api, of the page of a version's report."""
    return f"/v1/projects/{quote(project_id, safe='')}/datasets/{quote(ref, safe='@')}/report?form=html"


def report_of_lineage(project_id: str, lineage: Mapping[str, str]) -> str | None:
    """Return the path of the report of the data that a job or model was made of, if there was any."""
    ref = lineage.get(DATASET_REF)
    return None if ref is None else report_path(project_id, ref)

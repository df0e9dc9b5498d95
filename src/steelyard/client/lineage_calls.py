"""The calls on lineage, built from plain arguments."""

from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.specs.lineage import LineageGraph, ModelVerification, WeightsComparison
from steelyard.specs.views import JobView


def graph(project: str, kind: str, ref: str, hops: int) -> Call[LineageGraph]:
    """Ask for the graph around something."""
    path = "/".join(quote(part, safe="@") for part in (project, kind, ref))
    query = (("hops", str(hops)),)
    return Call("GET", f"/v1/lineage/{path}", LineageGraph.model_validate_json, query=query)


def verify(project: str, name: str, version: int) -> Call[ModelVerification]:
    """Have every digest computed anew."""
    return Call("POST", f"{_version(project, name, version)}/verify", ModelVerification.model_validate_json)


def reproduce(project: str, name: str, version: int, key: str) -> Call[JobView]:
    """Run the job that made a version once more."""
    path = f"{_version(project, name, version)}/reproduce"
    return Call("POST", path, JobView.model_validate_json, headers={"Idempotency-Key": key})


def compare(project: str, name: str, version: int, job_id: str) -> Call[WeightsComparison]:
    """Compare what a reproduction made with the version."""
    path = f"{_version(project, name, version)}/reproductions/{quote(job_id, safe='')}"
    return Call("GET", path, WeightsComparison.model_validate_json)


def statement(project: str, name: str, version: int) -> Call[str]:
    """Ask for the signed statement."""
    return Call("GET", f"{_version(project, name, version)}/statement", bytes.decode)


def card(project: str, name: str, version: int) -> Call[str]:
    """Ask for the model card."""
    return Call("GET", f"{_version(project, name, version)}/card", bytes.decode)


def _version(project: str, name: str, version: int) -> str:
    return f"/v1/projects/{quote(project, safe='')}/models/{quote(name, safe='')}/versions/{version}"

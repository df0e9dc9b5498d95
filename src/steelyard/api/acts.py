"""What a request was about, in the words of the audit trail. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

_PROJECT_PREFIX = ["v1", "projects", "{project}"]
_METHODS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
# Where the services' own word isn't the route's.
_WORDS = {("job", "create"): "submit", ("job", "priority"): "set_priority"}


@dataclass(frozen=True)
class Act:
    """A verb such as `job.cancel`, and the thing it was meant for."""

    verb: str
    object_kind: str
    object_id: str
    project_id: str | None


def act_of(method: str, route: str | None, path: str, parameters: Mapping[str, str]) -> Act:
    """Name what a request asked for.

    Args:
        method: of HTTP.
        route: its template, `/v1/projects/{project}/jobs/{job}/cancel`; None where no route has the path.
        path: as it was sent.
        parameters: values of the template's names.
    """
    if route is None:
        return Act(f"request.{method.lower()}", "request", path, None)
    segments = [segment for segment in route.split("/") if segment]
    in_project = segments[:3] == _PROJECT_PREFIX and len(segments) > 3
    rest = segments[3:] if in_project else [segment for segment in segments if segment != "v1"]
    words = [segment for segment in rest if not segment.startswith("{")]
    kind = words[0].removesuffix("s").replace("-", "_") if words else "request"
    word = words[-1].replace("-", "_") if len(words) > 1 else _METHODS.get(method, "read")
    own = [value for name, value in parameters.items() if name != "project" or not in_project]
    project = parameters.get("project")
    return Act(f"{kind}.{_WORDS.get((kind, word), word)}", kind, own[0] if own else project or path, project)

"""What a request was about, in the words of the audit trail. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PROJECT_PREFIX = ["v1", "projects", "{project}"]
_METHODS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_VERBS = {
    "POST jobs": "job.submit",
    "POST jobs/priority": "job.set_priority",
    "PUT budget": "budget.set",
    "DELETE budget": "budget.remove",
    "PUT quotas": "quota.set",
    "PUT idle-policy": "idle.set",
    "DELETE idle-policy": "idle.set",
    "PUT pool/settings": "pool.set",
    "PUT pool/flavors": "flavor.set",
    "POST nodes/interruption": "node.interrupt",
    "DELETE nodes/interruption": "node.restore",
    "POST datasets/ingests": "data.ingest",
    "POST datasets/derivations": "data.derive",
    "DELETE datasets": "data.delete",
    "POST ingests/cancel": "data.cancel",
    "POST uploads": "data.upload",
    "POST uploads/parts": "data.upload",
    "PUT uploads/parts": "data.upload",
    "POST uploads/complete": "data.upload",
    "POST suites": "suite.add",
    "DELETE suites": "suite.remove",
    "POST models/promotions": "model.promote",
    "POST models/rollbacks": "alias.rollback",
    "POST gates": "gate.set",
    "DELETE gates": "gate.remove",
    "PUT policies": "policy.set",
    "DELETE policies": "policy.remove",
    "POST freezes": "freeze.add",
    "DELETE freezes": "freeze.remove",
    "POST webhooks": "webhook.add",
    "DELETE webhooks": "webhook.remove",
    "PUT secrets": "secret.set",
    "DELETE secrets": "secret.remove",
    "PUT members/roles": "member.grant",
    "DELETE members/roles": "member.revoke",
    "POST archive": "project.archive",
    "POST restore": "project.restore",
    "POST organizations/projects": "project.create",
    "PUT organizations/members/roles": "organization_member.grant",
    "DELETE organizations/members/roles": "organization_member.revoke",
    "POST organizations/groups": "group.map",
    "DELETE organizations/groups": "group.unmap",
    "POST organizations/gates": "gate.set",
    "DELETE organizations/gates": "gate.remove",
    "PUT organizations/policies": "policy.set",
    "DELETE organizations/policies": "policy.remove",
    "POST organizations/freezes": "freeze.add",
    "DELETE organizations/freezes": "freeze.remove",
    "POST organizations/service-accounts": "service_account.create",
    "POST organizations/service-accounts/disable": "service_account.disable",
    "POST organizations/service-accounts/enable": "service_account.enable",
    "DELETE organizations/service-accounts": "service_account.delete",
    "POST organizations/service-accounts/tokens": "token.create",
    "POST users/tokens": "token.create",
    "DELETE tokens": "token.revoke",
    "DELETE sessions": "user.sign_out",
}
"""Words that the services have for what a route does, by its method and its words outside of the project.

So that whoever looks for an act finds those that were refused too.
"""


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
    own = [value for name, value in parameters.items() if name != "project" or not in_project]
    project = parameters.get("project")
    verb = _VERBS.get(f"{method} {'/'.join(words)}") or _verb_of(method, words)
    return Act(verb, verb.partition(".")[0], own[0] if own else project or path, project)


def _verb_of(method: str, words: Sequence[str]) -> str:
    kind = words[0].removesuffix("s").replace("-", "_") if words else "request"
    word = words[-1].replace("-", "_") if len(words) > 1 else _METHODS.get(method, "read")
    return f"{kind}.{word}"

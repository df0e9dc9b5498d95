"""The calls on gates, approval policies and freeze windows, built from plain arguments."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.specs.policies import ApprovalPolicy, FreezeView, GateView, PolicyView
from steelyard.specs.views import ListView


def gates(project: str, alias: str | None) -> Call[ListView[GateView]]:
    """Ask for the gates, of one alias or all."""
    query = (("alias", alias),) if alias else ()
    path = f"{_scope(project, None)}/gates"
    return Call("GET", path, ListView[GateView].model_validate_json, query=query)


def set_gate(project: str, alias: str, gate: Mapping[str, Any], organization: str | None) -> Call[GateView]:
    """Put a gate before an alias; twice is once."""
    content = _json({"alias": alias, "gate": dict(gate)})
    path = f"{_scope(project, organization)}/gates"
    return Call("POST", path, GateView.model_validate_json, content=content)


def remove_gate(project: str, gate: str, organization: str | None) -> Call[None]:
    """Take a gate away."""
    return Call("DELETE", f"{_scope(project, organization)}/gates/{quote(gate, safe='')}", _nothing)


def policies(project: str) -> Call[ListView[PolicyView]]:
    """Ask for the approval policies."""
    return Call("GET", f"{_scope(project, None)}/policies", ListView[PolicyView].model_validate_json)


def set_policy(
    project: str, alias: str, policy: ApprovalPolicy, organization: str | None
) -> Call[ApprovalPolicy]:
    """Say who must agree before an alias moves."""
    return Call(
        "PUT",
        f"{_scope(project, organization)}/policies/{quote(alias, safe='')}",
        ApprovalPolicy.model_validate_json,
        content=policy.model_dump_json().encode(),
    )


def remove_policy(project: str, alias: str, organization: str | None) -> Call[None]:
    """Forget a policy that was set."""
    return Call("DELETE", f"{_scope(project, organization)}/policies/{quote(alias, safe='')}", _nothing)


def freezes(project: str) -> Call[ListView[FreezeView]]:
    """Ask for the freeze windows."""
    return Call("GET", f"{_scope(project, None)}/freezes", ListView[FreezeView].model_validate_json)


def add_freeze(
    project: str, window: Mapping[str, Any], aliases: Sequence[str], reason: str, organization: str | None
) -> Call[FreezeView]:
    """Let aliases not be promoted for a time."""
    content = _json({"aliases": [str(alias) for alias in aliases], "window": dict(window), "reason": reason})
    path = f"{_scope(project, organization)}/freezes"
    return Call("POST", path, FreezeView.model_validate_json, content=content)


def remove_freeze(project: str, freeze: str, organization: str | None) -> Call[None]:
    """Take a freeze window away."""
    return Call("DELETE", f"{_scope(project, organization)}/freezes/{quote(freeze, safe='')}", _nothing)


def _scope(project: str, organization: str | None) -> str:
    if organization is not None:
        return f"/v1/organizations/{quote(organization, safe='')}"
    return f"/v1/projects/{quote(project, safe='')}"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _nothing(_content: bytes) -> None:
    return None

"""The calls on the pool and on quotas, built from plain arguments."""

from urllib.parse import quote

from pydantic import BaseModel

from steelyard.client.call import Call
from steelyard.specs.pool import (
    FlavorSpec,
    FlavorView,
    IdlePolicy,
    Interruption,
    NodeView,
    PoolSettings,
    PoolView,
    ProjectQuotas,
    QuotaChange,
)


def show() -> Call[PoolView]:
    """Ask what the pool is."""
    return Call("GET", "/v1/pool", PoolView.model_validate_json)


def put_settings(settings: PoolSettings) -> Call[PoolSettings]:
    """Set currency and rules."""
    return Call("PUT", "/v1/pool/settings", PoolSettings.model_validate_json, content=_content(settings))


def put_flavor(name: str, flavor: FlavorSpec) -> Call[FlavorView]:
    """Set a flavor."""
    path = f"/v1/pool/flavors/{quote(name, safe='')}"
    return Call("PUT", path, FlavorView.model_validate_json, content=_content(flavor))


def interrupt(node: str, notice: Interruption) -> Call[NodeView]:
    """Announce that a node is taken away."""
    return Call("POST", _node(node), NodeView.model_validate_json, content=_content(notice))


def restore(node: str) -> Call[NodeView]:
    """Let a node take work again."""
    return Call("DELETE", _node(node), NodeView.model_validate_json)


def quotas(project: str) -> Call[ProjectQuotas]:
    """Ask where a project stands."""
    return Call("GET", f"{_project(project)}/quotas", ProjectQuotas.model_validate_json)


def put_quota(project: str, flavor: str, change: QuotaChange) -> Call[ProjectQuotas]:
    """Set a quota."""
    path = f"{_project(project)}/quotas/{quote(flavor, safe='')}"
    return Call("PUT", path, ProjectQuotas.model_validate_json, content=_content(change))


def put_idle_policy(project: str, policy: IdlePolicy) -> Call[ProjectQuotas]:
    """Set a project's own rule for idle attempts."""
    path = f"{_project(project)}/idle-policy"
    return Call("PUT", path, ProjectQuotas.model_validate_json, content=_content(policy))


def remove_idle_policy(project: str) -> Call[ProjectQuotas]:
    """Let the installation's rule hold again."""
    return Call("DELETE", f"{_project(project)}/idle-policy", ProjectQuotas.model_validate_json)


def _content(model: BaseModel) -> bytes:
    return model.model_dump_json(exclude_none=True).encode()


def _node(node: str) -> str:
    return f"/v1/nodes/{quote(node, safe='')}/interruption"


def _project(project: str) -> str:
    return f"/v1/projects/{quote(project, safe='')}"

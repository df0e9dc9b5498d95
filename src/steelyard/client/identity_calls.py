"""The calls on organizations, projects, people, service accounts and tokens, built from plain arguments."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from steelyard.client.call import Call
from steelyard.specs.identity import (
    DEFAULT_TOKEN_DAYS,
    GroupMappingView,
    MemberView,
    MeView,
    OrganizationView,
    ProjectView,
    ServiceAccountView,
    TokenGrant,
    TokenRevocation,
    TokenView,
    UserView,
)
from steelyard.specs.views import ListView

View = TypeVar("View", bound=BaseModel)


def me() -> Call[MeView]:
    """Ask who the caller is."""
    return Call("GET", "/v1/me", MeView.model_validate_json)


def sign_out() -> Call[None]:
    """End the caller's sessions."""
    return Call("DELETE", "/v1/sessions", _nothing)


def organizations() -> Call[ListView[OrganizationView]]:
    """Ask for the caller's organizations."""
    return Call("GET", "/v1/organizations", ListView[OrganizationView].model_validate_json)


def organization(name: str) -> Call[OrganizationView]:
    """Ask for one organization."""
    return Call("GET", _path("organizations", name), OrganizationView.model_validate_json)


def create_organization(name: str, display_name: str, owner: str | None) -> Call[OrganizationView]:
    """Make an organization."""
    body = {"id": name, "display_name": display_name, "owner": owner}
    return _post("/v1/organizations", body, OrganizationView.model_validate_json)


def projects() -> Call[ListView[ProjectView]]:
    """Ask for the caller's projects."""
    return Call("GET", "/v1/projects", ListView[ProjectView].model_validate_json)


def project(name: str) -> Call[ProjectView]:
    """Ask for one project."""
    return Call("GET", _path("projects", name), ProjectView.model_validate_json)


def create_project(organization: str, name: str, display_name: str, admin: str | None) -> Call[ProjectView]:
    """Make a project."""
    body = {"id": name, "display_name": display_name, "admin": admin}
    return _post(_path("organizations", organization, "projects"), body, ProjectView.model_validate_json)


def change_project(name: str, verb: str) -> Call[ProjectView]:
    """Archive or restore a project."""
    return _post(_path("projects", name, verb), None, ProjectView.model_validate_json)


def members(kind: str, name: str) -> Call[ListView[MemberView]]:
    """Ask who holds a role; `kind` is `projects` or `organizations`."""
    return Call("GET", _path(kind, name, "members"), ListView[MemberView].model_validate_json)


def change_role(method: str, kind: str, name: str, principal: str, role: str) -> Call[None]:
    """Give (`PUT`) or take (`DELETE`) a role; doing it twice changes nothing."""
    return Call(method, _path(kind, name, "members", principal, "roles", role), _nothing)


def groups(organization: str) -> Call[ListView[GroupMappingView]]:
    """Ask which groups hold which roles."""
    path = _path("organizations", organization, "groups")
    return Call("GET", path, ListView[GroupMappingView].model_validate_json)


def map_group(
    organization: str, issuer: str, group: str, role: str, project: str | None
) -> Call[GroupMappingView]:
    """Let everybody in a group hold a role."""
    body = {"issuer": issuer, "group": group, "role": role, "project": project}
    return _post(_path("organizations", organization, "groups"), body, GroupMappingView.model_validate_json)


def unmap_group(organization: str, mapping: str) -> Call[None]:
    """Take a role from a group."""
    return Call("DELETE", _path("organizations", organization, "groups", mapping), _nothing)


def users() -> Call[ListView[UserView]]:
    """Ask for all users."""
    return Call("GET", "/v1/users", ListView[UserView].model_validate_json)


def create_user(email: str, display_name: str) -> Call[UserView]:
    """Make a user before his first sign-in."""
    return _post("/v1/users", {"email": email, "display_name": display_name}, UserView.model_validate_json)


def change_user(name: str, verb: str) -> Call[UserView]:
    """Disable or enable a user."""
    return _post(_path("users", name, verb), None, UserView.model_validate_json)


def delete_user(name: str) -> Call[UserView]:
    """Close a user's account for ever."""
    return Call("DELETE", _path("users", name), UserView.model_validate_json)


def accounts(organization: str) -> Call[ListView[ServiceAccountView]]:
    """Ask for an organization's service accounts."""
    return Call("GET", _accounts(organization), ListView[ServiceAccountView].model_validate_json)


def create_account(organization: str, name: str, display_name: str) -> Call[ServiceAccountView]:
    """Make a service account."""
    body = {"name": name, "display_name": display_name}
    return _post(_accounts(organization), body, ServiceAccountView.model_validate_json)


def change_account(organization: str, name: str, verb: str) -> Call[ServiceAccountView]:
    """Disable or enable a service account."""
    return _post(_accounts(organization, name, verb), None, ServiceAccountView.model_validate_json)


def delete_account(organization: str, name: str) -> Call[ServiceAccountView]:
    """Close a service account for ever."""
    return Call("DELETE", _accounts(organization, name), ServiceAccountView.model_validate_json)


def own_tokens() -> Call[ListView[TokenView]]:
    """Ask for the caller's tokens."""
    return Call("GET", "/v1/tokens", ListView[TokenView].model_validate_json)


def tokens_of_user(name: str) -> Call[ListView[TokenView]]:
    """Ask for a user's tokens."""
    return Call("GET", _path("users", name, "tokens"), ListView[TokenView].model_validate_json)


def tokens_of_account(organization: str, name: str) -> Call[ListView[TokenView]]:
    """Ask for a service account's tokens."""
    path = _accounts(organization, name, "tokens")
    return Call("GET", path, ListView[TokenView].model_validate_json)


def create_token(
    path: str,
    name: str,
    projects: Sequence[str] | None,
    permissions: Sequence[str] | None,
    expires_in_days: int = DEFAULT_TOKEN_DAYS,
) -> Call[TokenGrant]:
    """Make a token at one of `OWN_TOKENS`, `user_tokens_path`, `account_tokens_path`.

    A retry after a lost answer makes a second; the first, whose secret nobody has, can be revoked.
    """
    body: dict[str, Any] = {"name": name, "expires_in_days": expires_in_days}
    if projects is not None:
        body["projects"] = list(projects)
    if permissions is not None:
        body["permissions"] = list(permissions)
    return _post(path, body, TokenGrant.model_validate_json)


def revoke_token(token: str, *, keep_made: bool = False) -> Call[TokenRevocation]:
    """Revoke a token, and those that were made with it."""
    query = (("keep_made", "true"),) if keep_made else ()
    return Call("DELETE", _path("tokens", token), TokenRevocation.model_validate_json, query=query)


OWN_TOKENS = "/v1/tokens"


def user_tokens_path(name: str) -> str:
    """Where a user's tokens are made."""
    return _path("users", name, "tokens")


def account_tokens_path(organization: str, name: str) -> str:
    """Where a service account's tokens are made."""
    return _accounts(organization, name, "tokens")


def _accounts(organization: str, *rest: str) -> str:
    return _path("organizations", organization, "service-accounts", *rest)


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _post(path: str, body: dict[str, Any] | None, parse: Callable[[bytes], View]) -> Call[View]:
    return Call("POST", path, parse, content=None if body is None else json.dumps(body).encode())


def _nothing(_content: bytes) -> None:
    return None

"""Organizations, projects, people, service accounts and tokens, as the API speaks of them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from steelyard.specs.access import OrganizationRole, Permission, ProjectRole
from steelyard.specs.base import Message, Name, Spec

MAX_TOKEN_DAYS = 366
DEFAULT_TOKEN_DAYS = 90

DisplayName = Annotated[str, Field(max_length=200)]
TenantName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length=63)]
"""Of an organization or a project: lower-case letters, digits and `-`."""
Email = Annotated[str, Field(pattern=r"^[^@\s|/]{1,64}@[^@\s|/]{1,190}$", max_length=255)]


class OrganizationRequest(Spec):
    """A new organization."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "acme"}]})

    id: TenantName
    display_name: DisplayName = ""
    owner: str | None = None
    """Who owns it first; else who asks."""


class OrganizationView(Message):
    """An organization, and what the caller is in it."""

    id: str
    display_name: str
    created_by: str
    created_at: datetime
    roles: list[OrganizationRole] = []
    """The caller's."""


class ProjectRequest(Spec):
    """A new project."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "support", "admin": "ada@example.com"}]})

    id: TenantName
    display_name: DisplayName = ""
    admin: str | None = None
    """Who administers it first. An owner of the organization can do all that an admin can."""


class ProjectView(Message):
    """A project, and what the caller is in it."""

    id: str
    organization_id: str
    display_name: str
    created_by: str
    created_at: datetime
    archived_at: datetime | None = None
    roles: list[str] = []
    """The caller's, of the project and of its organization."""


class MemberView(Message):
    """Somebody, and the roles that he was given. Groups of an identity provider give further ones."""

    principal: str
    kind: Literal["user", "service_account"]
    display_name: str
    email: str | None = None
    active: bool
    roles: list[str]
    group_roles: list[str] = []
    """Those that he holds by a group that his identity provider puts him in."""


class GroupMappingRequest(Spec):
    """Everybody in a group of an identity provider is to hold a role."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"issuer": "https://id.example.com", "group": "ml", "project": "support", "role": "developer"}
            ]
        }
    )

    issuer: Annotated[str, Field(min_length=1, max_length=500)]
    group: Annotated[str, Field(min_length=1, max_length=300)]
    project: str | None = None
    """Of the organization; None: the role is the organization's."""
    role: ProjectRole | OrganizationRole


class GroupMappingView(Message):
    """A group, and the role that everybody in it holds."""

    id: str
    issuer: str
    group: str
    project: str | None
    role: str
    created_by: str
    created_at: datetime


class UserRequest(Spec):
    """A user to be, before he signs in for the first time; he is named by his address."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@example.com"}]})

    email: Email
    display_name: DisplayName = ""


class UserView(Message):
    """Somebody who can sign in, or could once."""

    id: str
    display_name: str
    email: str | None = None
    issuer: str | None = None
    created_by: str
    created_at: datetime
    last_login_at: datetime | None = None
    disabled_at: datetime | None = None
    deleted_at: datetime | None = None


class ServiceAccountRequest(Spec):
    """An account for a program."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ci"}]})

    name: Name
    display_name: DisplayName = ""


class ServiceAccountView(Message):
    """An account of a program: it holds roles and has tokens, but never signs in."""

    id: str
    """`NAME@ORGANIZATION`."""
    organization_id: str
    display_name: str
    created_by: str
    created_at: datetime
    disabled_at: datetime | None = None
    deleted_at: datetime | None = None


class TokenRequest(Spec):
    """A token to be made. What is None isn't bounded beyond what its holder may do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "ci", "projects": ["support"], "permissions": ["job.submit", "job.read"]}]
        }
    )

    name: Annotated[str, Field(min_length=1, max_length=100)]
    projects: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
    permissions: Annotated[list[Permission], Field(min_length=1)] | None = None
    expires_in_days: Annotated[int, Field(ge=1, le=MAX_TOKEN_DAYS)] = DEFAULT_TOKEN_DAYS


class TokenView(Message):
    """A token without its secret, which was shown once."""

    id: str
    principal: str
    name: str
    projects: list[str] | None
    permissions: list[str] | None
    created_by: str
    made_with: str | None = None
    """Id of the token that asked for it; None: a session did, or the local admin."""
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the minute."""


class TokenGrant(TokenView):
    """A token that was just made. This is the only time that the secret is shown."""

    secret: str


class TokenRevocation(TokenView):
    """A token that was revoked, and what went with it."""

    also_revoked: list[str] = []
    """Ids of tokens that were made with it, or with one of those."""


class TokenBounds(Message):
    """What the token that was sent may be used for."""

    id: str
    projects: list[str] | None
    permissions: list[str] | None


class MeView(Message):
    """Who the caller is here."""

    id: str
    kind: str
    display_name: str
    email: str | None = None
    is_local_admin: bool
    installation_roles: list[str]
    organizations: list[OrganizationView]
    projects: list[ProjectView]
    token: TokenBounds | None = None
    """Where an API token was sent."""

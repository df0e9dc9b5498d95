"""`client.projects`, `.organizations`, `.users`, `.service_accounts` and `.tokens`, blocking."""

from collections.abc import Sequence

from steelyard.client import identity_calls
from steelyard.client.transport import Transport
from steelyard.specs.identity import (
    DEFAULT_TOKEN_DAYS,
    GroupMappingView,
    MemberView,
    OrganizationView,
    ProjectView,
    ServiceAccountView,
    TokenGrant,
    TokenRevocation,
    TokenView,
    UserView,
)


class Projects:
    """Projects, and who holds which role in them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self) -> list[ProjectView]:
        """Return the projects that one has a part in."""
        return self._transport.send(identity_calls.projects()).data

    def get(self, name: str) -> ProjectView:
        """Return one project."""
        return self._transport.send(identity_calls.project(name))

    def create(
        self, name: str, *, organization: str = "default", display_name: str = "", admin: str | None = None
    ) -> ProjectView:
        """Make a project, with its first admin if one is named."""
        return self._transport.send(identity_calls.create_project(organization, name, display_name, admin))

    def archive(self, name: str) -> ProjectView:
        """Let a project only be read from now on."""
        return self._transport.send(identity_calls.change_project(name, "archive"))

    def restore(self, name: str) -> ProjectView:
        """Let an archived project be used again."""
        return self._transport.send(identity_calls.change_project(name, "restore"))

    def members(self, name: str) -> list[MemberView]:
        """Return who holds a role in a project."""
        return self._transport.send(identity_calls.members("projects", name)).data

    def grant(self, name: str, principal: str, role: str) -> None:
        """Give a role: `viewer`, `developer`, `approver` or `admin`."""
        return self._transport.send(identity_calls.change_role("PUT", "projects", name, principal, role))

    def revoke(self, name: str, principal: str, role: str) -> None:
        """Take a role; jobs of his go on."""
        return self._transport.send(identity_calls.change_role("DELETE", "projects", name, principal, role))


class Organizations:
    """Organizations, their owners and auditors, and groups of identity providers."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self) -> list[OrganizationView]:
        """Return the organizations that one has a part in."""
        return self._transport.send(identity_calls.organizations()).data

    def get(self, name: str) -> OrganizationView:
        """Return one organization."""
        return self._transport.send(identity_calls.organization(name))

    def create(self, name: str, *, display_name: str = "", owner: str | None = None) -> OrganizationView:
        """Make an organization; its first owner is oneself, or who is named."""
        return self._transport.send(identity_calls.create_organization(name, display_name, owner))

    def members(self, name: str) -> list[MemberView]:
        """Return who holds a role of the organization itself."""
        return self._transport.send(identity_calls.members("organizations", name)).data

    def grant(self, name: str, principal: str, role: str) -> None:
        """Give a role: `owner` or `auditor`."""
        return self._transport.send(identity_calls.change_role("PUT", "organizations", name, principal, role))

    def revoke(self, name: str, principal: str, role: str) -> None:
        """Take a role; an organization keeps one owner at least."""
        return self._transport.send(
            identity_calls.change_role("DELETE", "organizations", name, principal, role)
        )

    def groups(self, name: str) -> list[GroupMappingView]:
        """Return which groups hold which roles."""
        return self._transport.send(identity_calls.groups(name)).data

    def map_group(
        self, name: str, *, issuer: str, group: str, role: str, project: str | None = None
    ) -> GroupMappingView:
        """Let everybody in a group hold a role, of a project or of the organization."""
        return self._transport.send(identity_calls.map_group(name, issuer, group, role, project))

    def unmap_group(self, name: str, mapping: str) -> None:
        """Take a role from a group."""
        return self._transport.send(identity_calls.unmap_group(name, mapping))


class Users:
    """The users of the installation, for its operators."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self) -> list[UserView]:
        """Return all users."""
        return self._transport.send(identity_calls.users()).data

    def create(self, email: str, *, display_name: str = "") -> UserView:
        """Make a user before the first sign-in, so that roles can be given."""
        return self._transport.send(identity_calls.create_user(email, display_name))

    def disable(self, name: str) -> UserView:
        """Shut a user out."""
        return self._transport.send(identity_calls.change_user(name, "disable"))

    def enable(self, name: str) -> UserView:
        """Let a disabled user in again."""
        return self._transport.send(identity_calls.change_user(name, "enable"))

    def delete(self, name: str) -> UserView:
        """Close an account for ever; jobs go on, and stay under the name."""
        return self._transport.send(identity_calls.delete_user(name))


class ServiceAccounts:
    """Accounts of programs, of one organization."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self, *, organization: str = "default") -> list[ServiceAccountView]:
        """Return an organization's service accounts."""
        return self._transport.send(identity_calls.accounts(organization)).data

    def create(
        self, name: str, *, organization: str = "default", display_name: str = ""
    ) -> ServiceAccountView:
        """Make an account without any role; its id is `NAME@ORGANIZATION`."""
        return self._transport.send(identity_calls.create_account(organization, name, display_name))

    def disable(self, name: str, *, organization: str = "default") -> ServiceAccountView:
        """Refuse all tokens of an account."""
        return self._transport.send(identity_calls.change_account(organization, name, "disable"))

    def enable(self, name: str, *, organization: str = "default") -> ServiceAccountView:
        """Let a disabled account in again."""
        return self._transport.send(identity_calls.change_account(organization, name, "enable"))

    def delete(self, name: str, *, organization: str = "default") -> ServiceAccountView:
        """Close an account for ever."""
        return self._transport.send(identity_calls.delete_account(organization, name))


class Tokens:
    """API tokens: one's own, a service account's, or a user's who can't sign in yet."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(
        self, *, user: str | None = None, account: str | None = None, organization: str = "default"
    ) -> list[TokenView]:
        """Return one's own tokens, or those of a user or a service account; newest first."""
        call = identity_calls.own_tokens()
        if user is not None:
            call = identity_calls.tokens_of_user(user)
        elif account is not None:
            call = identity_calls.tokens_of_account(organization, account)
        return self._transport.send(call).data

    def create(
        self,
        name: str,
        *,
        projects: Sequence[str] | None = None,
        permissions: Sequence[str] | None = None,
        expires_in_days: int = DEFAULT_TOKEN_DAYS,
        user: str | None = None,
        account: str | None = None,
        organization: str = "default",
    ) -> TokenGrant:
        """Make a token; `secret` of the answer is shown this once.

        Args:
            name: what it is for.
            projects: the only ones that it reaches; None for all of its holder's.
            permissions: the only ones that it has, as `job.submit`; None for all of its holder's.
            expires_in_days: how long it is good for.
            user: make it for this user; the local admin can.
            account: make it for this service account of `organization`.
            organization: the service account's.
        """
        path = identity_calls.OWN_TOKENS
        if user is not None:
            path = identity_calls.user_tokens_path(user)
        elif account is not None:
            path = identity_calls.account_tokens_path(organization, account)
        return self._transport.send(
            identity_calls.create_token(path, name, projects, permissions, expires_in_days)
        )

    def revoke(self, token: str, *, keep_made: bool = False) -> TokenRevocation:
        """Revoke a token, by its id, and all that were made with it; with `keep_made`, it alone."""
        return self._transport.send(identity_calls.revoke_token(token, keep_made=keep_made))

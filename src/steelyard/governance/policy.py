"""Who may do what to which thing: an ordered list of small pure rules. The first that speaks decides.

Nothing here reads anything: `governance.standing` gathers what the rules look at, `governance.access` acts on
what they say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from steelyard.specs.access import OrganizationRole, Permission, ProjectRole

P = Permission


class InstallationRole(StrEnum):
    """What the owners and auditors of the first organization are to the whole installation."""

    OPERATOR = "operator"
    AUDITOR = "installation auditor"


Role = ProjectRole | OrganizationRole | InstallationRole

_READ = frozenset({
    P.JOB_READ, P.DATASET_READ, P.MODEL_READ, P.APPROVAL_READ, P.EVALUATION_READ, P.COST_READ, P.QUOTA_READ,
    P.MEMBER_READ,
})  # fmt: skip
_DEVELOP = _READ | {
    P.JOB_SUBMIT, P.JOB_CONTROL, P.DATASET_WRITE, P.MODEL_PROMOTE, P.SUITE_WRITE, P.SECRET_READ,
}  # fmt: skip
_APPROVE = _READ | {P.APPROVAL_DECIDE, P.MODEL_ROLLBACK}
_ADMINISTER = _DEVELOP | _APPROVE | {
    P.DATASET_DELETE, P.GATE_WRITE, P.SECRET_WRITE, P.MEMBER_WRITE, P.AUDIT_READ,
}  # fmt: skip
_AUDIT = _READ | {P.SECRET_READ, P.AUDIT_READ, P.ORGANIZATION_READ}
_OWN = _ADMINISTER | _AUDIT | {P.BUDGET_WRITE, P.ORGANIZATION_WRITE}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    ProjectRole.VIEWER: _READ,
    ProjectRole.DEVELOPER: _DEVELOP,
    ProjectRole.APPROVER: _APPROVE,
    ProjectRole.ADMIN: _ADMINISTER,
    OrganizationRole.AUDITOR: _AUDIT,
    OrganizationRole.OWNER: _OWN,
    # Quotas are shares of one pool, so no owner of a single organization deals them out.
    InstallationRole.OPERATOR: frozenset({
        P.POOL_READ, P.POOL_WRITE, P.QUOTA_READ, P.QUOTA_WRITE, P.AUDIT_READ, P.ORGANIZATION_READ,
        P.ORGANIZATION_WRITE,
    }),
    InstallationRole.AUDITOR: frozenset({P.POOL_READ, P.QUOTA_READ, P.AUDIT_READ, P.ORGANIZATION_READ}),
}  # fmt: skip
"""What each role permits, in the scope where it is held."""

OF_PROJECTS = frozenset(Permission) - {P.POOL_READ, P.POOL_WRITE, P.ORGANIZATION_READ, P.ORGANIZATION_WRITE}
"""What can be done in a project; the rest is of organizations and the installation."""
CHANGES = frozenset(
    permission for permission in Permission if not permission.value.endswith(".read")
) - {P.MEMBER_WRITE, P.ORGANIZATION_WRITE}  # fmt: skip
"""What an archived project no longer takes. Members still change, for the sake of who may read."""


@dataclass(frozen=True)
class Scope:
    """The bounds of a token; None doesn't bound."""

    projects: frozenset[str] | None = None
    permissions: frozenset[Permission] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it bounds nothing."""
        return self.projects is None and self.permissions is None

    def is_within(self, outer: "Scope") -> bool:
        """Whether it reaches no further than another."""
        projects = outer.projects is None or (self.projects is not None and self.projects <= outer.projects)
        return projects and (
            outer.permissions is None
            or (self.permissions is not None and self.permissions <= outer.permissions)
        )


@dataclass(frozen=True)
class Resource:
    """What is acted on: a project, an organization, or the installation."""

    kind: Literal["project", "organization", "installation"]
    id: str
    archived: bool = False


@dataclass(frozen=True)
class Standing:
    """What somebody is to a resource at this moment."""

    kind: Literal["user", "service_account", "system", "attempt", "anonymous"]
    active: bool
    """Neither disabled nor deleted."""
    roles: frozenset[Role] = frozenset()
    """Of the resource, of the organization that it is in, and of the installation."""
    is_member: bool = False
    """Has a part in it, though perhaps no role that counts here: in an organization, a role in a project."""
    is_local_admin: bool = False
    scope: Scope = field(default_factory=Scope)


@dataclass(frozen=True)
class Verdict:
    """What a rule says. `gone`: the account is closed. `hidden`: the resource doesn't exist for him."""

    outcome: Literal["allow", "deny", "hidden", "gone"]
    reason: str = ""


Rule = Callable[[Standing, Permission, Resource], Verdict | None]
_ALLOW = Verdict("allow")
_HIDDEN = Verdict("hidden")


def decide(standing: Standing, permission: Permission, resource: Resource) -> Verdict:
    """Return what the first rule says that has something to say; where none has, it isn't permitted."""
    for rule in RULES:
        verdict = rule(standing, permission, resource)
        if verdict is not None:
            return verdict
    return Verdict("deny", _lacking(permission, resource))


def roles_with(permission: Permission, resource: Resource) -> list[Role]:
    """Return the roles that would permit something, the least first."""
    places: dict[str, tuple[type[Role], ...]] = {
        "project": (ProjectRole, OrganizationRole, InstallationRole),
        "organization": (OrganizationRole, InstallationRole),
        "installation": (InstallationRole,),
    }
    able = [role for role, what in PERMISSIONS.items() if permission in what]
    counting = _counting(frozenset(able), permission, resource)
    return [role for role in able if role in counting and isinstance(role, places[resource.kind])]


def permitted(roles: frozenset[Role]) -> frozenset[Permission]:
    """Return all that some roles permit together."""
    return frozenset[Permission]().union(*(PERMISSIONS[role] for role in roles))


def held(standing: Standing) -> frozenset[Permission]:
    """Return all that somebody may do to a resource, within the bounds of the token that he sent."""
    everything = standing.is_local_admin or standing.kind == "system"
    own = frozenset(Permission) if everything else permitted(standing.roles)
    return own if standing.scope.permissions is None else own & standing.scope.permissions


def weigh_grant(standing: Standing, role: Role) -> Verdict:
    """Say whether somebody may give or take a role: nobody disposes of more than he holds himself."""
    more = PERMISSIONS[role] - held(standing)
    if not more:
        return _ALLOW
    return Verdict("deny", f"{role.value!r} permits {min(more).value!r}, which you don't hold yourself")


def _system_does_the_platforms_work(standing: Standing, _p: Permission, _r: Resource) -> Verdict | None:
    return _ALLOW if standing.kind == "system" else None


def _attempts_and_strangers_have_no_part(standing: Standing, _p: Permission, _r: Resource) -> Verdict | None:
    return None if standing.kind in ("user", "service_account") else _HIDDEN


def _closed_accounts_do_nothing(standing: Standing, _p: Permission, _r: Resource) -> Verdict | None:
    return None if standing.active else Verdict("gone", "this account is disabled or deleted")


def _tokens_reach_their_own_projects(
    standing: Standing, _p: Permission, resource: Resource
) -> Verdict | None:
    projects = standing.scope.projects
    if projects is None or (resource.kind == "project" and resource.id in projects):
        return None
    if resource.kind == "project" or not (standing.is_member or standing.roles):
        return _HIDDEN
    return Verdict("deny", "this token is for some projects alone; use one without that bound")


def _outsiders_see_nothing(standing: Standing, permission: Permission, resource: Resource) -> Verdict | None:
    if standing.is_local_admin or standing.is_member or resource.kind == "installation":
        return None
    counting = _counting(standing.roles, permission, resource)
    within = standing.roles - frozenset(InstallationRole)
    return None if within or permission in permitted(counting) else _HIDDEN


def _tokens_do_what_they_were_made_for(
    standing: Standing, permission: Permission, _resource: Resource
) -> Verdict | None:
    if standing.scope.permissions is None or permission in standing.scope.permissions:
        return None
    return Verdict("deny", f"this token wasn't made for {permission.value!r}; make one that is")


def _archived_projects_are_only_read(
    _standing: Standing, permission: Permission, resource: Resource
) -> Verdict | None:
    if not resource.archived or permission not in CHANGES:
        return None
    return Verdict(
        "deny",
        f"project {resource.id!r} is archived and only read; an owner of its organization can restore it",
    )


def _local_admin_owns_all(standing: Standing, _p: Permission, _r: Resource) -> Verdict | None:
    return _ALLOW if standing.is_local_admin else None


def _members_read_the_name_of_their_organization(
    standing: Standing, permission: Permission, resource: Resource
) -> Verdict | None:
    reading = permission is P.ORGANIZATION_READ and resource.kind == "organization"
    return _ALLOW if reading and standing.is_member else None


def _roles_permit(standing: Standing, permission: Permission, resource: Resource) -> Verdict | None:
    return _ALLOW if permission in permitted(_counting(standing.roles, permission, resource)) else None


RULES: tuple[Rule, ...] = (
    _system_does_the_platforms_work,
    _attempts_and_strangers_have_no_part,
    _closed_accounts_do_nothing,
    _tokens_reach_their_own_projects,
    _outsiders_see_nothing,
    _tokens_do_what_they_were_made_for,
    _archived_projects_are_only_read,
    _local_admin_owns_all,
    _members_read_the_name_of_their_organization,
    _roles_permit,
)
"""In the order in which they are asked."""


def _counting(roles: frozenset[Role], permission: Permission, resource: Resource) -> frozenset[Role]:
    """Return the roles that count: operators make organizations, and leave them to their owners then."""
    if permission is P.ORGANIZATION_WRITE and resource.kind != "installation":
        return roles - frozenset(InstallationRole)
    return roles


def _lacking(permission: Permission, resource: Resource) -> str:
    names = [f"'{role.value}'" for role in roles_with(permission, resource)]
    wanted = " or ".join((", ".join(names[:-1]), names[-1]) if len(names) > 1 else names) or "no role"
    where = "this installation" if resource.kind == "installation" else f"{resource.kind} {resource.id!r}"
    return f"{permission.value!r} needs the role {wanted} in {where}"

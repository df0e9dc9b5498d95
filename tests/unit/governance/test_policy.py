"""The rules of access, and that docs/access.md says the same."""

import re
from pathlib import Path

import pytest

from steelyard.governance.policy import (
    PERMISSIONS,
    InstallationRole,
    Resource,
    Role,
    Scope,
    Standing,
    decide,
    weigh_grant,
)
from steelyard.specs.access import OrganizationRole, Permission, ProjectRole

DOCS = Path(__file__).parents[3] / "docs" / "access.md"
PROJECT = Resource("project", "alpha")
ORGANIZATION = Resource("organization", "acme")
INSTALLATION = Resource("installation", "installation")
COLUMNS: tuple[Role, ...] = (*ProjectRole, *OrganizationRole, *InstallationRole)


def person(*roles: Role, scope: Scope | None = None, active: bool = True, member: bool = True) -> Standing:
    return Standing("user", active, frozenset(roles), member, scope=scope or Scope())


OPERATOR = person(InstallationRole.OPERATOR, member=False)
ALPHA, BOTH = frozenset({"alpha"}), frozenset({"alpha", "beta"})
READ = frozenset({Permission.JOB_READ})
ARCHIVED = Resource("project", "alpha", archived=True)


@pytest.mark.parametrize(
    ("standing", "permission", "resource", "outcome"),
    [
        (person(ProjectRole.VIEWER), Permission.JOB_READ, PROJECT, "allow"),
        (person(ProjectRole.VIEWER), Permission.JOB_SUBMIT, PROJECT, "deny"),
        (person(ProjectRole.VIEWER, ProjectRole.APPROVER), Permission.APPROVAL_DECIDE, PROJECT, "allow"),
        (person(member=False), Permission.JOB_READ, PROJECT, "hidden"),
        (person(ProjectRole.ADMIN, active=False), Permission.JOB_READ, PROJECT, "gone"),
        (person(OrganizationRole.OWNER), Permission.BUDGET_WRITE, PROJECT, "allow"),
        (person(ProjectRole.ADMIN), Permission.BUDGET_WRITE, PROJECT, "deny"),
        (person(OrganizationRole.OWNER), Permission.QUOTA_WRITE, PROJECT, "deny"),
        (OPERATOR, Permission.QUOTA_WRITE, PROJECT, "allow"),
        (OPERATOR, Permission.JOB_READ, PROJECT, "hidden"),
        (OPERATOR, Permission.ORGANIZATION_WRITE, ORGANIZATION, "hidden"),
        (OPERATOR, Permission.ORGANIZATION_WRITE, INSTALLATION, "allow"),
        (person(member=False), Permission.POOL_READ, INSTALLATION, "deny"),
        (person(), Permission.ORGANIZATION_READ, ORGANIZATION, "allow"),
        (person(), Permission.COST_READ, ORGANIZATION, "deny"),
        (person(OrganizationRole.OWNER), Permission.JOB_SUBMIT, ARCHIVED, "deny"),
        (person(OrganizationRole.OWNER), Permission.MEMBER_WRITE, ARCHIVED, "allow"),
        (Standing("attempt", False), Permission.JOB_READ, PROJECT, "hidden"),
        (Standing("anonymous", False), Permission.JOB_READ, PROJECT, "hidden"),
        (Standing("system", False), Permission.JOB_CONTROL, PROJECT, "allow"),
        (Standing("user", True, is_local_admin=True), Permission.POOL_WRITE, INSTALLATION, "allow"),
    ],
)  # fmt: skip
def test_who_may_what(standing: Standing, permission: Permission, resource: Resource, outcome: str) -> None:
    assert decide(standing, permission, resource).outcome == outcome


@pytest.mark.parametrize(
    ("scope", "permission", "outcome"),
    [
        (Scope(frozenset({"alpha"})), Permission.JOB_SUBMIT, "allow"),
        (Scope(frozenset({"beta"})), Permission.JOB_SUBMIT, "hidden"),
        (Scope(permissions=frozenset({Permission.JOB_READ})), Permission.JOB_SUBMIT, "deny"),
        (Scope(permissions=frozenset({Permission.BUDGET_WRITE})), Permission.BUDGET_WRITE, "deny"),
    ],
)
def test_a_token_bounds_and_never_widens(scope: Scope, permission: Permission, outcome: str) -> None:
    assert decide(person(ProjectRole.DEVELOPER, scope=scope), permission, PROJECT).outcome == outcome


@pytest.mark.parametrize(
    ("inner", "outer", "within"),
    [
        (Scope(), Scope(), True),
        (Scope(), Scope(ALPHA), False),
        (Scope(), Scope(permissions=READ), False),
        (Scope(ALPHA), Scope(), True),
        (Scope(ALPHA), Scope(ALPHA), True),
        (Scope(ALPHA), Scope(BOTH), True),
        (Scope(BOTH), Scope(ALPHA), False),
        (Scope(frozenset()), Scope(ALPHA), True),
        (Scope(permissions=READ), Scope(ALPHA), False),
        (Scope(permissions=READ), Scope(permissions=READ), True),
        (Scope(permissions=frozenset({Permission.JOB_SUBMIT})), Scope(permissions=READ), False),
        (Scope(ALPHA), Scope(ALPHA, READ), False),
        (Scope(ALPHA, READ), Scope(BOTH, READ), True),
        (Scope(BOTH, READ), Scope(ALPHA, READ), False),
    ],
)
def test_a_token_makes_none_that_reaches_further(inner: Scope, outer: Scope, within: bool) -> None:
    assert inner.is_within(outer) is within
    assert inner.is_whole is (inner == Scope())


@pytest.mark.parametrize(
    ("standing", "resource", "outcome"),
    [
        (person(scope=Scope(ALPHA)), ORGANIZATION, "deny"),
        (person(OrganizationRole.OWNER, scope=Scope(ALPHA)), ORGANIZATION, "deny"),
        (person(OrganizationRole.OWNER, member=False, scope=Scope(ALPHA)), INSTALLATION, "deny"),
        (person(member=False, scope=Scope(ALPHA)), ORGANIZATION, "hidden"),
        (person(scope=Scope(frozenset({"organization"}))), ORGANIZATION, "deny"),
        (person(OrganizationRole.OWNER, scope=Scope(frozenset({"acme"}))), ORGANIZATION, "deny"),
        (Standing("user", True, is_local_admin=True, scope=Scope(ALPHA)), INSTALLATION, "hidden"),
    ],
)
def test_a_token_of_projects_reaches_nothing_above_them(
    standing: Standing, resource: Resource, outcome: str
) -> None:
    assert decide(standing, Permission.ORGANIZATION_READ, resource).outcome == outcome


def test_a_grant_is_weighed_by_what_is_held_within_the_token() -> None:
    admin = Standing("user", True, is_local_admin=True)
    for who in (admin, Standing("system", True)):
        assert weigh_grant(who, OrganizationRole.OWNER).outcome == "allow"
    bounded = Standing("user", True, is_local_admin=True, scope=Scope(permissions=READ))
    assert weigh_grant(bounded, ProjectRole.VIEWER).outcome == "deny"
    assert weigh_grant(person(ProjectRole.ADMIN), ProjectRole.ADMIN).outcome == "allow"


def test_a_refusal_names_the_roles_that_would_do() -> None:
    said = decide(person(ProjectRole.VIEWER), Permission.JOB_SUBMIT, PROJECT).reason
    assert said == "'job.submit' needs the role 'developer', 'admin' or 'owner' in project 'alpha'"


def test_a_refusal_names_roles_of_that_place_alone() -> None:
    said = decide(person(), Permission.ORGANIZATION_WRITE, ORGANIZATION).reason
    assert said == "'organization.write' needs the role 'owner' in organization 'acme'"
    said = decide(person(member=False), Permission.POOL_READ, INSTALLATION).reason
    assert said == "'pool.read' needs the role 'operator' or 'installation auditor' in this installation"


@pytest.mark.parametrize("role", [*ProjectRole, *OrganizationRole])
def test_whoever_may_grant_all_holds_all(role: Role) -> None:
    assert weigh_grant(person(OrganizationRole.OWNER), role).outcome == "allow"
    assert weigh_grant(person(ProjectRole.VIEWER), role).outcome == (
        "allow" if role is ProjectRole.VIEWER else "deny"
    )


def test_the_page_shows_the_rules_table() -> None:
    rows = re.findall(r"^\| `([a-z.]+)` \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    shown = {
        Permission(name): {role for role, cell in zip(COLUMNS, cells.split("|"), strict=True) if cell.strip()}
        for name, cells in rows
    }
    assert shown == {
        permission: {role for role in COLUMNS if permission in PERMISSIONS[role]} for permission in Permission
    }

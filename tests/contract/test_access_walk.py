"""Every route, asked by everybody, of their own project and of a stranger's.

What is to come out is computed from the permission that the route declares. A route without a declaration
fails. What a request needs (path, query, body) is made up from the OpenAPI document.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import insert, text, update
from tests.control_plane import ADMIN_TOKEN, serve
from tests.made_up_requests import Asking, make_up

from steelyard.api.app import create_app
from steelyard.api.examples import FINE_TUNE_EXAMPLE
from steelyard.api.permits import declared
from steelyard.governance.identity import AttemptTokens, FixedKey
from steelyard.governance.policy import InstallationRole, Resource, Role, Scope, Standing, decide
from steelyard.specs.access import OrganizationRole, Permission, ProjectRole
from steelyard.specs.job import JOB_SPEC
from steelyard.storage.database import Database
from steelyard.storage.tables import (
    ApiTokenRow,
    AttemptRow,
    JobRow,
    OrganizationMemberRow,
    OrganizationRow,
    PrincipalRow,
    ProjectMemberRow,
    ProjectRow,
)

ORGANIZATION, PROJECT, FOREIGN_ORGANIZATION, FOREIGN_PROJECT = "acme", "alpha", "umbrella", "beta"
ATTEMPT = "att_of_alpha"
_STRANGERS = ("attempt", "a-admin", "owner", "narrow", "outsider", "operator", "local_admin")
"""Who asks of the foreign project: the mightiest of each kind, and who owns it."""
_OF_OPERATORS = (Permission.QUOTA_WRITE, Permission.POOL_WRITE)
"""Asked of the installation, whether or not the project is there: a 403 tells nothing of it."""
_HIDDEN = tuple(
    f"no {kind} {name!r}, or none of yours"
    for kind, names in (
        ("project", (PROJECT, FOREIGN_PROJECT)), ("organization", (ORGANIZATION, FOREIGN_ORGANIZATION)),
    )
    for name in names
)  # fmt: skip
_NARROW = frozenset({Permission.JOB_READ})


@dataclass(frozen=True)
class Caller:
    """Somebody with a token. Roles are those in PROJECT, in ORGANIZATION, and in the installation."""

    name: str
    project: ProjectRole | None = None
    organization: OrganizationRole | None = None
    installation: InstallationRole | None = None
    kind: str = "user"
    active: bool = True
    scope: Scope = field(default_factory=Scope)
    foreign: bool = False
    """Owns FOREIGN_ORGANIZATION and nothing here."""

    @property
    def token(self) -> str | None:
        match self.kind:
            case "anonymous":
                return None
            case "attempt":
                return AttemptTokens(FixedKey(b"a" * 32)).issue(ATTEMPT)
            case "local_admin":
                return ADMIN_TOKEN
            case _:
                return f"syt_{self.name}"

    def standing(self, resource: Resource) -> Standing:
        """What the caller is to a resource, said independently of the database's functions."""
        roles: set[Role] = {self.installation} if self.installation else set()
        is_member = False
        if resource.id in (PROJECT, ORGANIZATION):
            own = {self.project} if self.project and resource.kind == "project" else set[Role]()
            above = {self.organization} if self.organization else set[Role]()
            roles |= own | above
            is_member = bool(self.project or self.organization)
        elif resource.id in (FOREIGN_PROJECT, FOREIGN_ORGANIZATION) and self.foreign:
            roles.add(OrganizationRole.OWNER)
            is_member = True
        kind: Any = {"local_admin": "user"}.get(self.kind, self.kind)
        return Standing(
            kind, self.active, frozenset(roles), is_member, self.kind == "local_admin", self.scope
        )


CALLERS = (
    Caller("anonymous", kind="anonymous"),
    Caller("attempt", kind="attempt"),
    *(Caller(f"a-{role.value}", project=role) for role in ProjectRole),
    Caller("owner", organization=OrganizationRole.OWNER),
    Caller("auditor", organization=OrganizationRole.AUDITOR),
    Caller("bot@acme", project=ProjectRole.DEVELOPER, kind="service_account"),
    Caller("narrow", organization=OrganizationRole.OWNER, scope=Scope(frozenset({PROJECT}), _NARROW)),
    Caller("elsewhere", organization=OrganizationRole.OWNER, scope=Scope(frozenset({"gamma"}))),
    Caller("disabled", project=ProjectRole.ADMIN, active=False),
    Caller("outsider", foreign=True),
    Caller("operator", installation=InstallationRole.OPERATOR),
    Caller("inspector", installation=InstallationRole.AUDITOR),
    Caller("local_admin", kind="local_admin"),
)


@dataclass(frozen=True)
class World:
    """An application over one database, and who calls it."""

    http: httpx.AsyncClient
    database: Database
    routes: list[APIRoute]
    document: dict[str, Any]


@pytest.fixture
async def world(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with serve(database, database_dsn, tmp_path) as plane:
        app = create_app(plane.services, "0")
        await settle(database)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://walk") as http:
            routes = _flat(list(app.routes))
            yield World(http, database, routes, app.openapi())


async def test_every_route_declares_what_it_needs(world: World) -> None:
    known = {*Permission, "public", "authenticated", "attempt", "mlflow"}
    missing = [
        f"{'|'.join(sorted(route.methods or ()))} {route.path}"
        for route in world.routes
        if declared(route.openapi_extra) not in known
    ]
    assert not missing, f"write openapi_extra=permits(...) at: {', '.join(missing)}"


async def test_everybody_asks_every_route(world: World) -> None:
    wrong: list[str] = []
    asked = 0
    for route in world.routes:
        permission = declared(route.openapi_extra)
        if permission not in set(Permission):
            continue
        for method in sorted(route.methods or ()):
            for foreign in (False, True) if "{" in route.path else (False,):
                asking = make_up(world.document, route, method, _names(foreign=foreign))
                callers = [each for each in CALLERS if each.name in _STRANGERS] if foreign else CALLERS
                answers = {each.name: await _ask(world, each, asking) for each in callers}
                asked += len(answers)
                wrong += _judge(route, Permission(permission), asking, answers, foreign=foreign)
                await _mend(world.database)
    assert asked > 1000
    assert not wrong, "\n".join([f"{len(wrong)} of {asked}:", *wrong[:40]])


async def test_own_routes_are_for_everybody_who_is_known(world: World) -> None:
    wrong: list[str] = []
    for route in world.routes:
        special = declared(route.openapi_extra)
        for method in sorted(route.methods or ()) if special in ("authenticated", "attempt") else []:
            asking = make_up(world.document, route, method, _names(foreign=False))
            for caller in CALLERS:
                status = (await _ask(world, caller, asking)).status_code
                closed = caller.kind == "anonymous" or not caller.active
                is_attempt = caller.kind == "attempt"
                if closed:
                    right = status == 401
                elif special == "attempt":
                    right = status not in (401, 403, 404) if is_attempt else status in (404, 422)
                else:
                    right = status in (403, 404) if is_attempt else status != 401
                if not right or status >= 500:
                    wrong.append(f"{caller.name} {method} {route.path}: {status}")
    assert not wrong, "\n".join(wrong)


async def test_ids_of_another_project_are_not_found_below_ones_own(world: World) -> None:
    """The path names a project of the caller's, and a thing that is another's."""
    wrong: list[str] = []
    names = {**_names(foreign=True), "project": PROJECT, "organization": ORGANIZATION}
    admins = [caller for caller in CALLERS if caller.name in ("a-admin", "owner", "local_admin")]
    for route in world.routes:
        things = [name for name in ("job", "account", "mapping", "ingest") if f"{{{name}}}" in route.path]
        if ("{project}" not in route.path and "{organization}" not in route.path) or not things:
            continue
        for method in sorted(route.methods or ()):
            asking = make_up(world.document, route, method, names)
            for caller in admins:
                status = (await _ask(world, caller, asking)).status_code
                if status not in (404, 403) or (status == 403 and caller.name != "a-admin"):
                    wrong.append(f"{caller.name} {method} {asking.url} {asking.body}: {status}")
    assert not wrong, "\n".join(wrong)


def _judge(
    route: APIRoute,
    permission: Permission,
    asking: Asking,
    answers: dict[str, httpx.Response],
    *,
    foreign: bool,
) -> list[str]:
    resource = _resource(route.path, foreign=foreign)
    wrong: list[str] = []
    # What is refused before anybody is looked at tells nothing of anything.
    malformed = answers["local_admin"].status_code == 422
    for caller in (each for each in CALLERS if each.name in answers):
        answer = answers[caller.name]
        expected = _expected(caller, permission, resource)
        if permission in _OF_OPERATORS and answer.status_code == 403 and expected == "404":
            continue
        if not _is_right(answer, expected) and not (malformed and answer.status_code == 422):
            said = answer.text[:160]
            wrong.append(
                f"{caller.name} {asking.method} {asking.url} ({permission}):"
                f" {answer.status_code}, not {expected}: {said}"
            )
    return wrong


def _expected(caller: Caller, permission: Permission, resource: Resource) -> str:
    if caller.kind == "anonymous":
        return "401"
    outcome = decide(caller.standing(resource), permission, resource).outcome
    if outcome == "hidden" and resource.kind == "installation":
        return "403"
    return {"hidden": "404", "gone": "401", "deny": "403", "allow": "allowed"}[outcome]


def _is_right(answer: httpx.Response, expected: str) -> bool:
    if expected != "allowed":
        return str(answer.status_code) == expected
    said = answer.json()["error"]["message"] if answer.status_code in (403, 404) else ""
    if said.startswith(_HIDDEN):
        return False
    if answer.status_code == 403 and "hold yourself" not in answer.text and "local admin" not in answer.text:
        return False
    return answer.status_code != 401 and (answer.status_code < 500 or answer.status_code in (501, 503))


def _resource(path: str, *, foreign: bool) -> Resource:
    if "{project}" in path:
        return Resource("project", FOREIGN_PROJECT if foreign else PROJECT)
    if "{organization}" in path:
        return Resource("organization", FOREIGN_ORGANIZATION if foreign else ORGANIZATION)
    return Resource("installation", "installation")


def _names(*, foreign: bool) -> dict[str, str]:
    return {
        "project": FOREIGN_PROJECT if foreign else PROJECT,
        "organization": FOREIGN_ORGANIZATION if foreign else ORGANIZATION,
        "job": "job_of_beta" if foreign else "job_of_alpha",
        "attempt_id": ATTEMPT,
        "account": "robot@umbrella" if foreign else "nobody@acme",
    }


async def _ask(world: World, caller: Caller, asking: Asking) -> httpx.Response:
    headers = {} if caller.token is None else {"Authorization": f"Bearer {caller.token}"}
    async with asyncio.timeout(20):
        return await world.http.request(
            asking.method, asking.url, params=asking.query, content=asking.body,
            headers={**headers, "Content-Type": "application/json"},
        )  # fmt: skip


def _flat(routes: list[Any]) -> list[APIRoute]:
    """Return all routes of a router and of those that it includes, which has no prefix here."""
    found = [route for route in routes if isinstance(route, APIRoute)]
    included = [each.original_router.routes for each in routes if hasattr(each, "original_router")]
    return [*found, *(route for inner in included for route in _flat(inner))]


async def _mend(database: Database) -> None:
    """Undo what an allowed request did to the ground that the walk stands on."""
    async with database.transaction() as session:
        await session.execute(update(ProjectRow).values(archived_at=None))
        await session.execute(update(JobRow).values(state="cancelled", desired="cancel"))


async def settle(database: Database) -> None:
    """Make organizations, projects, jobs, and all who call."""
    async with database.transaction() as session:
        for organization in (ORGANIZATION, FOREIGN_ORGANIZATION):
            row = {"id": organization, "display_name": organization, "created_by": "system"}
            await session.execute(insert(OrganizationRow).values(row))
        for project, organization in (
            (PROJECT, ORGANIZATION), (FOREIGN_PROJECT, FOREIGN_ORGANIZATION), ("gamma", ORGANIZATION),
        ):  # fmt: skip
            await session.execute(insert(ProjectRow).values(id=project, organization_id=organization))
        for caller in CALLERS:
            if caller.kind in ("user", "service_account"):
                await _person(session, caller)
        await session.execute(
            insert(PrincipalRow).values(
                id="robot@umbrella", kind="service_account", organization_id=FOREIGN_ORGANIZATION,
                display_name="robot", created_by="system",
            )
        )  # fmt: skip
        spec = JOB_SPEC.validate_json(json.dumps(FINE_TUNE_EXAMPLE)).model_dump_json()
        for project in (PROJECT, FOREIGN_PROJECT):
            await session.execute(text(_JOB), {"id": f"job_of_{project}", "project": project, "spec": spec})
        await session.execute(
            insert(AttemptRow).values(
                id=ATTEMPT, project_id=PROJECT, job_id=f"job_of_{PROJECT}", number=1, launch_key="0:0",
                stage="train", epoch=1, state="running", executor="local", attempt_dir="/nowhere",
                last_step=0, checkpoint_requested=False, counted=False, gpus=0,
            )
        )  # fmt: skip


async def _person(session: Any, caller: Caller) -> None:
    await session.execute(
        insert(PrincipalRow).values(
            id=caller.name, kind=caller.kind, display_name=caller.name, created_by="system",
            organization_id=ORGANIZATION if caller.kind == "service_account" else None,
            disabled_at=None if caller.active else text("now()"),
        )
    )  # fmt: skip
    memberships = [(ORGANIZATION, caller.organization)]
    if caller.installation is not None:
        is_operator = caller.installation is InstallationRole.OPERATOR
        memberships = [("default", OrganizationRole.OWNER if is_operator else OrganizationRole.AUDITOR)]
    if caller.foreign:
        memberships = [(FOREIGN_ORGANIZATION, OrganizationRole.OWNER)]
    for organization, role in memberships:
        if role is not None:
            await session.execute(
                insert(OrganizationMemberRow).values(
                    organization_id=organization, principal_id=caller.name, role=role, granted_by="system"
                )
            )
    if caller.project is not None:
        await session.execute(
            insert(ProjectMemberRow).values(
                project_id=PROJECT, principal_id=caller.name, role=caller.project, granted_by="system"
            )
        )
    scope = caller.scope
    await session.execute(
        insert(ApiTokenRow).values(
            id=f"tok_{caller.name}", principal_id=caller.name, name="walk", created_by=caller.name,
            digest=hashlib.sha256(f"syt_{caller.name}".encode()).digest(),
            projects=None if scope.projects is None else sorted(scope.projects),
            permissions=None if scope.permissions is None else sorted(scope.permissions),
        )
    )  # fmt: skip


_JOB = """
    INSERT INTO jobs (id, project_id, name, type, state, priority, spec, lineage, tags, desired,
        command_sequence, run_number, epoch, stage, attempts_count, retries_used, evictions, running_seconds,
        progress, metrics, prepared, created_by)
    VALUES (:id, :project, 'walked', 'fine_tune', 'cancelled', 500,
        CAST(:spec AS jsonb), '{}', '{}', 'cancel',
        0, 0, 1, 'train', 0, 0, 0, 0, '{}', '{}', '{}', 'somebody')
"""

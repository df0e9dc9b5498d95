"""`whoami`, `projects`, `organizations`, `members`, `groups`, `users`, `service-accounts` and `tokens`."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.table import Table

from steelyard.cli.formats import format_time
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.session import connect
from steelyard.client.sync_client import Client
from steelyard.specs.access import OrganizationRole, ProjectRole
from steelyard.specs.identity import DEFAULT_TOKEN_DAYS, MemberView, TokenView

_PANEL = "Access"

Name = Annotated[str, typer.Argument(metavar="NAME")]
Principal = Annotated[str, typer.Argument(metavar="WHO", help="A user's or service account's name.")]
Role = Annotated[
    str, typer.Argument(metavar="ROLE", help="viewer, developer, approver, admin; or owner, auditor.")
]
Display = Annotated[str, typer.Option("--display-name", metavar="TEXT", help="As people read it.")]
Organization = Annotated[str, typer.Option("--organization", metavar="NAME", help="Whose.")]
Account = Annotated[
    str | None, typer.Option("--service-account", metavar="NAME", help="Of this service account.")
]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Of this user; for operators.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("whoami", rich_help_panel=_PANEL)(whoami)
    groups: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
        "projects": ("Projects: make, list, put away.", {
            "list": list_projects, "create": create_project, "archive": archive, "restore": restore,
        }),
        "organizations": ("Organizations.", {"list": list_organizations, "create": create_organization}),
        "members": ("Who holds which role, in a project or an organization.", {
            "list": list_members, "grant": grant, "revoke": revoke,
        }),
        "groups": ("Groups of an identity provider, and the roles that they give.", {
            "list": list_groups, "map": map_group, "unmap": unmap_group,
        }),
        "users": ("Users of the installation.", {
            "list": list_users, "create": create_user, "disable": disable_user, "enable": enable_user,
            "delete": delete_user,
        }),
        "service-accounts": ("Accounts for programs.", {
            "list": list_accounts, "create": create_account, "disable": disable_account,
            "enable": enable_account, "delete": delete_account,
        }),
        "tokens": ("API tokens.", {
            "list": list_tokens, "create": create_token, "revoke": revoke_token,
        }),
    }  # fmt: skip
    for name, (text, commands) in groups.items():
        group = typer.Typer(no_args_is_help=True, help=text)
        for verb, command in commands.items():
            group.command(verb)(command)
        app.add_typer(group, name=name, rich_help_panel=_PANEL)


def whoami(as_json: JsonFlag = False) -> None:
    """Say who you are here, and what you have a part in."""
    with connect() as client:
        me = client.me()
    if as_json:
        write_json(me)
        return
    screen = Screen()
    screen.print(f"{printable(me.id)} ({me.kind.replace('_', ' ')}, {printable(me.display_name)})")
    if me.is_local_admin:
        screen.print("You hold the installation's own token: you may do everything.")
    elif me.installation_roles:
        screen.print(f"In the installation: {', '.join(me.installation_roles)}")
    for organization in me.organizations:
        if organization.roles:
            screen.print(f"organization {organization.id}: {', '.join(organization.roles)}")
    for project in me.projects:
        screen.print(f"project {project.id}: {', '.join(project.roles) or 'all'}")
    if me.token is not None:
        bounds = [f"projects {', '.join(me.token.projects)}"] if me.token.projects is not None else []
        bounds += [f"only {', '.join(me.token.permissions)}"] if me.token.permissions is not None else []
        screen.print(f"This token ({me.token.id}): {'; '.join(bounds) or 'without bounds'}")


def list_projects(as_json: JsonFlag = False) -> None:
    """List the projects that you have a part in."""
    with connect() as client:
        found = client.projects.search()
    rows = [
        (each.id, each.organization_id, ", ".join(each.roles), "archived" if each.archived_at else "")
        for each in found
    ]
    _show(found, ("NAME", "ORGANIZATION", "YOUR ROLES", ""), rows, as_json)


def create_project(
    name: Name,
    organization: Organization = "default",
    display_name: Display = "",
    admin: Annotated[str | None, typer.Option(metavar="WHO", help="Who administers it.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a project; owners of the organization can."""
    with connect(persistent=True) as client:
        view = client.projects.create(name, organization=organization, display_name=display_name, admin=admin)
    _tell(
        view,
        f"Project {view.id} is there; `steelyard members grant WHO developer --project {view.id}`.",
        as_json,
    )


def archive(name: Name, as_json: JsonFlag = False) -> None:
    """Let a project, all of whose jobs are over, only be read from now on."""
    with connect(persistent=True) as client:
        view = client.projects.archive(name)
    _tell(view, f"Project {view.id} is archived; `steelyard projects restore {view.id}` undoes it.", as_json)


def restore(name: Name, as_json: JsonFlag = False) -> None:
    """Let an archived project be used again."""
    with connect(persistent=True) as client:
        view = client.projects.restore(name)
    _tell(view, f"Project {view.id} can be used again.", as_json)


def list_organizations(as_json: JsonFlag = False) -> None:
    """List the organizations that you have a part in."""
    with connect() as client:
        found = client.organizations.search()
    rows = [(each.id, each.display_name, ", ".join(each.roles)) for each in found]
    _show(found, ("NAME", "", "YOUR ROLES"), rows, as_json)


def create_organization(
    name: Name,
    display_name: Display = "",
    owner: Annotated[str | None, typer.Option(metavar="WHO", help="Its first owner; else you.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an organization; operators of the installation can."""
    with connect(persistent=True) as client:
        view = client.organizations.create(name, display_name=display_name, owner=owner)
    _tell(view, f"Organization {view.id} is there.", as_json)


def list_members(
    project: ProjectName = None,
    organization: Annotated[
        str | None, typer.Option("--organization", metavar="NAME", help="Of this organization instead.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List who holds which role."""
    with connect(project) as client:
        found = (
            client.organizations.members(organization)
            if organization is not None
            else client.projects.members(client.project)
        )
    _show(found, ("WHO", "ROLES", "BY GROUP", ""), [_member_row(each) for each in found], as_json)


def grant(
    who: Principal,
    role: Role,
    project: ProjectName = None,
    organization: Organization = "default",
    as_json: JsonFlag = False,
) -> None:
    """Give somebody a role; nobody gives more than he holds."""
    with connect(project, persistent=True) as client:
        where = _change_role(client, "grant", who, role, organization)
    if as_json:
        write_json({"principal": who, "role": role, "in": where, "holds": True})
        return
    Screen().print(f"{printable(who)} is {role} in {printable(where)}.")


def revoke(
    who: Principal,
    role: Role,
    project: ProjectName = None,
    organization: Organization = "default",
    as_json: JsonFlag = False,
) -> None:
    """Take a role from somebody; it counts from the next request on, and his jobs go on."""
    with connect(project, persistent=True) as client:
        where = _change_role(client, "revoke", who, role, organization)
    if as_json:
        write_json({"principal": who, "role": role, "in": where, "holds": False})
        return
    Screen().print(f"{printable(who)} is no longer {role} in {printable(where)}.")


def list_groups(organization: Organization = "default", as_json: JsonFlag = False) -> None:
    """List which groups hold which roles."""
    with connect() as client:
        found = client.organizations.groups(organization)
    rows = [(each.id, each.group, each.role, each.project or "(organization)", each.issuer) for each in found]
    _show(found, ("ID", "GROUP", "ROLE", "IN", "ISSUER"), rows, as_json)


def map_group(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="As the identity provider calls it.")],
    role: Role,
    issuer: Annotated[str, typer.Option(metavar="URL", help="The identity provider.")],
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="Where the role is, if not everywhere.")
    ] = None,
    organization: Organization = "default",
    as_json: JsonFlag = False,
) -> None:
    """Let everybody in a group hold a role."""
    with connect(persistent=True) as client:
        view = client.organizations.map_group(
            organization, issuer=issuer, group=group, role=role, project=project
        )
    _tell(view, f"{printable(group)} is {role} in {printable(project or organization)} ({view.id}).", as_json)


def unmap_group(
    mapping: Annotated[str, typer.Argument(metavar="ID", help="As `groups list` shows it.")],
    organization: Organization = "default",
    as_json: JsonFlag = False,
) -> None:
    """Take a role from a group."""
    with connect(persistent=True) as client:
        client.organizations.unmap_group(organization, mapping)
    if as_json:
        write_json({"id": mapping, "removed": True})
        return
    Screen().print(f"{printable(mapping)} is gone.")


def list_users(as_json: JsonFlag = False) -> None:
    """List all users; for operators."""
    with connect() as client:
        found = client.users.search()
    rows = [
        (each.id, each.display_name, _state(each.disabled_at, each.deleted_at), _moment(each.last_login_at))
        for each in found
    ]
    _show(found, ("NAME", "", "STATE", "LAST LOGIN"), rows, as_json)


def create_user(
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    display_name: Display = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a user before the first sign-in; `tokens create --user` gives a token without one."""
    with connect(persistent=True) as client:
        view = client.users.create(email, display_name=display_name)
    _tell(
        view, f"User {view.id} is there; `steelyard members grant {view.id} developer` comes next.", as_json
    )


def disable_user(name: Name, as_json: JsonFlag = False) -> None:
    """Shut a user out, sessions and tokens too."""
    with connect(persistent=True) as client:
        view = client.users.disable(name)
    _tell(view, f"{view.id} is shut out; `steelyard users enable {view.id}` lets in again.", as_json)


def enable_user(name: Name, as_json: JsonFlag = False) -> None:
    """Let a disabled user in again."""
    with connect(persistent=True) as client:
        view = client.users.enable(name)
    _tell(view, f"{view.id} is let in again.", as_json)


def delete_user(name: Name, as_json: JsonFlag = False) -> None:
    """Close an account for ever; its jobs go on, and stay under its name."""
    with connect(persistent=True) as client:
        view = client.users.delete(name)
    _tell(view, f"{view.id} is closed.", as_json)


def list_accounts(organization: Organization = "default", as_json: JsonFlag = False) -> None:
    """List an organization's service accounts."""
    with connect() as client:
        found = client.service_accounts.search(organization=organization)
    rows = [
        (each.id, each.display_name, _state(each.disabled_at, each.deleted_at), each.created_by)
        for each in found
    ]
    _show(found, ("NAME", "", "STATE", "BY"), rows, as_json)


def create_account(
    name: Name, organization: Organization = "default", display_name: Display = "", as_json: JsonFlag = False
) -> None:
    """Make a service account; it holds no role yet."""
    with connect(persistent=True) as client:
        view = client.service_accounts.create(name, organization=organization, display_name=display_name)
    _tell(view, f"{view.id} is there; `steelyard members grant {view.id} developer` gives a role.", as_json)


def disable_account(name: Name, organization: Organization = "default", as_json: JsonFlag = False) -> None:
    """Refuse all tokens of an account."""
    with connect(persistent=True) as client:
        view = client.service_accounts.disable(name, organization=organization)
    _tell(view, f"{view.id} is shut out.", as_json)


def enable_account(name: Name, organization: Organization = "default", as_json: JsonFlag = False) -> None:
    """Let a disabled account in again."""
    with connect(persistent=True) as client:
        view = client.service_accounts.enable(name, organization=organization)
    _tell(view, f"{view.id} is let in again.", as_json)


def delete_account(name: Name, organization: Organization = "default", as_json: JsonFlag = False) -> None:
    """Close an account for ever."""
    with connect(persistent=True) as client:
        view = client.service_accounts.delete(name, organization=organization)
    _tell(view, f"{view.id} is closed.", as_json)


def list_tokens(
    user: User = None,
    account: Account = None,
    organization: Organization = "default",
    as_json: JsonFlag = False,
) -> None:
    """List your tokens, or those of an account."""
    with connect() as client:
        found = client.tokens.search(user=user, account=account, organization=organization)
    rows = [
        (
            each.id,
            each.name,
            _token_state(each),
            _moment(each.expires_at),
            _moment(each.last_used_at),
            each.made_with or each.created_by,
        )
        for each in found
    ]
    _show(found, ("ID", "FOR", "STATE", "EXPIRES", "LAST USED", "MADE BY"), rows, as_json)


def create_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    projects: Annotated[
        list[str] | None, typer.Option("--project", metavar="NAME", help="Reach this one alone; repeatable.")
    ] = None,
    permissions: Annotated[
        list[str] | None,
        typer.Option("--permission", metavar="WORD", help="Only this, as job.submit; repeatable."),
    ] = None,
    days: Annotated[int, typer.Option(metavar="N", help="Good for so long.")] = DEFAULT_TOKEN_DAYS,
    user: User = None,
    account: Account = None,
    organization: Organization = "default",
    as_json: JsonFlag = False,
) -> None:
    """Make a token; its secret is printed once and kept nowhere."""
    with connect() as client:
        made = client.tokens.create(
            name,
            projects=projects or None,
            permissions=permissions or None,
            expires_in_days=days,
            user=user,
            account=account,
            organization=organization,
        )
    if as_json:
        write_json(made)
        return
    Screen(stderr=True).print(
        f"{made.id} acts for {printable(made.principal)} until {_moment(made.expires_at)}. Shown once:"
    )
    Screen().print(made.secret)


def revoke_token(
    token: Annotated[str, typer.Argument(metavar="ID", help="As `tokens list` shows it.")],
    keep_made: Annotated[
        bool, typer.Option("--keep-made", help="Let tokens that were made with it be.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a token at once, and all that were made with it."""
    with connect(persistent=True) as client:
        view = client.tokens.revoke(token, keep_made=keep_made)
    more = f", and {len(view.also_revoked)} made with it: {', '.join(view.also_revoked)}"
    _tell(view, f"{view.id} is revoked{more if view.also_revoked else ''}.", as_json)


def _change_role(client: Client, verb: str, who: str, role: str, organization: str) -> str:
    if role in set(OrganizationRole):
        change = getattr(client.organizations, verb)
        change(organization, who, role)
        return f"organization {organization}"
    if role not in set(ProjectRole):
        words = ", ".join([*ProjectRole, *OrganizationRole])
        raise typer.BadParameter(f"{role!r} is no role; the roles are {words}")
    change = getattr(client.projects, verb)
    change(client.project, who, role)
    return f"project {client.project}"


def _member_row(member: MemberView) -> tuple[str, ...]:
    roles, by_group = ", ".join(member.roles), ", ".join(member.group_roles)
    return member.principal, roles, by_group, "" if member.active else "closed"


def _token_state(token: TokenView) -> str:
    if token.revoked_at is not None:
        return "revoked"
    expired = token.expires_at is not None and token.expires_at <= datetime.now(token.expires_at.tzinfo)
    return "expired" if expired else "good"


def _state(disabled_at: datetime | None, deleted_at: datetime | None) -> str:
    return "deleted" if deleted_at else "disabled" if disabled_at else "active"


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else format_time(moment)


def _show(
    found: Sequence[BaseModel],
    columns: tuple[str, ...],
    rows: list[tuple[str, ...]],
    as_json: bool,
) -> None:
    if as_json:
        write_json(found)
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    Screen().print(table if rows else "None.")


def _tell(view: BaseModel, text: str, as_json: bool) -> None:
    if as_json:
        write_json(view)
    else:
        Screen().print(printable(text))

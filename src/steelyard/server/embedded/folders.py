"""The home's folders and secrets: made at the first start, checked at each."""

import base64
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from steelyard.kit.errors import PermissionDenied, StorageFull
from steelyard.kit.home import admin_token_file
from steelyard.kit.ids import new_token
from steelyard.server.embedded.files import write_once
from steelyard.server.home import HomeLayout

MINIMUM_FREE_BYTES = 1 << 30
# sun_path of sockaddr_un holds 108 bytes with the final zero (unix(7)).
SOCKET_PATH_LIMIT = 107
_LONGEST_SOCKET_NAME = "forkserver.sock.12345678"
_KEY_BYTES = 32


def prepare_home(layout: HomeLayout) -> None:
    """Make the folders that are missing, private. The home itself and all parents keep their modes.

    Raises:
        PermissionDenied: the home isn't ours to write.
        StorageFull: less than 1 GiB is free.
    """
    try:
        _make_home(layout.root)
        for folder in (layout.secrets, layout.logs, layout.run, layout.temporal, layout.objects):
            _make_private(folder)
        for folder in (layout.attempts, layout.cache, layout.mlflow_artifacts):
            _make_private(folder)
    except PermissionError as error:
        raise PermissionDenied(
            f"{error.filename} can't be made by user {os.geteuid()}; set STEELYARD_HOME to a folder of "
            "yours, or run as the user who owns it"
        ) from error
    check_writable(layout)
    check_room(layout.root)


def check_writable(layout: HomeLayout) -> None:
    """Raise PermissionDenied unless every folder of the home is ours to write."""
    for folder in (layout.root, layout.run, layout.secrets, layout.logs):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionDenied(
                f"{folder} belongs to user {folder.stat().st_uid} and can't be written by user "
                f"{os.geteuid()}; run as its owner, or set STEELYARD_HOME to a folder of yours"
            )


def check_room(folder: Path) -> int:
    """Return the free bytes of the file system that `folder` is on.

    Raises:
        StorageFull: they are less than 1 GiB.
    """
    free = shutil.disk_usage(folder).free
    if free < MINIMUM_FREE_BYTES:
        raise StorageFull(
            f"{folder} has {free / 2**20:.0f} MiB free, and the platform needs at least "
            f"{MINIMUM_FREE_BYTES / 2**20:.0f}; free some, or set STEELYARD_HOME to a folder on another disk"
        )
    return free


def make_secrets(layout: HomeLayout) -> None:
    """Make the secrets that aren't there yet; one that exists is never changed."""
    write_once(admin_token_file(layout.root), f"{new_token('sy')}\n".encode())
    for path in (layout.payload_key, layout.token_key, layout.secret_keys):
        write_once(path, base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
    for path in (
        layout.database_password,
        layout.api_database_password,
        layout.worker_database_password,
        layout.mlflow_password,
        layout.superuser_password,
    ):
        write_once(path, f"{secrets.token_urlsafe(32)}\n".encode())


def socket_folder(layout: HomeLayout) -> Path:
    """Return a private folder (0700, ours) whose path leaves room for a socket's name, and make it.

    Raises:
        PermissionDenied: somebody else has made a folder of that name.
    """
    chosen = short_socket_folder(layout)
    chosen.mkdir(mode=0o700, exist_ok=True, parents=False)
    status = chosen.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionDenied(
            f"{chosen} isn't a private folder of user {os.geteuid()}; remove it, or use a STEELYARD_HOME "
            "with a shorter path, so that sockets fit into it"
        )
    return chosen


def short_socket_folder(layout: HomeLayout) -> Path:
    """Return where sockets go: `run` in the home, or a folder with a short name if that path is too long."""
    if fits_socket(layout.run, _LONGEST_SOCKET_NAME):
        return layout.run
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"steelyard-{os.geteuid()}-{layout.digest}"


def fits_socket(folder: Path, name: str) -> bool:
    """Say whether the path of a socket in `folder` is short enough for the kernel."""
    return len(os.fsencode(folder / name)) <= SOCKET_PATH_LIMIT


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        folder.chmod(0o700)


def _make_home(root: Path) -> None:
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    # Root's PostgreSQL runs as another user, who must be able to pass through.
    root.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    root.chmod(0o711 if os.geteuid() == 0 else 0o700)

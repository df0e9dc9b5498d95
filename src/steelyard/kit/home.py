"""Where the embedded platform keeps its state: `STEELYARD_HOME`, or a default by user."""

import os
from pathlib import Path

HOME_VARIABLE = "STEELYARD_HOME"
_USER_HOME = "~/.steelyard"
_ROOT_HOME = "/var/lib/steelyard"


def default_home() -> Path:
    """Return the home folder that is used where `STEELYARD_HOME` is not set.

    Root gets a folder outside its own home, because PostgreSQL runs under another uid then and must be
    able to reach its data.
    """
    return Path(_ROOT_HOME if os.geteuid() == 0 else _USER_HOME).expanduser()


def home_from_environment() -> Path:
    """Return the home folder that this process is meant to use, as an absolute path."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named).expanduser().absolute() if named else default_home()


def endpoint_file(home: Path) -> Path:
    """JSON with `api_url`, written by the supervisor, read by the CLI and SDK."""
    return home / "endpoint.json"


def admin_token_file(home: Path) -> Path:
    """The local admin's token, mode 0600."""
    return home / "secrets" / "admin.token"

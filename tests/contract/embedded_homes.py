"""Homes for tests of the embedded platform, and the hands to drive what runs in them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
from tests.contract import embedded_standins as standins

from steelyard.server.embedded.identity import identify
from steelyard.server.embedded.postgres_place import can_pass
from steelyard.server.embedded.process import Account
from steelyard.server.embedded.status import PlatformStatus, ProcessStatus, read_status
from steelyard.server.home import HomeLayout, database_dsn, read_platform

ROOT = Path(__file__).parents[2]
NOBODY = Account("nobody", 65534, 65534)
_TIMEOUT_SECONDS = 150
Value = TypeVar("Value")


@dataclass
class Home:
    """One home with its platform of stand-ins. `close` stops it and removes all of it."""

    base: Path
    root: Path
    parts: str = ""
    account: Account | None = None
    extra: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def layout(self) -> HomeLayout:
        return HomeLayout(self.root)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
        own = {
            "HOME": str(self.base),
            "STEELYARD_HOME": str(self.root),
            "PYTHONPATH": str(ROOT),
            standins.OUTSIDE_VARIABLE: str(self.base / "outside"),
            standins.WITH_VARIABLE: self.parts,
        }
        return inherited | own | self.extra

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the platform as the home's user."""
        argv = [*_prefix(self.account), sys.executable, "-m", "tests.contract.embedded_standins", *arguments]
        return subprocess.run(
            argv,
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )

    def up(self) -> dict[str, Any]:
        result = self.run("up", "--json")
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}\n{self.log('supervisor')}"
        return json.loads(result.stdout)

    def status(self) -> PlatformStatus:
        return read_status(self.layout)

    def process(self, name: str) -> ProcessStatus:
        return next(each for each in self.status().processes if each.name == name)

    def pid(self, name: str) -> int:
        pid = self.process(name).pid
        assert pid is not None, f"{name} doesn't run"
        return pid

    def supervisor_pid(self) -> int:
        pid = self.status().supervisor_pid
        assert pid is not None
        return pid

    def kill_supervisor(self) -> None:
        pid = self.supervisor_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: identify(pid) is None, "the supervisor to be gone")

    def log(self, name: str) -> str:
        path = self.layout.log(name)
        return path.read_text()[-3000:] if path.exists() else ""

    def query(self, statement: str) -> Any:
        """Run a statement as the platform's own role; return the first value of the first row."""
        connection = psycopg2.connect(database_dsn(self.root))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
        finally:
            connection.close()

    def api_port(self) -> int:
        return read_platform(self.root).api_port

    def trainer_pid(self) -> int:
        return int((self.root / "trainer.pid").read_text())

    def close(self) -> None:
        self.run("down", "--grace", "1")
        if (self.root / "trainer.pid").exists():
            os.kill(self.trainer_pid(), signal.SIGKILL)
        shutil.rmtree(self.base)


def make_home(parts: str = "", account: Account | None = None, mode: int = 0o711) -> Home:
    """Make an empty home. With `mode` 0711 other users may pass through; short, as sockets need it."""
    base = Path(tempfile.mkdtemp(prefix="sy-", dir="/tmp"))
    base.chmod(0o711)
    (base / "outside").mkdir(mode=0o755)
    (base / "private").mkdir(mode=mode)
    root = base / "private" / "home"
    if account:
        for folder in (base, base / "outside", base / "private"):
            os.chown(folder, account.uid, account.gid)
    return Home(base, root, parts, account)


def wait_until(condition: Callable[[], Value | None], what: str, timeout_seconds: float = 30.0) -> Value:
    """Return the first true value of `condition`; fail when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_seconds:g} s in vain for {what}")


def _prefix(account: Account | None) -> list[str]:
    if account is None or os.geteuid() != 0:
        return []
    argv = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    if not can_pass(Path(os.path.realpath(sys.executable)).parent, account):
        # The interpreter lies in a private folder here: let the user read it, and nothing more.
        argv += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [*argv, "--"]

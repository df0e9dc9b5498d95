"""The embedded platform's folder: where each kind of state lies, and at which addresses it answers."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from steelyard.kit.errors import Unavailable
from steelyard.kit.tls import TlsClient

DATABASE_NAME = "steelyard"
DATABASE_ROLE = "steelyard"
API_ROLE = "steelyard_api"
"""Of migration 0011: what the api logs in as. It owns nothing and can become nobody else."""
WORKER_ROLE = "steelyard_worker"
"""Of migration 0021: what workers log in as. It owns nothing either, and sees all projects."""
MLFLOW_DATABASE = "mlflow"
MLFLOW_ROLE = "mlflow"
MLFLOW_PREFIX = "/mlflow"


@dataclass(frozen=True)
class HomeLayout:
    """Names of the things below one home folder. Makes nothing; the supervisor makes the folders."""

    root: Path

    @property
    def secrets(self) -> Path:
        """Folder of mode 0700 with files of mode 0600."""
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        """One file for each process, `<name>.log`."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """State of the running supervisor: pidfile, `state.json`, `platform.json`, sockets."""
        return self.root / "run"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data, unless its user can't reach it here; then only a note of where it is."""
        return self.root / "postgres"

    @property
    def temporal(self) -> Path:
        """Temporal's SQLite file."""
        return self.root / "temporal"

    @property
    def objects(self) -> Path:
        """The object store of the embedded platform: datasets, checkpoints, models."""
        return self.root / "objects"

    @property
    def attempts(self) -> Path:
        """One folder for each attempt that ran on this node."""
        return self.root / "attempts"

    @property
    def cache(self) -> Path:
        """Things that can be made again: converted base models."""
        return self.root / "cache"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts that MLflow serves."""
        return self.objects / "mlflow"

    @property
    def database_password(self) -> Path:
        """Password of the role that owns the database; migrations alone log in as it."""
        return self.secrets / "database.password"

    @property
    def api_database_password(self) -> Path:
        """Password of the database role that the api logs in as."""
        return self.secrets / "api-database.password"

    @property
    def worker_database_password(self) -> Path:
        """Password of the database role that workers log in as."""
        return self.secrets / "worker-database.password"

    @property
    def mlflow_password(self) -> Path:
        """Password of MLflow's database role."""
        return self.secrets / "mlflow.password"

    @property
    def superuser_password(self) -> Path:
        """Password of PostgreSQL's superuser; only the supervisor uses it."""
        return self.secrets / "postgres.password"

    @property
    def payload_key(self) -> Path:
        """Keys of the Temporal payload codec, oldest first; `steelyard keys rotate` adds one."""
        return self.secrets / "payload.key"

    @property
    def token_key(self) -> Path:
        """Keys that tokens of attempts and sessions are signed under, oldest first."""
        return self.secrets / "token.key"

    @property
    def webhook_key(self) -> Path:
        """What webhooks are signed under, base64 of 32 bytes; there once the first token key was replaced."""
        return self.secrets / "webhook.key"

    @property
    def secret_keys(self) -> Path:
        """Key-encryption keys of the projects' secrets, oldest first."""
        return self.secrets / "secrets.keys"

    @property
    def lineage_key(self) -> Path:
        """Private key that signs the lineage of models; the worker makes it."""
        return self.secrets / "lineage.key"

    @property
    def lineage_public_key(self) -> Path:
        """Its public half."""
        return self.root / "lineage.pub"

    @property
    def certificates(self) -> Path:
        """Certificates for TLS, where the settings name no other folder."""
        return self.root / "certs"

    @property
    def audit_key(self) -> Path:
        """Private key that signs the checkpoints of the audit trail; the worker makes it."""
        return self.secrets / "audit.key"

    @property
    def audit_checkpoints(self) -> Path:
        """Signed checkpoints of the audit trail, and the public key. Copy them elsewhere now and then."""
        return self.root / "audit" / "checkpoints"

    @property
    def platform_file(self) -> Path:
        """Addresses of the running platform; see `read_platform`."""
        return self.run / "platform.json"

    @property
    def state_file(self) -> Path:
        """What the supervisor knows of its processes."""
        return self.run / "state.json"

    @property
    def lock_file(self) -> Path:
        """Locked (flock) by the supervisor for as long as it lives; holds its pid."""
        return self.run / "supervisor.pid"

    @property
    def ports_file(self) -> Path:
        """Ports that were found free at the first start."""
        return self.root / "ports.json"

    @property
    def digest(self) -> str:
        """Twelve hex digits that tell this home from others, for names outside of it."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    def log(self, process: str) -> Path:
        """Return the log file of a process."""
        return self.logs / f"{process}.log"


class PlatformAddresses(BaseModel):
    """Where the processes of one platform answer. Holds no secret."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    api_url: str
    api_host: str
    api_port: int
    temporal_address: str
    """`host:port` of the gRPC frontend."""
    temporal_namespace: str
    temporal_http_port: int | None = None
    temporal_metrics_port: int | None = None
    temporal_ui_url: str | None = None
    postgres_socket_dir: Path | None = None
    """None where an existing server is used."""
    mlflow_url: str
    """What users and trainers see: the api's proxy."""
    mlflow_socket: Path
    """What the api's proxy talks to. Its paths begin with `/mlflow` already."""
    forkserver_socket: Path | None = None
    """None where training isn't installed."""
    tls: TlsClient | None = None
    """How to reach the api where it speaks HTTPS."""
    supervisor_metrics_port: int | None = None
    forkserver_metrics_port: int | None = None
    worker_metrics_ports: tuple[int, ...] = ()


def read_platform(home: Path) -> PlatformAddresses:
    """Return the addresses that the supervisor of `home` wrote at its start.

    Raises:
        Unavailable: no platform was ever started there.
    """
    path = HomeLayout(home).platform_file
    try:
        return PlatformAddresses.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise Unavailable(f"no platform was started in {home}; `steelyard up` starts one") from None
    except ValueError as error:
        raise Unavailable(f"{path} can't be read; `steelyard up` writes it anew") from error


def database_dsn(home: Path, configured: str | None = None) -> str:
    """Return the DSN of the database's owner: `configured` if given, or else the embedded server's.

    For migrations. It holds the password: keep it out of logs and argv.

    Raises:
        Unavailable: there is no embedded server in `home`, or its password can't be read.
    """
    if configured:
        return configured
    layout = HomeLayout(home)
    return embedded_dsn(layout, DATABASE_ROLE, DATABASE_NAME, layout.database_password)


@dataclass(frozen=True)
class DatabaseLogin:
    """How a process logs in to the database. The DSN holds a password: keep it out of logs and argv."""

    dsn: str
    takes_on: Literal["api", "worker"] | None = None
    """Who logs in owns the tables, so the process takes on this one's role, which is no wall for SQL of an
    attacker's: it can go back. None: he is nobody who owns anything."""


def api_login(home: Path, configured: str | None = None, owners: str | None = None) -> DatabaseLogin:
    """Return how the api logs in: `configured` if given, as the owner (`owners`) of an existing server's
    database if that alone is, or else as the embedded server's role for it.

    Raises:
        Unavailable: there is no embedded server in `home`, or the password can't be read.
    """
    if configured or owners:
        return _existing_login("api", configured, owners)
    layout = HomeLayout(home)
    return DatabaseLogin(embedded_dsn(layout, API_ROLE, DATABASE_NAME, layout.api_database_password))


def worker_login(home: Path, configured: str | None = None, owners: str | None = None) -> DatabaseLogin:
    """As `api_login`, for workers and for the commands that read the database on the server's machine."""
    if configured or owners:
        return _existing_login("worker", configured, owners)
    layout = HomeLayout(home)
    return DatabaseLogin(embedded_dsn(layout, WORKER_ROLE, DATABASE_NAME, layout.worker_database_password))


def _existing_login(
    process: Literal["api", "worker"], configured: str | None, owners: str | None
) -> DatabaseLogin:
    return DatabaseLogin(configured) if configured else DatabaseLogin(owners or "", process)


def embedded_dsn(layout: HomeLayout, role: str, database: str, password_file: Path) -> str:
    """Return the DSN of a database in the embedded server, over its unix socket."""
    sockets = read_platform(layout.root).postgres_socket_dir
    if sockets is None:
        raise Unavailable(
            f"the platform in {layout.root} uses an existing PostgreSQL; set STEELYARD_DATABASE_DSN to it"
        )
    return socket_dsn(sockets, role, database, read_secret(password_file))


def socket_dsn(sockets: Path, role: str, database: str, password: str) -> str:
    """Write a DSN for a server that listens on a unix socket in the folder `sockets`."""
    return f"postgresql://{role}:{password}@/{database}?host={sockets}&port=5432"


def read_secret(path: Path) -> str:
    """Return a secret that a file of the home holds.

    Raises:
        Unavailable: it can't be read.
    """
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Unavailable(f"{path} can't be read ({error.strerror}); run as the platform's user") from error

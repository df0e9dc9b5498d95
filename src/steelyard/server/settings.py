"""Settings of a server process, from the environment (`STEELYARD_...`) and the home folder.

Built once, in composition, and handed down piece by piece. Secrets are read from files of mode 0600
below `<home>/secrets`, never from argv. The object store has settings of its own, which processes below the
server read too (`storage.bucket_settings`).
"""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from steelyard.kit.home import default_home


class Settings(BaseSettings):
    """One field per setting; `STEELYARD_API_PORT=9000` sets `api_port`."""

    model_config = SettingsConfigDict(env_prefix="STEELYARD_", extra="ignore", frozen=True)

    home: Path = default_home()
    """State of the embedded platform."""
    database_dsn: str | None = None
    """`postgresql://...` of an existing server, as the owner, who migrates. Unset: the embedded one."""
    api_database_dsn: str | None = None
    """As whom the api logs in to an existing server: a role that owns nothing, `<owner>_api` or a member of
    it. Unset: as the owner, taking on that role."""
    worker_database_dsn: str | None = None
    """As whom workers log in to an existing server: `<owner>_worker` or a member of it. Unset: as the owner,
    taking on that role."""
    temporal_address: str | None = None
    """`host:port` of an existing Temporal cluster. Unset: the embedded one."""
    temporal_namespace: str = "default"
    api_host: str = "127.0.0.1"
    api_port: int = 0
    """0: a free port is found at the first start and remembered."""
    api_workers: int = 2
    workers: int = 1
    """Worker processes."""
    local_cpus: int | None = None
    """Cores that jobs may use on this node. Unset: all that the process may run on."""
    local_memory_gb: float | None = None
    """Unset: nine tenths of the machine's memory."""
    simulated_gpus: int = Field(default=0, ge=0, le=64)
    """GPUs that this node claims to have, to try scheduling without any: their jobs run on CPUs. 0: none;
    `steelyard up --simulate-gpus` sets it."""
    simulated_nodes: int = Field(default=1, ge=1, le=64)
    """With simulated GPUs: as how many nodes this machine appears."""
    simulated_flavor: str = "simulated-gpu"
    lease_seconds: float = 600.0
    """A trainer that can't renew its lease for so long saves and leaves."""
    stall_seconds: float = 900.0
    """A local attempt that reported nothing for so long, though its process lives, is killed."""
    audit_checkpoint_url: str | None = None
    """`s3://bucket/prefix` (best with object lock), `gs://` or `az://`: audit checkpoints go there too."""
    tls: Literal["off", "server", "mutual"] = "off"
    """`server`: the api speaks HTTPS. `mutual`: and refuses clients that show no certificate of ours."""
    tls_folder: Path | None = None
    """Folder of certificates (see `server.certificates`). Unset: `<home>/certs`."""
    temporal_tls_folder: Path | None = None
    """Folder of the same form for an existing Temporal cluster; `client` in it is shown to the server."""
    oidc_issuer: str | None = None
    """URL of an OpenID Connect provider, exactly as it writes it. Unset: tokens alone count."""
    oidc_client_id: str | None = None
    oidc_client_secret_file: Path | None = None
    """Unset for a public client, which PKCE alone protects."""
    oidc_scopes: str = "openid email profile"
    oidc_groups_claim: str = "groups"
    public_url: str | None = None
    """Where browsers reach the api; its `/login/callback` is registered at the provider. Unset: its own."""
    data_sources: tuple[str, ...] = ("hf://datasets/",)
    """Prefixes of URIs (JSON list) that ingests may read from, such as `s3://team-bucket/raw/`."""
    model_roots: tuple[Path, ...] = ()
    """Folders (JSON list) that base models may be read from. Empty: any but the platform's own."""
    suites_allow_code: bool = False
    """Whether evaluation suites may bring Python (`!function`), which runs in attempts that use them."""
    secret_keys_file: Path | None = None
    """Key-encryption keys of the secrets, one `id:base64` a line, oldest first. Unset: the home's."""
    webhook_allow_http: bool = False
    """Whether webhooks may go over plain HTTP, where anybody on the way reads and changes them."""
    webhook_allow_private: bool = False
    """Whether webhooks may go to private and local addresses; who sets webhooks then reaches them too."""
    log_level: str = "INFO"
    otlp_endpoint: str | None = None
    """OpenTelemetry collector for traces. Unset: no traces are sent."""

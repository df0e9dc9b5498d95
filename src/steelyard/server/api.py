"""`python -m steelyard.server.api`: the api, with a few worker processes on one port."""

import os
import shutil
import ssl
from typing import Any

import uvicorn

from steelyard.server.certificates import Certificates
from steelyard.server.home import HomeLayout
from steelyard.server.settings import Settings

_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 3


def main() -> None:
    """Serve until told to stop."""
    settings = Settings()
    metrics = HomeLayout(settings.home).run / "api-metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    certificates = Certificates(settings.tls_folder or HomeLayout(settings.home).certificates)
    mutual = settings.tls == "mutual"
    uvicorn.run(
        "steelyard.server.asgi:make_app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=settings.api_workers,
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        server_header=False,
        **({} if settings.tls == "off" else tls_arguments(certificates, mutual=mutual)),
    )


def tls_arguments(certificates: Certificates, *, mutual: bool) -> dict[str, Any]:
    """Return what uvicorn needs for TLS; `mutual`: clients without a certificate of ours are refused."""
    return {
        "ssl_certfile": certificates.certificate("server"),
        "ssl_keyfile": certificates.key("server"),
        "ssl_ca_certs": str(certificates.authority) if mutual else None,
        "ssl_cert_reqs": ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE,
    }


if __name__ == "__main__":
    main()

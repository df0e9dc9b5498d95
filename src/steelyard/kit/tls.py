"""TLS as a client of ours sees it: whom to trust, and which certificate to show."""

import ssl
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class TlsClient(BaseModel):
    """Paths of PEM files. Without a certificate of one's own the server is checked and nothing is shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ca_file: Path | None = None
    """Whom to trust, in place of the machine's own authorities."""
    cert_file: Path | None = None
    key_file: Path | None = None


def client_context(tls: TlsClient | None) -> ssl.SSLContext | bool:
    """Return what httpx takes as `verify`: a context, or True where nothing was said.

    Raises:
        OSError: a file isn't there, or isn't what it should be (`ssl.SSLError`).
    """
    if tls is None or (tls.ca_file is None and tls.cert_file is None):
        return True
    context = ssl.create_default_context(cafile=tls.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context

"""Certificates of this home: an authority of its own for development, and where real ones are looked for.

A folder holds `ca.crt`, `server/tls.crt`, `server/tls.key`, `client/tls.crt`, `client/tls.key`: the names
that Kubernetes and cert-manager give, so a folder can be made of mounted secrets.
"""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from steelyard.kit.clock import utc_now
from steelyard.kit.errors import Conflict, Unavailable
from steelyard.kit.tls import TlsClient
from steelyard.runtime.files import write_atomically

_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 397
_SLACK = datetime.timedelta(minutes=5)
_NAMES = ("ca.crt", "server/tls.crt", "server/tls.key", "client/tls.crt", "client/tls.key")


@dataclass(frozen=True)
class Certificates:
    """A folder of certificates."""

    folder: Path

    @property
    def authority(self) -> Path:
        """Whom both sides trust."""
        return self.folder / "ca.crt"

    def certificate(self, side: str) -> Path:
        """Return the certificate of the `server` or the `client`."""
        return self.folder / side / "tls.crt"

    def key(self, side: str) -> Path:
        """Return the private key of the `server` or the `client`."""
        return self.folder / side / "tls.key"

    def as_client(self, *, shows_certificate: bool) -> TlsClient:
        """Return what our own clients need to reach our own server."""
        if not shows_certificate:
            return TlsClient(ca_file=self.authority)
        return TlsClient(
            ca_file=self.authority, cert_file=self.certificate("client"), key_file=self.key("client")
        )

    def require(self, *, client: bool) -> None:
        """Make sure that the files are there.

        Raises:
            Unavailable: one is missing; the message names it.
        """
        for name in _NAMES[: 5 if client else 3]:
            if not (self.folder / name).is_file():
                raise Unavailable(
                    f"TLS is on, but {self.folder / name} isn't there; `steelyard certs dev` makes one for "
                    "development, or set STEELYARD_TLS_FOLDER to the folder of your own"
                )


def make_development_certificates(folder: Path, names: list[str]) -> list[Path]:
    """Make an authority and leaves for server and client; the authority's key isn't kept.

    Args:
        names: host names and addresses that the server answers to, beside this machine's own.

    Returns: the files that were made.

    Raises:
        Conflict: there are some already; they are never overwritten.
    """
    there = [name for name in _NAMES if (folder / name).exists()]
    if there:
        raise Conflict(f"{folder / there[0]} is there already; remove the folder to make new certificates")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key)
    for side, usage in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = ["localhost", "127.0.0.1", "::1", *names] if side == "server" else []
        leaf = _leaf(side, key.public_key(), usage, alternatives, authority, authority_key)
        (folder / side).mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / side / "tls.key", _pem(key), 0o600)
        write_atomically(folder / side / "tls.crt", leaf.public_bytes(serialization.Encoding.PEM))
    write_atomically(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))
    return [folder / name for name in _NAMES]


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("Steelyard development authority")
    return (
        _dated(x509.CertificateBuilder(), _AUTHORITY_DAYS)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    side: str,
    public_key: ec.EllipticCurvePublicKey,
    usage: x509.ObjectIdentifier,
    names: list[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    builder = (
        _dated(x509.CertificateBuilder(), _LEAF_DAYS)
        .subject_name(_name(f"steelyard {side}"))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(names)]),
            critical=False,
        )
    return builder.sign(authority_key, hashes.SHA256())


def _dated(builder: x509.CertificateBuilder, days: int) -> x509.CertificateBuilder:
    now = utc_now()
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

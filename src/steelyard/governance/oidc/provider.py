"""An OpenID Connect provider, as a client of it: discovery, authorization code with PKCE, checked ID tokens.

OpenID Connect Core 1.0 section 3.1, RFC 7636 (PKCE), RFC 9700 (nonce, state, exact issuer).
"""

# authlib and joserfc are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from steelyard.kit.errors import InvalidRequest, Unauthenticated, Unavailable

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_LEEWAY_SECONDS = 60
_METADATA_SECONDS = 3600.0
_TIMEOUT_SECONDS = 10.0
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri", "issuer")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ProviderSettings:
    """What the operator says of the provider."""

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    """None for a public client, which PKCE alone protects."""
    scopes: str = "openid email profile"
    groups_claim: str = "groups"


@dataclass(frozen=True)
class ExternalIdentity:
    """Somebody as the provider knows them: `issuer` and `subject` for ever, the rest for now."""

    issuer: str
    subject: str
    email: str | None
    display_name: str | None
    groups: tuple[str, ...]


class Provider:
    """Speaks to one provider. Its metadata and keys are read at first use and once an hour after."""

    def __init__(self, settings: ProviderSettings) -> None:
        _require_https(settings.issuer, "issuer")
        self._settings = settings
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._lock = asyncio.Lock()

    @property
    def issuer(self) -> str:
        """The issuer's URL, as the operator wrote it."""
        return self._settings.issuer

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Return where a browser goes to sign in.

        Raises:
            Unavailable: the provider doesn't answer, or isn't one.
        """
        metadata = await self._read_metadata()
        async with self._client(redirect_uri) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
            )
        return str(url)

    async def redeem(self, redirect_uri: str, code: str, verifier: str, nonce: str) -> ExternalIdentity:
        """Exchange the code that came back for an ID token, and check it.

        Raises:
            Unauthenticated: the code is spent or forged, or the token isn't meant for us.
            Unavailable: the provider doesn't answer.
        """
        metadata = await self._read_metadata()
        try:
            async with self._client(redirect_uri) as client:
                answer = await client.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                )
        except AuthlibBaseError as error:
            raise Unauthenticated(f"the provider refused the sign-in ({error.error}); try again") from error
        except httpx.HTTPError as error:
            raise _away(self.issuer, error) from error
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated("the provider sent no ID token; its client needs the scope 'openid'")
        return self._identity(await self._check(token, nonce))

    async def _check(self, token: str, nonce: str) -> dict[str, Any]:
        """Verify signature and claims; keys that the provider has changed since are read once more."""
        try:
            return self._claims(token, await self._read_keys(fresh=False), nonce)
        except (JoseError, ValueError):
            keys = await self._read_keys(fresh=True)
        try:
            return self._claims(token, keys, nonce)
        except (JoseError, ValueError) as error:
            raise Unauthenticated(f"the provider's ID token doesn't hold ({error}); sign in again") from error

    def _claims(self, token: str, keys: KeySet, nonce: str) -> dict[str, Any]:
        found = jwt.decode(token, keys, algorithms=_ALGORITHMS)
        jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        ).validate(found.claims)
        audience = found.claims["aud"]
        if (
            isinstance(audience, list)
            and len(audience) > 1
            and found.claims.get("azp") != self._settings.client_id
        ):
            raise ValueError("it is meant for others too, and azp doesn't name us")
        return found.claims

    def _identity(self, claims: dict[str, Any]) -> ExternalIdentity:
        told = claims.get(self._settings.groups_claim, [])
        groups = cast("list[object]", told) if isinstance(told, list) else [told]
        email = claims.get("email")
        return ExternalIdentity(
            issuer=self.issuer,
            subject=str(claims["sub"]),
            # Unverified, anybody could claim the address of somebody for whom an account was prepared.
            email=str(email) if email and claims.get("email_verified") is True else None,
            display_name=claims.get("name") or claims.get("preferred_username"),
            groups=tuple(sorted({group for group in groups if isinstance(group, str)})),
        )

    def _client(self, redirect_uri: str) -> Any:
        secret = self._settings.client_secret
        return AsyncOAuth2Client(
            client_id=self._settings.client_id,
            client_secret=secret,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=self._settings.scopes,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=False,
        )

    async def _read_metadata(self) -> dict[str, Any]:
        async with self._lock:
            if self._metadata is None or self._metadata[0] < time.monotonic():
                url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
                found = await self._get(url)
                if found.get("issuer") != self.issuer or any(name not in found for name in _NEEDED):
                    raise Unavailable(
                        f"{url} isn't the configuration of {self.issuer}; the issuer must be written "
                        "exactly as the provider writes it"
                    )
                for name in _NEEDED:
                    _require_https(str(found[name]), name)
                self._metadata = (time.monotonic() + _METADATA_SECONDS, found)
            return self._metadata[1]

    async def _read_keys(self, *, fresh: bool) -> KeySet:
        metadata = await self._read_metadata()
        async with self._lock:
            if fresh or self._keys is None or self._keys[0] < time.monotonic():
                found = await self._get(metadata["jwks_uri"])
                try:
                    keys = KeySet.import_key_set(cast("Any", found))
                except (JoseError, ValueError, KeyError) as error:
                    raise Unavailable(f"{metadata['jwks_uri']} holds no keys ({error})") from error
                self._keys = (time.monotonic() + _METADATA_SECONDS, keys)
            return self._keys[1]

    async def _get(self, url: str) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, follow_redirects=False) as http:
                response = await http.get(url)
                response.raise_for_status()
                found = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _away(self.issuer, error) from error
        if not isinstance(found, dict):
            raise Unavailable(f"{url} isn't a JSON object; check the issuer")
        return cast("dict[str, Any]", found)


def _away(issuer: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"the identity provider {issuer} doesn't answer ({type(error).__name__}); try again in a moment"
    )


def _require_https(url: str, what: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS):
        return
    raise InvalidRequest(f"the provider's {what} must be an https URL, not {url!r}", param=f"oidc.{what}")

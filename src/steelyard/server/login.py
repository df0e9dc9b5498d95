"""Sign-in through a provider, built from the settings."""

from steelyard.governance.oidc.directory import Directory
from steelyard.governance.oidc.login import LoginService
from steelyard.governance.oidc.provider import Provider, ProviderSettings
from steelyard.governance.oidc.tickets import Tickets
from steelyard.kit.errors import InvalidRequest
from steelyard.server.settings import Settings
from steelyard.storage.database import Database

CALLBACK = "/login/callback"


def build_login(
    settings: Settings, database: Database, tickets: Tickets, api_url: str
) -> LoginService | None:
    """Return the service; None where the settings name no provider.

    Raises:
        InvalidRequest: an issuer without a client, or one that isn't https.
        OSError: the file of the client's secret can't be read.
    """
    if settings.oidc_issuer is None:
        return None
    if settings.oidc_client_id is None:
        raise InvalidRequest(
            "STEELYARD_OIDC_ISSUER needs STEELYARD_OIDC_CLIENT_ID too", param="oidc_client_id"
        )
    secret = settings.oidc_client_secret_file
    provider = Provider(
        ProviderSettings(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=secret.read_text().strip() if secret else None,
            scopes=settings.oidc_scopes,
            groups_claim=settings.oidc_groups_claim,
        )
    )
    base = (settings.public_url or api_url).rstrip("/")
    return LoginService(provider, tickets, Directory(database).sign_in, f"{base}{CALLBACK}")

"""One HTTP call to the api as an attempt, and what its answer means. Used by one thread."""

from pathlib import Path

import httpx
from pydantic import ValidationError

from steelyard.kit.errors import Conflict, InvalidRequest, StaleLease, Unavailable
from steelyard.kit.tls import TlsClient, client_context
from steelyard.specs.base import Message
from steelyard.specs.reports import Directives
from steelyard.specs.views import ErrorResponse


class ApiLink:
    """Calls `/v1/attempts/{attempt_id}/...` with the attempt's token, read from its file at each connect."""

    def __init__(
        self,
        api_url: str,
        attempt_id: str,
        token_file: Path,
        tls: TlsClient | None = None,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._attempt_id = attempt_id
        self._token_file = token_file
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._client: httpx.Client | None = None

    def post(self, verb: str, message: Message, timeout_seconds: float | None = None) -> Directives | None:
        """Send `message`; return the directives where the answer holds them.

        Raises:
            StaleLease: a newer attempt has taken over.
            Unavailable: no answer, or one that says "later"; the same call may succeed then.
            Conflict, InvalidRequest: refused; sending it again won't help.
        """
        try:
            response = self._connect().post(
                f"/v1/attempts/{self._attempt_id}/{verb}",
                content=message.model_dump_json(),
                headers={"Content-Type": "application/json"},
                timeout=timeout_seconds or self._timeout_seconds,
            )
        except (httpx.HTTPError, OSError) as error:
            self.close()
            raise Unavailable(
                f"the api does not answer ({type(error).__name__}); it will be tried again"
            ) from error
        if response.is_success:
            return _directives(response)
        self._refuse(response)
        return None

    def close(self) -> None:
        """Give the connection back; the next call makes a new one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connect(self) -> httpx.Client:
        if self._client is None:
            token = self._token_file.read_text().strip() if self._token_file.exists() else ""
            # A proxy of the environment has no business between a trainer and its own control plane.
            headers = {"Authorization": f"Bearer {token}"} if token else None
            self._client = httpx.Client(
                base_url=self._api_url, headers=headers, trust_env=False, verify=client_context(self._tls)
            )
        return self._client

    def _refuse(self, response: httpx.Response) -> None:
        code, told = _error(response)
        if response.status_code == 409:
            if code == StaleLease.code:
                raise StaleLease(told)
            raise Conflict(told)
        if response.status_code in (400, 413, 422):
            raise InvalidRequest(told)
        # The rest, 401 and 404 included, can pass: a token being renewed, an api being restored.
        self.close()
        raise Unavailable(told)


def _directives(response: httpx.Response) -> Directives | None:
    try:
        return Directives.model_validate_json(response.content)
    except ValidationError:
        return None


def _error(response: httpx.Response) -> tuple[str, str]:
    try:
        error = ErrorResponse.model_validate_json(response.content).error
    except ValidationError:
        return "", f"the api answered {response.status_code}"
    return error.code, error.message

"""`client.secrets`, blocking."""

from steelyard.client import secret_calls
from steelyard.client.transport import Transport
from steelyard.specs.secrets import SecretView


class Secrets:
    """The secrets of one project. Values go in, and nobody reads them back."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def search(self) -> list[SecretView]:
        """Return the names of the secrets."""
        return (self._transport.send(secret_calls.search(self._project))).data

    def put(self, name: str, value: str) -> SecretView:
        """Store a value under a name such as `HF_TOKEN`; jobs that start from now on get it."""
        return self._transport.send(secret_calls.put(self._project, name, value))

    def remove(self, name: str) -> None:
        """Forget a secret."""
        return self._transport.send(secret_calls.remove(self._project, name))

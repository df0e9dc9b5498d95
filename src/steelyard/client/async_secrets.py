"""`client.secrets` for asyncio: the same methods as `secrets.Secrets`."""

from steelyard.client import secret_calls
from steelyard.client.async_transport import AsyncTransport
from steelyard.specs.secrets import SecretView


class AsyncSecrets:
    """The secrets of one project. Values go in, and nobody reads them back."""

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def search(self) -> list[SecretView]:
        """Return the names of the secrets."""
        return (await self._transport.send(secret_calls.search(self._project))).data

    async def put(self, name: str, value: str) -> SecretView:
        """Store a value under a name such as `HF_TOKEN`; jobs that start from now on get it."""
        return await self._transport.send(secret_calls.put(self._project, name, value))

    async def remove(self, name: str) -> None:
        """Forget a secret."""
        return await self._transport.send(secret_calls.remove(self._project, name))

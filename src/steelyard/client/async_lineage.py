"""`client.lineage` for asyncio: the same methods as `lineage.Lineage`."""

from steelyard.client import lineage_calls
from steelyard.client.async_transport import AsyncTransport
from steelyard.kit.ids import new_id
from steelyard.specs.lineage import LineageGraph, ModelVerification, WeightsComparison
from steelyard.specs.views import JobView


class AsyncLineage:
    """What the models of one project are made of."""

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def graph(self, kind: str, ref: str, *, hops: int = 2) -> LineageGraph:
        """Return what lies around a `model` NAME@V, a `job` by id, or a `dataset` NAME@vN."""
        return await self._transport.send(lineage_calls.graph(self._project, kind, ref, hops))

    async def verify(self, name: str, version: int) -> ModelVerification:
        """Have every digest of a version computed anew; reads all of its bytes."""
        return await self._transport.send(lineage_calls.verify(self._project, name, version))

    async def reproduce(self, name: str, version: int, *, key: str | None = None) -> JobView:
        """Run the job that made a version once more; `compare` sets the weights side by side then."""
        call = lineage_calls.reproduce(self._project, name, version, key or new_id("key"))
        return await self._transport.send(call)

    async def compare(self, name: str, version: int, job_id: str) -> WeightsComparison:
        """Compare what a finished reproduction made with the version."""
        return await self._transport.send(lineage_calls.compare(self._project, name, version, job_id))

    async def statement(self, name: str, version: int) -> str:
        """Return the signed in-toto statement of a version (DSSE), as JSON text."""
        return await self._transport.send(lineage_calls.statement(self._project, name, version))

    async def card(self, name: str, version: int) -> str:
        """Return the model card of a version, as Markdown."""
        return await self._transport.send(lineage_calls.card(self._project, name, version))

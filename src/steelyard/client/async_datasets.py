"""`client.datasets`, for asyncio."""

import builtins
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steelyard.client import dataset_calls
from steelyard.client.async_transport import AsyncTransport
from steelyard.client.dataset_calls import refusal
from steelyard.specs.datasets import DatasetVersionView, VersionDiff, VersionVerification
from steelyard.specs.ingests import DatasetSummary, IngestView, UploadView

_LOOK_SECONDS = 0.3


class AsyncDatasets:
    """The datasets of one project."""

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def upload(self, path: str | os.PathLike[str]) -> UploadView:
        """Send a file. Sent again after a broken connection, it makes another upload and no harm."""
        return await self._transport.send(dataset_calls.upload(self._project, Path(path)))

    async def ingest(
        self,
        files: Sequence[str | os.PathLike[str]],
        name: str,
        *,
        spec: Mapping[str, Any] | None = None,
        append_to: str | None = None,
        on_progress: Callable[[IngestView], object] | None = None,
    ) -> DatasetVersionView:
        """Upload files and turn them into the next version of `name`; wait until it is there.

        The same bytes with the same spec give the version that is there already (`created` is False).

        Args:
            spec: fields of a `DatasetSpec`; unset ones have their defaults.
            append_to: a version whose rows come along; the new version is its child.

        Raises:
            UnprocessableEntity: the data has a fault; the message names file and line.
        """
        uploads = [(await self.upload(path)).id for path in files]
        call = dataset_calls.request_ingest(self._project, name, uploads, spec, append_to)
        view = await self._transport.send(call)
        while view.state not in ("succeeded", "failed"):
            if on_progress:
                on_progress(view)
            await self._transport.sleep(_LOOK_SECONDS)
            view = await self._transport.send(dataset_calls.get_ingest(self._project, view.id))
        if view.version is None:
            raise refusal(view)
        return view.version

    async def list(self) -> builtins.list[DatasetSummary]:
        """Return the project's datasets by name."""
        return (await self._transport.send(dataset_calls.list_datasets(self._project))).data

    async def show(self, ref: str) -> DatasetVersionView:
        """Return the version that `name@vN`, or a bare `name`, stands for."""
        return await self._transport.send(dataset_calls.show(self._project, ref))

    async def head(self, ref: str, *, limit: int = 5, split: str = "train") -> builtins.list[dict[str, Any]]:
        """Return the first rows of a version, in TRL's columns."""
        return (await self._transport.send(dataset_calls.head(self._project, ref, limit, split))).data

    async def rows(self, ref: str, *, split: str | None = None) -> AsyncIterator[bytes]:
        """Give all rows of a version, or of one split, as pieces of JSON Lines text."""
        async with self._transport.stream(dataset_calls.rows(self._project, ref, split)) as stream:
            async for chunk in stream.chunks():
                yield chunk

    async def verify(self, ref: str) -> VersionVerification:
        """Read all of a version again on the platform, and say whether it is what its digest says."""
        return await self._transport.send(dataset_calls.verify(self._project, ref))

    async def diff(self, ref: str, *, against: str) -> VersionDiff:
        """Say what came and went since the version `against`."""
        return await self._transport.send(dataset_calls.diff(self._project, ref, against))

    async def report(self, ref: str, *, form: str = "json") -> bytes:
        """Return the report of a version's ingest, as `json` or `html`."""
        return await self._transport.send(dataset_calls.report(self._project, ref, form))

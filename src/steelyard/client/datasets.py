"""`client.datasets`, blocking."""

import builtins
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steelyard.client import dataset_calls
from steelyard.client.call import Call
from steelyard.client.data_files import Input, find_data
from steelyard.client.dataset_calls import refusal
from steelyard.client.transport import Transport
from steelyard.specs.datasets import DatasetVersionView, VersionDiff, VersionVerification
from steelyard.specs.ingests import (
    DatasetDeletion,
    DatasetSummary,
    IngestView,
    UploadView,
)
from steelyard.specs.tokens import TokenCacheView

_LOOK_SECONDS = 0.3


class Datasets:
    """The datasets of one project."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def upload(
        self, path: str | os.PathLike[str], *, on_progress: Callable[[int, int], object] | None = None
    ) -> UploadView:
        """Send a file. A large one goes in parts, and after any break goes on where it was.

        Args:
            on_progress: called with the bytes that are there and those of the whole.
        """
        source = Path(path)
        if not dataset_calls.goes_in_parts(source):
            return self._transport.send(dataset_calls.upload(self._project, source))
        call = dataset_calls.begin_upload(self._project, source)
        state = self._transport.send(call)
        if on_progress and state.parts:
            on_progress(*dataset_calls.sent_bytes(state))
        for number in dataset_calls.missing_parts(state):
            if state.state == "complete":
                break
            call = dataset_calls.upload_part(self._project, state, source, number)
            state = self._transport.send(call)
            if on_progress:
                on_progress(*dataset_calls.sent_bytes(state))
        state = self._transport.send(dataset_calls.complete_upload(self._project, state))
        return dataset_calls.finished_upload(state)

    def ingest(
        self,
        files: Sequence[Input],
        name: str,
        *,
        spec: Mapping[str, Any] | None = None,
        append_to: str | None = None,
        decontaminate: bool = True,
        on_upload: Callable[[int, int], object] | None = None,
        on_progress: Callable[[IngestView], object] | None = None,
    ) -> DatasetVersionView:
        """Upload files and turn them into the next version of `name`; wait until it is there.

        The same bytes with the same spec give the version that is there already (`created` is False).

        Args:
            files: files, folders and globs, and URIs (`hf://datasets/OWNER/NAME`, `s3://BUCKET/PREFIX`) that
                the platform reads.
            spec: fields of a `DatasetSpec`; unset ones have their defaults.
            append_to: a version whose rows come along; the new version is its child.
            decontaminate: drop rows that overlap with an evaluation suite.
            on_upload: called with the bytes that are there and those of the file.

        Raises:
            InvalidRequest: a file can't be read, or name or spec break a rule; nothing was sent.
            UnprocessableEntity: the data has a fault; the message names file and line.
        """
        dataset_calls.check_ingest(name, spec, append_to)
        found, uris = find_data(files)
        names = {(self.upload(file.path, on_progress=on_upload)).id: file.name for file in found}
        call = dataset_calls.request_ingest(self._project, name, names, uris, spec, append_to, decontaminate)
        return self._follow(call, on_progress)

    def derive(
        self,
        name: str,
        *,
        parent: str | None = None,
        where: str | None = None,
        mix: Mapping[str, float] | None = None,
        rows: int | None = None,
        decontaminate: bool = True,
        on_progress: Callable[[IngestView], object] | None = None,
    ) -> DatasetVersionView:
        """Make the next version of `name` out of versions that are there; wait until it is.

        Args:
            parent: the version to filter, and `where` the SQL condition that its rows must meet.
            mix: versions to mix, each with its weight.
            rows: at most so many rows of a mix.
            decontaminate: drop rows that overlap with an evaluation suite.

        Raises:
            UnprocessableEntity: a version isn't there, the condition isn't understood, or no row is left.
        """
        call = dataset_calls.request_derivation(self._project, name, parent, where, mix, rows, decontaminate)
        return self._follow(call, on_progress)

    def cancel_ingest(self, ingest: str) -> IngestView:
        """Stop an ingest before it makes a version; asked for again, it goes on where it was."""
        return self._transport.send(dataset_calls.cancel_ingest(self._project, ingest))

    def delete(self, ref: str) -> DatasetDeletion:
        """Delete `name@vN`: gone where nothing refers to it, else a tombstone that no new job takes."""
        return self._transport.send(dataset_calls.delete(self._project, ref))

    def list(self) -> builtins.list[DatasetSummary]:
        """Return the project's datasets by name."""
        return (self._transport.send(dataset_calls.list_datasets(self._project))).data

    def show(self, ref: str) -> DatasetVersionView:
        """Return the version that `name@vN`, or a bare `name`, stands for."""
        return self._transport.send(dataset_calls.show(self._project, ref))

    def head(self, ref: str, *, limit: int = 5, split: str = "train") -> builtins.list[dict[str, Any]]:
        """Return the first rows of a version, in TRL's columns."""
        return (self._transport.send(dataset_calls.head(self._project, ref, limit, split))).data

    def rows(self, ref: str, *, split: str | None = None) -> Iterator[bytes]:
        """Give all rows of a version, or of one split, as pieces of JSON Lines text."""
        with self._transport.stream(dataset_calls.rows(self._project, ref, split)) as stream:
            yield from stream.chunks()

    def tokenized(self, ref: str) -> builtins.list[TokenCacheView]:
        """Return the tokenized caches of a version, the one used last first."""
        return (self._transport.send(dataset_calls.tokenized(self._project, ref))).data

    def verify(self, ref: str) -> VersionVerification:
        """Read all of a version again on the platform, and say whether it is what its digest says."""
        return self._transport.send(dataset_calls.verify(self._project, ref))

    def diff(self, ref: str, *, against: str) -> VersionDiff:
        """Say what came and went since the version `against`."""
        return self._transport.send(dataset_calls.diff(self._project, ref, against))

    def report(self, ref: str, *, form: str = "json") -> bytes:
        """Return the report of a version's ingest, as `json` or `html`."""
        return self._transport.send(dataset_calls.report(self._project, ref, form))

    def _follow(
        self, call: Call[IngestView], on_progress: Callable[[IngestView], object] | None
    ) -> DatasetVersionView:
        view = self._transport.send(call)
        while view.state in ("queued", "running"):
            if on_progress:
                on_progress(view)
            self._transport.sleep(_LOOK_SECONDS)
            view = self._transport.send(dataset_calls.get_ingest(self._project, view.id))
        if view.version is None:
            raise refusal(view)
        return view.version

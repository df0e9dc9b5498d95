"""Names and numbers of versions, kept as files in an object store: for use without the platform.

Version N of a name is one small JSON file that is created, never overwritten: the moment it appears is
the moment at which the version does. Two writers at once get two numbers, or the same version.
"""

import json
import re
from dataclasses import dataclass

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore

from steelyard.kit.canonical import canonical_json
from steelyard.kit.errors import NotFound
from steelyard.specs.datasets import DatasetVersionView, VersionManifest

_KEY = re.compile(r"v(\d{8})\.json$")


@dataclass(frozen=True)
class Published:
    """A version under its name."""

    name: str
    version: int
    manifest: VersionManifest
    created: bool

    @property
    def ref(self) -> str:
        """The pinned form, `name@vN`."""
        return f"{self.name}@v{self.version}"

    def view(self) -> DatasetVersionView:
        """Return the version as it is shown."""
        return view_of(self.name, self.version, self.manifest, created=self.created)


def view_of(name: str, version: int, manifest: VersionManifest, *, created: bool) -> DatasetVersionView:
    """Return a manifest as it is shown under a name."""
    shared = DatasetVersionView.model_fields.keys() & VersionManifest.model_fields.keys()
    facts = {field: getattr(manifest, field) for field in shared}
    return DatasetVersionView(name=name, version=version, created=created, **facts)


class FileVersions:
    """The catalogue in an object store. Safe for any number of processes at once."""

    def __init__(self, store: ObjectStore, prefix: str = "datasets") -> None:
        self._store = store
        self._prefix = prefix

    def publish(self, name: str, manifest: VersionManifest) -> Published:
        """Give the manifest the next number of `name`, or return the version that has its digest."""
        while True:
            present = self.list(name)
            for version in present:
                if version.manifest.digest == manifest.digest:
                    return version
            number = present[-1].version + 1 if present else 1
            try:
                obstore.put(
                    self._store,
                    self._key(name, number),
                    canonical_json(manifest.model_dump(mode="json")),
                    mode="create",
                )
            except AlreadyExistsError:
                continue
            return Published(name, number, manifest, created=True)

    def list(self, name: str) -> "list[Published]":
        """Return all versions of a name, oldest first."""
        pages = self._store.list(f"{self._prefix}/{name}")  # pyright: ignore[reportUnknownMemberType]
        keys = [str(entry["path"]) for page in pages for entry in page]
        numbers = sorted(int(found[1]) for key in keys if (found := _KEY.search(key)))
        return [self.get(name, number) for number in numbers]

    def get(self, name: str, number: int) -> Published:
        """Return one version.

        Raises:
            NotFound: there is none of this name and number.
        """
        try:
            data = bytes(obstore.get(self._store, self._key(name, number)).bytes())
        except FileNotFoundError as error:
            raise NotFound(f"no dataset version {name}@v{number}; see 'steelyard data list'") from error
        return Published(name, number, VersionManifest.model_validate(json.loads(data)), created=False)

    def resolve(self, ref: str) -> Published:
        """Return what `name@vN`, or a bare `name` (its newest), stands for.

        Raises:
            NotFound: there is no such version.
        """
        name, _, number = ref.partition("@v")
        if number:
            return self.get(name, int(number))
        present = self.list(name)
        if not present:
            raise NotFound(f"no dataset {name!r}; see 'steelyard data list'")
        return present[-1]

    def _key(self, name: str, number: int) -> str:
        return f"{self._prefix}/{name}/v{number:08d}.json"

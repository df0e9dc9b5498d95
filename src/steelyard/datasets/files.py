"""A dataset version as the files that trainers read: JSON Lines, written once, kept by digest."""

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from steelyard.datasets.catalogue import DatasetVersion
from steelyard.kit.errors import StorageFull
from steelyard.specs.run import DatasetFiles

Split = Literal["train", "validation"]
Export = Callable[[DatasetVersion, Split, Path], int]
"""Writes one split (`train`, `validation`) of a version to a file and returns the number of rows."""

_SPLITS: tuple[Split, ...] = ("train", "validation")


class DatasetFileService:
    """Keeps exported versions below one folder, `<digest>/<split>.jsonl`.

    Two at once are safe: each writes a folder of its own, and the first to rename it wins.
    """

    def __init__(self, cache: Path, export: Export) -> None:
        self._cache = cache
        self._export = export

    async def materialise(self, version: DatasetVersion) -> DatasetFiles:
        """Return the files of a version, writing them first if they are not there.

        Raises:
            StorageFull: no room.
        """
        folder = export_folder(self._cache, version.digest)
        if not folder.is_dir():
            await asyncio.to_thread(self._write, version, folder)
        return DatasetFiles(
            digest=version.digest,
            format=version.format,  # pyright: ignore[reportArgumentType]
            train=[str(folder / "train.jsonl")],
            validation=[str(folder / "validation.jsonl")],
        )

    async def export(self, version: DatasetVersion, split: Split | None) -> Path:
        """Return a file with all rows of a version, or of one split."""
        files = await self.materialise(version)
        if split is not None:
            return Path((files.train if split == "train" else files.validation)[0])
        whole = Path(files.train[0]).with_name("all.jsonl")
        if not whole.is_file():
            await asyncio.to_thread(_join, [*files.train, *files.validation], whole)
        return whole

    async def head(self, version: DatasetVersion, split: Split, count: int) -> list[dict[str, Any]]:
        """Return the first rows of a split."""
        path = await self.export(version, split)
        return await asyncio.to_thread(_first_rows, path, count)

    def _write(self, version: DatasetVersion, folder: Path) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix="export-", dir=self._cache))
        try:
            for split in _SPLITS:
                self._export(version, split, temporary / f"{split}.jsonl")
            temporary.chmod(0o755)
            os.replace(temporary, folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if folder.is_dir():
                return
            raise StorageFull(f"can't write the rows below {self._cache}: {error}; free some room") from error


def export_folder(cache: Path, digest: str) -> Path:
    """Return where the files of the version with this digest are."""
    return cache / digest.replace(":", "-")


def _join(parts: list[str], out: Path) -> None:
    with tempfile.NamedTemporaryFile("wb", dir=out.parent, delete=False) as file:
        for part in parts:
            with Path(part).open("rb") as source:
                shutil.copyfileobj(source, file)
    os.chmod(file.name, 0o644)
    os.replace(file.name, out)


def _first_rows(path: Path, count: int) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in itertools.islice(file, count)]

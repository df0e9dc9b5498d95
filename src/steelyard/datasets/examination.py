"""Close looks at versions for users: reports, verification, comparison.

What reads whole versions runs in a process of its own, so a server that answers many requests neither
loads the engine nor waits for it.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Literal

from steelyard.datasets.catalogue import DatasetVersion
from steelyard.datasets.store import BlobStore, report_key
from steelyard.kit.errors import NotFound, Overloaded, Unavailable
from steelyard.specs.datasets import VersionDiff, VersionVerification

ReportForm = Literal["json", "html"]

_AT_ONCE = 2
_TIMEOUT_SECONDS = 600.0


class ExaminationService:
    """Reads versions in the store below one folder. A few examinations run at once; more are refused."""

    def __init__(self, store_root: Path) -> None:
        self._store_root = store_root
        self._running = 0

    def report(self, version: DatasetVersion, form: ReportForm) -> Path:
        """Return the file of the report that the version's ingest wrote.

        Raises:
            NotFound: it wrote none.
        """
        path = BlobStore.at(self._store_root).fetch_page(report_key(version.digest, form))
        if path is None:
            raise NotFound(f"{version.ref} has no report; ingest its files again to make one")
        return path

    async def verify(self, version: DatasetVersion) -> VersionVerification:
        """Read all of a version again and hold it to its digests.

        Raises:
            Overloaded: others are examining.
        """
        faults: list[str] = await self._examine({"verify": version.manifest})
        return VersionVerification(ref=version.ref, digest=version.digest, whole=not faults, faults=faults)

    async def diff(self, old: DatasetVersion, new: DatasetVersion) -> VersionDiff:
        """Say what sets two versions apart.

        Raises:
            Overloaded: others are examining.
        """
        return VersionDiff.model_validate(await self._examine({"diff": [old.manifest, new.manifest]}))

    async def _examine(self, order: dict[str, Any]) -> Any:
        if self._running >= _AT_ONCE:
            raise Overloaded("other versions are being examined; ask again in a moment")
        self._running += 1
        try:
            return await self._run(order)
        finally:
            self._running -= 1

    async def _run(self, order: dict[str, Any]) -> Any:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "steelyard.datasets.examiner", str(self._store_root),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                answer, errors = await process.communicate(json.dumps(order).encode())
        except TimeoutError as error:
            raise Unavailable(f"the examination took more than {_TIMEOUT_SECONDS:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            tail = errors.decode(errors="replace")[-1000:]
            raise Unavailable(f"the examination ended with code {process.returncode}: {tail}")
        return json.loads(answer)

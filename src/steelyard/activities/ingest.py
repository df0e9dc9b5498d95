"""The activities of an ingest."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from temporalio import activity

from steelyard.activities.edge import heartbeats
from steelyard.datasets.service import DatasetService, IngestOrder
from steelyard.kit.errors import Unavailable
from steelyard.runtime.parent import PARENT_VARIABLE
from steelyard.specs.datasets import VersionManifest

_LINE_LIMIT_BYTES = 256 << 20

EvaluationTexts = Callable[[str], Awaitable[Mapping[str, Sequence[str]]]]
"""From a project's id to the texts of each evaluation suite that it can see, by the suite's name."""


class IngestActivities:
    """Bound to the services of one worker process.

    Args:
        evaluation_texts: the texts of all suites that a project can see.
        store_root: folder of the object store.
        work_root: folder of work that can be taken up again.
        uploads: the only folder that inputs may lie in.
    """

    def __init__(
        self,
        datasets: DatasetService,
        evaluation_texts: EvaluationTexts,
        store_root: Path,
        work_root: Path,
        uploads: Path,
    ) -> None:
        self._datasets = datasets
        self._evaluation_texts = evaluation_texts
        self._store_root = store_root
        self._work_root = work_root
        self._uploads = uploads

    @activity.defn(name="run_ingest")
    async def run_ingest(self, ingest_id: str) -> None:
        """Build a version in a process of its own, and publish it."""
        async with heartbeats():
            order = await self._datasets.order(ingest_id)
            if order.done:
                return
            last = await self._build(ingest_id, order)
            if "manifest" in last:
                await self._datasets.publish(ingest_id, VersionManifest.model_validate(last["manifest"]))
                return
            error = last["error"]
            if error.pop("retryable"):
                raise Unavailable(error["message"])
            await self._datasets.fail(ingest_id, {"type": "invalid_request_error", **error})

    @activity.defn(name="fail_ingest")
    async def fail_ingest(self, ingest_id: str, message: str) -> None:
        """Write down that an ingest was given up."""
        error = {"type": "unavailable_error", "code": "unavailable", "message": message}
        await self._datasets.fail(ingest_id, error)

    async def _build(self, ingest_id: str, ingest: IngestOrder) -> dict[str, Any]:
        sets: Mapping[str, Sequence[str]] = {}
        if ingest.decontaminate:
            sets = await self._evaluation_texts(ingest.project_id)
        order: dict[str, Any] = {
            "inputs": ingest.inputs,
            "spec": ingest.spec,
            "parent": ingest.parent,
            "derive": ingest.derive,
            "store_root": str(self._store_root),
            "work_root": str(self._work_root),
            "roots": [str(self._uploads)],
        }
        with tempfile.TemporaryDirectory() as scratch:
            sets_file, order_file = Path(scratch) / "sets.json", Path(scratch) / "order.json"
            sets_file.write_text(json.dumps(sets))
            order_file.write_text(json.dumps({**order, "evaluation_sets": str(sets_file)}))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "steelyard.datasets.process", str(order_file),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=_LINE_LIMIT_BYTES,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            )  # fmt: skip
            try:
                return await self._follow(ingest_id, process)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _follow(self, ingest_id: str, process: asyncio.subprocess.Process) -> dict[str, Any]:
        """Read what the process says to its last line, and pass its progress on."""
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        noted = 0.0
        loop = asyncio.get_running_loop()
        async for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "progress" not in said:
                await process.wait()
                return said
            if loop.time() - noted >= 1.0:
                noted = loop.time()
                await self._datasets.note_progress(ingest_id, said["progress"])
        await process.wait()
        tail = (await errors).decode(errors="replace")[-1000:]
        raise Unavailable(f"the ingest's process ended with code {process.returncode}: {tail}")

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
from steelyard.kit.errors import InvalidSpec, Unavailable
from steelyard.runtime.parent import PARENT_VARIABLE
from steelyard.specs.datasets import VersionManifest

_LINE_LIMIT_BYTES = 256 << 20
_TAIL_CHARS = 1000
_NOTE_CHARS = 400
_LOOK_SECONDS = 1.0
_BROKE_EXIT = 1
"""Of a process that raised what nobody expects; what is killed has another."""
_BROKEN_TRIES = 3

EvaluationTexts = Callable[[str], Awaitable[Mapping[str, Sequence[str]]]]
"""From a project's id to the texts of each evaluation suite that it can see, by the suite's name."""


class IngestActivities:
    """Bound to the services of one worker process.

    Args:
        evaluation_texts: the texts of all suites that a project can see.
        store_root: folder of the object store.
        work_root: folder of work that can be taken up again.
        uploads: the only folder that inputs may lie in.
        locate_tokenizer: from a model's name to a folder that holds its tokenizer.
    """

    def __init__(
        self,
        datasets: DatasetService,
        evaluation_texts: EvaluationTexts,
        store_root: Path,
        work_root: Path,
        uploads: Path,
        locate_tokenizer: Callable[[str], Awaitable[Path]],
    ) -> None:
        self._datasets = datasets
        self._evaluation_texts = evaluation_texts
        self._store_root = store_root
        self._work_root = work_root
        self._uploads = uploads
        self._locate_tokenizer = locate_tokenizer

    @activity.defn(name="run_ingest")
    async def run_ingest(self, ingest_id: str) -> None:
        """Build a version in a process of its own, and publish it."""
        async with heartbeats():
            order = await self._datasets.order(ingest_id)
            if order.done:
                return
            try:
                last = await self._build(ingest_id, order)
            except InvalidSpec as refusal:
                last = {"error": _body_of(refusal)}
            except Unavailable as error:
                await self._note_break(ingest_id, error.message)
                raise
            if last is None:
                return
            if "manifest" in last:
                await self._datasets.publish(ingest_id, VersionManifest.model_validate(last["manifest"]))
                return
            error = last["error"]
            if error.pop("retryable"):
                await self._note_break(ingest_id, error["message"])
                raise Unavailable(error["message"])
            await self._datasets.fail(ingest_id, {"type": "invalid_request_error", **error})

    @activity.defn(name="fail_ingest")
    async def fail_ingest(self, ingest_id: str, message: str) -> None:
        """Write down that an ingest was given up."""
        error = {"type": "unavailable_error", "code": "unavailable", "message": message}
        await self._datasets.fail(ingest_id, error)

    async def _build(self, ingest_id: str, ingest: IngestOrder) -> dict[str, Any] | None:
        """Return what the process says last, or None where the ingest was cancelled meanwhile."""
        sets: Mapping[str, Sequence[str]] = {}
        if ingest.decontaminate:
            sets = await self._evaluation_texts(ingest.project_id)
        order: dict[str, Any] = {
            "inputs": ingest.inputs,
            "names": ingest.names,
            "spec": ingest.spec,
            "parent": ingest.parent,
            "derive": ingest.derive,
            "store_root": str(self._store_root),
            "work_root": str(self._work_root),
            "roots": [str(self._uploads)],
            "tokenizer": await self._tokenizer(ingest),
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
            cancelling = asyncio.create_task(self._kill_if_cancelled(ingest_id, process))
            try:
                return await self._follow(ingest_id, process)
            finally:
                cancelling.cancel()
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _note_break(self, ingest_id: str, message: str) -> None:
        """Tell who waits what for: a full disk, say, is theirs to mend."""
        note = f"broke off, and will be tried again: {message.strip().rpartition(chr(10))[2][:_NOTE_CHARS]}"
        progress = {"stage": "waiting", "done": 0, "total": 0, "note": note}
        await self._datasets.note_progress(ingest_id, progress)

    async def _tokenizer(self, ingest: IngestOrder) -> str | None:
        statistics: dict[str, Any] = ingest.spec.get("statistics") or {}
        name: str | None = statistics.get("tokenizer")
        return str(await self._locate_tokenizer(name)) if name else None

    async def _kill_if_cancelled(self, ingest_id: str, process: asyncio.subprocess.Process) -> None:
        """Finished passes stay where they are: the same ingest, asked for again, takes them up."""
        while not await self._datasets.is_cancelled(ingest_id):  # noqa: ASYNC110 - another process cancels
            await asyncio.sleep(_LOOK_SECONDS)
        process.kill()

    async def _follow(self, ingest_id: str, process: asyncio.subprocess.Process) -> dict[str, Any] | None:
        """Read what the process says to its last line, and pass its progress on."""
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        noted, stage = 0.0, ""
        loop = asyncio.get_running_loop()
        async for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "progress" not in said:
                await process.wait()
                return said
            if loop.time() - noted >= 1.0 or said["progress"]["stage"] != stage:
                noted, stage = loop.time(), said["progress"]["stage"]
                await self._datasets.note_progress(ingest_id, said["progress"])
        await process.wait()
        if await self._datasets.is_cancelled(ingest_id):
            return None
        tail = (await errors).decode(errors="replace")[-_TAIL_CHARS:]
        if process.returncode == _BROKE_EXIT and activity.info().attempt >= _BROKEN_TRIES:
            activity.logger.error("ingest %s breaks each time: %s", ingest_id, tail)
            return {"error": _broken(ingest_id, tail)}
        raise Unavailable(f"the ingest's process ended with code {process.returncode}: {tail}")


def _broken(ingest_id: str, tail: str) -> dict[str, Any]:
    """What breaks again and again at the same place is our fault, and no more tries will mend it."""
    reason = tail.strip().rpartition("\n")[2]
    message = (
        f"the ingest breaks each time, by a fault of the platform's own ({reason[:300]}); tell the operator"
        f" that it was {ingest_id}, on which the worker's log has more"
    )
    return {"type": "internal_error", "code": "internal_error", "message": message, "retryable": False}


def _body_of(error: InvalidSpec) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "param": error.param, "retryable": False}

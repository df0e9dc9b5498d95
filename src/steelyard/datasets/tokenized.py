"""Tokenized caches: each made once, recorded, verified before it is used.

A cache is a folder below `<root>/<project>/`, named by its key. No project sees another's, so none can tell
by the time it takes what others have.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert

from steelyard.datasets.token_keys import settings_of
from steelyard.governance.access import ProjectId
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import StorageFull, Unavailable
from steelyard.runtime.manifests import read_manifest, verify_manifest
from steelyard.runtime.parent import PARENT_VARIABLE
from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.run import DatasetFiles, TokenFiles
from steelyard.specs.states import Reason
from steelyard.specs.tokens import TokenOrder, TokenProgress, TokenSettings, TokenSummary
from steelyard.storage.database import Database
from steelyard.storage.tables import TokenizedCacheRow

_MODULE = "steelyard.trainers.token_process"
_BAD_CONFIG_EXIT = 64
_LINE_LIMIT_BYTES = 1 << 20

OnProgress = Callable[[TokenProgress], Awaitable[bool]]
"""Takes how far it is; answers whether to go on."""


@dataclass(frozen=True)
class Wanted:
    """What a job needs tokenized."""

    project: ProjectId
    dataset: DatasetFiles
    model: Path
    model_name: str
    chat_template: str | None
    training: TrainingBlock


@dataclass(frozen=True)
class Tokenized:
    """A cache that is whole. `hit`: it was there before."""

    key: str
    files: TokenFiles
    summary: TokenSummary
    hit: bool


@dataclass(frozen=True)
class Refusal:
    """Why these rows can't be tokenized so, now or later. `message` names the remedy."""

    reason: str
    message: str


class TokenizedService:
    """Makes caches, each in a process of its own, which may import what this one may not.

    Args:
        root: folder of caches.
        python: the interpreter that has the training libraries.
        workers: processes that tokenize for one cache.
    """

    def __init__(
        self,
        database: Database,
        root: Path,
        python: str = sys.executable,
        workers: int | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._root = root
        self._python = python
        self._workers = workers or len(os.sched_getaffinity(0))
        self._clock = clock

    async def ensure(self, wanted: Wanted, on_progress: OnProgress) -> Tokenized | Refusal:
        """Return the cache of what is wanted, made if it is not there or not whole.

        Two jobs that want the same at once get the same. What died half-way is taken up where it was.

        Raises:
            StorageFull: no room; try again when there is.
            Unavailable: the process was killed; try again.
        """
        settings = await asyncio.to_thread(
            settings_of, wanted.dataset, wanted.model, wanted.chat_template, wanted.training
        )
        key = settings.key()
        # Before looking: what was used just now is not swept.
        known = await self._touch(wanted.project, key)
        if known is not None and await asyncio.to_thread(_is_whole, known):
            summary = TokenSummary.model_validate(known.summary)
            return Tokenized(key, TokenFiles(folder=known.path, digest=known.digest), summary, hit=True)
        folder = self._root / wanted.project / key.removeprefix("sha256:")
        made = await self._make(wanted, folder, on_progress)
        if isinstance(made, Refusal):
            return made
        summary = TokenSummary.model_validate(made["summary"])
        await self._record(wanted, settings, folder, made)
        files = TokenFiles(folder=str(folder), digest=made["digest"])
        return Tokenized(key, files, summary, hit=made["hit"])

    async def _touch(self, project: ProjectId, key: str) -> TokenizedCacheRow | None:
        async with self._database.transaction() as session:
            return await session.scalar(
                update(TokenizedCacheRow)
                .where(TokenizedCacheRow.project_id == project, TokenizedCacheRow.key == key)
                .values(last_used_at=self._clock())
                .returning(TokenizedCacheRow)
            )

    async def _record(
        self, wanted: Wanted, settings: TokenSettings, folder: Path, made: dict[str, Any]
    ) -> None:
        now = self._clock()
        facts = {
            "path": str(folder),
            "digest": made["digest"],
            "size_bytes": made["size_bytes"],
            "summary": made["summary"],
            "last_used_at": now,
        }
        row = {
            "project_id": wanted.project,
            "key": settings.key(),
            "dataset_digest": settings.dataset_digest,
            "tokenizer": wanted.model_name,
            "settings": settings.model_dump(mode="json"),
            "made_at": now,
            **facts,
        }
        async with self._database.transaction() as session:
            await session.execute(
                insert(TokenizedCacheRow)
                .values(row)
                .on_conflict_do_update(index_elements=["project_id", "key"], set_=facts)
            )

    async def _make(self, wanted: Wanted, folder: Path, on_progress: OnProgress) -> dict[str, Any] | Refusal:
        order = TokenOrder(
            folder=str(folder),
            model_path=str(wanted.model),
            model_name=wanted.model_name,
            chat_template=wanted.chat_template,
            dataset=wanted.dataset,
            training=wanted.training,
            workers=self._workers,
        )
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(order.model_dump_json())
            file.flush()
            process = await asyncio.create_subprocess_exec(
                self._python, "-m", _MODULE, file.name, env=_environment(),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=_LINE_LIMIT_BYTES,
            )  # fmt: skip
            try:
                return await self._follow(process, folder, on_progress)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _follow(
        self, process: asyncio.subprocess.Process, folder: Path, on_progress: OnProgress
    ) -> dict[str, Any] | Refusal:
        """Read what the process says to its last line, and pass its progress on."""
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "progress" in said:
                if not await on_progress(TokenProgress.model_validate(said["progress"])):
                    return Refusal(Reason.CANCELLED_BY_USER, "cancelled while its rows were tokenized")
                continue
            await process.wait()
            if "cache" in said:
                return said["cache"]
            if process.returncode == _BAD_CONFIG_EXIT:
                return Refusal(said["error"]["code"], said["error"]["message"])
            raise Unavailable(said["error"]["message"])
        await process.wait()
        tail = (await errors).decode(errors="replace")[-1000:]
        if "No space left" in tail or "Disk quota exceeded" in tail:
            raise StorageFull(f"no room for tokenized rows below {folder.parent}; free some")
        raise Unavailable(f"the tokenizing process ended with code {process.returncode}: {tail}")


def _is_whole(row: TokenizedCacheRow) -> bool:
    """Read all of it: what training learns from is worth a second a gigabyte."""
    folder = Path(row.path)
    return verify_manifest(folder) is None and read_manifest(folder).digest() == row.digest


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        PARENT_VARIABLE: str(os.getpid()),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }

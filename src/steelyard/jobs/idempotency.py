"""Stored answers of commands that came with an idempotency key."""

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.jobs import repository
from steelyard.kit.canonical import digest_bytes
from steelyard.kit.errors import IdempotencyMismatch
from steelyard.storage.tables import IdempotencyRow


class Replays:
    """The answer that is kept under one key, within one transaction.

    A caller looks before and after it has locked the thing that the command is about: the second look finds
    what a concurrent twin has just committed.
    """

    def __init__(self, session: AsyncSession, project: ProjectId, key: str | None, request: str) -> None:
        self._session = session
        self._project = project
        self._key = key
        self._digest = digest_bytes(request.encode())

    async def find(self) -> str | None:
        """Return the stored answer.

        Raises:
            IdempotencyMismatch: the key came with another request.
        """
        if self._key is None:
            return None
        stored = await repository.find_idempotency(self._session, self._project, self._key)
        if stored is None:
            return None
        if stored.body_digest != self._digest:
            raise IdempotencyMismatch(
                f"this Idempotency-Key came before with another request, about {stored.job_id};"
                " use a new key for a new request",
                param="Idempotency-Key",
                job_id=stored.job_id,
            )
        return stored.response

    async def store(self, job_id: str, response: str) -> None:
        """Keep the answer."""
        if self._key is None:
            return
        await self._session.execute(
            insert(IdempotencyRow).values(
                project_id=self._project,
                key=self._key,
                body_digest=self._digest,
                job_id=job_id,
                response=response,
            )
        )

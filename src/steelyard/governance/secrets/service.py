"""Setting, listing and removing secrets; and handing their values to whoever launches a job."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.governance.secrets.envelopes import Envelope, open_envelope, place_of, rewrap, seal
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidSpec, NotFound
from steelyard.specs.access import Permission
from steelyard.specs.secrets import SecretView
from steelyard.storage.database import Database
from steelyard.storage.encryption import KeyFile
from steelyard.storage.tables import SecretRow

_BATCH = 500


class SecretService:
    """Keeps secrets. Values come in and go out to running jobs alone; no answer holds one.

    Args:
        keys: the key-encryption keys; the newest wraps.
    """

    def __init__(self, database: Database, keys: KeyFile, clock: Clock = utc_now) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def put(self, actor: Actor, project: str, name: str, value: str) -> SecretView:
        """Store a value, in place of the one before. Jobs that start from now on get it."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.SECRET_WRITE)
            envelope = seal(self._keys, value.encode(), place_of(checked, name))
            now = self._clock()
            content: dict[str, Any] = {
                "key_id": envelope.key_id,
                "wrapped_key": envelope.wrapped_key,
                "sealed": envelope.sealed,
                "updated_at": now,
            }
            row = (
                await session.scalars(
                    insert(SecretRow)
                    .values(
                        project_id=checked,
                        name=name,
                        version=1,
                        created_by=actor.id,
                        created_at=now,
                        **content,
                    )
                    .on_conflict_do_update(
                        index_elements=["project_id", "name"],
                        set_={**content, "version": SecretRow.version + 1},
                    )
                    .returning(SecretRow)
                )
            ).one()
            await audit.record(
                session, actor, "secret.set", "secret", name,
                project_id=checked, detail={"version": row.version},
            )  # fmt: skip
            return _view(row)

    async def search(self, actor: Actor, project: str) -> list[SecretView]:
        """Return the names, never the values."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.SECRET_READ)
            rows = await session.scalars(
                select(SecretRow).where(SecretRow.project_id == checked).order_by(SecretRow.name)
            )
            return [_view(row) for row in rows]

    async def remove(self, actor: Actor, project: str, name: str) -> None:
        """Forget a secret. Attempts that run have it already; later ones fail with its name.

        Raises:
            NotFound: the project has none of that name.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.SECRET_WRITE)
            gone = await session.scalar(
                delete(SecretRow)
                .where(SecretRow.project_id == checked, SecretRow.name == name)
                .returning(SecretRow.version)
            )
            if gone is None:
                raise NotFound(
                    f"no secret {name!r} in project {project!r}; 'steelyard secrets list' names them"
                )
            await audit.record(session, actor, "secret.remove", "secret", name, project_id=checked)

    async def reveal(self, project_id: ProjectId, names: Sequence[str]) -> dict[str, str]:
        """Return values for a job that is about to start. For the platform's own processes alone.

        Raises:
            NotFound: one was removed since the job was submitted; the message names it.
        """
        if not names:
            return {}
        async with self._database.transaction() as session:
            rows = await session.scalars(
                select(SecretRow).where(SecretRow.project_id == project_id, SecretRow.name.in_(names))
            )
            found = {row.name: _envelope(row) for row in rows}
        for name in names:
            if name not in found:
                raise NotFound(f"secret {name!r} is gone; set it again with 'steelyard secrets set {name}'")
        return {
            name: open_envelope(self._keys, found[name], place_of(project_id, name)).decode()
            for name in names
        }

    async def rewrap_all(self) -> int:
        """Wrap every data key that isn't under the newest key; return how many there were.

        Dying half-way leaves some under the older key, which still opens them; the next call goes on.
        """
        newest, count = self._keys.newest, 0
        while True:
            async with self._database.transaction() as session:
                rows = (
                    await session.scalars(
                        select(SecretRow).where(SecretRow.key_id != newest).limit(_BATCH).with_for_update()
                    )
                ).all()
                for row in rows:
                    fresh = rewrap(self._keys, _envelope(row), place_of(row.project_id, row.name))
                    await session.execute(
                        update(SecretRow)
                        .where(SecretRow.project_id == row.project_id, SecretRow.name == row.name)
                        .values(key_id=fresh.key_id, wrapped_key=fresh.wrapped_key)
                    )
            if not rows:
                return count
            count += len(rows)


async def require_secrets(
    session: AsyncSession, project_id: ProjectId, names: Sequence[str], within: str = ""
) -> None:
    """Make sure that a project has the secrets that a job names.

    Args:
        within: what stands before the fields' names in the job's spec, such as `trial.`.

    Raises:
        InvalidSpec: one isn't there; `param` says which.
    """
    if not names:
        return
    there = set(
        await session.scalars(
            select(SecretRow.name).where(SecretRow.project_id == project_id, SecretRow.name.in_(names))
        )
    )
    for place, name in enumerate(names):
        if name not in there:
            raise InvalidSpec(
                f"the project has no secret {name!r}; set it first with 'steelyard secrets set {name}'",
                param=f"{within}secrets.{place}",
            )


def _envelope(row: SecretRow) -> Envelope:
    return Envelope(row.key_id, row.wrapped_key, row.sealed)


def _view(row: SecretRow) -> SecretView:
    return SecretView(
        name=row.name,
        version=row.version,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )

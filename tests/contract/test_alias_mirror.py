"""MLflow's aliases follow ours, whatever dies in between and whoever writes there directly."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Text, cast, delete, select, update
from tests.contract.test_promotions import promote
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.shelf import MODEL, PROJECT, people, shelve

from steelyard.governance.access import ProjectId
from steelyard.kit.errors import Unavailable
from steelyard.registry.mlflow import Mlflow
from steelyard.rollouts.mirror import MIRROR_TOPIC, AliasMirror
from steelyard.server.relay import Carrier, Relay
from steelyard.specs.promotions import Alias, RollbackRequest
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditRow, ModelVersionRow, OutboxRow

KEY = f"{PROJECT}/{MODEL}/dev"


class MlflowBook:
    """The part of MLflow that aliases need, in memory. `dies_after`: requests until it answers no more."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.dies_after: int | None = None
        self.writes = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request as MLflow's REST API does."""
        if self.dies_after is not None:
            if self.dies_after == 0:
                raise httpx.ConnectError("it is down", request=request)
            self.dies_after -= 1
        if request.url.path.endswith("registered-models/get"):
            pairs = [{"alias": alias, "version": version} for alias, version in self.aliases.items()]
            return httpx.Response(200, json={"registered_model": {"name": "x", "aliases": pairs}})
        assert request.url.path.endswith("registered-models/alias")
        body = json.loads(request.content)
        assert body["name"] == f"{PROJECT}.{MODEL}"
        self.writes += 1
        if request.method == "DELETE":
            self.aliases.pop(body["alias"], None)
        else:
            self.aliases[body["alias"]] = body["version"]
        return httpx.Response(200, json={})


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        await people(database)
        for _ in range(2):
            version = await shelve(plane, tmp_path)
            await promote(plane, version, Alias.DEV)
        async with database.transaction() as session:
            await session.execute(
                update(ModelVersionRow).values(mlflow_version=cast(ModelVersionRow.version + 10, Text))
            )
        yield plane


@pytest.fixture
def book() -> MlflowBook:
    return MlflowBook()


@pytest.fixture
async def mirror(plane: ControlPlane, book: MlflowBook) -> AsyncGenerator[AliasMirror]:
    transport = httpx.MockTransport(book.answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://mlflow") as client:
        yield AliasMirror(plane.database, Mlflow(client))


def relay_of(plane: ControlPlane, mirror: AliasMirror) -> Relay:
    carriers = {MIRROR_TOPIC: Carrier(mirror.follow, 0.0, 0.0)}
    return Relay(plane.database, plane.services.listener, carriers)


async def waiting(plane: ControlPlane) -> int:
    async with plane.database.transaction() as session:
        rows = await session.scalars(select(OutboxRow.id).where(OutboxRow.topic == MIRROR_TOPIC))
        return len(list(rows))


async def reports(plane: ControlPlane) -> list[dict[str, str]]:
    async with plane.database.transaction() as session:
        rows = await session.scalars(select(AuditRow.detail).where(AuditRow.verb == "alias.restore"))
        return list(rows)


async def test_the_relay_brings_it_over_and_forgets_the_promise(
    plane: ControlPlane, mirror: AliasMirror, book: MlflowBook
) -> None:
    assert await waiting(plane) == 2
    await relay_of(plane, mirror).relay()
    assert book.aliases == {"dev": "12"}
    assert await waiting(plane) == 0


@pytest.mark.parametrize("after", [0, 1])
async def test_an_mlflow_that_goes_away_is_caught_up(
    plane: ControlPlane, mirror: AliasMirror, book: MlflowBook, after: int
) -> None:
    book.dies_after = after
    relay = relay_of(plane, mirror)
    await relay.relay()
    assert await waiting(plane) >= 1
    book.dies_after = None
    await relay.relay()
    assert book.aliases == {"dev": "12"}


async def test_dying_before_or_after_the_write_ends_with_the_truth(
    plane: ControlPlane, mirror: AliasMirror, book: MlflowBook
) -> None:
    """Committed and not mirrored, and mirrored and not noted: the claim runs out and it is done again."""
    await mirror.follow(KEY)
    await plane.services.rollbacks.roll_back(ADMIN, PROJECT, MODEL, RollbackRequest(alias=Alias.DEV))
    assert book.aliases == {"dev": "12"}
    await relay_of(plane, mirror).relay()
    assert book.aliases == {"dev": "11"}
    await mirror.follow(KEY)
    assert book.aliases == {"dev": "11"}


async def test_a_version_that_mlflow_has_not_yet_is_waited_for(
    plane: ControlPlane, mirror: AliasMirror, book: MlflowBook
) -> None:
    async with plane.database.transaction() as session:
        await session.execute(update(ModelVersionRow).values(mlflow_version=None))
    with pytest.raises(Unavailable):
        await mirror.follow(KEY)
    assert not book.aliases


async def test_what_was_written_to_mlflow_directly_is_restored_and_reported(
    plane: ControlPlane, mirror: AliasMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    assert await mirror.reconcile() == 0
    book.aliases = {"dev": "11", "prod": "12", "champion": "11"}

    assert await mirror.reconcile() == 2

    assert book.aliases == {"dev": "12", "champion": "11"}
    found = {(each["alias"], each["found"], each["restored"]) for each in await reports(plane)}
    assert found == {("dev", "11", "12"), ("prod", "12", None)}
    events = (await plane.services.history.events(ADMIN, PROJECT, MODEL, 100, None)).data
    assert [each.level for each in events if each.type == "alias.restored"] == ["warn", "warn"]
    await relay_of(plane, mirror).relay()
    assert await mirror.reconcile() == 0
    assert len(await reports(plane)) == 2


async def test_of_two_who_find_it_one_reports(
    plane: ControlPlane, mirror: AliasMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    book.aliases = {"dev": "11"}
    both = await asyncio.gather(
        mirror._reconcile_model(ProjectId(PROJECT), MODEL),  # pyright: ignore[reportPrivateUsage]
        mirror._reconcile_model(ProjectId(PROJECT), MODEL),  # pyright: ignore[reportPrivateUsage]
    )
    assert sum(both) == 1
    assert book.aliases == {"dev": "12"}
    assert len(await reports(plane)) == 1


async def test_a_mirror_that_is_only_late_is_no_news(
    plane: ControlPlane, mirror: AliasMirror, book: MlflowBook
) -> None:
    assert await mirror.reconcile() == 0
    assert not await reports(plane)
    async with plane.database.transaction() as session:
        await session.execute(delete(OutboxRow))
    assert await mirror.reconcile() == 1
    assert book.aliases == {"dev": "12"}

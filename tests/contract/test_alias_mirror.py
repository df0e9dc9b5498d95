"""MLflow's registry follows ours, whatever dies in between and whoever writes there directly."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, update
from tests.contract.test_promotions import promote
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.mlflow_book import BookModel, BookVersion, MlflowBook
from tests.shelf import MODEL, PROJECT, people, shelve

from steelyard.governance.access import ProjectId
from steelyard.kit.errors import Conflict, Unavailable
from steelyard.registry.mlflow import Mlflow
from steelyard.rollouts.mirror import RegistryMirror
from steelyard.rollouts.mirror_wants import MIRROR_TOPIC, RESTORE_TOPIC
from steelyard.rollouts.version_mirror import VersionMirror
from steelyard.server.relay import Carrier, Relay
from steelyard.specs.manifest import MANIFEST_NAME
from steelyard.specs.promotions import Alias, RollbackRequest
from steelyard.storage.database import Database
from steelyard.storage.tables import AuditRow, ModelVersionRow, OutboxRow

KEY = f"{PROJECT}/{MODEL}/dev"
THERE = f"{PROJECT}.{MODEL}"


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        await people(database)
        for _ in range(2):
            version = await shelve(plane, tmp_path)
            await promote(plane, version, Alias.DEV)
        yield plane


@pytest.fixture
async def book(plane: ControlPlane) -> MlflowBook:
    """An MLflow that has both versions, under other numbers than ours: 11 and 12. Aliases are to follow."""
    book = MlflowBook()
    book.models[THERE] = BookModel([BookVersion(10, "", "", {}, deleted=True)])
    async with _client(book) as client:
        versions = VersionMirror(plane.database, Mlflow(client))
        for number in (1, 2):
            await versions.ensure(ProjectId(PROJECT), MODEL, number)
    return book


@pytest.fixture
async def mirror(plane: ControlPlane, book: MlflowBook) -> AsyncGenerator[RegistryMirror]:
    async with _client(book) as client:
        yield RegistryMirror(plane.database, Mlflow(client))


def relay_of(plane: ControlPlane, mirror: RegistryMirror) -> Relay:
    carriers = {
        MIRROR_TOPIC: Carrier(mirror.follow, 0.0, 0.0),
        RESTORE_TOPIC: Carrier(mirror.restore, 0.0, 0.0),
    }
    return Relay(plane.workers, plane.services.listener, carriers)


async def waiting(plane: ControlPlane) -> int:
    async with plane.database.transaction() as session:
        query = select(OutboxRow.id).where(OutboxRow.topic.in_((MIRROR_TOPIC, RESTORE_TOPIC)))
        return len(list(await session.scalars(query)))


async def reports(plane: ControlPlane, verb: str = "alias.restore") -> list[dict[str, Any]]:
    async with plane.database.transaction() as session:
        rows = await session.scalars(
            select(AuditRow.detail).where(AuditRow.verb == verb).order_by(AuditRow.id)
        )
        return list(rows)


async def numbers(plane: ControlPlane) -> list[str | None]:
    async with plane.database.transaction() as session:
        rows = await session.scalars(select(ModelVersionRow.mlflow_version).order_by(ModelVersionRow.version))
        return list(rows)


async def warnings(plane: ControlPlane) -> list[str]:
    events = (await plane.services.history.events(ADMIN, PROJECT, MODEL, 100, None)).data
    return [each.type for each in events if each.level == "warn"]


async def test_the_relay_brings_it_over_and_forgets_the_promise(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    assert await waiting(plane) == 2
    await relay_of(plane, mirror).relay()
    assert book.models[THERE].aliases == {"dev": "12"}
    assert await waiting(plane) == 0


@pytest.mark.parametrize("after", [0, 1])
async def test_an_mlflow_that_goes_away_is_caught_up(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook, after: int
) -> None:
    book.dies_after = after
    relay = relay_of(plane, mirror)
    await relay.relay()
    assert await waiting(plane) >= 1
    book.dies_after = None
    await relay.relay()
    assert book.models[THERE].aliases == {"dev": "12"}


async def test_dying_before_or_after_the_write_ends_with_the_truth(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    """Committed and not mirrored, and mirrored and not noted: the claim runs out and it is done again."""
    await mirror.follow(KEY)
    await plane.services.rollbacks.roll_back(ADMIN, PROJECT, MODEL, RollbackRequest(alias=Alias.DEV))
    assert book.models[THERE].aliases == {"dev": "12"}
    await relay_of(plane, mirror).relay()
    assert book.models[THERE].aliases == {"dev": "11"}
    await mirror.follow(KEY)
    assert book.models[THERE].aliases == {"dev": "11"}


async def test_a_version_that_mlflow_has_not_yet_is_waited_for(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    async with plane.database.transaction() as session:
        await session.execute(update(ModelVersionRow).values(mlflow_version=None))
    with pytest.raises(Unavailable):
        await mirror.follow(KEY)
    assert not book.models[THERE].aliases
    assert await mirror.reconcile() == 0


async def test_an_alias_that_was_written_to_mlflow_directly_is_restored_and_reported(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    assert await mirror.reconcile() == 0
    book.models[THERE].aliases = {"dev": "11", "prod": "12", "champion": "11"}

    assert await mirror.reconcile() == 2
    await relay_of(plane, mirror).relay()

    assert book.models[THERE].aliases == {"dev": "12", "champion": "11"}
    found = {(each["alias"], each["found"], each["restored"]) for each in await reports(plane)}
    assert found == {("dev", "11", "12"), ("prod", "12", None)}
    assert await warnings(plane) == ["alias.restored", "alias.restored"]
    assert await mirror.reconcile() == 0
    assert len(await reports(plane)) == 2


async def test_of_two_who_find_it_one_reports(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    book.models[THERE].aliases = {"dev": "11"}
    both = await asyncio.gather(mirror.reconcile(), mirror.reconcile())
    assert sum(both) == 1
    await relay_of(plane, mirror).relay()
    assert book.models[THERE].aliases == {"dev": "12"}
    assert len(await reports(plane)) == 1


async def test_what_another_has_reported_and_mended_meanwhile_is_not_reported_again(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    """The slow one has read MLflow; before it reports, the other reports, mends and forgets its promise."""
    await relay_of(plane, mirror).relay()
    book.models[THERE].aliases = {"dev": "11"}
    async with _client(book) as client:
        slow = _Paused(Mlflow(client))
        late = asyncio.create_task(RegistryMirror(plane.database, slow).reconcile())
        await slow.has_read.wait()
        assert await mirror.reconcile() == 1
        await relay_of(plane, mirror).relay()
        assert book.models[THERE].aliases == {"dev": "12"}
        slow.go_on.set()
        assert await late == 0
    assert len(await reports(plane)) == 1
    book.models[THERE].aliases = {"dev": "11"}
    assert await mirror.reconcile() == 1


async def test_a_mirror_that_is_only_late_is_no_news(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    assert await mirror.reconcile() == 0
    assert not await reports(plane)
    async with plane.database.transaction() as session:
        await session.execute(delete(OutboxRow))
    assert await mirror.reconcile() == 1
    await relay_of(plane, mirror).relay()
    assert book.models[THERE].aliases == {"dev": "12"}


async def test_a_version_deleted_in_mlflow_comes_back_under_a_number_that_is_told(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    book.lose(THERE, 12)
    assert not book.models[THERE].aliases

    assert await mirror.reconcile() == 2
    await relay_of(plane, mirror).relay()

    model = book.models[THERE]
    assert await numbers(plane) == ["11", "13"]
    assert model.aliases == {"dev": "13"}
    assert model.living()["13"].tags["steelyard.version"] == "2"
    assert model.living()["13"].source == model.versions[2].source
    assert [each["mlflow_version"] for each in await reports(plane, "version.restore")] == ["12"]
    renumbered = await reports(plane, "version.renumber")
    assert [(each["mlflow_version_before"], each["mlflow_version"]) for each in renumbered] == [("12", "13")]
    assert await warnings(plane) == ["version.restored", "alias.restored"]
    assert await mirror.reconcile() == 0


async def test_a_model_deleted_in_mlflow_comes_back_with_versions_tags_files_and_aliases(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    before = {each.tags["steelyard.version"]: each for each in book.models.pop(THERE).versions[1:]}
    book.files.clear()

    assert await mirror.reconcile() == 1
    await relay_of(plane, mirror).relay()

    model = book.models[THERE]
    now = {each.tags["steelyard.version"]: each for each in model.living().values()}
    assert now.keys() == before.keys()
    assert all((now[key].source, now[key].tags) == (before[key].source, before[key].tags) for key in now)
    assert await numbers(plane) == ["1", "2"]
    assert model.aliases == {"dev": "2"}
    assert {"model.safetensors", MANIFEST_NAME} == book.files.keys()
    assert [each["versions"] for each in await reports(plane, "model.restore")] == [[1, 2]]
    assert await mirror.reconcile() == 0


async def test_another_model_under_the_same_number_is_not_taken_for_ours(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    """Deleted, and made again with other files under the old numbers, tags and aliases."""
    await relay_of(plane, mirror).relay()
    model = book.models[THERE]
    ours = dict(model.living())
    for each in model.versions:
        each.source = "runs:/other/model"
        each.run_id = "other"

    assert await mirror.reconcile() == 2
    await relay_of(plane, mirror).relay()

    assert await numbers(plane) == ["13", "14"]
    assert model.aliases == {"dev": "14"}
    assert model.living().keys() == {"13", "14"}, "what passed for ours is gone"
    assert {each.source for each in model.living().values()}.isdisjoint({"runs:/other/model"})
    assert {each.tags["steelyard.version"] for each in model.living().values()} == {
        each.tags["steelyard.version"] for each in ours.values()
    }
    assert await mirror.reconcile() == 0


async def test_tags_are_as_they_were_and_a_hidden_version_is_found(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    tags = book.models[THERE].living()["12"].tags
    tags |= {"steelyard.version": "7", "steelyard.approved": "yes", "mlflow.prompt.is_prompt": "true"}
    tags["note"] = "mine"

    assert await mirror.reconcile() == 1
    await relay_of(plane, mirror).relay()

    assert book.models[THERE].living()["12"].tags == {"steelyard.version": "2", "note": "mine"}
    (told,) = await reports(plane, "version.restore")
    assert told["tags"]["steelyard.version"] == {"found": "7", "restored": "2"}
    assert await numbers(plane) == ["11", "12"]


async def test_a_second_version_of_the_same_run_is_removed(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    model = book.models[THERE]
    known = model.living()["12"]
    model.versions.append(BookVersion(13, known.run_id, known.source, dict(known.tags)))
    model.versions.append(BookVersion(14, "somebody", "s3://their/own", {}))
    model.aliases["prod"] = "13"

    assert await mirror.reconcile() == 2
    await relay_of(plane, mirror).relay()

    assert model.living().keys() == {"11", "12", "14"}
    assert model.aliases == {"dev": "12"}
    assert len(await reports(plane, "version.removed"[:-1])) == 1


async def test_an_mlflow_that_dies_at_any_request_of_a_restoration_ends_whole(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    relay = relay_of(plane, mirror)
    await relay.relay()
    for requests in range(24):
        book.models.clear()
        assert await mirror.reconcile() == 1
        book.dies_after = requests
        await relay.relay()
        book.dies_after = None
        await relay.relay()
        assert book.models[THERE].living().keys() == {"1", "2"}
        assert book.models[THERE].aliases == {"dev": "2"}
        assert await numbers(plane) == ["1", "2"]
        assert await mirror.reconcile() == 0
        assert len(await reports(plane, "model.restore")) == requests + 1


async def test_a_version_that_is_just_being_registered_is_left_alone(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    """Made in MLflow, and not yet noted: it bears our tags, and nobody may take it for a stranger."""
    await relay_of(plane, mirror).relay()
    async with plane.database.transaction() as session:
        await session.execute(
            update(ModelVersionRow)
            .where(ModelVersionRow.version == 2)
            .values(mlflow_version=None, mlflow_run_id=None)
        )
    book.models[THERE].versions.append(BookVersion(13, "", "", {"steelyard.version": "1"}))

    assert await mirror.reconcile() == 1
    with pytest.raises(Unavailable):
        await mirror.restore(f"{PROJECT}/{MODEL}")

    assert book.models[THERE].living().keys() == {"11", "12"}


async def test_two_who_make_the_same_version_leave_one(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    book.lose(THERE, 12)
    async with _client(book) as client:
        slow = _Paused(Mlflow(client), at="ensure_model_version")
        versions = VersionMirror(plane.database, slow)
        late = asyncio.create_task(versions.ensure(ProjectId(PROJECT), MODEL, 2))
        await slow.has_read.wait()
        book.models[THERE].versions[-1].run_id = "hidden from the other's search"
        await mirror.restore(f"{PROJECT}/{MODEL}")
        slow.go_on.set()
        await late
    first, second = await numbers(plane)
    assert (first, second) == ("11", "14")
    assert book.models[THERE].living().keys() == {"11", "14"}
    assert book.models[THERE].aliases == {"dev": second}


async def test_damaged_files_are_not_given_to_mlflow(
    plane: ControlPlane, mirror: RegistryMirror, book: MlflowBook
) -> None:
    await relay_of(plane, mirror).relay()
    async with plane.database.transaction() as session:
        row = await session.get_one(ModelVersionRow, (PROJECT, MODEL, 2))
    (Path(row.path) / "model.safetensors").write_bytes(b"other weights")
    book.models.clear()

    with pytest.raises(Conflict, match="can't be made again"):
        await mirror.restore(f"{PROJECT}/{MODEL}")

    assert [each.tags["steelyard.version"] for each in book.models[THERE].living().values()] == ["1"]


def _client(book: MlflowBook) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(book.answer), base_url="http://mlflow")


class _Paused(Mlflow):
    """Another's MLflow, who stops once when `at` has answered until `go_on` is set."""

    def __init__(self, inner: Mlflow, at: str = "registered") -> None:
        super().__init__(inner._client)  # pyright: ignore[reportPrivateUsage]
        self.has_read, self.go_on = asyncio.Event(), asyncio.Event()
        self._at = at

    async def registered(self, model: str) -> Any:
        found = await super().registered(model)
        await self._pause("registered")
        return found

    async def ensure_model_version(self, model: str, source: str, run_id: str, tags: dict[str, str]) -> Any:
        found = await super().ensure_model_version(model, source, run_id, tags)
        await self._pause("ensure_model_version")
        return found

    async def _pause(self, name: str) -> None:
        if name == self._at:
            self.has_read.set()
            await self.go_on.wait()

"""Large files from Python: an upload that breaks off goes on where it was, over whatever broke it."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve

from steelyard.client import AsyncClient, Client, dataset_calls
from steelyard.storage.database import Database

_PART = 1 << 16
_DATA = hashlib.shake_128(b"rows").digest(_PART * 5 + 1000)


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large, of six parts."""
    monkeypatch.setattr(dataset_calls, "_WHOLE_BYTES", _PART)
    path = tmp_path / "large.jsonl"
    path.write_bytes(_DATA)
    return path


class _Told:
    """What a caller was told; interrupts after so many parts, as Ctrl-C would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.parts: list[int] = []
        self._stop_after = stop_after

    def __call__(self, done_bytes: int, whole_bytes: int) -> None:
        assert whole_bytes == len(_DATA)
        self.parts.append(-(-done_bytes // _PART))
        if len(self.parts) == self._stop_after:
            raise KeyboardInterrupt


async def test_an_interrupted_upload_goes_on_where_it_was(plane: ControlPlane, large: Path) -> None:
    with Client(api_url=plane.url, token=ADMIN_TOKEN) as client:
        first = _Told(stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            await asyncio.to_thread(client.datasets.upload, large, on_progress=first)
        rest = _Told()
        view = await asyncio.to_thread(client.datasets.upload, large, on_progress=rest)
    assert (first.parts, rest.parts) == ([1, 2], [2, 3, 4, 5, 6])
    folder = plane.folders.objects.parent / "uploads"
    assert [path.name for path in folder.iterdir()] == [view.id]
    assert (folder / view.id / "large.jsonl").read_bytes() == _DATA
    with Client(api_url=plane.url, token=ADMIN_TOKEN) as client:
        again = await asyncio.to_thread(client.datasets.upload, large)
    assert again.id == view.id


async def test_what_one_client_began_another_ends(plane: ControlPlane, large: Path) -> None:
    with Client(api_url=plane.url, token=ADMIN_TOKEN) as client, pytest.raises(KeyboardInterrupt):
        await asyncio.to_thread(client.datasets.upload, large, on_progress=_Told(stop_after=4))
    rest = _Told()
    async with AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
        view = await client.datasets.upload(large, on_progress=rest)
    assert rest.parts == [4, 5, 6]
    assert view.digest == f"sha256:{hashlib.sha256(_DATA).hexdigest()}"


async def test_a_file_that_changed_meanwhile_is_another_upload(plane: ControlPlane, large: Path) -> None:
    with Client(api_url=plane.url, token=ADMIN_TOKEN) as client:
        with pytest.raises(KeyboardInterrupt):
            await asyncio.to_thread(client.datasets.upload, large, on_progress=_Told(stop_after=2))
        large.write_bytes(_DATA[::-1])
        told = _Told()
        view = await asyncio.to_thread(client.datasets.upload, large, on_progress=told)
    assert told.parts == [1, 2, 3, 4, 5, 6]
    assert view.digest == f"sha256:{hashlib.sha256(_DATA[::-1]).hexdigest()}"

"""Tokenized caches: made once, killed, raced, damaged, refused, swept; and training with them is the same."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.contract.ingests import PROJECT, ingest, jsonl
from tests.control_plane import ControlPlane, serve
from tests.run_factory import (
    CHATS,
    PAIRS,
    TEXTS,
    TRAINING,
    fine_tune_spec,
    make_run,
    read_outcome,
    write_rows,
)

from steelyard.datasets.token_sweeping import TokenSweepingService
from steelyard.datasets.tokenized import Refusal, Tokenized, TokenizedService, Wanted
from steelyard.governance.access import ProjectId
from steelyard.kit.canonical import digest_file
from steelyard.runtime.failures import RunFailure
from steelyard.runtime.manifests import read_manifest, verify_manifest
from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.outcome import ExitCode
from steelyard.specs.run import DatasetFiles, TokenFiles
from steelyard.specs.states import Reason
from steelyard.specs.tokens import TokenOrder, TokenProgress
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow, ProjectRow, TokenizedCacheRow
from steelyard.trainers import sft
from steelyard.trainers.builtin import ensure_builtin
from steelyard.trainers.token_cache import make_cache, read_summary
from steelyard.trainers.token_rows import open_rows

_PIECE = 2000
_DEADLINE_SECONDS = 60.0
_ROWS = CHATS * 20


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_builtin("builtin/tiny-random", tmp_path_factory.mktemp("models")).path


def order(
    folder: Path, model: Path, rows: list[dict[str, Any]], shape: str = "messages", **changes: Any
) -> TokenOrder:
    training = TrainingBlock(**({"max_length": 64} | changes.pop("training", {})))
    dataset = DatasetFiles(
        digest="sha256:d",
        format=shape,  # pyright: ignore[reportArgumentType]
        train=[write_rows(folder.parent / "train.jsonl", rows)],
        validation=[],
    )
    facts: dict[str, Any] = {"chat_template": None, "workers": 1} | changes
    return TokenOrder(
        folder=str(folder), model_path=str(model), model_name="tiny", dataset=dataset, training=training,
        **facts,
    )  # fmt: skip


def make(orders: TokenOrder) -> str:
    make_cache(orders, lambda _: None, piece_bytes=_PIECE)
    return read_manifest(Path(orders.folder)).digest()


class TestMaking:
    def test_any_number_of_workers_makes_the_same_bytes(self, tmp_path: Path, model: Path) -> None:
        digests = {
            make(order(tmp_path / f"c{workers}", model, _ROWS, workers=workers)) for workers in (1, 2, 3)
        }
        assert len(digests) == 1
        assert read_summary(tmp_path / "c1").rows_in == len(_ROWS)

    def test_pieces_hold_every_row_once_and_in_order(self, tmp_path: Path, model: Path) -> None:
        whole, cut = order(tmp_path / "whole", model, _ROWS), order(tmp_path / "cut", model, _ROWS)
        make_cache(whole, lambda _: None)
        make(cut)
        assert len(list((tmp_path / "cut").glob("*.arrow"))) > 10
        rows = [
            open_rows(TokenFiles(folder=each.folder, digest=read_manifest(Path(each.folder)).digest()))
            for each in (whole, cut)
        ]
        assert rows[0][:] == rows[1][:]  # pyright: ignore[reportArgumentType]

    def test_sigkill_at_any_moment_then_again_gives_the_same_digest(
        self, tmp_path: Path, model: Path
    ) -> None:
        expected = make(order(tmp_path / "undisturbed", model, _ROWS))
        orders = order(tmp_path / "killed", model, _ROWS, workers=2)
        partial, pieces = tmp_path / "killed.partial", len(list((tmp_path / "undisturbed").glob("*.arrow")))
        for until in (1, pieces // 2, pieces):
            process = start(orders, tmp_path)
            wait_for_pieces(process, partial, until)
            process.kill()
            process.wait()
            assert not (tmp_path / "killed").exists() or verify_manifest(tmp_path / "killed") is None
        assert make(orders) == expected
        assert sorted(path.name for path in tmp_path.glob("killed*")) == ["killed", "killed.lock"]

    def test_a_killed_worker_is_noticed_and_what_is_finished_stays(self, tmp_path: Path, model: Path) -> None:
        orders = order(tmp_path / "c", model, _ROWS * 3, workers=2)
        process = start(orders, tmp_path)
        wait_for(lambda: children(process.pid) != [])
        os.kill(children(process.pid)[0], signal.SIGKILL)
        assert process.wait(_DEADLINE_SECONDS) != 0
        assert not (tmp_path / "c").exists()
        assert make(orders) == make(order(tmp_path / "other", model, _ROWS * 3))

    def test_two_at_once_make_one(self, tmp_path: Path, model: Path) -> None:
        orders = order(tmp_path / "c", model, _ROWS)
        both = [start(orders, tmp_path, name, subprocess.PIPE) for name in ("one", "two")]
        said = [json.loads(each.communicate()[0].splitlines()[-1])["cache"] for each in both]
        assert sorted(each["hit"] for each in said) == [False, True]
        assert said[0]["digest"] == said[1]["digest"]

    @pytest.mark.parametrize(
        ("changes", "reason", "words"),
        [
            ({"chat_template": "{{ raise_exception('roles!') }}"}, Reason.BAD_CHAT_TEMPLATE, "row 1 of the"),
            (
                {"chat_template": "{{ messages[0]['content'] }}", "training": {"assistant_only_loss": True}},
                Reason.NO_CHAT_TEMPLATE,
                "generation",
            ),
            ({"training": {"max_length": 8}}, Reason.SEQUENCE_TOO_LONG, "Row 1 of the train split"),
            (
                {"training": {"max_length": 8, "overlong": "truncate", "max_overlong_share": 0.5}},
                Reason.SEQUENCE_TOO_LONG,
                "(100.0%)",
            ),
            ({"training": {"max_length": 8, "overlong": "drop"}}, Reason.DATASET_EMPTY, "Raise it"),
        ],
    )
    def test_what_cannot_be_trained_on_is_named_and_leaves_nothing(
        self, tmp_path: Path, model: Path, changes: dict[str, Any], reason: Reason, words: str
    ) -> None:
        with pytest.raises(RunFailure) as refused:
            make(order(tmp_path / "c", model, CHATS, **changes))
        assert refused.value.reason is reason
        assert words in refused.value.message
        assert sorted(path.name for path in tmp_path.iterdir()) == ["c.lock", "train.jsonl"]

    def test_a_template_that_fails_deep_in_the_rows_names_the_row(self, tmp_path: Path, model: Path) -> None:
        template = "{{ raise_exception('odd') if '!' in messages[0]['content'] else messages[0]['content'] }}"
        odd = {"messages": [{"role": "user", "content": "!"}]}
        orders = order(tmp_path / "c", model, [*_ROWS, odd, *_ROWS], chat_template=template, workers=2)
        with pytest.raises(RunFailure, match=f"row {len(_ROWS) + 1} of the train split.*odd"):
            make(orders)


def start(
    orders: TokenOrder, folder: Path, name: str = "order", stdout: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a process with small pieces, so that there are many moments to die at."""
    path = folder / f"{name}.json"
    path.write_text(orders.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from functools import partial\n"
        "from steelyard.trainers import token_process\n"
        f"token_process.make_cache = partial(token_process.make_cache, piece_bytes={_PIECE})\n"
        "raise SystemExit(token_process.main(Path(sys.argv[1])))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=stdout)


def wait_for_pieces(process: subprocess.Popen[bytes], partial: Path, count: int) -> None:
    wait_for(lambda: process.poll() is not None or len(list(partial.glob("*.json"))) >= count)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)  # poll of what another process does


class TestTraining:
    @pytest.mark.parametrize(
        ("rows", "shape", "training"),
        [
            (PAIRS, "prompt_completion", {}),
            (CHATS, "messages", {"assistant_only_loss": True}),
            (TEXTS, "text", {"packing": True}),
            (CHATS, "messages", {"packing": True, "max_length": 48}),
        ],
    )
    def test_the_weights_are_the_same_bits_and_the_trainer_tokenizes_nothing(
        self,
        tmp_path: Path,
        model: Path,
        monkeypatch: pytest.MonkeyPatch,
        rows: list[dict[str, Any]],
        shape: str,
        training: dict[str, Any],
    ) -> None:
        monkeypatch.setenv("STEELYARD_RUN", "")
        handler = signal.getsignal(signal.SIGTERM)
        spec = fine_tune_spec(training=TRAINING | training)
        without = make_run(tmp_path / "job", spec=spec, rows=rows, shape=shape)
        expected = weights(without)
        orders = order(tmp_path / "tokens", model, rows, shape, training=TRAINING | training)
        tokens = TokenFiles(folder=orders.folder, digest=make(orders))
        monkeypatch.setattr(sft, "tokenize", None)
        monkeypatch.setattr(sft, "read_rows", None)
        with_cache = make_run(
            tmp_path / "job", spec=spec, rows=rows, shape=shape, epoch=2, tokens=tokens.model_dump()
        )
        assert weights(with_cache) == expected
        assert verify_manifest(tmp_path / "tokens") is None
        signal.signal(signal.SIGTERM, handler)

    def test_a_damaged_cache_is_not_trained_on(
        self, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STEELYARD_RUN", "")
        handler = signal.getsignal(signal.SIGTERM)
        expected = weights(make_run(tmp_path / "job"))
        orders = order(tmp_path / "tokens", model, PAIRS, "prompt_completion")
        tokens = TokenFiles(folder=orders.folder, digest=make(orders))
        damage(Path(orders.folder))
        assert weights(make_run(tmp_path / "job", epoch=2, tokens=tokens.model_dump())) == expected
        signal.signal(signal.SIGTERM, handler)


def weights(run: Path) -> str:
    assert sft.main(run) == ExitCode.DONE
    outcome = read_outcome(run)
    assert outcome.model_dir is not None
    return digest_file(run.parents[2] / outcome.model_dir / "model.safetensors")


def damage(folder: Path) -> None:
    path = next(folder.glob("*.arrow"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
def tokenized(database: Database, tmp_path: Path) -> TokenizedService:
    return TokenizedService(database, tmp_path / "tokenized", workers=1)


def wanted(tmp_path: Path, model: Path, rows: list[dict[str, Any]], **changes: Any) -> Wanted:
    orders = order(tmp_path / "unused", model, rows, changes.pop("shape", "messages"), **changes)
    return Wanted(
        project=ProjectId("default"), dataset=orders.dataset, model=model, model_name="builtin/tiny-random",
        chat_template=orders.chat_template, training=orders.training,
    )  # fmt: skip


async def go_on(_: TokenProgress) -> bool:
    return True


async def stop(_: TokenProgress) -> bool:
    return False


async def made(service: TokenizedService, asked: Wanted) -> Tokenized:
    found = await service.ensure(asked, go_on)
    assert isinstance(found, Tokenized), found
    return found


async def caches(database: Database) -> list[TokenizedCacheRow]:
    async with database.transaction() as session:
        return list(await session.scalars(select(TokenizedCacheRow)))


class TestService:
    async def test_made_then_found_then_made_anew_where_damaged(
        self, database: Database, tokenized: TokenizedService, tmp_path: Path, model: Path
    ) -> None:
        asked = wanted(tmp_path, model, CHATS)
        first = await made(tokenized, asked)
        second = await made(tokenized, asked)
        assert (first.hit, second.hit) == (False, True)
        assert first.files == second.files
        damage(Path(first.files.folder))
        third = await made(tokenized, asked)
        assert (third.hit, third.files) == (False, first.files)
        (row,) = await caches(database)
        assert (row.digest, row.summary["rows_kept"]) == (first.files.digest, len(CHATS))

    async def test_another_project_makes_its_own(
        self, database: Database, tokenized: TokenizedService, tmp_path: Path, model: Path
    ) -> None:
        async with database.transaction() as session:
            session.add(ProjectRow(id="other"))
        mine = await made(tokenized, wanted(tmp_path, model, CHATS))
        asked = wanted(tmp_path, model, CHATS)
        theirs = await made(tokenized, dataclasses.replace(asked, project=ProjectId("other")))
        assert (theirs.hit, theirs.files.digest) == (False, mine.files.digest)
        assert theirs.files.folder != mine.files.folder

    async def test_what_cannot_be_trained_on_is_refused_with_its_reason(
        self, database: Database, tokenized: TokenizedService, tmp_path: Path, model: Path
    ) -> None:
        refused = await tokenized.ensure(wanted(tmp_path, model, CHATS, training={"max_length": 8}), go_on)
        assert isinstance(refused, Refusal)
        assert refused.reason == Reason.SEQUENCE_TOO_LONG
        assert await caches(database) == []

    async def test_nobody_wants_it_any_more(
        self, database: Database, tokenized: TokenizedService, tmp_path: Path, model: Path
    ) -> None:
        refused = await tokenized.ensure(wanted(tmp_path, model, CHATS), stop)
        assert isinstance(refused, Refusal)
        assert refused.reason == Reason.CANCELLED_BY_USER
        assert await caches(database) == []


class TestListing:
    async def test_a_version_shows_its_caches(
        self, plane: ControlPlane, tokenized: TokenizedService, tmp_path: Path, model: Path
    ) -> None:
        version = (await ingest(plane, jsonl(PAIRS)))["version"]
        asked = wanted(tmp_path, model, PAIRS, shape="prompt_completion")
        dataset = asked.dataset.model_copy(update={"digest": version["digest"]})
        cache = await made(tokenized, dataclasses.replace(asked, dataset=dataset))
        async with plane.http() as http:
            (shown,) = (await http.get(f"{PROJECT}/datasets/chats@v1/tokenized")).json()["data"]
            assert (await http.get(f"{PROJECT}/datasets/nothing/tokenized")).status_code == 404
        assert shown["digest"] == cache.files.digest
        assert (shown["tokenizer"], shown["max_length"], shown["packing"]) == (
            "builtin/tiny-random",
            64,
            False,
        )
        assert shown["rows"] == len(PAIRS)
        assert 0 < shown["loss_tokens"] < shown["tokens"]


class TestSweeping:
    async def test_only_what_is_old_or_orphaned_and_read_by_no_live_job_goes(
        self, plane: ControlPlane, tokenized: TokenizedService, tmp_path: Path, model: Path
    ) -> None:
        version = (await ingest(plane, jsonl(PAIRS)))["version"]
        asked = wanted(tmp_path, model, PAIRS, shape="prompt_completion")
        dataset = asked.dataset.model_copy(update={"digest": version["digest"]})
        cache = await made(tokenized, dataclasses.replace(asked, dataset=dataset))
        folder = Path(cache.files.folder)
        async with plane.http() as http:
            job = (await http.post(f"{PROJECT}/jobs", json=job_spec())).json()["id"]
            await set_job(plane, job, prepared={"tokens": cache.files.model_dump()}, state="paused")
            assert await sweeper(plane, tmp_path, days=0).sweep() == 0
            assert await sweeper(plane, tmp_path, days=30).sweep() == 0
            await set_job(plane, job, state="succeeded")
            assert await sweeper(plane, tmp_path, days=1).sweep() == 0
            assert folder.is_dir()
            assert await sweeper(plane, tmp_path, days=15).sweep() == 1
        assert not folder.exists()
        assert await caches(plane.database) == []
        assert (await made(tokenized, dataclasses.replace(asked, dataset=dataset))).files == cache.files

    async def test_a_deleted_versions_caches_go_soon(
        self, plane: ControlPlane, tokenized: TokenizedService, tmp_path: Path, model: Path
    ) -> None:
        cache = await made(tokenized, wanted(tmp_path, model, CHATS))
        assert await sweeper(plane, tmp_path, days=0).sweep() == 0
        assert await sweeper(plane, tmp_path, days=1).sweep() == 1
        assert not Path(cache.files.folder).exists()

    async def test_work_that_was_given_up_goes_and_what_is_being_made_stays(
        self, plane: ControlPlane, tmp_path: Path
    ) -> None:
        root = tmp_path / "tokenized" / "default"
        (root / "a.partial").mkdir(parents=True)
        assert await sweeper(plane, tmp_path, days=1).sweep() == 0
        assert await sweeper(plane, tmp_path, days=3).sweep() == 1
        assert not (root / "a.partial").exists()


def sweeper(plane: ControlPlane, tmp_path: Path, days: int) -> TokenSweepingService:
    """Return a sweeper that lives some days from now."""
    return TokenSweepingService(
        plane.workers, tmp_path / "tokenized", clock=lambda: datetime.now(UTC) + timedelta(days=days)
    )


async def set_job(plane: ControlPlane, job: str, **values: Any) -> None:
    async with plane.database.transaction() as session:
        await session.execute(update(JobRow).where(JobRow.id == job).values(values))


def job_spec() -> dict[str, Any]:
    return fine_tune_spec(dataset={"ref": "chats@v1"})

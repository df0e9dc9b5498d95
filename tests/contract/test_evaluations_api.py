"""Suites and evaluations through the api, and an evaluation from its submission to what people are shown."""

import asyncio
import base64
import importlib
import io
import json
import shutil
import signal
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from tests.chat_api import serve_chats
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve

import steelyard
from steelyard.client.errors import SteelyardApiError
from steelyard.datasets.files import DatasetFileService
from steelyard.datasets.tokenized import TokenizedService
from steelyard.evals.evidence import evidence_of
from steelyard.evals.suite_folders import SuiteFolderService
from steelyard.evals.suites import texts_of
from steelyard.governance.access import ProjectId
from steelyard.jobs.evaluation import EvaluationService
from steelyard.jobs.preparation import PreparationService
from steelyard.kit.canonical import digest_bytes
from steelyard.specs.outcome import ExitCode
from steelyard.specs.run import RUN_NAME, SECRETS_NAME
from steelyard.specs.states import JobState
from steelyard.storage.database import Database
from steelyard.storage.tables import EventRow
from steelyard.trainers import evaluate
from steelyard.trainers.builtin import ensure_builtin

_EXAMPLE = Path(__file__).parents[2] / "examples/suites/stdlib-questions"
_DEFAULT = ProjectId("default")
_parquet: Any = importlib.import_module("pyarrow.parquet")


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncGenerator[steelyard.AsyncClient]:
    async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
        yield client


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a trainer does to its process, where that process is ours."""
    monkeypatch.setenv("STEELYARD_RUN", "")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


class TestSuites:
    async def test_a_suite_is_kept_once_by_its_content(
        self, plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
    ) -> None:
        first = await client.suites.add(_EXAMPLE)
        again = await client.suites.add(_EXAMPLE)
        assert (first.created, again.created, again.id) == (True, False, first.id)
        assert first.tasks == ["stdlib_modules", "stdlib_purposes"]
        changed = tmp_path / "stdlib-questions"
        shutil.copytree(_EXAMPLE, changed)
        with (changed / "modules.jsonl").open("a") as file:
            file.write('{"name": "os.getcwd", "module": "os"}\n')
        second = await client.suites.add(changed)
        assert second.digest != first.digest
        assert (await client.suites.get("stdlib-questions")).digest == second.digest
        assert (await client.suites.get("stdlib-questions", first.digest)).id == first.id

    async def test_its_texts_are_there_for_who_keeps_training_data_apart(
        self, plane: ControlPlane, client: steelyard.AsyncClient
    ) -> None:
        view = await client.suites.add(_EXAMPLE)
        (found,) = await texts_of(plane.database, plane.folders.objects, _DEFAULT)
        assert (found.name, found.digest) == ("stdlib-questions", view.digest)
        whole = [each for each in found.texts if "\n" in each]
        assert len(whole) == 96
        assert len(found.texts) > 96, "a long text of a sample stands by itself too"
        assert any("What does Python's" in each and "\n" in each for each in found.texts)

    async def test_a_removed_suite_can_not_be_named_by_new_jobs(
        self, plane: ControlPlane, client: steelyard.AsyncClient
    ) -> None:
        view = await client.suites.add(_EXAMPLE)
        await client.suites.remove("stdlib-questions")
        assert await client.suites.search() == []
        for ref in ("stdlib-questions", f"stdlib-questions@{view.digest}"):
            with pytest.raises(SteelyardApiError) as caught:
                await client.jobs.submit(_spec(ref))
            assert caught.value.param == "evaluation.suites.0"
        assert (await client.suites.add(_EXAMPLE)).created
        assert (await client.jobs.submit(_spec("stdlib-questions"))).id

    async def test_an_organization_s_suite_is_seen_by_its_projects(
        self, plane: ControlPlane, client: steelyard.AsyncClient
    ) -> None:
        view = await client.suites.add(_EXAMPLE, organization="default")
        assert view.scope == "organization"
        async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN, project="default") as other:
            assert [each.digest for each in await other.suites.search()] == [view.digest]

    async def test_another_project_s_suite_is_not_there(
        self, plane: ControlPlane, client: steelyard.AsyncClient
    ) -> None:
        async with plane.database.transaction() as session:
            await session.execute(text("INSERT INTO projects (id) VALUES ('other')"))
        async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN, project="other") as other:
            await other.suites.add(_EXAMPLE)
        assert await client.suites.search() == []
        with pytest.raises(SteelyardApiError) as caught:
            await client.suites.get("stdlib-questions")
        assert caught.value.code == "not_found"


_TASK = (_EXAMPLE / "modules.yaml").read_text()
_DATA = '{"name": "os.path", "module": "os"}\n'


class TestRefusals:
    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({"../evil.yaml": _TASK}, "stays inside"),
            ({"/etc/evil.yaml": _TASK}, "stays inside"),
            ({"a/../../evil.yaml": _TASK}, "stays inside"),
            ({".hidden.yaml": _TASK}, "stays inside"),
            ({"a\\b.yaml": _TASK}, "stays inside"),
            ({"modules.yaml": _TASK, "MODULES.yaml": _TASK}, "comes twice"),
            ({"run.sh": "rm"}, "files of the kinds"),
            ({"modules.yaml": _TASK + "process_docs: !function utils.process\n"}, "Python"),
            ({"modules.yaml": _TASK, "utils.py": "print(1)"}, "Python"),
            ({"modules.yaml": "!!python/object/apply:os.system ['id']"}, "not YAML"),
            ({"modules.yaml": _TASK.replace("json\n", "super_glue\n", 1)}, "dataset_path"),
            ({"modules.yaml": _TASK.replace("modules.jsonl", "/etc/passwd")}, "no data file"),
            ({"modules.yaml": _TASK.replace("modules.jsonl", "../../secrets.jsonl")}, "no data file"),
            ({"modules.yaml": _TASK.replace("modules.jsonl", "https://e.org/x.jsonl")}, "no data file"),
            ({"modules.yaml": _TASK + "include: /etc/hosts.yaml\n"}, "no YAML file of the suite"),
            ({"modules.yaml": _TASK + "include: modules.yaml\n"}, "includes itself"),
            ({"modules.yaml": _TASK + "unsafe_code: true\n"}, "unsafe_code"),
            ({"modules.yaml": _TASK + "use_prompt: promptsource:*\n"}, "use_prompt"),
            (
                {"modules.yaml": _TASK.replace("    ignore_case: true", "    hf_evaluate: true")},
                "hf_evaluate",
            ),
            ({"modules.yaml": _TASK.replace("stdlib_modules", "'a/b'")}, "must be made of"),
            ({"modules.yaml": "group: x\ntask: [a]\n"}, "no task"),
            ({"modules.yaml": "[" * 100_000}, "not YAML"),
            ({"modules.jsonl": "{", "modules.yaml": _TASK}, "can't be read"),
        ],
    )
    async def test_what_may_not_be_in_a_suite(
        self, plane: ControlPlane, files: dict[str, str], words: str
    ) -> None:
        answer = await _upload(plane, {"modules.jsonl": _DATA} | files)
        assert answer[0] == 422, answer
        assert words in answer[1]["error"]["message"]

    async def test_bytes_must_have_the_digest_that_is_told(self, plane: ControlPlane) -> None:
        status, body = await _upload(
            plane, {"modules.jsonl": _DATA, "modules.yaml": _TASK}, digest_of=b"else"
        )
        assert status == 422
        assert "digest" in body["error"]["message"]

    async def test_too_much_is_refused(self, plane: ControlPlane) -> None:
        status, body = await _upload(plane, {"modules.yaml": _TASK, "modules.jsonl": "x" * (33 << 20)})
        assert status == 422
        assert "larger" in body["error"]["message"]


class TestEvaluations:
    async def test_from_submission_to_evidence(
        self, plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
    ) -> None:
        suite = await client.suites.add(_EXAMPLE)
        job = await client.jobs.submit(_spec("stdlib-questions"))
        assert job.lineage["suite.stdlib-questions"] == suite.digest
        await _carry_out(plane, job.id, tmp_path)

        (summary,) = (await client.evaluations.list(job=job.id)).data
        view = await client.evaluations.get(summary.id)
        assert (view.n, view.suite_digest, view.cached_from) == (96, suite.digest, None)
        accuracy = next(each for each in view.metrics if each.name == "stdlib_purposes.acc")
        assert accuracy.n == 64
        assert accuracy.method == "wilson"
        assert accuracy.interval[0] < accuracy.mean < accuracy.interval[1]
        table: Any = _parquet.read_table(io.BytesIO(await client.evaluations.samples(view.id)))
        values: list[float] = [each for each in table["value.acc"].to_pylist() if each is not None]
        assert sum(values) / 64 == pytest.approx(accuracy.mean)
        async with plane.database.transaction() as session:
            evidence = await evidence_of(session, _DEFAULT, view.model_digest)
        assert evidence is not None
        found = evidence.metrics["stdlib-questions/stdlib_purposes.acc"]
        assert (found.mean, found.interval, found.proportion) == (accuracy.mean, accuracy.interval, True)

    async def test_an_equal_one_is_answered_from_the_first_and_says_so(
        self, plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
    ) -> None:
        await client.suites.add(_EXAMPLE)
        first = await client.jobs.submit(_spec("stdlib-questions"))
        await _carry_out(plane, first.id, tmp_path)
        second = await client.jobs.submit(_spec("stdlib-questions"))
        await _carry_out(plane, second.id, tmp_path)
        third = await client.jobs.submit(_spec("stdlib-questions", use_cache=False))
        await _carry_out(plane, third.id, tmp_path)

        rows = {row.job_id: row for row in (await client.evaluations.list()).data}
        assert rows[second.id].cached_from == rows[first.id].id
        assert rows[third.id].cached_from is None
        digests = {(await client.evaluations.get(row.id)).digest for row in rows.values()}
        assert len(digests) == 1
        assert [each async for each in _events(plane, second.id)] == ["evaluation.cached"]
        assert [each async for each in _events(plane, third.id)] == ["evaluation.measured"]
        assert not list(plane.folders.job("default", second.id).glob("evaluations/*/shard-*"))
        assert list(plane.folders.job("default", third.id).glob("evaluations/*/shard-*"))

    async def test_two_models_are_compared_on_the_same_samples(
        self, plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
    ) -> None:
        await client.suites.add(_EXAMPLE)
        first = await client.jobs.submit(_spec("stdlib-questions"))
        await _carry_out(plane, first.id, tmp_path)
        other = _disturbed_model(tmp_path)
        second = await client.jobs.submit(_spec("stdlib-questions", model=str(other)))
        await _carry_out(plane, second.id, tmp_path)

        found = await client.evaluations.compare(first.id, second.id)
        by_name = {each.metric: each for each in found.metrics}
        accuracy = by_name["stdlib-questions/stdlib_purposes.acc"]
        assert accuracy.n == 64
        assert accuracy.test in ("mcnemar", "mcnemar exact")
        assert accuracy.difference == pytest.approx((accuracy.b or 0.0) - (accuracy.a or 0.0))
        assert accuracy.interval is not None
        assert accuracy.interval[0] <= (accuracy.difference or 0.0) <= accuracy.interval[1]
        assert (accuracy.smallest_effect or 0.0) > 0.0
        same = await client.evaluations.compare(first.id, first.id)
        assert {each.verdict for each in same.metrics} == {"no difference shown"}

    async def test_a_model_behind_an_api_is_measured_each_time_anew(
        self, plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
    ) -> None:
        folder = tmp_path / "names"
        folder.mkdir()
        for name in ("modules.yaml", "modules.jsonl"):
            shutil.copyfile(_EXAMPLE / name, folder / name)
        await client.suites.add(folder)
        await client.secrets.put("API_KEY", "key-of-somebody")
        with serve_chats(lambda text: text.split("`")[1].split(".")[0]) as (url, seen):
            spec = _spec("names") | {
                "endpoint": {"url": url, "model": "large", "secret": "API_KEY"},
                "secrets": ["API_KEY"],
            }
            del spec["model"]
            for _ in range(2):
                job = await client.jobs.submit(spec)
                await _carry_out(plane, job.id, tmp_path)
        assert {each["authorization"] for each in seen} == {"Bearer key-of-somebody"}
        assert len(seen) == 2 * 32
        rows = (await client.evaluations.list()).data
        assert [row.cached_from for row in rows] == [None, None]
        assert {row.metrics[0].mean for row in rows} == {1.0}
        assert rows[0].model_name == f"large at {url}"

    async def test_results_can_not_be_changed(
        self, plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
    ) -> None:
        await client.suites.add(_EXAMPLE)
        job = await client.jobs.submit(_spec("stdlib-questions"))
        await _carry_out(plane, job.id, tmp_path)
        for statement in ("UPDATE evaluations SET metrics = '[]'", "DELETE FROM evaluations"):
            with pytest.raises(DBAPIError):
                async with plane.database.transaction() as session:
                    await session.execute(text(statement))


def _spec(suite: str, *, model: str = "builtin/tiny-random", use_cache: bool = True) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": "weigh",
        "model": {"name_or_path": model},
        "evaluation": {"suites": [suite], "use_cache": use_cache},
    }


def _disturbed_model(tmp_path: Path) -> Path:
    """The same model with a few weights changed."""
    torch: Any = importlib.import_module("safetensors.torch")
    folder = tmp_path / "disturbed"
    shutil.copytree(ensure_builtin("builtin/tiny-random", tmp_path / "models").path, folder)
    (folder / "MANIFEST.json").unlink()
    weights = torch.load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].flip(0)
    torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


async def _upload(
    plane: ControlPlane, files: dict[str, str], *, digest_of: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    sent = [
        {
            "path": path,
            "digest": digest_bytes(digest_of or content.encode()),
            "content": base64.b64encode(content.encode()).decode(),
        }
        for path, content in files.items()
    ]
    async with plane.http() as http:
        answer = await http.post(
            "/v1/projects/default/suites", content=json.dumps({"name": "mine", "files": sent})
        )
    return answer.status_code, answer.json()


async def _carry_out(plane: ControlPlane, job_id: str, tmp_path: Path) -> None:
    """Bring a job to the end of its evaluation as workflow, executor and watcher would."""
    preparation = PreparationService(
        plane.workers,
        DatasetFileService(tmp_path / "cache", lambda _version, _split, _out: 0),
        tmp_path / "models",
        lambda _name: None,
        SuiteFolderService(plane.workers, plane.folders.objects, tmp_path / "suites"),
        plane.folders,
        TokenizedService(plane.workers, tmp_path / "tokenized"),
    )
    prepared = await preparation.prepare(job_id)
    assert prepared.ready, prepared.message
    await plane.admit(job_id)
    started = await plane.lifecycle.start_attempt(job_id, 0, "0:1", "evaluate")
    assert started.attempt_id is not None
    spec = await plane.launching.launch_spec(started.attempt_id)
    folder = Path(spec.run.attempt_dir)
    folder.mkdir(parents=True)
    run = spec.run.model_copy(update={"api_url": None, "tracking": None})
    (folder / RUN_NAME).write_text(run.model_dump_json())
    for name, value in spec.secrets:
        (folder / SECRETS_NAME).mkdir(exist_ok=True)
        (folder / SECRETS_NAME / name).write_text(value)
    code = await asyncio.to_thread(_evaluate, folder / RUN_NAME)
    assert code == ExitCode.DONE, (folder / "outcome.json").read_text()
    collecting = EvaluationService(plane.workers, plane.folders)
    assert await collecting.collect(started.attempt_id) == 1
    assert await collecting.collect(started.attempt_id) == 0
    await plane.lifecycle.move(job_id, 0, JobState.SUCCEEDED, None, "done", release=True)


def _evaluate(run_path: Path) -> int:
    # Only a process's main thread may listen to signals; the trainer asks for that and nothing else.
    listen = signal.signal
    signal.signal = _ignore  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return evaluate.main(run_path)
    finally:
        signal.signal = listen


def _ignore(*_: object) -> None:
    return None


async def _events(plane: ControlPlane, job_id: str) -> AsyncGenerator[str]:
    async with plane.database.transaction() as session:
        query = select(EventRow.type).where(EventRow.job_id == job_id).order_by(EventRow.id)
        for kind in await session.scalars(query):
            if kind.startswith("evaluation."):
                yield kind

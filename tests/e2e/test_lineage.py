"""Lineage of a real model: sealed, verified, tampered with, made again bit for bit."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg2
import pytest
from tests.e2e.platform import LivePlatform, wait_for_state
from tests.e2e.specs import sums_spec

from steelyard.client import Client
from steelyard.kit.home import admin_token_file
from steelyard.server.home import (
    DATABASE_NAME,
    HomeLayout,
    database_dsn,
    read_platform,
    read_secret,
    socket_dsn,
)

NAME = "sealed-sums"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        measured = {"suites": ["heldout"], "max_samples": 8}
        job = client.jobs.submit({**sums_spec(NAME, max_steps=40), "evaluation": measured})
        assert wait_for_state(client, job.id, "succeeded", "failed").state == "succeeded"
        yield client


@pytest.fixture
def folder(platform: LivePlatform, client: Client) -> Path:
    """The files of the registered model."""
    graph = client.lineage.graph("model", f"{NAME}@1")
    job_id = next(node.id for node in graph.nodes if node.kind == "job").removeprefix("job:")
    (folder,) = (platform.home / "objects").glob(f"**/{job_id}/models/e*[0-9]")
    return folder


@pytest.fixture
def superuser(platform: LivePlatform) -> Iterator[psycopg2.extensions.connection]:
    """The platform's database, past every privilege."""
    sockets, layout = read_platform(platform.home).postgres_socket_dir, HomeLayout(platform.home)
    assert sockets is not None
    connection = psycopg2.connect(
        socket_dsn(sockets, "postgres", DATABASE_NAME, read_secret(layout.superuser_password))
    )
    connection.autocommit = True
    yield connection
    connection.close()


def test_a_whole_model_is_verified(platform: LivePlatform, client: Client) -> None:
    told = platform.json("verify", f"{NAME}@1")
    assert told["verified"]
    found = {check["subject"]: check["status"] for check in told["checks"]}
    assert found.keys() >= {
        *("files", "statement", "statement_file", "config", "dataset", "base_model", "code", "evaluation"),
        "sealed_tokens",
    }
    assert set(found.values()) == {"ok"}


def test_the_report_of_the_data_is_linked_from_lineage_job_model_and_mlflow(
    platform: LivePlatform, client: Client
) -> None:
    graph = client.lineage.graph("model", f"{NAME}@1")
    (path,) = {node.report for node in graph.nodes if node.kind == "dataset"}
    (job,) = [node.id.removeprefix("job:") for node in graph.nodes if node.kind == "job"]
    assert path is not None
    assert client.jobs.get(job).dataset_report == path
    assert client.models.versions(NAME)[0].dataset_report == path
    headers = {"Authorization": f"Bearer {read_secret(admin_token_file(platform.home))}"}
    with httpx.Client(base_url=read_platform(platform.home).api_url, headers=headers) as http:
        page = http.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "sandbox" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "<svg" in page.text
        query = {"filter": f"tags.`steelyard.job_id` = '{job}'", "experiment_ids": _experiments(http)}
        (run,) = http.post("/mlflow/api/2.0/mlflow/runs/search", json=query).json()["runs"]
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        assert http.get(tags["steelyard.dataset_report"]).text == page.text
        assert tags["steelyard.dataset_report"] in tags["mlflow.note.content"]


def _experiments(http: httpx.Client) -> list[str]:
    found = http.post("/mlflow/api/2.0/mlflow/experiments/search", json={"max_results": 100}).json()
    return [each["experiment_id"] for each in found["experiments"]]


def test_the_statement_is_in_toto_and_names_what_went_in(client: Client, folder: Path) -> None:
    envelope = client.lineage.statement(NAME, 1)
    assert (folder.parent / f"{folder.name}.intoto.dsse.json").read_text() == envelope
    statement = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    definition = statement["predicate"]["buildDefinition"]
    names = {each["name"] for each in definition["resolvedDependencies"]}
    assert names == {"dataset", "base_model", "code", "tokens"}
    byproducts = [each["name"] for each in statement["predicate"]["runDetails"]["byproducts"]]
    assert byproducts.count("evaluation") == 2
    assert definition["internalParameters"]["seeds"] == {"training": 7}
    assert definition["internalParameters"]["lock"]["distributions"]["torch"]
    assert "model.safetensors" in {each["name"] for each in statement["subject"]}


def test_a_flipped_byte_is_named_and_ends_with_1(
    platform: LivePlatform, client: Client, folder: Path
) -> None:
    weights = folder / "model.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        result = platform.run("verify", f"{NAME}@1")
        assert result.returncode == 1
        assert "model.safetensors" in result.stdout
    finally:
        weights.write_bytes(before)
    assert platform.run("verify", f"{NAME}@1").returncode == 0


SEED = "UPDATE jobs SET spec = jsonb_set(spec, '{training,seed}', '%d') WHERE name = 'sealed-sums'"
DATASET = "UPDATE model_versions SET lineage = jsonb_set(lineage, '{dataset}', %s) WHERE name = 'sealed-sums'"
OF_THE_JOB = "(SELECT lineage->'dataset' FROM jobs WHERE id = job_id)"


FIGURES = (
    "UPDATE evaluations"
    " SET metrics = jsonb_set(metrics, '{0,mean}', to_jsonb((metrics->0->>'mean')::float8 %s))"
    " WHERE subject = 'tuned' AND job_id IN (SELECT id FROM jobs WHERE name = 'sealed-sums')"
)


@pytest.mark.parametrize(
    ("change", "undo", "named"),
    [
        (DATASET % "'\"sha256:00\"'", DATASET % OF_THE_JOB, {"dataset", "sealed_dataset"}),
        (SEED % 8, SEED % 7, {"config"}),
        (FIGURES % "* 2", FIGURES % "/ 2", {"figures/tuned/heldout"}),
    ],
    ids=["lineage", "spec", "figures"],
)
def test_a_row_that_a_superuser_changed_is_named(
    superuser: psycopg2.extensions.connection, client: Client, change: str, undo: str, named: set[str]
) -> None:
    with superuser.cursor() as cursor:
        cursor.execute("ALTER TABLE model_versions DISABLE TRIGGER ALL")
        cursor.execute("ALTER TABLE evaluations DISABLE TRIGGER ALL")
        cursor.execute(change)
        try:
            found = client.lineage.verify(NAME, 1)
        finally:
            cursor.execute(undo)
            for table in ("model_versions", "evaluations"):
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
    assert {check.subject for check in found.checks if check.status == "differs"} == named
    assert client.lineage.verify(NAME, 1).verified


def test_per_sample_records_that_are_not_what_was_measured_are_named(
    platform: LivePlatform, client: Client
) -> None:
    row = next(each for each in client.evaluations.list(suite="heldout").data if each.subject == "tuned")
    digest = client.evaluations.get(row.id).samples_digest.removeprefix("sha256:")
    (samples,) = (platform.home / "objects").rglob(digest)
    before, mode = samples.read_bytes(), samples.stat().st_mode
    samples.chmod(0o644)
    try:
        samples.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        found = client.lineage.verify(NAME, 1)
    finally:
        samples.write_bytes(before)
        samples.chmod(mode)
    assert not found.verified
    assert {each.subject for each in found.checks if each.status == "differs"} == {"samples/tuned/heldout"}
    assert client.lineage.verify(NAME, 1).verified


def test_a_statement_cant_be_changed_in_the_database(platform: LivePlatform, client: Client) -> None:
    connection = psycopg2.connect(database_dsn(platform.home))
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), connection.cursor() as cursor:
        cursor.execute("UPDATE lineage_statements SET envelope = '{}'")
    connection.close()


def test_made_again_it_is_bit_identical_and_not_registered(platform: LivePlatform, client: Client) -> None:
    told = platform.json("reproduce", f"{NAME}@1")
    assert told["identical"]
    assert told["found_digest"] == told["sealed_digest"]
    graph = client.lineage.graph("job", told["job_id"], hops=1)
    relations = {(edge.source, edge.relation) for edge in graph.edges}
    assert (f"model:{NAME}@1", "repeats") in relations
    assert not any(edge.relation == "trained" and edge.source == graph.root for edge in graph.edges)


def test_the_graph_reaches_as_far_as_it_is_asked(client: Client) -> None:
    near = client.lineage.graph("model", f"{NAME}@1", hops=1)
    far = client.lineage.graph("model", f"{NAME}@1")
    assert {node.kind for node in near.nodes} == {"model", "job"}
    assert {node.kind for node in far.nodes} >= {"model", "job", "dataset", "base_model"}
    around = client.lineage.graph("dataset", "sums@v1", hops=2)
    assert f"model:{NAME}@1" in {node.id for node in around.nodes}


def test_the_card_tells_results_origins_and_limits(platform: LivePlatform, client: Client) -> None:
    card = platform.run("card", f"{NAME}@1").stdout
    assert card.startswith("---\n")
    assert "base_model: builtin/tiny-random" in card
    assert "not tested" in card
    assert "No safety suite was run" in card
    line = next(line for line in card.splitlines() if line.startswith("| heldout/loss"))
    value, interval, n, base = (cell.strip() for cell in line.strip("|").split("|")[1:])
    low, high = map(float, interval.split(" to "))
    assert low < float(value) < high
    assert (n, float(base) > float(value)) == ("8", True)

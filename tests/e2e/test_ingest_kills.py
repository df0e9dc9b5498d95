"""An ingest whose worker, or whose own process, is killed ends in the version that a calm one gives, once."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.e2e.platform import LivePlatform

from steelyard.client import Client
from steelyard.specs.ingests import IngestView

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows enough for seconds of work, some of them repeated."""
    path = tmp_path_factory.mktemp("corpus") / "rows.jsonl"
    words = [f"word{number}" for number in range(997)]
    with path.open("w") as file:
        for number in range(60_000):
            said = " ".join(words[(number % 57_500) * step % 997] for step in range(1, 60))
            file.write(json.dumps({"prompt": f"about {number % 57_500}", "completion": said}) + "\n")
    return path


def test_killed_again_and_again_it_gives_the_version_of_a_calm_one(
    platform: LivePlatform, client: Client, corpus: Path
) -> None:
    killed: list[str] = []
    worker = platform.pid("worker-1")

    def kill(view: IngestView) -> None:
        if view.progress is None or len(killed) == 2:
            return
        if not killed:
            found = psutil.Process(worker).children(recursive=True)
            engines = [child for child in found if "steelyard.datasets.process" in child.cmdline()]
            for engine in engines:
                os.kill(engine.pid, signal.SIGKILL)
                killed.append("process")
            return
        killed.append("worker")
        platform.kill("worker-1")

    version = client.datasets.ingest([corpus], "killed", on_progress=kill)
    assert killed == ["process", "worker"]
    assert (version.version, version.created, version.rows_in) == (1, True, 60_000)
    assert version.rows_kept <= 57_500
    calm = client.datasets.ingest([corpus], "calm")
    assert calm.digest == version.digest
    again = client.datasets.ingest([corpus], "killed")
    assert (again.version, again.created) == (1, False)
    assert client.datasets.verify("killed@v1").whole
    left = [path for path in (platform.home / "work" / "datasets").rglob("*") if path.is_file()]
    assert [path for path in left if "incoming" not in path.parts] == []


def test_the_command_tells_what_it_did_in_json(platform: LivePlatform, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nWhat is two?,A number.\nWhat is two?,A number.\nAnd three?,Another.\n")
    command = ("data", "ingest", str(path), "--name", "few", "--column-map", "question=prompt")
    told = platform.json(*command, "--column-map", "answer=completion")
    assert told.keys() >= {"name", "version", "digest", "rows_in", "rows_kept", "stages"}
    assert (told["name"], told["version"], told["rows_in"], told["rows_kept"]) == ("few", 1, 3, 2)
    dropped = {stage["name"]: stage["rows_dropped"] for stage in told["stages"]}
    assert dropped["exact_dedup"] == 1
    out = tmp_path / "out.jsonl"
    assert platform.json("data", "export", "few@v1", "--out", str(out))["rows"] == 2
    assert sorted(json.loads(line)["prompt"] for line in out.read_text().splitlines()) == [
        "And three?",
        "What is two?",
    ]
    child = platform.json("data", "derive", "few@v1", "--filter", "prompt LIKE 'And%'", "--name", "and")
    assert (child["rows_kept"], child["parents"][0]["ref"]) == (1, "few@v1")
    kept = platform.json("data", "delete", "few@v1")
    assert (kept["outcome"], kept["kept_for"]) == ("tombstone", "dataset and@v1")
    assert platform.json("data", "delete", "and@v1")["outcome"] == "gone"
    refused = platform.run("data", "head", "few@v1")
    assert refused.returncode != 0
    assert "was deleted by" in refused.stderr

"""`steelyard audit ...` as an auditor runs it: on the server's machine, from an export, with a key alone."""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.audit_trails import Trail, tamper

from steelyard.governance.audit.publication import LATEST_NAME, PUBLIC_KEY_NAME
from steelyard.server.audit import main
from steelyard.storage.database import Database


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Server:
    """A home with a trail of seven acts, and the commands as its owner runs them."""

    home: Path
    trail: Trail
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    async def run(self, *arguments: str, dsn: str | None = None) -> Done:
        """Run a command in a thread, since it brings an event loop of its own."""
        with self.monkeypatch.context() as patch:
            if dsn is not None:
                patch.setenv("STEELYARD_DATABASE_DSN", dsn)
            code = await asyncio.to_thread(main, list(arguments))
        said = self.capsys.readouterr()
        return Done(code, said.out, said.err)


@pytest.fixture
async def server(
    database: Database,
    database_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Server:
    home = tmp_path / "home"
    trail = Trail(database, home / "audit" / "checkpoints")
    await trail.act(7)
    await trail.sealer(batch_rows=3).seal_all()
    monkeypatch.setenv("STEELYARD_HOME", str(home))
    monkeypatch.setenv("STEELYARD_DATABASE_DSN", database_dsn)
    return Server(home, trail, monkeypatch, capsys)


@pytest.mark.usefixtures("server")
def test_the_command_line_hands_over_and_keeps_the_exit_code(superuser: Engine) -> None:
    entry = "from steelyard.cli.entry import run; run()"
    command = [sys.executable, "-c", entry, "audit", "verify", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    report = json.loads(done.stdout)
    assert (done.returncode, report["intact"], report["size"], report["faults"]) == (0, True, 7, [])

    tamper(superuser, "DELETE FROM audit_log WHERE id = 4")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert json.loads(done.stdout)["faults"][0]["row_id"] == 4


async def test_an_intact_trail(server: Server) -> None:
    done = await server.run("verify")

    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("INTACT: 7 sealed rows in 3 rounds, held against 2 kept checkpoints")


async def test_a_changed_row_is_named(server: Server, superuser: Engine) -> None:
    tamper(superuser, "UPDATE audit_log SET actor = 'user:mallory' WHERE id = 4")

    done = await server.run("verify")
    assert done.code == 1
    assert done.stdout.startswith("changed: row 4 isn't what was sealed")
    assert "TAMPERED" in done.stdout


async def test_an_old_checkpoint_finds_what_was_rewritten(
    server: Server, superuser: Engine, tmp_path: Path
) -> None:
    old = tmp_path / "old.checkpoint"
    old.write_text(server.trail.latest().note)
    tamper(
        superuser,
        "DELETE FROM audit_leaves",
        "DELETE FROM audit_seals",
        "DELETE FROM audit_log WHERE id = 2",
    )
    for file in server.trail.folder.glob("*.checkpoint"):
        file.unlink()
    await server.trail.sealer().seal_all()

    assert (await server.run("verify")).code == 0
    done = await server.run("verify", "--checkpoint", str(old))
    assert done.code == 1
    assert f"{old} is over 7 rows" in done.stdout


async def test_another_public_key_trusts_nothing(server: Server, tmp_path: Path) -> None:
    key = tmp_path / "other.pub"
    key.write_text("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n")

    assert (await server.run("verify", "--public-key", str(key))).code == 1
    key.write_text("nonsense")
    assert (await server.run("verify", "--public-key", str(key))).code == 2


async def test_an_unreachable_database(server: Server) -> None:
    done = await server.run("verify", dsn="postgresql://nobody:x@/none?host=/nowhere")

    assert done.code == 3
    assert "doesn't answer" in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_export_is_verified_without_a_database(server: Server, tmp_path: Path) -> None:
    exported, key = tmp_path / "trail.jsonl", tmp_path / "audit.pub"
    exported.write_text((await server.run("export")).stdout)
    key.write_bytes((server.trail.folder / PUBLIC_KEY_NAME).read_bytes())
    newest = str(server.trail.folder / LATEST_NAME)

    given = ("--export", str(exported), "--public-key", str(key), "--checkpoint", newest)
    assert (await server.run("verify", *given, dsn="postgresql://nobody@/none?host=/nowhere")).code == 0

    exported.write_text(exported.read_text().replace("job_4", "job_5", 1))
    done = await server.run("verify", *given)
    assert (done.code, "row 5" in done.stdout.splitlines()[0]) == (1, True)


async def test_an_export_with_filters_is_not_verified(server: Server, tmp_path: Path) -> None:
    exported = tmp_path / "part.jsonl"
    exported.write_text((await server.run("export", "--object", "job_4")).stdout)

    lines = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [line["row"]["object_id"] for line in lines[1:]] == ["job_4"]
    assert (await server.run("verify", "--export", str(exported))).code == 2


async def test_csv(server: Server) -> None:
    lines = (
        await server.run("export", "--format", "csv", "--actor", "ada", "--verb", "job.*")
    ).stdout.splitlines()

    assert lines[0].startswith("position,id,at,actor,verb")
    assert [line.split(",")[1] for line in lines[1:]] == ["1", "2", "3", "4", "5", "6", "7"]


@pytest.mark.usefixtures("server")
def test_a_reader_who_has_seen_enough_is_no_fault_of_the_database() -> None:
    command = [sys.executable, "-m", "steelyard.server.audit", "export"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 141)


async def test_a_proof_holds_and_a_bent_one_does_not(server: Server, tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    proof.write_text((await server.run("prove", "3")).stdout)
    key = str(server.trail.folder / PUBLIC_KEY_NAME)

    done = await server.run("check-proof", str(proof), "--public-key", key, "--json")
    assert (done.code, json.loads(done.stdout)["row"]["object_id"]) == (0, "job_2")

    proof.write_text(proof.read_text().replace("user:ada", "user:eve"))
    done = await server.run("check-proof", str(proof), "--public-key", key)
    assert (done.code, "doesn't hold" in done.stderr) == (1, True)


async def test_a_row_that_is_not_there_or_was_changed_has_no_proof(server: Server, superuser: Engine) -> None:
    assert (await server.run("prove", "99")).code == 4

    tamper(superuser, "UPDATE audit_log SET verb = 'job.pause' WHERE id = 3")
    assert (await server.run("prove", "3")).code == 1

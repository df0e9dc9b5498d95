"""Attempts that are forked off a real fork server: that they are, and that nothing depends on it after."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.compute.conformance import end_of, folder_of, launch_ready, plan_attempt, starts_of, until
from steelyard.compute.executor import LaunchSpec, Phase, StopMode
from steelyard.compute.local import files
from steelyard.compute.local.executor import LocalExecutor
from steelyard.compute.local.processes import marked, send_signal
from steelyard.compute.local.sweep import stop_all
from steelyard.specs.outcome import OutcomeKind

Server = tuple[subprocess.Popen[bytes], Path]


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "attempts"
    folder.mkdir()
    yield folder
    stop_all(folder, 0.0)


def parents_of(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


def open_files(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return sorted(os.readlink(entry) for entry in folder.iterdir())


def shim_pid(spec: LaunchSpec) -> int:
    claim = files.read_claim(folder_of(spec))
    assert claim is not None
    return claim.pid


def read_environ(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


async def test_the_payload_is_a_fork_of_the_imported_image(forkserver: Path, attempts: Path) -> None:
    forked, fresh = plan_attempt(attempts, "naive"), plan_attempt(attempts, "exit:0")
    await launch_ready(LocalExecutor(forkserver), forked)
    await LocalExecutor().launch(fresh)
    await end_of(LocalExecutor(), fresh)
    assert starts_of(fresh)[0]["preloaded"] == []
    (started,) = starts_of(forked)
    assert "torch" in started["preloaded"]
    assert started["parent"] == shim_pid(forked)
    assert started["environment"]["STEELYARD_PARENT_PID"] == str(shim_pid(forked))
    assert "STEELYARD_FORKSERVER" not in started["environment"]


async def test_a_fork_can_be_found_by_its_marker(forkserver: Path, attempts: Path) -> None:
    spec = plan_attempt(attempts, "family")
    await launch_ready(LocalExecutor(forkserver), spec)
    found = [identity.pid for identity, marker in marked() if marker == spec.run.attempt_id]
    assert starts_of(spec)[0]["pid"] in found
    assert len(found) == 3
    assert not any(spec.token.encode() in line for line in read_environ(found[0]))


async def test_forks_hold_nothing_of_the_servers(forkserver: Path, attempts: Path) -> None:
    spec = plan_attempt(attempts, "naive")
    await launch_ready(LocalExecutor(forkserver), spec)
    payload = open_files(starts_of(spec)[0]["pid"])
    assert payload[0] == "/dev/null"
    assert [name.partition(":")[0] for name in payload[1:]] == ["pipe", "pipe"], payload
    shim = open_files(shim_pid(spec))
    assert not [name for name in shim if name.startswith("socket:") or name.endswith("launch.lock")], shim


async def test_attempts_outlive_a_killed_server(bare_server: Server, attempts: Path) -> None:
    spec = plan_attempt(attempts, "obey")
    server, address = bare_server
    executor = LocalExecutor(address)
    await launch_ready(executor, spec)
    assert server.pid not in list(parents_of(shim_pid(spec)))
    server.kill()
    server.wait()
    seen = await executor.wait(spec.run.attempt_id, folder_of(spec), 0.2)
    assert seen.phase is Phase.RUNNING
    await executor.stop(spec.run.attempt_id, folder_of(spec), StopMode.CHECKPOINT, 20.0, "preempted")
    assert (await end_of(executor, spec)).kind is OutcomeKind.CHECKPOINTED


async def test_a_dead_server_is_done_without(bare_server: Server, attempts: Path) -> None:
    spec = plan_attempt(attempts, "exit:0")
    server, address = bare_server
    server.kill()
    server.wait()
    await LocalExecutor(address).launch(spec)
    assert (await end_of(LocalExecutor(), spec)).kind is OutcomeKind.SUCCEEDED


async def test_a_server_that_hangs_is_done_without_and_starts_nothing_later(
    bare_server: Server, attempts: Path
) -> None:
    spec = plan_attempt(attempts, "naive")
    server, address = bare_server
    executor = LocalExecutor(address)
    server.send_signal(signal.SIGSTOP)
    await launch_ready(executor, spec)
    first = shim_pid(spec)
    server.send_signal(signal.SIGCONT)
    after = plan_attempt(attempts, "exit:0")
    await executor.launch(after)
    await end_of(executor, after)
    assert shim_pid(spec) == first
    assert len(starts_of(spec)) == 1


async def test_a_killed_shim_takes_its_forked_payload_along(forkserver: Path, attempts: Path) -> None:
    executor, spec = LocalExecutor(forkserver), plan_attempt(attempts, "family")
    await launch_ready(executor, spec)
    claim = files.read_claim(folder_of(spec))
    assert claim is not None
    send_signal(claim, signal.SIGKILL)
    seen = await executor.wait(spec.run.attempt_id, folder_of(spec), 20.0)
    assert seen.phase is Phase.LOST
    assert not [marker for _, marker in marked() if marker == spec.run.attempt_id]


async def test_nonsense_is_refused_and_service_goes_on(bare_server: Server, attempts: Path) -> None:
    _, address = bare_server
    for nonsense in (b"", b"{", b'{"folder": 1}\n', b'{"folder": "relative"}\n'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(address))
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
    spec = plan_attempt(attempts, "exit:0")
    await LocalExecutor(address).launch(spec)
    assert (await end_of(LocalExecutor(), spec)).kind is OutcomeKind.SUCCEEDED
    assert address.stat().st_mode & 0o777 == 0o600


async def test_a_server_whose_socket_was_taken_leaves(bare_server: Server) -> None:
    server, address = bare_server
    address.unlink()
    await until(lambda: server.poll() is not None, "the server to leave")
    assert server.returncode == 0


def test_the_server_keeps_secrets_out_of_its_environment(forkserver: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(forkserver))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = int.from_bytes(credentials[:4], sys.byteorder)
    assert not any(line.startswith(b"STEELYARD_DATABASE_DSN") for line in read_environ(pid))
    assert len(os.listdir(f"/proc/{pid}/task")) == 1

"""SIGKILL and SIGSTOP on real launchers, shims and payloads, and what must hold afterwards."""

import asyncio
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from steelyard.compute.conformance import (
    end_of,
    folder_of,
    launch_ready,
    plan_attempt,
    starts_of,
    until,
)
from steelyard.compute.executor import LaunchSpec, Phase, Resources, StopMode
from steelyard.compute.local import files
from steelyard.compute.local.executor import LocalExecutor
from steelyard.compute.local.processes import Identity, is_alive, marked, send_signal
from steelyard.compute.local.sweep import stop_all, sweep_orphans
from steelyard.kit.errors import NotSupported, StorageFull, Unavailable
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import Reason

LAUNCH_SCRIPT = """
import asyncio, pickle, sys
from steelyard.compute.local.executor import LocalExecutor
spec = pickle.load(sys.stdin.buffer)
print("launching", flush=True)
asyncio.run(LocalExecutor().launch(spec))
print("launched", flush=True)
sys.stdin.read()
"""

CLAIM_SCRIPT = """
import os, pathlib, sys
from steelyard.compute.local import files, processes
sys.exit(not files.claim(pathlib.Path(sys.argv[1]), processes.identify(os.getpid())))
"""


def start_launcher(spec: LaunchSpec) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH_SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(spec))
    process.stdin.flush()
    return process


def end_launcher(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def claim_and_die(folder: Path) -> int:
    return subprocess.run([sys.executable, "-c", CLAIM_SCRIPT, str(folder)], check=False).returncode


def show(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def processes_of(spec: LaunchSpec) -> list[Identity]:
    return [identity for identity, marker in marked() if marker == spec.run.attempt_id]


def is_gone(identity: Identity) -> bool:
    return not is_alive(identity)


def shim_of(spec: LaunchSpec) -> Identity:
    claim = files.read_claim(folder_of(spec))
    assert claim is not None
    return claim


async def test_a_launcher_killed_at_any_moment_leaves_one_start_at_most(
    executor: LocalExecutor, attempts: Path
) -> None:
    for delay_milliseconds in range(0, 60, 5):
        spec = plan_attempt(attempts, "naive")
        launcher = start_launcher(spec)
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"launching\n"
        await asyncio.sleep(delay_milliseconds / 1000)
        end_launcher(launcher)
        await launch_ready(executor, spec)
        assert (await executor.observe(spec.run.attempt_id, folder_of(spec))).phase is Phase.RUNNING
        await executor.stop(spec.run.attempt_id, folder_of(spec), StopMode.KILL, 0.0, "preempted")
        await end_of(executor, spec)
        assert len(starts_of(spec)) == 1, f"launcher killed after {delay_milliseconds} ms"


async def test_launchers_in_many_processes_start_one(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, "naive")
    launchers = [start_launcher(spec) for _ in range(6)]
    for launcher in launchers:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        assert launcher.stdout.readline() == b"launched\n"
        end_launcher(launcher)
    await launch_ready(executor, spec)
    await executor.stop(spec.run.attempt_id, folder_of(spec), StopMode.KILL, 0.0, "preempted")
    await end_of(executor, spec)
    assert len(starts_of(spec)) == 1


async def test_outlives_its_launcher_and_is_stopped_by_another(
    executor: LocalExecutor, attempts: Path
) -> None:
    spec = plan_attempt(attempts, "obey")
    launcher = start_launcher(spec)
    await until(lambda: list(folder_of(spec).glob("ready-*")), "the payload to be ready")
    end_launcher(launcher)
    seen = await executor.wait(spec.run.attempt_id, folder_of(spec), 0.2)
    assert seen.phase is Phase.RUNNING
    assert os.getsid(shim_of(spec).pid) == shim_of(spec).pid
    await executor.stop(spec.run.attempt_id, folder_of(spec), StopMode.CHECKPOINT, 20.0, "preempted")
    assert (await end_of(executor, spec)).kind is OutcomeKind.CHECKPOINTED


async def test_a_killed_shim_takes_the_whole_tree_with_it(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, "family")
    await launch_ready(executor, spec)
    assert len(processes_of(spec)) == 3
    assert send_signal(shim_of(spec), signal.SIGKILL)
    seen = await executor.wait(spec.run.attempt_id, folder_of(spec), 20.0)
    assert (seen.phase, seen.outcome) == (Phase.LOST, None)
    assert processes_of(spec) == []
    await executor.launch(spec)
    assert (await executor.observe(spec.run.attempt_id, folder_of(spec))).phase is Phase.LOST
    assert len(starts_of(spec)) == 1


async def test_a_shim_killed_after_the_trainers_last_word_is_no_loss(
    executor: LocalExecutor, attempts: Path
) -> None:
    spec = plan_attempt(attempts, "naive")
    await launch_ready(executor, spec)
    outcome = {"kind": "succeeded", "exit_code": 0, "reason": "completed", "message": "all done"}
    files.write_atomic(folder_of(spec) / "outcome.json", json.dumps(outcome).encode())
    send_signal(shim_of(spec), signal.SIGKILL)
    assert (await end_of(executor, spec)).message == "all done"


async def test_a_shim_that_died_before_the_payload_is_never_replaced(
    executor: LocalExecutor, attempts: Path
) -> None:
    spec = plan_attempt(attempts, "exit:0")
    folder_of(spec).mkdir()
    assert await asyncio.to_thread(claim_and_die, folder_of(spec)) == 0
    assert (await executor.observe(spec.run.attempt_id, folder_of(spec))).phase is Phase.LOST
    await executor.launch(spec)
    assert (await executor.observe(spec.run.attempt_id, folder_of(spec))).phase is Phase.LOST
    assert starts_of(spec) == []


async def test_a_folder_without_a_shim_gets_one(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, "exit:0")
    folder_of(spec).mkdir()
    (folder_of(spec) / files.LAUNCH_LOCK).touch()
    (folder_of(spec) / files.LAUNCH_FILE).write_text("{")
    await executor.launch(spec)
    assert (await end_of(executor, spec)).kind is OutcomeKind.SUCCEEDED


async def test_a_stopped_payload_is_killed_after_its_grace(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, "obey")
    await launch_ready(executor, spec)
    seen = await executor.observe(spec.run.attempt_id, folder_of(spec))
    assert seen.pid is not None
    assert seen.pid == starts_of(spec)[0]["pid"]
    os.kill(seen.pid, signal.SIGSTOP)
    await executor.stop(spec.run.attempt_id, folder_of(spec), StopMode.CHECKPOINT, 0.3, "preempted")
    assert (await end_of(executor, spec)).reason is Reason.PROCESS_KILLED


async def test_a_stopped_shim_is_woken_to_do_its_work(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, "obey")
    await launch_ready(executor, spec)
    send_signal(shim_of(spec), signal.SIGSTOP)
    await executor.stop(spec.run.attempt_id, folder_of(spec), StopMode.CHECKPOINT, 20.0, "preempted")
    assert (await end_of(executor, spec)).kind is OutcomeKind.CHECKPOINTED


async def test_a_bare_sigterm_to_the_shim_is_a_checkpoint(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, "naive")
    await launch_ready(executor, spec)
    send_signal(shim_of(spec), signal.SIGTERM)
    outcome = await end_of(executor, spec)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.CHECKPOINTED, Reason.PLATFORM_STOPPED)


async def test_children_in_sessions_of_their_own_are_cleared_away(
    executor: LocalExecutor, attempts: Path
) -> None:
    spec = plan_attempt(attempts, "family-exit")
    await executor.launch(spec)
    assert (await end_of(executor, spec)).kind is OutcomeKind.SUCCEEDED
    assert processes_of(spec) == []


async def test_memory_beyond_the_limit_is_named(attempts: Path) -> None:
    executor = LocalExecutor(memory_factor=1.5)
    granted = Resources(cpus=1, memory_bytes=100 << 20)
    spec = plan_attempt(attempts, f"eat:{300 << 20}", resources=granted)
    await executor.launch(spec)
    outcome = await end_of(executor, spec)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.FAILED, Reason.OUT_OF_MEMORY)
    assert "memory_gb" in outcome.message
    assert "limit is 150 MiB" in outcome.message


async def test_stop_all_stops_all_and_says_which(executor: LocalExecutor, attempts: Path) -> None:
    specs = [plan_attempt(attempts, plan) for plan in ("obey", "deaf", "exit:0")]
    for spec in specs:
        await launch_ready(executor, spec)
    await end_of(executor, specs[2])
    stopped = await asyncio.to_thread(stop_all, attempts, 0.5)
    assert stopped == sorted(spec.run.attempt_id for spec in specs[:2])
    assert (await end_of(executor, specs[0])).kind is OutcomeKind.CHECKPOINTED
    assert (await end_of(executor, specs[1])).reason is Reason.PROCESS_KILLED


async def test_orphans_of_other_folders_are_left_alone(
    executor: LocalExecutor, attempts: Path, tmp_path: Path
) -> None:
    orphaned, healthy = plan_attempt(attempts, "family"), plan_attempt(attempts, "naive")
    elsewhere = plan_attempt(tmp_path / "elsewhere", "family")
    for spec in (orphaned, healthy, elsewhere):
        await launch_ready(executor, spec)
    orphans, others = processes_of(orphaned), processes_of(elsewhere)
    for shim in (shim_of(orphaned), shim_of(elsewhere)):
        send_signal(shim, signal.SIGKILL)
        await until(partial(is_gone, shim), "the shim to be gone")
    killed = await asyncio.to_thread(sweep_orphans, attempts)
    assert set(killed) <= {identity.pid for identity in orphans}
    assert not any(is_alive(identity) for identity in orphans)
    assert sum(is_alive(identity) for identity in others) == 2
    assert len(processes_of(healthy)) == 1
    assert len(await asyncio.to_thread(sweep_orphans, tmp_path / "elsewhere")) == 2


async def test_no_process_shows_the_token(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, "naive")
    await launch_ready(executor, spec)
    for pid in (shim_of(spec).pid, starts_of(spec)[0]["pid"]):
        for name in ("cmdline", "environ"):
            assert spec.token.encode() not in show(pid, name)


async def test_the_platforms_secrets_do_not_reach_the_payload(
    executor: LocalExecutor, attempts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEELYARD_DATABASE_DSN", "postgresql://user:secret@host/db")
    spec = plan_attempt(attempts, "naive")
    await launch_ready(executor, spec)
    for pid in (shim_of(spec).pid, starts_of(spec)[0]["pid"]):
        assert b"secret@host" not in show(pid, "environ")


async def test_a_full_disk_is_named_and_the_next_launch_starts(
    executor: LocalExecutor, attempts: Path
) -> None:
    spec = plan_attempt(attempts, "exit:0")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(StorageFull, match="make room"):
            await executor.launch(spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (await executor.observe(spec.run.attempt_id, folder_of(spec))).phase is Phase.ABSENT
    await executor.launch(spec)
    assert (await end_of(executor, spec)).kind is OutcomeKind.SUCCEEDED


async def test_an_interpreter_that_is_not_there_is_unavailable(attempts: Path) -> None:
    spec = plan_attempt(attempts, "exit:0")
    with pytest.raises(Unavailable):
        await LocalExecutor(python="/nowhere/python").launch(spec)


async def test_several_nodes_are_refused(executor: LocalExecutor, attempts: Path) -> None:
    with pytest.raises(NotSupported, match="num_nodes"):
        await executor.launch(plan_attempt(attempts, "exit:0", nodes=2))


async def test_the_log_can_be_followed_to_its_end(executor: LocalExecutor, attempts: Path) -> None:
    spec = plan_attempt(attempts, f"print:{3 << 20}")
    await executor.launch(spec)
    size = 0
    async for chunk in executor.follow_log(spec.run.attempt_id, folder_of(spec)):
        assert chunk.offset == size
        size += len(chunk.data)
    assert size == 3 << 20


async def test_ranks_run_below_torchrun_and_share_one_outcome(
    executor: LocalExecutor, attempts: Path
) -> None:
    spec = plan_attempt(attempts, "obey", processes=2)
    await executor.launch(spec)
    await until(lambda: len(list(folder_of(spec).glob("ready-*"))) == 2, "both ranks to be ready")
    ranks = {started["environment"]["RANK"] for started in starts_of(spec)}
    assert ranks == {"0", "1"}
    await executor.stop(spec.run.attempt_id, folder_of(spec), StopMode.CHECKPOINT, 20.0, "preempted")
    assert (await end_of(executor, spec)).kind is OutcomeKind.CHECKPOINTED
    assert processes_of(spec) == []

"""The test-suite of the `Executor` contract, shipped so that every executor can be held to it.

Subclass `ExecutorConformance` under pytest (with pytest-asyncio) and give it two fixtures: `executor`,
and `attempts`, an empty folder that the executor's nodes share. The trainer is
`steelyard.compute.conformance_payload`, which leaves a file for every start.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steelyard.compute.conformance_payload import LINE, PLAN_VARIABLE
from steelyard.compute.executor import Executor, LaunchSpec, Observation, Phase, Resources, StopMode
from steelyard.kit.ids import new_id, new_token
from steelyard.specs.blocks import ScriptBlock
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.outcome import Outcome, OutcomeKind
from steelyard.specs.run import RUN_NAME, SECRETS_NAME, TOKEN_NAME, RunConfig
from steelyard.specs.states import Reason

PAYLOAD_MODULE = "steelyard.compute.conformance_payload"
DEADLINE_SECONDS = 30.0
_POLL_SECONDS = 0.005
_LOG_BYTES = 40 << 20


def plan_attempt(attempts: Path, plan: str, *, grace_seconds: float = 20.0, **changes: Any) -> LaunchSpec:
    """Return the orders for a fresh attempt of the conformance payload, in a folder named by its id."""
    attempt_id = new_id("att")
    script = ScriptBlock(filename="conformance.py", source="pass")
    run = RunConfig(
        stage="train",
        project="default",
        job_id=new_id("job"),
        job_name="conformance",
        attempt_id=attempt_id,
        attempt_number=1,
        epoch=1,
        spec=FineTuneSpec(
            api_version="steelyard/v1", type="fine_tune", name="conformance", method="script", script=script
        ),
        job_dir=str(attempts.parent),
        attempt_dir=str(attempts / attempt_id),
        model_path=None,
        dataset=None,
        resume_from=None,
        api_url=None,
        tracking=None,
    )
    environment = ((PLAN_VARIABLE, plan), *changes.pop("environment", ()))
    resources = changes.pop("resources", Resources(cpus=1, memory_bytes=1 << 30))
    return LaunchSpec(
        run=run,
        module=PAYLOAD_MODULE,
        token=new_token("sat"),
        resources=resources,
        grace_seconds=grace_seconds,
        environment=environment,
        **changes,
    )


def folder_of(spec: LaunchSpec) -> Path:
    """Return the attempt's folder."""
    return Path(spec.run.attempt_dir)


def starts_of(spec: LaunchSpec) -> list[dict[str, Any]]:
    """Return what every process that ran the payload's `main` for this attempt said of itself."""
    return [json.loads(path.read_bytes()) for path in folder_of(spec).glob("started-*.json")]


async def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until `condition()` holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}"
        await asyncio.sleep(_POLL_SECONDS)


async def launch_ready(executor: Executor, spec: LaunchSpec) -> None:
    """Launch and wait until the payload has made its preparations."""
    await executor.launch(spec)
    await until(lambda: list(folder_of(spec).glob("ready-*")), "the payload to be ready")


async def end_of(executor: Executor, spec: LaunchSpec) -> Outcome:
    """Wait for the end and return the outcome."""
    seen = await executor.wait(spec.run.attempt_id, folder_of(spec), DEADLINE_SECONDS)
    assert seen.phase is Phase.ENDED, seen
    assert seen.outcome is not None
    return seen.outcome


class ExecutorConformance:
    """What every executor must do. Needs the fixtures `executor` and `attempts`."""

    async def test_knows_nothing_of_what_was_never_launched(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "exit:0")
        assert await _see(executor, spec) == Observation(Phase.ABSENT)
        seen = await executor.wait(spec.run.attempt_id, folder_of(spec), 0.1)
        assert seen.phase is Phase.ABSENT

    async def test_runs_to_the_end(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "exit:0")
        await executor.launch(spec)
        outcome = await end_of(executor, spec)
        assert (outcome.kind, outcome.reason) == (OutcomeKind.SUCCEEDED, Reason.COMPLETED)
        written = RunConfig.model_validate_json((folder_of(spec) / RUN_NAME).read_bytes())
        assert written == spec.run

    async def test_is_running_until_it_ends(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "naive")
        await launch_ready(executor, spec)
        seen = await executor.wait(spec.run.attempt_id, folder_of(spec), 0.1)
        assert (seen.phase, seen.outcome) == (Phase.RUNNING, None)
        await _kill(executor, spec)

    async def test_wait_wakes_soon_after_the_end(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "obey")
        await launch_ready(executor, spec)
        waiting = asyncio.create_task(end_of(executor, spec))
        await _stop(executor, spec, StopMode.CHECKPOINT)
        await until((folder_of(spec) / "outcome.json").exists, "the payload to save")
        saved_at = time.monotonic()
        await waiting
        assert time.monotonic() - saved_at < 2.0

    async def test_believes_the_trainers_own_outcome(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "outcome")
        await executor.launch(spec)
        outcome = await end_of(executor, spec)
        assert (outcome.message, outcome.step) == ("as planned", 7)

    async def test_reads_the_exit_code_where_there_is_no_outcome(
        self, executor: Executor, attempts: Path
    ) -> None:
        expected = {
            "exit:1": (1, Reason.TRAINER_FAILED),
            "exit:64": (64, Reason.BAD_CONFIG),
            "exit:75": (75, Reason.TRANSIENT_FAILURE),
            "exit:143": (143, Reason.PROCESS_KILLED),
            "die:SIGKILL": (137, Reason.PROCESS_KILLED),
            "die:SIGTERM": (143, Reason.PROCESS_KILLED),
            "die:SIGABRT": (134, Reason.TRAINER_FAILED),
        }
        specs = {plan: plan_attempt(attempts, plan) for plan in expected}
        for spec in specs.values():
            await executor.launch(spec)
        for plan, spec in specs.items():
            outcome = await end_of(executor, spec)
            assert outcome.kind is OutcomeKind.FAILED, (plan, outcome)
            assert (outcome.exit_code, outcome.reason) == expected[plan], (plan, outcome)

    async def test_adopts_what_was_launched_before(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "naive")
        await launch_ready(executor, spec)
        await executor.launch(spec)
        seen = await _see(executor, spec)
        assert seen.phase is Phase.RUNNING
        await _kill(executor, spec)
        await executor.launch(spec)
        assert (await _see(executor, spec)).phase is Phase.ENDED
        assert len(starts_of(spec)) == 1

    async def test_starts_one_for_many_launches_at_once(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "naive")
        await asyncio.gather(*(executor.launch(spec) for _ in range(8)))
        await until(lambda: list(folder_of(spec).glob("ready-*")), "the payload to be ready")
        await _kill(executor, spec)
        assert len(starts_of(spec)) == 1

    async def test_stops_by_checkpoint(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "obey")
        await launch_ready(executor, spec)
        await _stop(executor, spec, StopMode.CHECKPOINT)
        outcome = await end_of(executor, spec)
        assert (outcome.kind, outcome.message) == (OutcomeKind.CHECKPOINTED, "as planned")
        assert Reason.PREEMPTED.value.encode() in await _read_all(executor, spec)

    async def test_counts_a_stop_before_the_handler_as_checkpointed(
        self, executor: Executor, attempts: Path
    ) -> None:
        spec = plan_attempt(attempts, "naive")
        await launch_ready(executor, spec)
        await _stop(executor, spec, StopMode.CHECKPOINT)
        outcome = await end_of(executor, spec)
        assert (outcome.kind, outcome.reason) == (OutcomeKind.CHECKPOINTED, Reason.PREEMPTED)

    async def test_stops_by_killing(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "deaf")
        await launch_ready(executor, spec)
        await _stop(executor, spec, StopMode.KILL)
        outcome = await end_of(executor, spec)
        assert (outcome.kind, outcome.reason) == (OutcomeKind.FAILED, Reason.PROCESS_KILLED)

    async def test_kills_who_outstays_the_grace(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "deaf")
        await launch_ready(executor, spec)
        begun = time.monotonic()
        await _stop(executor, spec, StopMode.CHECKPOINT, grace_seconds=1.0)
        assert time.monotonic() - begun < 1.0, "stop must return at once"
        assert (await _see(executor, spec)).phase is Phase.STOPPING
        outcome = await end_of(executor, spec)
        assert time.monotonic() - begun >= 1.0
        assert (outcome.kind, outcome.reason) == (OutcomeKind.FAILED, Reason.PROCESS_KILLED)

    async def test_a_kill_overtakes_a_long_grace(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "deaf")
        await launch_ready(executor, spec)
        await _stop(executor, spec, StopMode.CHECKPOINT, grace_seconds=600.0)
        await _stop(executor, spec, StopMode.KILL)
        assert (await end_of(executor, spec)).reason is Reason.PROCESS_KILLED

    async def test_a_stop_after_the_end_changes_nothing(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "exit:0")
        await executor.launch(spec)
        before = await end_of(executor, spec)
        await _stop(executor, spec, StopMode.KILL)
        assert await end_of(executor, spec) == before

    async def test_a_stop_before_the_launch_sticks(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, "naive")
        await _stop(executor, spec, StopMode.CHECKPOINT)
        assert (await end_of(executor, spec)).kind is OutcomeKind.CHECKPOINTED
        await executor.launch(spec)
        outcome = await end_of(executor, spec)
        assert (outcome.kind, outcome.reason) == (OutcomeKind.CHECKPOINTED, Reason.PREEMPTED)
        assert starts_of(spec) == []

    async def test_keeps_the_log_by_true_offsets(self, executor: Executor, attempts: Path) -> None:
        spec = plan_attempt(attempts, f"print:{_LOG_BYTES}")
        await executor.launch(spec)
        await end_of(executor, spec)
        offset, read = 0, 0
        while chunks := [chunk async for chunk in executor.read_log(folder_of(spec), offset)]:
            for chunk in chunks:
                assert chunk.offset >= offset
                assert read == 0 or chunk.offset == offset, "a gap in the middle of the log"
                _check_lines(chunk.offset, chunk.data)
                offset, read = chunk.offset + len(chunk.data), read + len(chunk.data)
        assert offset == _LOG_BYTES
        assert read >= 1 << 20
        tail = [chunk async for chunk in executor.read_log(folder_of(spec), _LOG_BYTES - 64)]
        assert b"".join(chunk.data for chunk in tail) == LINE % (_LOG_BYTES // 64 - 1)

    async def test_tells_the_trainer_what_it_needs_and_hides_the_token(
        self, executor: Executor, attempts: Path
    ) -> None:
        spec = plan_attempt(attempts, "exit:0")
        await executor.launch(spec)
        await end_of(executor, spec)
        (started,) = starts_of(spec)
        environment = started["environment"]
        assert environment["STEELYARD_RUN"] == str(folder_of(spec) / RUN_NAME)
        assert environment["STEELYARD_ATTEMPT"] == spec.run.attempt_id
        assert environment["OMP_NUM_THREADS"] == str(spec.run.threads)
        assert spec.token not in json.dumps(started)
        token = folder_of(spec) / TOKEN_NAME
        assert (token.read_text(), token.stat().st_mode & 0o777) == (spec.token, 0o600)

    async def test_gives_secrets_by_file_and_takes_them_away_at_the_end(
        self, executor: Executor, attempts: Path
    ) -> None:
        spec = plan_attempt(attempts, "obey", secrets=(("HUB", "of-nobody-else"),))
        await launch_ready(executor, spec)
        secret = folder_of(spec) / SECRETS_NAME / "HUB"
        assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("of-nobody-else", 0o600)
        assert secret.parent.stat().st_mode & 0o777 == 0o700
        assert "of-nobody-else" not in json.dumps(starts_of(spec))
        await _stop(executor, spec, StopMode.CHECKPOINT)
        await end_of(executor, spec)
        assert not secret.exists()


async def _see(executor: Executor, spec: LaunchSpec) -> Observation:
    return await executor.observe(spec.run.attempt_id, folder_of(spec))


async def _stop(
    executor: Executor, spec: LaunchSpec, mode: StopMode, grace_seconds: float = DEADLINE_SECONDS
) -> None:
    await executor.stop(spec.run.attempt_id, folder_of(spec), mode, grace_seconds, Reason.PREEMPTED)


async def _kill(executor: Executor, spec: LaunchSpec) -> None:
    await _stop(executor, spec, StopMode.KILL)
    await end_of(executor, spec)


async def _read_all(executor: Executor, spec: LaunchSpec) -> bytes:
    return b"".join([chunk.data async for chunk in executor.read_log(folder_of(spec), 0)])


def _check_lines(offset: int, data: bytes) -> None:
    """Every line of 64 bytes says its own number; the pieces at both ends may be cut."""
    first = -(-offset // 64)
    for number in range(first, (offset + len(data)) // 64, 997):
        at = number * 64 - offset
        assert data[at : at + 64] == LINE % number, f"line {number} is not where its offset says"

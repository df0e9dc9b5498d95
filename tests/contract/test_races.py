"""Commands that race with each other and with the workflow's moves: every job stays in a legal state."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.e2e.specs import script_spec

from steelyard.kit.errors import Conflict, InvalidTransition
from steelyard.rollouts.scopes import Scope
from steelyard.specs.gates import Gate
from steelyard.specs.identity import UserRequest
from steelyard.specs.policies import GateRequest
from steelyard.specs.promotions import Alias
from steelyard.specs.states import TERMINAL_STATES, JobState, Verb, may_move, refuse_verb
from steelyard.storage.database import Database

Act = Callable[[], Awaitable[object]]


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.mark.parametrize("seed", range(12))
async def test_racing_commands_and_moves_follow_the_state_machine(plane: ControlPlane, seed: int) -> None:
    draw = random.Random(seed)
    job_id = await _submit(plane)
    commands = plane.services.commands
    acts: list[Act] = [
        lambda: commands.pause(ADMIN, "default", job_id),
        lambda: commands.resume(ADMIN, "default", job_id),
        lambda: commands.cancel(ADMIN, "default", job_id),
        lambda: commands.set_priority(ADMIN, "default", job_id, draw.randrange(1000)),
        *(_move(plane, job_id, target) for target in JobState if target is not JobState.VALIDATING),
    ]

    for _ in range(6):
        await asyncio.gather(*(_try(draw.choice(acts)) for _ in range(8)))

    states = await _states(plane, job_id)
    for before, after in itertools.pairwise(states):
        assert may_move(before, after), f"{before} -> {after} in {states}"
    assert len([state for state in states if state in TERMINAL_STATES]) <= 1


async def test_cancel_that_comes_with_success_ends_in_one_of_the_two(plane: ControlPlane) -> None:
    for _ in range(10):
        job_id = await _submit(plane)
        await plane.lifecycle.move(job_id, 0, JobState.QUEUED, None, "queued")
        await plane.lifecycle.move(job_id, 0, JobState.STARTING, None, "starting")
        await plane.lifecycle.move(job_id, 0, JobState.RUNNING, None, "running")

        outcomes = await asyncio.gather(
            _try(lambda job_id=job_id: plane.services.commands.cancel(ADMIN, "default", job_id)),
            _try(_move(plane, job_id, JobState.SUCCEEDED)),
        )

        state = (await plane.services.queries.get(ADMIN, "default", job_id)).state
        refused = outcomes[0] is not None
        assert state is (JobState.SUCCEEDED if refused else JobState.CANCELLING)


async def test_a_command_with_its_key_is_answered_as_before(plane: ControlPlane) -> None:
    job_id = await _submit(plane)
    commands = plane.services.commands
    first = await commands.cancel(ADMIN, "default", job_id, "key-1")
    await plane.lifecycle.move(job_id, 0, JobState.CANCELLED, None, "cancelled")

    assert await commands.cancel(ADMIN, "default", job_id, "key-1") == first
    with pytest.raises(InvalidTransition, match="cancelled"):
        await commands.cancel(ADMIN, "default", job_id, "key-2")


@pytest.mark.parametrize("verb", [Verb.PAUSE, Verb.RESUME, Verb.CANCEL, Verb.RETRY])
async def test_an_impossible_verb_is_a_409_that_names_the_state(plane: ControlPlane, verb: Verb) -> None:
    async with plane.http() as http:
        for state in JobState:
            job_id = await _submit(plane)
            if refuse_verb(verb, state) is None or not await _bring_to(plane, job_id, state):
                continue
            answer = await http.post(f"/v1/projects/default/jobs/{job_id}/{verb}")
            under_way = (verb, state) in {
                (Verb.PAUSE, JobState.PAUSING),
                (Verb.RESUME, JobState.RESUMING),
                (Verb.CANCEL, JobState.CANCELLING),
            }
            assert answer.status_code == (202 if under_way else 409), (verb, state)
            if not under_way:
                assert state.value in answer.json()["error"]["message"]


async def _submit(plane: ControlPlane) -> str:
    body = json.dumps(script_spec("races")).encode()
    return (await plane.services.submission.submit(ADMIN, "default", body, None)).job_id


def _move(plane: ControlPlane, job_id: str, target: JobState) -> Act:
    return lambda: plane.lifecycle.move(job_id, 0, target, None, target.value)


async def _try(act: Act) -> InvalidTransition | None:
    try:
        await act()
    except InvalidTransition as error:
        return error
    return None


async def _states(plane: ControlPlane, job_id: str) -> list[JobState]:
    """The states that the job went through, as its events tell."""
    page, _ = await plane.services.queries.events(ADMIN, "default", job_id, None, 200)
    named = {
        "job.submitted": JobState.VALIDATING,
        "job.pause": JobState.PAUSING,
        "job.resume": JobState.RESUMING,
        "job.cancel": JobState.CANCELLING,
        **{f"job.{state.value}": state for state in JobState},
    }
    return [named[event.type] for event in page.data if event.type in named]


async def _bring_to(plane: ControlPlane, job_id: str, state: JobState) -> bool:
    """Bring a new job to a state along legal moves; False where there is no way."""
    paths: dict[JobState, list[JobState]] = {JobState.VALIDATING: []}
    frontier = [JobState.VALIDATING]
    while frontier:
        here = frontier.pop(0)
        for target in JobState:
            if target not in paths and may_move(here, target):
                paths[target] = [*paths[here], target]
                frontier.append(target)
    if state not in paths:
        return False
    for step in paths[state]:
        assert (await plane.lifecycle.move(job_id, 0, step, None, step.value)).moved
    return True


@pytest.mark.parametrize("scope", [Scope(project="default"), Scope(organization="default")])
async def test_a_gate_that_many_set_at_once_is_one(plane: ControlPlane, scope: Scope) -> None:
    request = GateRequest(alias=Alias.STAGING, gate=Gate(metric="smoke/exact_match", min=0.5))
    set_ = plane.services.configuration.set_gate
    views = await asyncio.gather(*(set_(ADMIN, scope, request) for _ in range(8)))
    assert len({view.id for view in views}) == 1
    async with plane.database.transaction() as session:
        count = "SELECT count(*) FROM audit_log WHERE verb = 'gate.set'"
        assert await session.scalar(text(count)) == 1


async def test_of_many_who_make_a_user_of_one_name_one_does(plane: ControlPlane) -> None:
    request = UserRequest(email="ada@example.com")

    async def create() -> str:
        try:
            return (await plane.services.users.create(ADMIN, request)).id
        except Conflict as error:
            return error.param or ""

    made = await asyncio.gather(*(create() for _ in range(8)))
    assert sorted(made) == ["ada@example.com", *["email"] * 7]

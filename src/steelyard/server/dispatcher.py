"""The dispatcher: carries out what transactions promised, by telling Temporal.

Start and signal are one call (signal-with-start), so a signal never finds its workflow missing, and doing
either twice changes nothing: a workflow's id is that of its run, and commands carry a sequence.
"""

import asyncio
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from steelyard.datasets.service import INGEST_TOPIC
from steelyard.jobs.commands import SIGNAL_TOPIC
from steelyard.jobs.entries import START_TOPIC, promise_run
from steelyard.jobs.pokes import FAMILY_TOPIC
from steelyard.jobs.repository import live_runs
from steelyard.kit.errors import SteelyardError
from steelyard.rollouts.events import WEBHOOK_TOPIC
from steelyard.rollouts.mirror_wants import MIRROR_TOPIC, RESTORE_TOPIC
from steelyard.rollouts.repository import live_promotions
from steelyard.rollouts.requests import PROMOTION_TOPIC
from steelyard.storage import outbox
from steelyard.storage.database import Database
from steelyard.storage.notifications import Listener, wait_for_hint
from steelyard.storage.outbox import Effect
from steelyard.workflows.family import FamilyWorkflow
from steelyard.workflows.ingest import IngestWorkflow
from steelyard.workflows.job import JobWorkflow
from steelyard.workflows.messages import Command, FamilyStart, JobStart
from steelyard.workflows.promotion import PromotionWorkflow

TASK_QUEUE = "steelyard"

_BATCH = 20
_CLAIM_SECONDS = 20.0
_POLL_SECONDS = 2.0
_MAX_DELAY_SECONDS = 5.0
_OF_OTHERS = (MIRROR_TOPIC, RESTORE_TOPIC, WEBHOOK_TOPIC)
"""Topics that reach beyond Temporal: the relay's."""
_PHASE = SearchAttributeKey.for_keyword("Phase")
_log = structlog.get_logger()


class Dispatcher:
    """Relays the outbox. Any number may run at once."""

    def __init__(self, database: Database, listener: Listener, client: Client) -> None:
        self._database = database
        self._listener = listener
        self._client = client

    async def run(self) -> None:
        """Relay until cancelled."""
        await self._remember_live_jobs()
        async with self._listener.subscription(outbox.CHANNEL) as hint:
            while True:
                try:
                    relayed = await self.relay()
                except SteelyardError as error:
                    _log.warning("the outbox can't be read", error=error.message)
                    relayed = 0
                if relayed < _BATCH:
                    await wait_for_hint(hint, _POLL_SECONDS)

    async def _remember_live_jobs(self) -> None:
        """Promise again that every job and promotion that is not over has its workflow.

        For one that has, this does nothing. It is for a Temporal that lost its newest commits or all it had:
        the new workflow walks through the recorded attempts to where the job stands.
        """
        while True:
            try:
                async with self._database.transaction() as session:
                    for job in await live_runs(session):
                        await promise_run(session, job)
                    for promotion_id in await live_promotions(session):
                        await outbox.enqueue(session, PROMOTION_TOPIC, promotion_id, {})
                return
            except SteelyardError as error:
                _log.warning("live jobs can't be read", error=error.message)
                await asyncio.sleep(_POLL_SECONDS)

    async def relay(self) -> int:
        """Carry out a batch; return how many were tried."""
        async with self._database.transaction() as session:
            effects = await outbox.claim(session, _BATCH, _CLAIM_SECONDS, without=_OF_OTHERS)
        await asyncio.gather(*(self._carry_out_in_order(group) for group in _by_key(effects)))
        return len(effects)

    async def _carry_out_in_order(self, effects: list[Effect]) -> None:
        for effect in effects:
            try:
                await self._carry_out(effect)
            except (RPCError, RuntimeError, OSError) as error:
                delay = min(_MAX_DELAY_SECONDS, 0.2 * 2**effect.tries)
                _log.warning("an effect is postponed", topic=effect.topic, key=effect.key, error=str(error))
                async with self._database.transaction() as session:
                    await outbox.postpone(session, effect.id, str(error), delay)
                continue
            async with self._database.transaction() as session:
                await outbox.complete(session, effect.id)

    async def _carry_out(self, effect: Effect) -> None:
        if effect.topic == INGEST_TOPIC:
            await self._start_ingest(effect.key)
        elif effect.topic == PROMOTION_TOPIC:
            await self._reach_promotion(effect.key)
        elif effect.topic == FAMILY_TOPIC:
            await self._reach_family(effect.key, int(effect.payload["run_number"]))
        else:
            await self._reach_job(effect)

    async def _start_ingest(self, ingest_id: str) -> None:
        try:
            await self._client.start_workflow(
                IngestWorkflow.run,
                ingest_id,
                id=f"ingest/{ingest_id}",
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
        except WorkflowAlreadyStartedError:
            _log.info("the ingest is over already", key=ingest_id)

    async def _reach_promotion(self, promotion_id: str) -> None:
        """Start a promotion's workflow, or tell the one that runs to look again.

        One that somebody terminated is started anew: what it does may be done any number of times.
        """
        try:
            await self._client.start_workflow(
                PromotionWorkflow.run,
                promotion_id,
                id=f"promotion/{promotion_id}",
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal="nudge",
            )
        except WorkflowAlreadyStartedError:
            _log.info("the promotion is over already", key=promotion_id)

    async def _reach_family(self, job_id: str, run_number: int) -> None:
        """Start the workflow of a family's run, or tell the one that runs to look again.

        One that failed, or that somebody terminated, is started anew: a look may be repeated at will.
        """
        try:
            await self._client.start_workflow(
                FamilyWorkflow.run,
                FamilyStart(job_id, run_number),
                id=workflow_id(job_id, run_number),
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal="poke",
                search_attributes=TypedSearchAttributes([SearchAttributePair(_PHASE, "family")]),
            )
        except WorkflowAlreadyStartedError:
            _log.info("the run is over already", topic=FAMILY_TOPIC, key=job_id)

    async def _reach_job(self, effect: Effect) -> None:
        run_number = int(effect.payload["run_number"])
        signal, arguments = _signal(effect)
        try:
            await self._client.start_workflow(
                JobWorkflow.run,
                JobStart(effect.key, run_number),
                id=workflow_id(effect.key, run_number),
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal=signal,
                start_signal_args=arguments,
                search_attributes=TypedSearchAttributes([SearchAttributePair(_PHASE, "job")]),
            )
        except WorkflowAlreadyStartedError:
            _log.info("the run is over already", topic=effect.topic, key=effect.key)


def workflow_id(job_id: str, run_number: int) -> str:
    """Return the id of a run's workflow."""
    return f"job/{job_id}" if run_number == 0 else f"job/{job_id}/r{run_number}"


def _signal(effect: Effect) -> tuple[str | None, list[Any]]:
    if effect.topic == START_TOPIC:
        return None, []
    if effect.topic != SIGNAL_TOPIC:
        raise RuntimeError(f"no such topic: {effect.topic}")
    match effect.payload["signal"]:
        case "command":
            return "command", [Command(effect.payload["sequence"], effect.payload["desired"])]
        case "preempt":
            return "preempt", [effect.payload["attempt_id"]]
        case signal:
            return signal, []


def _by_key(effects: list[Effect]) -> list[list[Effect]]:
    groups: dict[str, list[Effect]] = {}
    for effect in effects:
        groups.setdefault(effect.key, []).append(effect)
    return list(groups.values())

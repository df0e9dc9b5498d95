"""`python -m steelyard.server.worker`: Temporal worker, dispatcher, scheduler loop, and this node's agent."""

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Generator
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from steelyard.compute.hints import QUEUE_CHANNEL
from steelyard.datasets.sweeping import SweepingService
from steelyard.datasets.token_sweeping import TokenSweepingService
from steelyard.jobs.admission import AdmissionService
from steelyard.jobs.checkpoint_sweeping import CheckpointSweepingService
from steelyard.kit.errors import SteelyardError
from steelyard.server.budgets import keep_budgets
from steelyard.server.certificates import Certificates
from steelyard.server.compose import Ground, WorkerParts, build_sealer, build_worker
from steelyard.server.dispatcher import TASK_QUEUE, Dispatcher
from steelyard.server.idleness import keep_gpus_busy
from steelyard.server.node_agent import report_nodes
from steelyard.server.object_store import require_object_store
from steelyard.server.roles import look_at_login
from steelyard.server.settings import Settings
from steelyard.server.telemetry import set_up_telemetry
from steelyard.server.temporal import connect
from steelyard.storage.notifications import Listener, wait_for_hint
from steelyard.workflows.family import FamilyWorkflow
from steelyard.workflows.ingest import IngestWorkflow
from steelyard.workflows.job import JobWorkflow
from steelyard.workflows.promotion import PromotionWorkflow

_ROUND_SECONDS = 2.0
_PAUSE_FACTOR = 5.0
_SWEEP_SECONDS = 300.0
_SWEEP_SOON_SECONDS = 10.0
_RECONNECT_SECONDS = 0.5
_KEY_SECONDS = 10.0
_MAX_ACTIVITIES = 1000
_HEARTBEAT_THROTTLE = timedelta(seconds=5)
_log = structlog.get_logger()


def main() -> None:
    """Work until told to stop."""
    settings = Settings()
    set_up_telemetry(settings, f"worker-{os.environ.get('STEELYARD_WORKER', '1')}")
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    await asyncio.to_thread(require_object_store)
    parts = build_worker(settings)
    # What is here now stays; a full collection over it would cost a round of the scheduler its time.
    gc.collect()
    gc.freeze()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = parts.ground.listener
    looking = asyncio.create_task(look_at_login(parts.ground.database, "worker"))
    tasks = [
        asyncio.create_task(listener.run(), name="listener"),
        asyncio.create_task(report_nodes(settings, parts.admission), name="node agent"),
        asyncio.create_task(_schedule(parts.admission, listener), name="scheduler"),
        asyncio.create_task(_seal(parts.ground), name="audit sealer"),
        asyncio.create_task(keep_budgets(parts.budgets), name="budgets"),
        asyncio.create_task(keep_gpus_busy(parts.idleness), name="idle GPUs"),
        asyncio.create_task(_sweep(parts.sweeping), name="sweeper"),
        asyncio.create_task(_sweep(parts.token_sweeping), name="sweeper of tokenized rows"),
        asyncio.create_task(_sweep(parts.checkpoint_sweeping), name="sweeper of checkpoints"),
        asyncio.create_task(parts.promotions.run(), name="aliases and webhooks"),
        asyncio.create_task(_work(settings, parts), name="temporal worker"),
    ]
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (*tasks, looking):
        task.cancel()
    await asyncio.gather(*tasks, looking, return_exceptions=True)
    await parts.rounds.close()
    await parts.ground.close()
    for task in done - {stopping}:
        task.result()


async def _work(settings: Settings, parts: WorkerParts) -> None:
    client = await _connect(settings, parts)
    activities = parts.activities
    dispatcher = Dispatcher(parts.ground.database, parts.ground.listener, client)
    worker = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[JobWorkflow, FamilyWorkflow, IngestWorkflow, PromotionWorkflow],
        activities=[
            activities.prepare_job,
            activities.move_job,
            activities.start_attempt,
            activities.watch_attempt,
            activities.stop_attempt,
            activities.register_model,
            activities.close_tracking,
            parts.families.prepare_family,
            parts.families.advance_family,
            parts.families.give_up_family,
            parts.families.register_family,
            parts.ingest.run_ingest,
            parts.ingest.fail_ingest,
            parts.promotions.activities.check_promotion,
            parts.promotions.activities.settle_promotion,
        ],
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_modules("steelyard", "pydantic")
        ),
        max_concurrent_activities=_MAX_ACTIVITIES,
        max_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=timedelta(seconds=1),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(dispatcher.run())
        group.create_task(worker.run())


async def _connect(settings: Settings, parts: WorkerParts) -> Client:
    """Wait for Temporal as long as it takes; jobs queue up in the outbox meanwhile."""
    addresses = parts.ground.addresses
    port = os.environ.get("STEELYARD_METRICS_PORT")
    metrics = f"127.0.0.1:{port}" if port else None
    while True:
        try:
            return await connect(
                settings.temporal_address or addresses.temporal_address,
                settings.temporal_namespace,
                parts.ground.layout.payload_key,
                metrics,
                Certificates(folder) if (folder := settings.temporal_tls_folder) else None,
            )
        except RuntimeError as error:
            _log.info("Temporal doesn't answer yet", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)


async def _sweep(sweeping: SweepingService | TokenSweepingService | CheckpointSweepingService) -> None:
    """Take away what nobody refers to: soon while there is more, else once in a while."""
    while True:
        try:
            swept = await sweeping.sweep()
        except (SteelyardError, OSError) as error:
            _log.warning("sweeping must wait", error=str(error))
            swept = 0
        await asyncio.sleep(_SWEEP_SOON_SECONDS if swept else _SWEEP_SECONDS)


async def _schedule(admission: AdmissionService, listener: Listener) -> None:
    """Run rounds: at each hint that queue or pool changed, and every two seconds.

    After a round comes a pause of several times its length, so that a long queue that changes all the time
    can't take the machine from those who answer requests.
    """
    async with listener.subscription(QUEUE_CHANNEL) as hint:
        with _tolerating("the scheduler could not look at the queue"):
            await admission.look()
        while True:
            started = time.monotonic()
            more = False
            with _tolerating("the scheduler could not run"):
                more = (await admission.lead_round()).more
            await asyncio.sleep((time.monotonic() - started) * _PAUSE_FACTOR)
            if not more:
                await wait_for_hint(hint, _ROUND_SECONDS)


async def _seal(ground: Ground) -> None:
    """Seal the audit trail. A key that can't be used stops nothing else, and is tried again."""
    while True:
        with _tolerating("the audit trail is not being sealed"):
            await build_sealer(ground).run()
        await asyncio.sleep(_KEY_SECONDS)


@contextlib.contextmanager
def _tolerating(what: str) -> Generator[None]:
    """Log the platform's own passing faults in place of dying of them."""
    try:
        yield
    except SteelyardError as error:
        _log.warning(what, error=error.message)


if __name__ == "__main__":
    main()

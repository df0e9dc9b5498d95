"""What an attempt is launched with: `run.json`, the trainer's module, and its share of the node."""

from collections.abc import Mapping, Sequence

from steelyard.compute.executor import LaunchSpec, Resources
from steelyard.compute.local.node import SIMULATED
from steelyard.evals.orders import evaluation_orders
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import AttemptTokens
from steelyard.governance.secrets.service import SecretService
from steelyard.jobs import repository
from steelyard.jobs.capacity import BYTES_PER_GB
from steelyard.jobs.finished_models import finished_model
from steelyard.jobs.lifecycle import Folders
from steelyard.kit.tls import TlsClient
from steelyard.specs.evaluations import EvaluationOrders
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec
from steelyard.specs.run import SECRETS_NAME, DatasetFiles, RunConfig, TokenFiles, TrackingTarget
from steelyard.storage.database import Database
from steelyard.storage.tables import AllocationRow, AttemptRow, JobRow

_TRAINERS = "steelyard.trainers"
"""Package of a module for each method, by its name."""
_EVALUATION = f"{_TRAINERS}.evaluate"
HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a secret


class LaunchService:
    """Puts together the orders of attempts. The same attempt gets the same orders each time.

    Args:
        api_url: where trainers find the api.
        tls: how they reach it, where it speaks HTTPS with an authority of its own.
    """

    def __init__(
        self,
        database: Database,
        folders: Folders,
        tokens: AttemptTokens,
        secrets: SecretService,
        api_url: str,
        tls: TlsClient | None,
        lease_seconds: float,
    ) -> None:
        self._database = database
        self._folders = folders
        self._tokens = tokens
        self._secrets = secrets
        self._api_url = api_url
        self._tls = tls
        self._lease_seconds = lease_seconds

    async def launch_spec(self, attempt_id: str) -> LaunchSpec:
        """Return what the executor needs to launch an attempt.

        Raises:
            NotFound: no such attempt.
        """
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id)
            job = await session.get_one(JobRow, attempt.job_id)
            allocations = await repository.allocations_of(session, job.id)
        secrets = await self._secrets.reveal(ProjectId(job.project_id), job.spec.get("secrets", []))
        spec = spec_of(job)
        evaluation = None
        if attempt.stage == "evaluate":
            tuned = await finished_model(self._folders, job)
            evaluation = await evaluation_orders(self._database, job, spec, tuned)
        resources = _resources(allocations, spec)
        distributed = spec.distributed if isinstance(spec, FineTuneSpec) else None
        ranks = distributed.processes_per_node if distributed and attempt.stage == "train" else 1
        return LaunchSpec(
            run=self._run_config(job, attempt, spec, max(1, resources.cpus // ranks), evaluation),
            module=_module(spec, attempt.stage),
            token=self._tokens.issue(attempt_id),
            resources=resources,
            processes=ranks,
            nodes=distributed.num_nodes if distributed and attempt.stage == "train" else 1,
            grace_seconds=spec.limits.stop_grace_seconds,
            environment=_hub_environment(attempt, secrets),
            secrets=tuple(secrets.items()),
        )

    def _run_config(
        self,
        job: JobRow,
        attempt: AttemptRow,
        spec: FineTuneSpec | EvalOnlySpec,
        threads: int,
        evaluation: EvaluationOrders | None,
    ) -> RunConfig:
        folder = self._folders.job(job.project_id, job.id)
        dataset, tokens = job.prepared.get("dataset"), job.prepared.get("tokens")
        tuned = job.model_dir if attempt.stage == "evaluate" else None
        resumed = attempt.resumed_checkpoint_path
        return RunConfig(
            stage="train" if attempt.stage == "train" else "evaluate",
            project=job.project_id,
            job_id=job.id,
            job_name=job.name,
            attempt_id=attempt.id,
            attempt_number=attempt.number,
            epoch=attempt.epoch,
            spec=spec,
            job_dir=str(folder),
            attempt_dir=attempt.attempt_dir,
            model_path=job.prepared.get("model_path"),
            model_revision=job.prepared.get("model_revision"),
            base_adapter=job.prepared.get("base_adapter"),
            reward_model_path=job.prepared.get("reward_model_path"),
            tuned_model_dir=str(folder / tuned) if tuned else None,
            evaluation=evaluation,
            dataset=DatasetFiles.model_validate(dataset) if dataset else None,
            tokens=TokenFiles.model_validate(tokens) if tokens and attempt.stage == "train" else None,
            resume_from=str(folder / resumed) if resumed else None,
            api_url=self._api_url,
            tls=self._tls,
            tracking=TrackingTarget(uri=f"{self._api_url}/mlflow", run_id=job.mlflow_run_id),
            lease_seconds=self._lease_seconds,
            threads=threads,
        )


def _hub_environment(attempt: AttemptRow, secrets: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Hugging Face's libraries read their token from a file by themselves, where one is named."""
    if HUB_TOKEN not in secrets:
        return ()
    return (("HF_TOKEN_PATH", f"{attempt.attempt_dir}/{SECRETS_NAME}/{HUB_TOKEN}"),)


def spec_of(job: JobRow) -> FineTuneSpec | EvalOnlySpec:
    """Read a stored spec. It came through strict validation once, so JSON's forms are enough here."""
    model = EvalOnlySpec if job.type == "eval_only" else FineTuneSpec
    return model.model_validate(job.spec, strict=False)


def _resources(allocations: Sequence[AllocationRow], spec: FineTuneSpec | EvalOnlySpec) -> Resources:
    """What the processes get: GPUs that are only simulated take no part in it."""
    granted = allocations[0].gpu_ids if allocations else []
    gpu_ids = tuple(name for name in granted if not name.startswith(SIMULATED))
    return Resources(
        cpus=spec.resources.cpus,
        memory_bytes=int(spec.resources.memory_gb * BYTES_PER_GB),
        gpus=len(gpu_ids),
        gpu_ids=gpu_ids,
    )


def _module(spec: FineTuneSpec | EvalOnlySpec, stage: str) -> str:
    if isinstance(spec, FineTuneSpec) and stage == "train":
        return f"{_TRAINERS}.{spec.method}"
    return _EVALUATION

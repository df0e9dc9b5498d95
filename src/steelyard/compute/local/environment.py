"""What an attempt's processes find in their environment, and what they must not."""

from collections.abc import Mapping

from steelyard.compute.executor import LaunchSpec
from steelyard.compute.local.processes import MARKER
from steelyard.specs.run import RUN_NAME

RUN_VARIABLE = "STEELYARD_RUN"
"""Path of `run.json`."""

_PLATFORM_PREFIXES = (
    "STEELYARD_",
    "AWS_",
    "TEMPORAL_",
    "MLFLOW_",
    "OTEL_",
    "PG",
    "POSTGRES",
    "DATABASE_",
)
_READ_AT_IMPORT = (
    "ACCELERATE_",
    "CUDA_",
    "GOMP_",
    "HF_",
    "KMP_",
    "LD_",
    "MKL_",
    "OMP_",
    "OPENBLAS_",
    "PYTHON",
    "TOKENIZERS_",
    "TORCH",
    "TRANSFORMERS_",
)
_TORCHRUN_PATIENCE_SECONDS = 7 * 24 * 3600


def payload_environment(spec: LaunchSpec, base: Mapping[str, str]) -> dict[str, str]:
    """Return the payload's whole environment: the machine's without the platform's, ours, the spec's.

    Compute threads are what `run.threads` grants each rank. Without GPUs none are visible.
    """
    found = without_platform(base)
    found.update(
        {
            RUN_VARIABLE: f"{spec.run.attempt_dir}/{RUN_NAME}",
            MARKER: spec.run.attempt_id,
            "OMP_NUM_THREADS": str(spec.run.threads),
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": ",".join(spec.resources.gpu_ids) if spec.resources.gpus else "",
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            # torchrun kills its ranks 30 s after SIGTERM by default; how long is the shim's to say.
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_TORCHRUN_PATIENCE_SECONDS),
        }
    )
    found.update(spec.environment)
    return found


def without_platform(base: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what is the platform's own, secrets above all."""
    return {name: value for name, value in base.items() if not name.startswith(_PLATFORM_PREFIXES)}


def may_fork(spec: LaunchSpec) -> bool:
    """Whether a pre-imported image can run the attempt as well as a fresh process.

    Not with GPUs, since CUDA doesn't survive a fork; not for torchrun; and not where the spec sets
    variables that libraries read while they are imported.
    """
    if spec.resources.gpus > 0 or spec.processes > 1:
        return False
    return not any(name.startswith(_READ_AT_IMPORT) for name, _ in spec.environment)

"""What reaches a payload's environment, and when an image that is already there will do."""

from pathlib import Path

from steelyard.compute.conformance import plan_attempt
from steelyard.compute.executor import Resources
from steelyard.compute.local.environment import may_fork, payload_environment

GPU = Resources(cpus=1, memory_bytes=1, gpus=2, gpu_ids=("GPU-a", "GPU-b"))


def test_the_platforms_own_stays_out_and_the_users_goes_in(tmp_path: Path) -> None:
    base = {
        "PATH": "/bin",
        "STEELYARD_HOME": "/x",
        "PGPASSWORD": "p",
        "MLFLOW_TRACKING_TOKEN": "t",
        "HF_HOME": "/hf",
    }
    found = payload_environment(plan_attempt(tmp_path, "exit:0"), base)
    assert not {"STEELYARD_HOME", "PGPASSWORD", "MLFLOW_TRACKING_TOKEN"} & found.keys()
    assert (found["PATH"], found["HF_HOME"], found["TOKENIZERS_PARALLELISM"]) == ("/bin", "/hf", "false")


def test_only_granted_gpus_can_be_seen(tmp_path: Path) -> None:
    base = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert payload_environment(plan_attempt(tmp_path, "exit:0"), base)["CUDA_VISIBLE_DEVICES"] == ""
    spec = plan_attempt(tmp_path, "exit:0", resources=GPU)
    assert payload_environment(spec, base)["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"


def test_forks_only_where_a_fresh_process_would_be_the_same(tmp_path: Path) -> None:
    assert may_fork(plan_attempt(tmp_path, "exit:0"))
    assert not may_fork(plan_attempt(tmp_path, "exit:0", resources=GPU))
    assert not may_fork(plan_attempt(tmp_path, "exit:0", processes=2))
    for name in ("CUDA_VISIBLE_DEVICES", "HF_HOME", "OMP_NUM_THREADS"):
        assert not may_fork(plan_attempt(tmp_path, "exit:0", environment=((name, "1"),)))

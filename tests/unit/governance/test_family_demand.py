"""What a search or a pipeline reserves: for all that it may make, less what is gone."""

from decimal import Decimal
from typing import Any

import pytest
from tests.households import search_spec

from steelyard.governance.ledger.demand import demand_of
from steelyard.specs.job import JOB_SPEC

_PIPELINE: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "rlhf",
    "name": "pipeline",
    "model": {"name_or_path": "builtin/tiny-random"},
    "dataset": {"ref": "pairs"},
    "reward_model": {"max_steps": 10, "limits": {"max_runtime_seconds": 600}},
    "policy": {"method": "ppo", "max_steps": 10},
    "resources": {"cpus": 1, "memory_gb": 1.0, "gpus": 2},
    "limits": {"max_runtime_seconds": 3000},
}


@pytest.mark.parametrize(("gone", "seconds"), [(0.0, 3 * 3600), (100.0, 3 * 3600 - 100), (99_999.0, 0)])
def test_a_search_may_use_the_runtime_of_all_its_trials_less_what_is_gone(gone: float, seconds: int) -> None:
    demand = demand_of(JOB_SPEC.validate_python(search_spec(3, gpus=2, seconds=3600), strict=False), gone)
    assert demand.amount(Decimal(0)).gpu_seconds == 2 * seconds


def test_a_grid_of_fewer_points_reserves_no_more_than_those() -> None:
    spec = search_spec(100, gpus=1, seconds=10)
    spec["search"] |= {
        "algorithm": "grid",
        "parameters": {"training.learning_rate": {"type": "choice", "values": [1e-4, 1e-3]}},
    }
    assert demand_of(JOB_SPEC.validate_python(spec, strict=False)).times == 2


@pytest.mark.parametrize(("gone", "seconds"), [(0.0, 3600), (600.0, 3000)])
def test_a_pipeline_may_use_the_runtime_of_all_its_stages(gone: float, seconds: int) -> None:
    demand = demand_of(JOB_SPEC.validate_python(_PIPELINE, strict=False), gone)
    assert (demand.gpus, demand.seconds, demand.times) == (2, seconds, 1)

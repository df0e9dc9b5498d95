"""The proof that FSDP shards: passes for what `fully_shard` wrapped, and for nothing else."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from steelyard.runtime.failures import RunFailure
from steelyard.trainers.sharding import assert_sharded


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))


@pytest.mark.usefixtures("group")
class TestAssertSharded:
    def test_fully_sharded_passes_and_trains(self) -> None:
        model: Any = _model()
        for layer in model:
            fully_shard(layer)
        fully_shard(model)
        assert_sharded(model)
        model(torch.ones(1, 8)).sum().backward()

    def test_ddp_does_not(self) -> None:
        with pytest.raises(RunFailure, match="DistributedDataParallel"):
            assert_sharded(DistributedDataParallel(_model()))

    def test_an_unwrapped_model_does_not(self) -> None:
        with pytest.raises(RunFailure, match="Sequential"):
            assert_sharded(_model())

    def test_a_model_of_which_a_part_is_whole_does_not(self) -> None:
        model: Any = _model()
        fully_shard(model[0])
        with pytest.raises(RunFailure):
            assert_sharded(model)

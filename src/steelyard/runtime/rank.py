"""Which of an attempt's processes this one is, as torchrun tells it."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """One process among `world_size`. Alone: rank 0 of 1."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for the attempt: reports, manifests, the outcome."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes to agree with."""
        return self.world_size > 1


def rank_from_environment() -> Rank:
    """Read `RANK`, `WORLD_SIZE` and `LOCAL_RANK`; without them the process is alone."""
    return Rank(
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )

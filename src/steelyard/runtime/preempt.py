"""The wish to leave: SIGTERM, a directive of the api, a lost lease; agreed over all ranks."""

import signal
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

from steelyard.runtime.channel import Channel
from steelyard.runtime.failures import Fenced
from steelyard.specs.states import Reason


@dataclass(frozen=True)
class Agreement:
    """What all ranks do at this step's end."""

    stop: bool
    checkpoint: bool
    failed: bool


class Preemption:
    """Gathers wishes to stop. Make it in the main thread, where signals arrive."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._signalled = False

    def listen(self) -> None:
        """Take SIGTERM: it sets a flag, and a second one changes nothing."""
        signal.signal(signal.SIGTERM, self._on_signal)

    @property
    def requested(self) -> bool:
        """Whether this rank has a reason to stop. For the time before ranks work in step."""
        return self._signalled or self._channel.stop_reason is not None

    @property
    def reason(self) -> Reason:
        """Why the run leaves."""
        if self._signalled:
            return Reason.PREEMPTED
        return self._channel.stop_reason or Reason.PREEMPTED

    def should_stop(self) -> bool:
        """Say whether to save and leave now. Where ranks work together all must call it at the same point.

        Raises:
            Fenced: a newer attempt has taken over.
        """
        return self.agree().stop

    def agree(self, *, failed: bool = False) -> Agreement:
        """Combine the wishes of all ranks: what one wants, all do. One small all-reduce where distributed.

        Raises:
            Fenced: a newer attempt has taken over; on all ranks alike.
        """
        wishes = [self.requested, self._channel.take_checkpoint_request(), failed, self._channel.is_fenced]
        stop, checkpoint, failed, fenced = _any_rank(wishes)
        if fenced:
            raise Fenced
        return Agreement(stop, checkpoint, failed)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True


def barrier() -> None:
    """Wait until all ranks are here; at once where there is one."""
    distributed = _distributed()
    if distributed is not None:
        distributed.barrier()


def _any_rank(wishes: list[bool]) -> list[bool]:
    distributed = _distributed()
    if distributed is None:
        return wishes
    torch = sys.modules["torch"]
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    votes = torch.tensor([int(wish) for wish in wishes], device=device)
    distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
    return [bool(vote) for vote in votes.tolist()]


def _distributed() -> Any:
    # Whoever made a process group has imported torch; this module never does.
    if "torch" not in sys.modules:
        return None
    distributed: Any = sys.modules["torch"].distributed
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed if ready and distributed.get_world_size() > 1 else None

"""The contract that every executor keeps: local processes, Slurm, Kubernetes.

`steelyard.compute.conformance` is the test-suite of this contract; every implementation runs it.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from steelyard.specs.outcome import Outcome
from steelyard.specs.run import RunConfig


class Phase(StrEnum):
    """What an executor can say of an attempt's processes.

    `UNKNOWN` means that the engine or node doesn't answer. It is not a failure, and nobody starts a
    second copy because of it. `LOST` means that it is certain that no process of the attempt runs and
    that it left no outcome. `ABSENT` means that it was never launched here.
    """

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"
    LOST = "lost"
    UNKNOWN = "unknown"


class StopMode(StrEnum):
    """How an attempt is asked to leave."""

    CHECKPOINT = "checkpoint"
    KILL = "kill"


@dataclass(frozen=True)
class Resources:
    """What an attempt gets on each node. Memory in bytes; `gpu_ids` are the executor's own names."""

    cpus: int
    memory_bytes: int
    gpus: int = 0
    gpu_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class LaunchSpec:
    """Everything that an executor needs to start an attempt.

    `run` goes to the trainer as `run.json` in `run.attempt_dir`; `token` goes into the file `token`
    beside it with mode 0600, never into argv, environment or logs. So does each of `secrets`, as a file of
    its name in the folder `secrets`, which goes away when the attempt has ended.
    """

    run: RunConfig
    module: str
    """The trainer: `steelyard.trainers.sft` runs as `python -m steelyard.trainers.sft run.json`."""
    token: str = field(repr=False)
    resources: Resources
    processes: int = 1
    """Ranks on this node; more than one goes through torchrun."""
    nodes: int = 1
    grace_seconds: float = 120.0
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Names and values."""


@dataclass(frozen=True)
class Observation:
    """The truth about an attempt at one moment. `outcome` is there if and only if `phase` is ENDED."""

    phase: Phase
    node: str | None = None
    pid: int | None = None
    outcome: Outcome | None = None
    message: str | None = None


@dataclass(frozen=True)
class LogChunk:
    """A piece of an attempt's log; `offset` is where its first byte stands in the whole log."""

    offset: int
    data: bytes


class Executor(ABC):
    """Runs attempts. All methods may be called again with the same arguments, from any process, at once.

    - An attempt is named by `run.attempt_id`. `launch` of a name that was launched before, by whatever
      process, adopts what is there and starts nothing.
    - Processes outlive the caller: killing the caller's process doesn't touch them.
    - When the last process of an attempt has gone, `observe` says ENDED with the outcome (from
      `outcome.json`, or made from exit code or signal), for as long as the attempt's folder exists.
    - `stop` returns at once. CHECKPOINT sends SIGTERM to the trainer and, `grace_seconds` later, kills the
      whole tree; KILL does that at once. A stop of something that has ended does nothing. Of two stops
      the harder one and the earlier deadline hold.
    - A stop sticks to the attempt's name: if it comes before the launch, `observe` says ENDED, and a
      launch after it starts no trainer.
    - An attempt that was killed by KILL or at the end of its grace, and left no `outcome.json`, ends as
      FAILED with `Reason.PROCESS_KILLED`. One that SIGTERM ended before it could save, because CHECKPOINT
      was asked, ends as CHECKPOINTED with the stop's reason: it has lost nothing and doesn't count.
    """

    name: str

    @abstractmethod
    async def launch(self, spec: LaunchSpec) -> None:
        """Start the attempt, or adopt it.

        Raises:
            StorageFull: the attempt's folder can't be written.
            Unavailable: the engine doesn't answer; nothing was started, or it will be adopted next time.
            NotSupported: this executor can't run such an attempt; the message says what to change.
        """

    @abstractmethod
    async def observe(self, attempt_id: str, attempt_dir: Path) -> Observation:
        """Say how the attempt is. Never raises for an attempt that is not there; costs milliseconds."""

    @abstractmethod
    async def wait(self, attempt_id: str, attempt_dir: Path, timeout_seconds: float) -> Observation:
        """Wait until the attempt has ended or the time is over; then as `observe`."""

    @abstractmethod
    async def stop(
        self, attempt_id: str, attempt_dir: Path, mode: StopMode, grace_seconds: float, reason: str
    ) -> None:
        """Ask the attempt to leave. `reason` is a code that the attempt's log shows.

        Raises:
            StorageFull: the attempt was not launched yet, and the stop can't be written down for it.
        """

    @abstractmethod
    def read_log(self, attempt_dir: Path, offset: int, limit_bytes: int = 1 << 20) -> AsyncIterator[LogChunk]:
        """Yield the log from byte `offset` on, as much as there is now and `limit_bytes` at most.

        Chunks come in order and without gaps. Where the bytes at `offset` were rotated away, the first
        chunk is the oldest that there is, and its own `offset` says so. Nothing is yielded at the end.
        """

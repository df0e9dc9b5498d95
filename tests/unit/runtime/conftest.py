"""A channel that a test scripts, and folders to save."""

from pathlib import Path

import pytest

from steelyard.runtime.channel import Channel, Published
from steelyard.runtime.checkpoints import Author, Checkpoints
from steelyard.runtime.rank import Rank
from steelyard.specs.blocks import CheckpointBlock
from steelyard.specs.outcome import Outcome
from steelyard.specs.reports import AttemptReport, CheckpointReport, CurvePoint, EventReport
from steelyard.specs.states import Reason


class ScriptedChannel(Channel):
    """Keeps publications until the test accepts them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[CheckpointReport, Published]] = []
        self.reports: list[AttemptReport] = []
        self.fenced = False
        self.stop: Reason | None = None
        self.checkpoint = False

    def report(self, report: AttemptReport) -> None:
        self.reports.append(report)

    def add_point(self, point: CurvePoint) -> None:
        raise NotImplementedError

    def publish(self, report: CheckpointReport, published: Published) -> None:
        self.waiting.append((report, published))

    def event(self, report: EventReport) -> None:
        raise NotImplementedError

    def close(self, outcome: Outcome | None, timeout_seconds: float) -> None:
        raise NotImplementedError

    @property
    def is_fenced(self) -> bool:
        return self.fenced

    @property
    def stop_reason(self) -> Reason | None:
        return self.stop

    def take_checkpoint_request(self) -> bool:
        asked, self.checkpoint = self.checkpoint, False
        return asked

    def accept_all(self) -> list[CheckpointReport]:
        """Let every waiting publication through; return the reports."""
        waiting, self.waiting = self.waiting, []
        for report, published in waiting:
            published(report)
        return [report for report, _ in waiting]


@pytest.fixture
def channel() -> ScriptedChannel:
    return ScriptedChannel()


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    return tmp_path / "job"


def write_state(folder: Path) -> None:
    """What a script might save."""
    (folder / "weights").mkdir()
    (folder / "weights" / "a.bin").write_bytes(b"a" * 1000)
    (folder / "state.json").write_text("{}")


def checkpoints_of(
    job_dir: Path, channel: Channel, *, epoch: int = 1, limit: int = 2, resume_from: Path | None = None
) -> Checkpoints:
    """The checkpoints as the attempt with `epoch` sees them."""
    author = Author("job_1", f"att_{epoch}", epoch)
    rules = CheckpointBlock(save_steps=10, save_total_limit=limit)
    return Checkpoints(job_dir, author, rules, channel, Rank(), resume_from)

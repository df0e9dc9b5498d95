"""`runtime.init()`: one object through which a training script talks to the platform, or to nobody.

    from steelyard import runtime

    context = runtime.init()
    resumed = context.checkpoint.latest()
    ...
        context.report(step=step, total_steps=total, loss=loss)
        if context.leave_after(step, write_checkpoint): break

With `STEELYARD_RUN` naming a `run.json` the script is an attempt of a job. Without it the same script runs
alone: checkpoints go to a local folder, reports go nowhere, SIGTERM still stops it at a step's end.
"""

import contextlib
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from steelyard.runtime.channel import Channel, NullChannel
from steelyard.runtime.checkpoints import Author, Checkpoints, Writer
from steelyard.runtime.failures import no_secret, not_finite
from steelyard.runtime.gpus import GpuMeter
from steelyard.runtime.layout import list_checkpoints
from steelyard.runtime.link import ApiLink
from steelyard.runtime.manifests import verify_manifest
from steelyard.runtime.preempt import Preemption
from steelyard.runtime.rank import Rank, rank_from_environment
from steelyard.runtime.reporting import ApiChannel
from steelyard.runtime.tracking import MetricsFlusher, MetricsLog, mlflow_sink, point_scripts_at
from steelyard.specs.blocks import CheckpointBlock
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.outcome import Outcome
from steelyard.specs.reports import AttemptReport, CurvePoint, EventReport, Phase
from steelyard.specs.run import SECRETS_NAME, TOKEN_NAME, RunConfig
from steelyard.specs.search import CurveMetric

RUN_VARIABLE = "STEELYARD_RUN"
_CLOSE_SECONDS = 5.0
_METRICS_CLOSE_SECONDS = 3.0

_current: "Context | None" = None


class Context:
    """The platform as a training process sees it. One per process; methods are for the main thread.

    Attributes:
        run: the orders, or None where there is no platform.
        rank: which of the attempt's processes this is.
        checkpoint: `save`, `latest`, `due`.
        preempt: `should_stop`.
    """

    def __init__(
        self,
        *,
        run: RunConfig | None,
        job_dir: Path,
        attempt_dir: Path,
        rank: Rank,
        channel: Channel,
        checkpoint: Checkpoints,
        flusher: MetricsFlusher | None,
    ) -> None:
        self.run = run
        self.job_dir = job_dir
        self.attempt_dir = attempt_dir
        self.rank = rank
        self.checkpoint = checkpoint
        self.preempt = Preemption(channel)
        self.step = 0
        self.model_dir: Path | None = None
        self._channel = channel
        self._flusher = flusher
        self._metrics = MetricsLog(attempt_dir)
        self._pace = _Pace()

    def report(
        self,
        *,
        step: int,
        total_steps: int | None = None,
        loss: float | None = None,
        tokens_per_second: float | None = None,
        phase: Phase = "training",
        **metrics: float,
    ) -> None:
        """Tell how far the run is. Cheap enough for every step; only the newest report is sent.

        `loss` and `metrics` are also written to `metrics.jsonl` and from there to MLflow.

        Raises:
            RunFailure: the loss is not a finite number; let it end the script.
        """
        if loss is not None and not math.isfinite(loss):
            raise not_finite(step)
        figures = _figures(loss, tokens_per_second, metrics)
        if figures:
            self.log_metrics(step, figures)
        if loss is not None:
            self.add_point(step, "train/loss", loss)
        self.tell(
            step=step,
            total_steps=total_steps,
            loss=loss,
            tokens_per_second=tokens_per_second,
            phase=phase,
            metrics=metrics,
        )

    def tell(
        self,
        *,
        step: int,
        total_steps: int | None,
        loss: float | None = None,
        tokens_per_second: float | None = None,
        phase: Phase = "training",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Put progress up for sending, and nothing into `metrics.jsonl`."""
        self.step = step
        if not self.rank.is_main:
            return
        self._channel.report(
            AttemptReport(
                epoch=self.run.epoch if self.run else 1,
                phase=phase,
                step=step,
                total_steps=total_steps,
                loss=loss,
                tokens_per_second=tokens_per_second,
                eta_seconds=self._pace.eta_seconds(step, total_steps),
                metrics=dict(metrics or {}),
            )
        )

    def add_point(self, step: int, name: CurveMetric, value: float) -> None:
        """Add to a curve that a search may judge this run by. Every point gets there, unlike reports."""
        if self.rank.is_main:
            self._channel.add_point(
                CurvePoint(step=step, name=name, value=value if math.isfinite(value) else None)
            )

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append figures to `metrics.jsonl`. On rank 0 alone."""
        if self.rank.is_main:
            self._metrics.append(step, values)

    def enter(self, phase: Phase, total_steps: int | None = None) -> None:
        """Say that a phase begins."""
        self.tell(step=self.step, total_steps=total_steps, phase=phase)

    def event(self, kind: str, message: str, level: Literal["info", "warn", "error"] = "info") -> None:
        """Tell people something, in the job's events."""
        if self.rank.is_main:
            epoch = self.run.epoch if self.run else 1
            self._channel.event(EventReport(epoch=epoch, level=level, type=kind, message=message))

    def leave_after(self, step: int, writer: Writer) -> bool:
        """End a step: save where it is time, and say whether to leave the loop now.

        All ranks call it together, after each step.
        """
        self.step = step
        agreement = self.preempt.agree()
        if agreement.stop or agreement.checkpoint or self.checkpoint.due(step):
            self.checkpoint.save(step, writer)
        return agreement.stop

    def save_model(self, writer: Writer, step: int | None = None) -> Path:
        """Write the finished model; the platform registers it when the run has succeeded."""
        self.model_dir = self.checkpoint.save_model(self.step if step is None else step, writer)
        return self.model_dir

    def secret(self, name: str) -> str:
        """Return one of the secrets that the job's spec names. With no platform: the variable of that name.

        Raises:
            RunFailure: there is none; let it end the script.
        """
        path = self.attempt_dir / SECRETS_NAME / name
        with contextlib.suppress(OSError):
            return path.read_text()
        if self.run is None and name in os.environ:
            return os.environ[name]
        raise no_secret(name)

    @property
    def is_fenced(self) -> bool:
        """Whether a newer attempt has taken over."""
        return self._channel.is_fenced

    def close(self, outcome: Outcome | None = None) -> None:
        """Send what waits, as far as a few seconds reach. The process is about to end."""
        self._channel.close(outcome, _CLOSE_SECONDS)

    def flush_metrics(self) -> None:
        """Give MLflow what it does not have yet, for three seconds at most."""
        if self._flusher is not None and not self.is_fenced:
            self._flusher.close(_METRICS_CLOSE_SECONDS)


def init(
    *, local_dir: str | Path = "steelyard-run", local_checkpoint: CheckpointBlock | None = None
) -> Context:
    """Return this process's context; the first call makes it.

    Args:
        local_dir: where checkpoints and models go when there is no platform.
        local_checkpoint: how often to save then. On the platform the job's spec decides.
    """
    global _current
    if _current is None:
        named = os.environ.get(RUN_VARIABLE)
        if named:
            _current = open_context(Path(named))
        else:
            _current = _open_local(Path(local_dir).absolute(), local_checkpoint or CheckpointBlock())
        _current.preempt.listen()
    return _current


def open_context(run_path: Path) -> Context:
    """Make the context of an attempt from its `run.json`.

    Raises:
        pydantic.ValidationError: the file is not one of this version's.
    """
    global _current
    run = RunConfig.model_validate_json(run_path.read_bytes())
    rank = rank_from_environment()
    token_file = run_path.with_name(TOKEN_NAME)
    channel = _open_channel(run, rank, token_file)
    rules = run.spec.checkpoint if isinstance(run.spec, FineTuneSpec) else CheckpointBlock()
    resume_from = Path(run.resume_from) if run.resume_from else None
    author = Author(run.job_id, run.attempt_id, run.epoch)
    _current = Context(
        run=run,
        job_dir=Path(run.job_dir),
        attempt_dir=Path(run.attempt_dir),
        rank=rank,
        channel=channel,
        checkpoint=Checkpoints(Path(run.job_dir), author, rules, channel, rank, resume_from),
        flusher=_open_flusher(run, rank, token_file),
    )
    return _current


def _open_local(folder: Path, rules: CheckpointBlock) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    rank = rank_from_environment()
    channel = NullChannel()
    found = list_checkpoints(folder)
    newest = next((each for each in found if verify_manifest(each.path) is None), None)
    author = Author("local", "local", found[0].epoch + 1 if found else 1)
    return Context(
        run=None,
        job_dir=folder,
        attempt_dir=folder,
        rank=rank,
        channel=channel,
        checkpoint=Checkpoints(folder, author, rules, channel, rank, newest.path if newest else None),
        flusher=None,
    )


def _open_channel(run: RunConfig, rank: Rank, token_file: Path) -> Channel:
    if run.api_url is None or not rank.is_main:
        return NullChannel()
    link = ApiLink(run.api_url, run.attempt_id, token_file, run.tls)
    return ApiChannel(link, run.epoch, run.report_interval_seconds, run.lease_seconds, GpuMeter().read)


def _open_flusher(run: RunConfig, rank: Rank, token_file: Path) -> MetricsFlusher | None:
    if run.tracking is None:
        return None
    token = token_file.read_text().strip() if token_file.exists() else ""
    point_scripts_at(run.tracking, token, run.tls)
    if run.tracking.run_id is None or not rank.is_main:
        return None
    sink = mlflow_sink(run.tracking.uri, run.tracking.run_id, token, run.tls)
    return MetricsFlusher(Path(run.attempt_dir), sink)


def _figures(
    loss: float | None, tokens_per_second: float | None, metrics: Mapping[str, float]
) -> dict[str, float]:
    figures = dict(metrics)
    if loss is not None:
        figures["loss"] = loss
        if tokens_per_second is not None:
            figures["tokens_per_second"] = tokens_per_second
    return figures


class _Pace:
    """Time left, from the speed since this process's first step."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def eta_seconds(self, step: int, total_steps: int | None) -> float | None:
        now = time.monotonic()
        if self._first is None or step < self._first[0] or step == 0:
            self._first = (step, now)
        done = step - self._first[0]
        if total_steps is None or done == 0:
            return None
        return (total_steps - step) * (now - self._first[1]) / done

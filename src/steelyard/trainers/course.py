"""The course of a training by a trainer of TRL: on from the newest checkpoint, to the model or the door."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PrinterCallback

from steelyard.runtime.checkpoints import Writer
from steelyard.runtime.context import Context
from steelyard.runtime.failures import Stopped
from steelyard.runtime.session import checkpointed
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.states import Reason
from steelyard.trainers.callbacks import StepEnd
from steelyard.trainers.model import name_base
from steelyard.trainers.orders import Orders, read_orders
from steelyard.trainers.platform_trainer import PlatformTrainer
from steelyard.trainers.quiet import quieten_libraries
from steelyard.trainers.sharding import require_sharded

Prepare = Callable[[Context, Orders, StepEnd], PlatformTrainer]
"""Makes the trainer, which gets the callback. May raise `RunFailure`, or `Stopped` where asked to leave."""

Measure = Callable[[PlatformTrainer], dict[str, float]]
"""Measures the finished model, before it is written. All ranks call it together."""


def run_course(context: Context, prepare: Prepare, measure: Measure | None = None) -> Outcome:
    """Train from the start or a checkpoint to the last step, or until asked to leave.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave before the first step.
    """
    orders = read_orders(context.run)
    torch.set_num_threads(orders.run.threads)
    quieten_libraries()
    resume_from = context.checkpoint.latest()
    trainer = _make(context, orders, prepare)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    context.step = trainer.state.global_step
    if trainer.state.global_step < trainer.state.max_steps:
        return checkpointed(context)
    metrics = last_loss(trainer)
    if measure is not None:
        context.enter("evaluating", trainer.state.max_steps)
        metrics |= measure(trainer)
    context.enter("saving", trainer.state.max_steps)
    return conclude(context, orders, trainer.state.global_step, trainer.write_model, metrics)


def leave_if_asked(context: Context) -> None:
    """Leave before the first step where there is a reason to.

    Raises:
        Stopped: there is.
    """
    # Ranks are not in step yet: torchrun ends the others when one leaves.
    if context.preempt.requested:
        raise Stopped


def conclude(
    context: Context, orders: Orders, step: int, write_model: Writer, metrics: dict[str, float]
) -> Outcome:
    """Write the finished model and return the outcome of a training that came to its last step.

    All ranks call it together.
    """

    def write(folder: Path) -> None:
        write_model(folder)
        if context.rank.is_main:
            name_base(folder, orders.model, orders.run.model_revision)

    folder = context.save_model(write, step)
    return Outcome(
        kind=OutcomeKind.SUCCEEDED,
        exit_code=ExitCode.DONE,
        reason=Reason.COMPLETED,
        message=f"Trained {step} steps.",
        step=step,
        model_dir=str(folder.relative_to(context.job_dir)),
        metrics=metrics,
    )


def last_loss(trainer: PlatformTrainer) -> dict[str, float]:
    """Return the last loss that was logged, by the name that outcomes give it; empty where there is none."""
    logged = (entry["loss"] for entry in reversed(trainer.state.log_history) if "loss" in entry)
    loss = next(logged, None)
    return {} if loss is None else {"train/loss": float(loss)}


def _make(context: Context, orders: Orders, prepare: Prepare) -> PlatformTrainer:
    context.enter("loading")
    step_end = StepEnd(context)
    trainer = prepare(context, orders, step_end)
    step_end.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    if orders.spec.distributed.strategy == "fsdp":
        trainer.add_callback(require_sharded())
    leave_if_asked(context)
    return trainer

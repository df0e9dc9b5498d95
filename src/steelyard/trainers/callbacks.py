"""What happens at the end of each step: agree with the other ranks, save, stop, report."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from steelyard.runtime.context import Context
from steelyard.runtime.failures import not_finite
from steelyard.trainers.platform_trainer import PlatformTrainer

_NOT_FIGURES = frozenset({"loss", "epoch"})


class StepEnd(TrainerCallback):
    """Runs on every rank. The flags of all ranks are combined, so none stops or saves alone."""

    def __init__(self, context: Context) -> None:
        self.trainer: PlatformTrainer | None = None
        self._context = context
        self._speed = _Speed()
        self._loss: float | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Decide what all ranks do now.

        Raises:
            RunFailure: loss or gradient is not a number; nothing is saved of this step.
            Fenced: a newer attempt has taken over.
        """
        trainer = self._trainer()
        agreement = self._context.preempt.agree(failed=trainer.unhealthy_step)
        if agreement.failed:
            raise not_finite(state.global_step)
        finished = state.global_step >= state.max_steps
        due = self._context.checkpoint.due(state.global_step)
        control.should_save = due or agreement.checkpoint or (agreement.stop and not finished)
        if agreement.stop and not finished:
            control.should_training_stop = True
        self._speed.note(trainer.trained_tokens)
        if not control.should_log:
            self._report(state, {})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float | None] | None = None,
        **_: Any,
    ) -> None:
        """Report the step with its figures; the summary at the end of training has no loss and is passed."""
        loss = (logs or {}).get("loss")
        if not logs or loss is None:
            return
        self._loss = loss
        self._context.add_point(state.global_step, "train/loss", loss)
        figures = {
            key: float(value) for key, value in logs.items() if key not in _NOT_FIGURES and value is not None
        }
        self._report(state, figures)
        if self._context.rank.is_main:
            _print_step(state, loss, self._speed.tokens_per_second)

    def _report(self, state: TrainerState, figures: dict[str, float]) -> None:
        if figures and self._loss is not None:
            speed = self._speed.tokens_per_second
            known = {} if speed is None else {"tokens_per_second": speed}
            self._context.log_metrics(state.global_step, {"loss": self._loss, **figures, **known})
        self._context.tell(
            step=state.global_step,
            total_steps=state.max_steps,
            loss=self._loss,
            tokens_per_second=self._speed.tokens_per_second,
            metrics=figures,
        )

    def _trainer(self) -> PlatformTrainer:
        if self.trainer is None:
            raise RuntimeError("StepEnd.trainer is set before training begins")
        return self.trainer


class _Speed:
    """Tokens per second over the last steps: an average that forgets by a fifth each step."""

    def __init__(self) -> None:
        self.tokens_per_second: float | None = None
        self._last: tuple[int, float] | None = None

    def note(self, tokens: int) -> None:
        now = time.monotonic()
        if self._last is not None and now > self._last[1]:
            fresh = (tokens - self._last[0]) / (now - self._last[1])
            known = self.tokens_per_second
            self.tokens_per_second = fresh if known is None else 0.8 * known + 0.2 * fresh
        self._last = (tokens, now)


def _print_step(state: TrainerState, loss: float, speed: float | None) -> None:
    told = f"step {state.global_step}/{state.max_steps}  loss {loss:.4f}"
    print(told if speed is None else f"{told}  {speed:.0f} tokens/s", flush=True)  # noqa: T201 - the job's log

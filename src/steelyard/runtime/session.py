"""The frame around a training process: from `run.json` to `outcome.json` and an exit code."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from steelyard.runtime.context import RUN_VARIABLE, Context, open_context
from steelyard.runtime.failures import Fenced, RunFailure, Stopped, classify
from steelyard.runtime.files import write_atomically
from steelyard.runtime.parent import die_with_parent
from steelyard.specs.outcome import OUTCOME_NAME, ExitCode, Outcome, OutcomeKind
from steelyard.specs.states import Reason

Body = Callable[[Context], Outcome]


def conduct(run_path: Path, body: Body) -> int:
    """Run `body` as the attempt that `run_path` describes; return the exit code of the contract.

    The outcome is written as `outcome.json` by rank 0 and then told to the api. Never raises.
    """
    die_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    # One line a second, for every report, is no news.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run_path = run_path.absolute()
    os.environ[RUN_VARIABLE] = str(run_path)
    try:
        context = open_context(run_path)
        context.preempt.listen()
    except Exception as error:  # noqa: BLE001 - a process's edge
        traceback.print_exc()
        return _finish_unopened(run_path.parent, error)
    return finish(context, _outcome_of(context, body))


def finish(context: Context, outcome: Outcome) -> int:
    """Write and tell the outcome; return its exit code.

    Checkpoints that wait for the api and figures that wait for MLflow get a few seconds first.
    """
    if context.rank.is_main:
        context.flush_metrics()
        _write_outcome(context.attempt_dir, outcome)
        context.close(outcome)
    return outcome.exit_code


def checkpointed(context: Context) -> Outcome:
    """The outcome of a run that was asked to leave and has saved what there was."""
    return Outcome(
        kind=OutcomeKind.CHECKPOINTED,
        exit_code=ExitCode.CHECKPOINTED,
        reason=context.preempt.reason,
        message=f"Stopped at step {context.step} as asked; resume goes on from its newest checkpoint.",
        step=context.step,
    )


def _outcome_of(context: Context, body: Body) -> Outcome:
    try:
        return body(context)
    except Stopped:
        return checkpointed(context)
    except Fenced:
        return _lease_lost(context)
    except BaseException as error:  # noqa: BLE001 - a process's edge: everything becomes an outcome
        traceback.print_exc()
        if context.is_fenced:
            return _lease_lost(context)
        return _failed(classify(error, context.job_dir), context.step)


def _lease_lost(context: Context) -> Outcome:
    failure = RunFailure(
        Reason.LEASE_LOST,
        ExitCode.TRANSIENT,
        "A newer attempt has taken over; this one wrote nothing more. Nothing is to be done.",
    )
    return _failed(failure, context.step)


def _failed(failure: RunFailure, step: int) -> Outcome:
    return Outcome(
        kind=OutcomeKind.FAILED,
        exit_code=failure.exit_code,
        reason=failure.reason,
        message=failure.message,
        step=step,
    )


def _finish_unopened(attempt_dir: Path, error: BaseException) -> int:
    outcome = _failed(classify(error, attempt_dir), step=0)
    _write_outcome(attempt_dir, outcome)
    return outcome.exit_code


def _write_outcome(attempt_dir: Path, outcome: Outcome) -> None:
    try:
        write_atomically(attempt_dir / OUTCOME_NAME, outcome.model_dump_json(indent=1).encode())
    except OSError:
        # A full disk. The exit code still says the kind of end.
        traceback.print_exc()

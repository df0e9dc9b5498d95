"""One's own training script as an attempt: `python -m steelyard.trainers.script run.json`.

The script runs in this process under `__main__`, with `steelyard.runtime.init()` giving it the attempt's
context. It ends well by returning or by `sys.exit(0)`; a model that it saved with `save_model` is the job's.
"""

import runpy
import sys
import warnings
from pathlib import Path

from steelyard.runtime.context import Context
from steelyard.runtime.failures import FAILURE_EXIT, RunFailure, bad_config
from steelyard.runtime.files import write_atomically
from steelyard.runtime.session import checkpointed, conduct
from steelyard.specs.blocks import ScriptBlock
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.states import Reason


def main(run_path: str | Path) -> int:
    """Run the script of `run_path`'s spec; return the exit code of the contract."""
    return conduct(Path(run_path), run_script)


def run_script(context: Context) -> Outcome:
    """Write the script beside `run.json` and run it.

    A script that returns after it was asked to stop counts as checkpointed, unless it saved its model.

    Raises:
        RunFailure: it left with a code of the contract, or another one.
    """
    script = _read_script(context)
    path = context.attempt_dir / script.filename
    if context.rank.is_main or not path.exists():
        write_atomically(path, script.source.encode())
    _set_threads(context)
    # What a script does is its own affair: it is at work from its first line, and idle when it shows none.
    context.enter("training")
    code = _run(path, script.args)
    if code == ExitCode.DONE:
        return _ended(context)
    if code == ExitCode.CHECKPOINTED:
        return checkpointed(context)
    raise _failure(code)


def _read_script(context: Context) -> ScriptBlock:
    run = context.run
    if run is None or not isinstance(run.spec, FineTuneSpec) or run.spec.script is None:
        raise bad_config(Reason.BAD_CONFIG, "This trainer runs fine_tune specs with method: script.")
    return run.spec.script


def _set_threads(context: Context) -> None:
    torch = sys.modules.get("torch")
    if torch is not None and context.run is not None:
        torch.set_num_threads(context.run.threads)


def _run(path: Path, arguments: list[str]) -> int:
    """Run a script as `python path arguments` would; return its exit code."""
    saved = sys.argv, list(sys.path)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    try:
        with warnings.catch_warnings():
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as leaving:
        return _code(leaving)
    finally:
        sys.argv, sys.path[:] = saved
    return ExitCode.DONE


def _code(leaving: SystemExit) -> int:
    if leaving.code is None:
        return ExitCode.DONE
    if isinstance(leaving.code, int):
        return leaving.code
    print(leaving.code, file=sys.stderr)  # noqa: T201 - as the interpreter does with sys.exit("text")
    return FAILURE_EXIT


def _ended(context: Context) -> Outcome:
    if context.model_dir is None and context.preempt.requested:
        return checkpointed(context)
    folder = context.model_dir
    return Outcome(
        kind=OutcomeKind.SUCCEEDED,
        exit_code=ExitCode.DONE,
        reason=Reason.COMPLETED,
        message=f"The script ended at step {context.step}.",
        step=context.step,
        model_dir=None if folder is None else str(folder.relative_to(context.job_dir)),
    )


def _failure(code: int) -> RunFailure:
    if code == ExitCode.BAD_CONFIG:
        return bad_config(Reason.BAD_CONFIG, "The script refused its configuration; see the attempt's log.")
    if code == ExitCode.TRANSIENT:
        told = "The script asked to be tried again; see the attempt's log."
        return RunFailure(Reason.TRANSIENT_FAILURE, ExitCode.TRANSIENT, told)
    told = f"The script left with exit code {code}; see the attempt's log."
    return RunFailure(Reason.TRAINER_FAILED, code, told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

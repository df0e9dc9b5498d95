"""The `steelyard` command: all modules of commands in one application, and every error in one place."""

import os
import sys
from collections.abc import Sequence

from typer import TyperException

from steelyard.cli import (
    approvals,
    audit,
    browsing,
    budgets,
    certs,
    control,
    data,
    demo,
    evals,
    identity,
    keys,
    lineage,
    login,
    models,
    platform,
    pool,
    queries,
    rules,
    schema,
    secrets,
    store,
    streams,
    submission,
    trials,
    waiting,
    webhooks,
)
from steelyard.cli.app import make_app
from steelyard.cli.exits import ExitCode
from steelyard.cli.failures import report
from steelyard.client.errors import ClientError
from steelyard.kit.errors import SteelyardError

APP = make_app()
for _module in (
    platform,
    submission,
    queries,
    trials,
    streams,
    waiting,
    control,
    data,
    secrets,
    identity,
    audit,
    budgets,
    pool,
    keys,
    models,
    approvals,
    rules,
    webhooks,
    lineage,
    login,
    browsing,
    evals,
    certs,
    store,
    demo,
    schema,
):
    _module.register(APP)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Nothing but a defect raises."""
    try:
        result = APP(args=list(arguments), prog_name="steelyard", standalone_mode=False)
        sys.stdout.flush()
    except (ClientError, SteelyardError, TyperException) as error:
        return report(error, as_json="--json" in arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    return int(result) if isinstance(result, int) else ExitCode.OK
